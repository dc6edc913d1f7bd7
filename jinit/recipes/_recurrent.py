"""These recipes start recurrent language models: Griffin and xLSTM."""

from collections.abc import Callable
from typing import Any, Literal, Unpack

from .._core import checks
from .._core.papers import BECK_2024, DE_2024
from .._initializer.base import Initializer
from .._network.reader.records import Parameter
from .._network.record import Network
from .._plan.model import Model
from .._plan.recurrent_roles import sigmoid_decays, width_of_stream, window
from .._plan.rules import FromTree, Rule
from .._schemes.constant import ones, zeros
from .._schemes.distributions import normal
from .._schemes.fan_based import lecun
from .._schemes.gates import linspace_bias
from .._schemes.scaled_uniform import scaled_uniform
from .._schemes.ssm.decay import Form, rg_lru_lambda
from .._schemes.transformers import small_init, wang_init
from ._depth import Depth
from ._ends import last_layers
from ._layouts import width_of_table
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe
from ._recurrent_roles import (
    RecurrentRoles,
    norms_and_biases,
    only_in_networks,
    part,
    requires_network,
)
from ._roles import in_role, kernels, others, role
from ._torch import biases_of_windows

_WHOLE = ("residual_outputs", "embeddings", "readout")
_GEMMA = "google-deepmind/recurrentgemma"


@recipe(
    use="Griffin, Hawk and RecurrentGemma",
    law=(
        "N(0, 1 / fan_in); branch ends N(0, 2 / (L fan_in)); conv N(0, 0.01 / k); a^8 "
        "uniform in area on [0.9, 0.999]"
    ),
    sources=(
        Source(_GEMMA, "recurrentgemma/jax/layers.py", "2efa84d"),
        Source(_GEMMA, "recurrentgemma/jax/modules.py", "2efa84d"),
        DE_2024,
    ),
    roles=(*_WHOLE, "decays", "convolutions"),
)
def griffin(
    num_layers: int | None = None,
    *,
    flavour: Literal["paper", "code"] = "paper",
    **roles: Unpack[RecurrentRoles],
) -> Recipe:
    """Return Griffin's rules: LeCun's normal law, and decays that lie on a ring.

    Kernels are N(0, 1 / fan_in), those that end a branch N(0, 2 / (L fan_in)),
    convolutions over time N(0, 0.01 / k) and embeddings N(0, 1 / d). Biases are 0, and
    scales 1, or 0 where the model adds 1 to them.

    The flavour "paper" does what the paper means: Lambda of an RG-LRU is drawn so that
    the decay a^8 is uniform in area on [0.9, 0.999], and a block of the block-diagonal
    gates counts its own inputs. The flavour "code" does what the public code computes.
    There a, not a^8, is uniform on the ring, and a gate of n blocks counts the inputs
    of all of them, so its std is sqrt(n) times smaller: 3.16 times at 10 heads.

    Args:
      num_layers: L, the number of layers, each with two branches. In the plan of a
        network None stands for the number that its residual branches show.
      flavour: "paper" or "code".
      **roles: patterns of residual_outputs, embeddings, readout, decays (Lambda) and
        convolutions.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes. The plan must be that of a network.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if the flavour is unknown or `num_layers` is out of range; in a plan,
        if it is made from shapes alone, or the network has no Lambda.

    Example:
      >>> import jinit
      >>> recipe = jinit.recipes.griffin()
      >>> {law.role: law.law for law in recipe.laws}["convolutions"]
      'N(0, 0.01 / k)'

    References:
      De et al., "Griffin: mixing gated linear recurrences with local attention for
        efficient language models", arXiv 2024.
    """
    is_code = checks.choice("flavour", flavour, ("paper", "code")) == "code"
    depth = Depth("griffin", num_layers)
    c = 1.0 if is_code else 8.0
    blocks: Any = FromTree(_over_all_blocks) if is_code else lecun()

    def ring(model: Model) -> Callable[[str, Any], Initializer]:
        net = requires_network("griffin", model)
        is_sigmoid = sigmoid_decays(net)

        def init(_path: str, p: Parameter) -> Initializer:
            form: Form = "sigmoid" if is_sigmoid(p) else "softplus"
            return rg_lru_lambda(c=c, form=form)

        return init

    def last(model: Model) -> Initializer:
        factor: float = (2 / depth.layers(model)) ** 0.5
        return factor * lecun()

    def embedding(_path: str, leaf: Any) -> Initializer:
        return normal(width_of_table(leaf) ** -0.5)

    laws = [
        Law(
            "decays",
            f"exp(-{c:g} softplus(Lambda)) uniform in area on [0.9, 0.999]",
            "Lambda of an RG-LRU",
        ),
        Law("residual outputs", "N(0, 2 / (L fan_in))", "linear_out and ffw_down"),
        Law("convolutions", "N(0, 0.01 / k)", "conv_1d"),
        Law(
            "kernels",
            "N(0, 1 / fan_in)",
            "all others; a block of a gate counts "
            + ("the inputs of all blocks" if is_code else "its own inputs"),
        ),
        Law("embeddings", "N(0, 1 / d)", "the table of tokens"),
        *NORMS_AND_BIASES,
    ]
    rules = [
        *only_in_networks("griffin"),
        *part("griffin", roles, "ring_decays", FromTree(ring), True, role="decays"),
        *last_layers(roles, FromTree(last), depth),
        *role(roles, "embeddings", embedding),
        *part("griffin", roles, "windows", FromTree(_windows), role="convolutions"),
        *others(roles, ["readout"], lecun()),
        *kernels(blocks),
        *norms_and_biases(),
    ]
    return Recipe(rules, laws)


