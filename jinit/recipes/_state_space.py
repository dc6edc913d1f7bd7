"""These recipes start state-space models and gated delta networks."""

from typing import Any, Literal, Unpack

from .._core import checks
from .._core.papers import DAO_2024, YANG_2025
from .._initializer.base import Initializer
from .._plan.model import Model
from .._plan.recurrent_roles import scanned_axes
from .._plan.rules import FromTree, Rule
from .._schemes.constant import ones, zeros
from .._schemes.distributions import normal
from .._schemes.scaled_uniform import scaled_uniform
from .._schemes.ssm.decay import a_log
from .._schemes.ssm.mamba import mamba_dt_bias
from ._depth import Depth
from ._ends import last_layers
from ._laws_of_torch import LawsOfTorch
from ._layouts import Layouts
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe
from ._recurrent_roles import RecurrentRoles, norms_and_biases, part
from ._roles import Rules, in_role, kernels, others, role
from ._torch import biases_of_windows

Flavour = Literal["layer", "model"]

_WHOLE = ("residual_outputs", "embeddings", "readout")
_PARTS = ("decays", "step_biases", "convolutions")
_FLA = "fla-org/flash-linear-attention"
_STEPS = Law(
    "step biases", "softplus^-1(dt), log dt ~ U(log 0.001, log 0.1)", "dt_bias"
)
_WINDOWS = "U(+-1 / sqrt(k))"


@recipe(
    use="Mamba-2",
    law=(
        "U(+-1 / sqrt(fan_in)); branch ends / sqrt(L); A ~ U(1, 16); dt log-uniform on "
        "[0.001, 0.1]; D = 1"
    ),
    sources=(
        Source("state-spaces/mamba", "mamba_ssm/modules/mamba2.py", "e9594ce"),
        Source("state-spaces/mamba", "mamba_ssm/models/mixer_seq_simple.py", "e9594ce"),
        DAO_2024,
    ),
    roles=(*_WHOLE, *_PARTS, "skips"),
)
def mamba2(
    num_layers: int | None = None, *, std: float = 0.02, **roles: Unpack[RecurrentRoles]
) -> Recipe:
    """Return Mamba-2's rules: PyTorch's kernels, A ~ U(1, 16), log-uniform steps.

    Kernels and convolutions are U(+-1 / sqrt(fan_in)), and those that end a branch are
    divided by sqrt(L), with L residual branches in all. A_log is log U(1, 16), computed
    in float32, the bias of the steps is softplus^-1(dt) with log dt uniform between
    log 0.001 and log 0.1, and D is 1. Embeddings are N(0, std^2). Biases of linear
    layers are 0, those of convolutions U(+-1 / sqrt(k)).

    Args:
      num_layers: L, the number of residual branches: one for each mixer, and one for
        each MLP. In the plan of a network None stands for their number.
      std: the std of embeddings.
      **roles: patterns of residual_outputs, embeddings, readout, decays (A_log),
        step_biases (dt_bias), skips (D) and convolutions.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `num_layers` is out of range; in a plan, if the model has no A_log
        or no bias of its steps.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> def layer(p, x):
      ...     steps = jax.nn.softplus(x @ p["in"] + p["dt"])
      ...     decay = jnp.exp(-jnp.exp(p["rate"]) * steps)
      ...     return x + (decay * p["skip"]) @ p["out"]
      >>> square, row = jnp.ones((8, 8)), jnp.ones((1, 8))
      >>> params = {"in": square, "out": square, "dt": row, "rate": row, "skip": row}
      >>> net = jinit.network(layer, params, jnp.ones((2, 8)))
      >>> plan = jinit.plan(net, jinit.recipes.mamba2())
      >>> {row["path"]: row["initializer"] for row in plan.rows}["rate"]
      'jinit.ssm.a_log()'

    References:
      Dao and Gu, "Transformers are SSMs: generalized models and efficient algorithms
        through structured state space duality", ICML 2024.
    """
    depth = Depth("mamba2", num_layers, per_layer=1)

    def last(model: Model) -> Initializer:
        factor: float = depth.branches(model) ** -0.5
        return factor * scaled_uniform()

    laws = [
        Law("decays", "log U(1, 16)", "A_log"),
        _STEPS,
        Law("skips", "1", "D"),
        Law("residual outputs", "U(+-1 / sqrt(fan_in L))", "out_proj and fc2"),
        Law("convolutions", _WINDOWS, "conv1d and its bias"),
        Law("kernels", "U(+-1 / sqrt(fan_in))", "in_proj, fc1 and readout"),
        Law("embeddings", f"N(0, {std:g}^2)", "the table of tokens"),
        *NORMS_AND_BIASES,
    ]
    rules = [
        *part("mamba2", roles, "decays", FromTree(_one_a_head), required=True),
        *part("mamba2", roles, "step_biases", mamba_dt_bias(), required=True),
        *part("mamba2", roles, "skips", ones),
        *last_layers(roles, FromTree(last), depth),
        *role(roles, "embeddings", normal(std)),
        *part("mamba2", roles, "convolutions", scaled_uniform()),
        *others(roles, ["readout"], scaled_uniform()),
        *kernels(scaled_uniform()),
        Rule(in_role("biases"), biases_of_windows(False, None), optional=True),
        *norms_and_biases(),
    ]
    return Recipe(rules, laws)


