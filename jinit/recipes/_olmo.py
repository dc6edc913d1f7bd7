"""The recipe `olmo` starts transformers as OLMo-core does, by four methods."""

from typing import Any, Unpack

from .._core import checks
from .._initializer.base import Initializer
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.distributions import normal
from ._depth import Depth
from ._ends import last_layers
from ._index import Index, by_index, by_number
from ._language import by_width, needs, no_fused_units, truncated
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe, symbol
from ._roles import (
    ATTENTION,
    WHOLE,
    Roles,
    Rules,
    in_role,
    kernels,
    others,
    role,
    the_rest,
)

_METHODS = ("normal", "llama", "llama_depth", "fan_in")
_ROLES = (*ATTENTION, *WHOLE, "up")
_STD = 0.02


@recipe(
    use="OLMo's language models, by the `method` of OLMo-core",
    law=(
        "TN(0, 0.02^2), cut at 3 sigma; llama: o, down and up / sqrt(2 L); "
        "llama_depth: / sqrt(2 (l + 1)); fan_in: TN(0, 1 / fan_in)"
    ),
    sources=(
        Source("allenai/OLMo-core", "src/olmo_core/nn/transformer/init.py", "fa6c501"),
        Source(
            "allenai/OLMo-core", "src/olmo_core/nn/attention/__init__.py", "fa6c501"
        ),
    ),
    roles=_ROLES,
)
def olmo(
    num_layers: int | None = None,
    *,
    method: str = "normal",
    std: float | None = None,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return the rules of OLMo-core: std 0.02, truncated at 3 sigma, by a method.

    "normal" starts all kernels and tables so. "llama" divides the ends of branches and
    the up projection (w3) by sqrt(2 L), and "llama_depth" by sqrt(2 (l + 1)), for the
    layer of index l; both draw a mixture's router and all its experts so. "fan_in" has
    std 1 / sqrt(fan_in) in all kernels. The latter three have a readout of std
    1 / sqrt(d), and embeddings N(0, 1), also where they are the readout.

    Args:
      num_layers: the number of layers. In the plan of a network None stands for the
        number that its residual branches show.
      method: "normal", "llama", "llama_depth" or "fan_in".
      std: the std before the truncation; None for 0.02. "fan_in" does not take it.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read, and each layer has its own std.
      **roles: patterns of residual_outputs, up, embeddings, readout and others.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `method` is unknown, or has no `std`; when the plan is made, if the
        model has no gated units, or does not show its layers.

    Example:
      >>> import jax, jinit
      >>> up = {"w1": {"kernel": jax.numpy.ones((64, 256))}}
      >>> rules = jinit.recipes.olmo(1, method="fan_in")
      >>> round(jinit.plan(up, rules).rows[0]["std"] * 8, 4)  # 0.9866 at 3 sigma
      0.9866
    """
    checks.choice("method", method, _METHODS)
    if method == "fan_in" and std is not None:
        raise ValueError(
            f'`std` is {std}, and the method "fan_in" has none: the std of each kernel '
            "is 1 / sqrt(fan_in). Leave it out, or take one of the methods "
            f"{', '.join(map(repr, _METHODS[:3]))}."
        )
    size = _STD if std is None else std
    return Recipe(_rules(method, size, num_layers, stacked, roles), _laws(method, size))


def _laws(method: str, std: float) -> list[Law]:
    plain, end = f"TN(0, {symbol(std)}^2)", f"TN(0, {symbol(std)}^2 / (2 L))"
    if method == "normal":
        everywhere = "kernels, the readout and the table of tokens"
        return [Law("kernels and embeddings", plain, everywhere), *NORMS_AND_BIASES]
    outer = [
        Law("embeddings", "N(0, 1)", "the table of tokens, tied or not"),
        Law("readout", "TN(0, 1 / d)", "lm_head"),
        *NORMS_AND_BIASES,
    ]
    if method == "fan_in":
        return [Law("kernels", "TN(0, 1 / fan_in)", "all"), *outer]
    if method == "llama_depth":
        end = f"TN(0, {symbol(std)}^2 / (2 (l + 1)))"
    return [
        Law("residual outputs", end, "w_out and w2"),
        Law("up", end, "w3"),
        Law("routers and experts", end, "all of a mixture"),
        Law("kernels", plain, "w_q, w_k, w_v and w1"),
        *outer,
    ]


def _rules(
    method: str, std: float, num_layers: int | None, stacked: bool, roles: Roles
) -> Rules:
    plain = truncated(std)
    if method == "normal":
        return [
            *others(roles, _ROLES, plain),
            Rule(in_role("lookups"), plain, optional=True),
            *role(roles, "positions", plain),
            *role(roles, "embeddings", plain),
            *kernels(plain),
            *the_rest(),
        ]
    width = by_width(truncated, stacked, num_layers)
    kernel: Any = width if method == "fan_in" else plain
    return [
        *_ends(method, plain, num_layers, stacked, roles),
        # OLMo-core leaves a table that is tied to the readout at the table's law.
        *role(roles, "embeddings", normal(1.0)),
        *others(roles, ("positions",), normal(1.0)),
        # The readout lies outside of a scanned stack, so no axis counts layers.
        *role(roles, "readout", by_width(truncated)),
        *others(roles, ATTENTION, kernel),
        *kernels(kernel),
        *the_rest(),
    ]


def _ends(
    method: str,
    plain: Initializer,
    num_layers: int | None,
    stacked: bool,
    roles: Roles,
) -> Rules:
    """Return the rules of the kernels that the depth scales, if there are any."""
    if method == "fan_in":
        width = by_width(truncated, stacked, num_layers)
        return others(roles, ("residual_outputs", "up"), width)
    index = Index("olmo", num_layers, stacked)
    make = by_number if method == "llama" else by_index
    side = make(index, plain)
    return [
        *needs("olmo", "residual_output", "up"),
        *last_layers(roles, side, Depth("olmo", num_layers)),
        *no_fused_units(),
        *role(roles, "up", side),
        Rule(in_role("routers"), side, optional=True),
        Rule(FromTree(_experts), side, optional=True),
    ]


def _experts(model: Model) -> Any:
    # Only a network knows its experts. In a mixture OLMo-core scales w1, too.
    return "@expert" if model.network is not None else ()