@recipe(
    use="xLSTM with mLSTM blocks",
    law=(
        "N(0, 2 / (5 d)); branch ends N(0, (2 / (L sqrt(d)))^2); gates 0, forget bias "
        "3 to 6"
    ),
    sources=(
        Source("NX-AI/xlstm", "xlstm/components/init.py", "032a6fb"),
        Source("NX-AI/xlstm", "xlstm/blocks/mlstm/cell.py", "032a6fb"),
        Source("NX-AI/xlstm", "xlstm/blocks/mlstm/layer.py", "032a6fb"),
        BECK_2024,
    ),
    roles=(
        *_WHOLE,
        "forget_biases",
        "input_biases",
        "gates",
        "skips",
        "convolutions",
    ),
)
def xlstm(num_layers: int | None = None, **roles: Unpack[RecurrentRoles]) -> Recipe:
    """Return the rules of an xLSTM with mLSTM blocks: small kernels, open forget gates.

    Kernels, embeddings and the readout are N(0, 2 / (5 d)), where d is the width of the
    residual stream, for kernels in wider parts of a block too. Kernels that end a
    branch are N(0, (2 / (L sqrt(d)))^2). The kernels of the input and forget gates are
    0. The biases of the forget gates rise from 3 to 6 over the heads, those of the
    input gates are N(0, 0.1^2). Convolutions and their biases are U(+-1 / sqrt(k)), and
    the learned skip is 1.

    Args:
      num_layers: L, the number of blocks. In the plan of a network None stands for the
        number of its residual branches, which is right for mLSTM blocks.
      **roles: patterns of residual_outputs, embeddings, readout, forget_biases,
        input_biases, gates (their kernels), skips and convolutions.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes. The plan must be that of a network.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `num_layers` is out of range; in a plan, if it is made from shapes
        alone, if the network has no forget gate, or if it has the recurrent kernels of
        an sLSTM, whose start the recipe does not know.

    Example:
      >>> import jinit
      >>> recipe = jinit.recipes.xlstm()
      >>> {law.role: law.law for law in recipe.laws}["forget biases"]
      'linspace(3, 6)'

    References:
      Beck et al., "xLSTM: extended long short-term memory", NeurIPS 2024.
    """
    depth = Depth("xlstm", num_layers, per_layer=1)
    reading = FromTree(_of_width("xlstm", lambda d, _model: small_init(width=d)))
    ending = FromTree(
        _of_width("xlstm", lambda d, model: wang_init(depth.layers(model), width=d))
    )

    def embedding(_path: str, leaf: Any) -> Initializer:
        return small_init(width=width_of_table(leaf))

    laws = [
        Law("forget biases", "linspace(3, 6)", "over the heads of an mLSTM"),
        Law("input biases", "N(0, 0.1^2)", "the input gates of an mLSTM"),
        Law("gates", "0", "the kernels of both gates"),
        Law("residual outputs", "N(0, (2 / (L sqrt(d)))^2)", "proj_down"),
        Law("convolutions", "U(+-1 / sqrt(k))", "conv1d and its bias"),
        Law("kernels", "N(0, 2 / (5 d))", "proj_up, q, k, v and readout"),
        Law("embeddings", "N(0, 2 / (5 d))", "the table of tokens"),
        Law("skips", "1", "learnable_skip"),
        *NORMS_AND_BIASES,
    ]
    rules = [
        *only_in_networks("xlstm"),
        *part("xlstm", roles, "forget_biases", linspace_bias(), required=True),
        *part("xlstm", roles, "input_biases", normal(0.1)),
        *part("xlstm", roles, "gates", zeros),
        *part("xlstm", roles, "skips", ones),
        *last_layers(roles, ending, depth),
        *role(roles, "embeddings", embedding),
        *part("xlstm", roles, "convolutions", scaled_uniform()),
        *others(roles, ["readout"], reading),
        Rule(in_role("recurrent"), _refuse_recurrent, optional=True),
        *kernels(reading),
        Rule(in_role("biases"), biases_of_windows(False, None), optional=True),
        *norms_and_biases(),
    ]
    return Recipe(rules, laws)