@recipe(
    use="Gated DeltaNet",
    law=(
        "A ~ U(0, 16); dt log-uniform on [0.001, 0.1]; kernels U(+-1 / sqrt(fan_in)), "
        "or N(0, 0.02^2) in flavour 'model'"
    ),
    sources=(
        Source(_FLA, "fla/layers/gated_deltanet.py", "bc3b101"),
        Source(_FLA, "fla/models/gated_deltanet/modeling_gated_deltanet.py", "bc3b101"),
        YANG_2025,
    ),
    roles=(*_WHOLE, *_PARTS),
)
def gated_deltanet(
    num_layers: int | None = None,
    *,
    flavour: Flavour = "layer",
    std: float = 0.02,
    **roles: Unpack[RecurrentRoles],
) -> Recipe:
    """Return Gated DeltaNet's rules: A ~ U(0, 16), log-uniform steps.

    A_log is log U(0, 16), computed in float32 and never log 0, and the bias of the
    steps is softplus^-1(dt) with log dt uniform between log 0.001 and log 0.1. The
    flavour "layer" is the start of the layer's class: kernels, convolutions and biases
    are U(+-1 / sqrt(fan_in)), PyTorch's default. In the flavour "model", that of the
    class of the whole model, all kernels and convolutions are redrawn from N(0, std^2),
    and biases are 0. Embeddings are N(0, std^2) in both.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      flavour: "layer" or "model".
      std: the std of embeddings, and of kernels in the flavour "model".
      **roles: patterns of residual_outputs, embeddings, readout, decays (A_log),
        step_biases (dt_bias) and convolutions.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if the flavour is unknown; in a plan, if the model has no A_log or no
        bias of its steps.

    Example:
      >>> import jinit
      >>> recipe = jinit.recipes.gated_deltanet(flavour="model")
      >>> {law.role: law.law for law in recipe.laws}["decays"]
      'log U(0, 16)'

    References:
      Yang, Kautz and Hatamizadeh, "Gated delta networks: improving Mamba2 with delta
        rule", ICLR 2025.
    """
    decay = Law("decays", "log U(0, 16)", "A_log")
    return _delta("gated_deltanet", flavour, std, roles, a_log(0.0), decay)


