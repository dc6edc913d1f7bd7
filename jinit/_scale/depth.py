"""A depth rule is a number by which the branches of a residual network are scaled."""

import math
from typing import NamedTuple

from .._core import checks

RULES = (
    "gpt2", "wang", "fixup", "skipinit", "rezero", "layer_scale", "deepnorm",
    "t_fixup", "depth_mup", "completep", "subln",
)  # fmt: skip

# The rules that tell the encoder of an encoder-decoder model from its decoder.
_OF_PARTS = ("deepnorm", "t_fixup", "subln")
_PARTS = ("encoder", "decoder")


class DeepNorm(NamedTuple):
    """DeepNorm takes x to LayerNorm(alpha x + f(x)), with gain beta on V, O and MLP."""

    alpha: float
    beta: float


def residual_scale(
    rule: str,
    num_layers: int,
    *,
    width: int | None = None,
    branch_layers: int = 2,
    part: str | None = None,
    other_layers: int | None = None,
) -> float | DeepNorm:
    """Return the number by which a depth rule scales a residual branch, for L layers.

    | rule | value | what it multiplies |
    | --- | --- | --- |
    | gpt2 | 1 / sqrt(2 L) | the std of the output projections (two a layer) |
    | wang | 2 / (L sqrt(width)) | nothing: it is that std |
    | fixup | L^(-1 / (2 m - 2)) | the std of m - 1 layers of a branch; the last is 0 |
    | skipinit, rezero | 0 | the branch, as a learned scalar |
    | layer_scale | 0.1, 1e-5, 1e-6 (L to 18, to 24, above) | the branch, by channel |
    | deepnorm | alpha = (2 L)^(1/4), beta = (8 L)^(-1/4) | see `DeepNorm` |
    | t_fixup | 0.67 L^(-1/4); of a decoder (9 L)^(-1/4) | the std of V, O and the MLP |
    | depth_mup | 1 / sqrt(L) | the branch |
    | completep | 1 / L | the branch |
    | subln | sqrt(log(2 L)) | the std of V, O and the MLP, with a LayerNorm inside |

    In an encoder-decoder model of N and M layers "deepnorm" has alpha = 0.81 (N^4
    M)^(1/16), beta = 0.87 (N^4 M)^(-1/16) in the encoder and (3 M)^(1/4), (12 M)^(-1/4)
    in the decoder; "subln" sqrt(log(3 M) log(2 N) / 3) and sqrt(log(3 M)).

    Args:
      rule: one of the names above.
      num_layers: L, the layers (or blocks) of this stack.
      width: the width of the residual stream, for "wang".
      branch_layers: m, the layers of one branch, for "fixup"; two or more.
      part: "encoder" or "decoder" of an encoder-decoder model; None for one stack.
      other_layers: the layers of the other part, on which an encoder's scale depends.

    Returns:
      A float; for "deepnorm" a record with `alpha` and `beta`.

    Raises:
      TypeError: if a number of layers is not an integer.
      ValueError: if the rule or the part is unknown, a number of layers is below 1, an
        argument that the rule needs is missing, or the rule has no parts and gets one.

    Example:
      >>> import jinit
      >>> round(0.02 * jinit.residual_scale("gpt2", 12), 8)
      0.00408248
      >>> jinit.residual_scale("deepnorm", 8)
      DeepNorm(alpha=2.0, beta=0.3535533905932738)

    References:
      Radford, Wu, Child, Luan, Amodei and Sutskever, "Language models are unsupervised
        multitask learners", OpenAI 2019. The source of "gpt2", with the two branches of
        a layer counted.
      Black et al., "GPT-NeoX-20B: an open-source autoregressive language model",
        BigScience Workshop 2022. The source of "wang".
      Zhang, Dauphin and Ma, "Fixup initialization: residual learning without
        normalization", ICLR 2019. The source of "fixup".
      De and Smith, "Batch normalization biases residual blocks towards the identity
        function in deep networks", NeurIPS 2020. The source of "skipinit".
      Bachlechner, Majumder, Mao, Cottrell and McAuley, "ReZero is all you need: fast
        convergence at large depth", UAI 2021. The source of "rezero".
      Touvron, Cord, Sablayrolles, Synnaeve and Jégou, "Going deeper with image
        transformers", ICCV 2021. The source of "layer_scale".
      Wang, Ma, Dong, Huang, Zhang and Wei, "DeepNet: scaling transformers to 1,000
        layers", TPAMI 2024. The source of "deepnorm".
      Huang, Perez, Ba and Volkovs, "Improving transformer optimization through better
        initialization", ICML 2020. The source of "t_fixup".
      Yang, Yu, Zhu and Hayou, "Tensor programs VI: feature learning in infinite-depth
        neural networks", ICLR 2024. The source of "depth_mup".
      Dey et al., "Don't be lazy: CompleteP enables compute-efficient deep
        transformers", NeurIPS 2025. The source of "completep".
      Wang et al., "Magneto: a foundation transformer", ICML 2023. The source of
        "subln".
    """
    checks.choice("rule", rule, RULES)
    if rule == "deepnorm":
        return deepnorm(num_layers, part, other_layers)
    return factor(
        rule, num_layers, width=width, branch_layers=branch_layers, part=part,
        other_layers=other_layers,
    )  # fmt: skip