def _windows(model: Model) -> Callable[[str, Any], Initializer]:
    """Return N(0, 0.01 / k), where k is the length of a window."""
    net = requires_network("griffin", model)

    def init(_path: str, p: Parameter) -> Initializer:
        # RecurrentGemma writes its convolution as a loop over shifts, times w[k]. Such
        # a parameter is multiplied entry by entry and has no fans.
        if p.fans is None and p.ndim:
            return 0.1 * lecun(fan_in=window(net, p))
        return 0.1 * lecun()

    return init


def _over_all_blocks(model: Model) -> Callable[[str, Any], Initializer]:
    """Return LeCun's law, where a block-diagonal kernel counts all blocks as inputs."""
    net = requires_network("griffin", model)

    def init(_path: str, p: Parameter) -> Initializer:
        blocks = p.members // _layers_of(net, p)
        if p.fans is None or blocks == 1:
            return lecun()
        return lecun(fan_in=blocks * p.fans.fan_in)

    return init


def _layers_of(net: Network, p: Parameter) -> int:
    """Return how many layers a parameter holds, which is more than one in a scan."""
    counts = [b.count for b in net.branches if p.path in b.layers]
    count = counts[0] if counts else 1
    return count if p.members % count == 0 else 1


def _of_width(recipe: str, make: Callable[[int, Model], Initializer]) -> Any:
    """Return a law of the width of the residual stream, for the rules of a recipe."""

    def of(model: Model) -> Callable[[str, Any], Initializer]:
        net = requires_network(recipe, model)

        def init(path: str, p: Parameter) -> Initializer:
            width = width_of_stream(net, p)
            if width is None:
                raise ValueError(
                    f"recipes.{recipe} scales {path!r} by the width of the residual "
                    "stream, and the branches of the network end in several widths. "
                    "Put a rule for it before the recipe's."
                )
            return make(width, model)

        return init

    return of


def _refuse_recurrent(path: str, _leaf: Any) -> Initializer:
    raise ValueError(
        f"{path!r} is a recurrent kernel, as an sLSTM has, and recipes.xlstm knows the "
        "start of mLSTM blocks alone. Put rules for the parameters of the sLSTM before "
        "the recipe's."
    )