@recipe(
    use="Kimi Delta Attention (Kimi Linear)",
    law=(
        "A ~ U(1, 16); dt log-uniform on [0.001, 0.1]; kernels U(+-1 / sqrt(fan_in)), "
        "or N(0, 0.02^2) in flavour 'model'"
    ),
    sources=(
        Source(_FLA, "fla/layers/kda.py", "bc3b101"),
        Source(_FLA, "fla/models/kda/modeling_kda.py", "bc3b101"),
    ),
    roles=(*_WHOLE, *_PARTS),
)
def kda(
    num_layers: int | None = None,
    *,
    flavour: Flavour = "layer",
    safe_gate: bool = False,
    std: float = 0.02,
    **roles: Unpack[RecurrentRoles],
) -> Recipe:
    """Return the rules of Kimi Delta Attention: A ~ U(1, 16), log-uniform steps.

    They are those of `gated_deltanet` with another law of A, one A for each head and
    one step for each channel. With `safe_gate` A_log is 0.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      flavour: "layer" or "model", as for `gated_deltanet`.
      safe_gate: whether the gate is bounded below, so that A_log starts at 0.
      std: the std of embeddings, and of kernels in the flavour "model".
      **roles: patterns of residual_outputs, embeddings, readout, decays (A_log),
        step_biases (dt_bias) and convolutions.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if the flavour is unknown; in a plan, if the model has no A_log or no
        bias of its steps.

    Example:
      >>> import jinit
      >>> {law.role: law.law for law in jinit.recipes.kda().laws}["decays"]
      'log U(1, 16)'
    """
    is_safe = checks.boolean("safe_gate", safe_gate)
    law = Law("decays", "0" if is_safe else "log U(1, 16)", "A_log")
    return _delta("kda", flavour, std, roles, zeros if is_safe else a_log(), law)


def _one_a_head(model: Model) -> Any:
    """Return the law of A_log, which raises for the A_log of Mamba-1."""

    def init(path: str, leaf: Any) -> Initializer:
        scanned = () if model.network is None else scanned_axes(model.network, path)
        sizes = [n for axis, n in enumerate(leaf.shape) if axis not in scanned]
        if model.network is not None and sum(n > 1 for n in sizes) > 1:
            raise ValueError(
                f"{path!r} {leaf.shape} has several decays for each channel, as "
                "Mamba-1 has, and Mamba-2 has one for each head. Put the rule "
                f"({path!r}, jinit.ssm.mamba_a_log()) before the recipe's."
            )
        return a_log()

    return init


def _delta(
    name: str,
    flavour: str,
    std: float,
    roles: RecurrentRoles,
    decay: Initializer,
    law_of_decays: Law,
) -> Recipe:
    """Return the recipe of a gated delta rule."""
    is_model = checks.choice("flavour", flavour, ("layer", "model")) == "model"
    kernel = normal(std) if is_model else scaled_uniform()
    symbols = f"N(0, {std:g}^2)" if is_model else "U(+-1 / sqrt(fan_in))"
    window = symbols if is_model else _WINDOWS
    laws = [
        law_of_decays,
        _STEPS,
        Law("convolutions", window, "the short convolutions of q, k and v"),
        Law("kernels", symbols, "all linear layers"),
        Law("embeddings", f"N(0, {std:g}^2)", "the table of tokens"),
        Law("scales", "1", "norms"),
        Law("biases", "0" if is_model else "U(+-1 / sqrt(fan_in))", "linear layers"),
    ]
    rules = [
        *part(name, roles, "decays", decay, required=True),
        *part(name, roles, "step_biases", mamba_dt_bias(), required=True),
        *role(roles, "embeddings", normal(std)),
        *part(name, roles, "convolutions", kernel),
        *others(roles, ["residual_outputs", "readout"], kernel),
        *kernels(kernel),
        *([] if is_model else _torch_biases()),
        *norms_and_biases(),
    ]
    return Recipe(rules, laws)


def _torch_biases() -> Rules:
    """Return PyTorch's rule for the biases of linear layers and convolutions."""

    def law(model: Model) -> Any:
        if model.network is not None:
            return LawsOfTorch(model.network).bias
        layouts = Layouts(model)

        def bias(path: str, _leaf: Any) -> Initializer:
            kernel = path.removesuffix("bias") + "kernel"
            if kernel not in layouts.leaves:
                return zeros  # It is the bias of a norm.
            return scaled_uniform(fan_in=layouts.fans(kernel).fan_in)

        return bias

    return [Rule(in_role("biases_of_layers"), FromTree(law), optional=True)]