def factor(
    rule: str,
    num_layers: int,
    *,
    width: int | None = None,
    branch_layers: int = 2,
    part: str | None = None,
    other_layers: int | None = None,
) -> float:
    """Return `residual_scale` of a rule that gives a single number."""
    layers = _count("num_layers", num_layers)
    _check_part(rule, part, other_layers)
    # Black et al. (2022): the std itself, so it replaces the formula in the fans.
    if rule == "wang":
        return 2 / (layers * math.sqrt(_needed(rule, "width", width)))
    if rule == "fixup":
        # Zhang et al. (2019): the scales of the m - 1 layers of a branch multiply to
        # L^(-1/2), as the depth rules for a whole branch have it.
        return float(layers ** (-1 / (2 * _branch(branch_layers) - 2)))
    if rule == "t_fixup":
        # Huang et al. (2020): 0.67 N^(-1/4) in an encoder, and (9 N)^(-1/4), which is
        # 0.577 N^(-1/4), in a decoder.
        quarter = float(layers**-0.25)
        return 9**-0.25 * quarter if part == "decoder" else 0.67 * quarter
    if rule == "subln":
        return math.sqrt(_subln(layers, part, other_layers))
    factors: dict[str, float] = {
        # The report divides by sqrt(N) for N residual layers, of which a transformer's
        # layer has two. OpenAI's published code has no such factor.
        "gpt2": (2 * layers) ** -0.5,
        "skipinit": 0.0,
        "rezero": 0.0,
        # The paper's numbers; its published code has 1e-4 as the default.
        "layer_scale": 0.1 if layers <= 18 else 1e-5 if layers <= 24 else 1e-6,
        "depth_mup": layers**-0.5,
        "completep": 1 / layers,
    }
    return factors[rule]


def deepnorm(num_layers: int, part: str | None, other: int | None) -> DeepNorm:
    """Return `residual_scale` of DeepNorm."""
    layers = _count("num_layers", num_layers)
    _check_part("deepnorm", part, other)
    if part is None:
        return DeepNorm((2 * layers) ** 0.25, (8 * layers) ** -0.25)
    if part == "decoder":
        return DeepNorm((3 * layers) ** 0.25, (12 * layers) ** -0.25)
    # Wang et al. (2024), for N encoder and M decoder layers: alpha = 0.81
    # (N^4 M)^(1/16), beta = 0.87 (N^4 M)^(-1/16). The constant of beta differs in
    # published code.
    both = (layers**4 * _needed("deepnorm", "other_layers", other)) ** (1 / 16)
    return DeepNorm(0.81 * both, 0.87 / both)


def _subln(layers: int, part: str | None, other: int | None) -> float:
    if part is None:
        return math.log(2 * layers)
    if part == "decoder":
        return math.log(3 * layers)
    decoder = _needed("subln", "other_layers", other)
    return math.log(3 * decoder) * math.log(2 * layers) / 3


def _count(argument: str, value: int) -> int:
    count = checks.count(argument, value)
    if count is None:
        raise TypeError(f"`{argument}` is None; it must be an integer, 1 or more.")
    return count


def _needed(rule: str, argument: str, value: int | None) -> int:
    if value is None:
        raise ValueError(f"`{argument}` is missing; the rule {rule!r} needs it here.")
    return _count(argument, value)


def _branch(layers: int) -> int:
    if _count("branch_layers", layers) < 2:
        raise ValueError(
            f"`branch_layers` is {layers}; Fixup scales the layers of a branch before "
            "its last, and needs two or more."
        )
    return layers


def _check_part(rule: str, part: str | None, other: int | None) -> None:
    if part is None:
        if other is not None:
            raise ValueError(
                f"`other_layers` is {other}, and `part` is None; say which part of the "
                "encoder-decoder model this is, 'encoder' or 'decoder'."
            )
        return
    checks.choice("part", part, _PARTS)
    if rule not in _OF_PARTS:
        raise ValueError(
            f"`part` is {part!r}, and the rule {rule!r} has no parts; only "
            f"{', '.join(map(repr, _OF_PARTS))} tell an encoder from a decoder."
        )
    if other is not None:
        _count("other_layers", other)
