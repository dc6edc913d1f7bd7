"""Recipes for language models share these laws and checks."""

import math
from collections.abc import Callable
from typing import Any

from .._initializer.base import Initializer
from .._network.branches import Paths
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.truncated import truncated_normal
from ._layouts import Layouts, width_of_table
from ._roles import Rules, in_role

# Errors explain a role in the words of papers.
_WORDS = {
    "residual_output": "the last layer of a residual branch",
    "up": "the layer of a gated unit that no activation follows",
    "query": "the queries of an attention",
}


def truncated(std: float, cut: float = 3.0) -> Initializer:
    """Return N(0, std^2), truncated at `cut` times its std before the truncation."""
    return truncated_normal(std, None, -cut, cut)


def truncated_at_2(std: float) -> Initializer:
    """Return N(0, std^2), truncated at the numbers -2 and 2.

    These are the defaults of PyTorch's `trunc_normal_`, which truncate nothing where
    the std is small.
    """
    return truncated_normal(std, None, -2.0, 2.0, bounds="absolute")


def by_width(
    make: Callable[[float], Initializer],
    stacked: bool = False,
    num_layers: int | None = None,
) -> FromTree:
    """Return the initializer of a rule: make(1 / sqrt(n)) for a kernel of fan_in n.

    A table of tokens that is the readout, too, has the width of its vectors.
    """

    def of(model: Model) -> Any:
        layouts = None if model.network else Layouts(model, stacked, num_layers)

        def init(path: str, leaf: Any) -> Initializer:
            return make(1 / math.sqrt(_inputs(layouts, path, leaf)))

        return init

    return FromTree(of)


def _inputs(layouts: Layouts | None, path: str, leaf: Any) -> int:
    is_table = (
        path.split("/")[-1] == "embedding" if layouts else ("embedding" in leaf.roles)
    )
    if is_table:
        return width_of_table(leaf)
    if layouts is not None:
        return layouts.fans(path).fan_in
    if leaf.fans is None:
        raise ValueError(
            f"the law of {path!r} {leaf.shape} counts its inputs, and the network does "
            f"not show them: {leaf.reason}. Put a rule for it before the recipe's."
        )
    return int(leaf.fans.fan_in)


def needs(recipe: str, *roles: str) -> Rules:
    """Return a rule that matches nothing, and checks that a network has these roles.

    Raises:
      ValueError: when the plan is made, if the network has no parameter of a role.
    """

    def check(model: Model) -> tuple[()]:
        if model.network is not None:
            present = frozenset().union(*(leaf.value.roles for leaf in model.part()))
            missing = [role for role in roles if role not in present]
            if missing:
                raise ValueError(_missing(recipe, missing, present))
        return ()

    return [Rule(FromTree(check), refuse_fused_unit, optional=True)]


def _missing(recipe: str, missing: list[str], present: frozenset[str]) -> str:
    words = (f" ({_WORDS[role]})" if role in _WORDS else "" for role in missing)
    named = " and ".join(f"{role!r}{w}" for role, w in zip(missing, words, strict=True))
    return (
        f"recipes.{recipe} has a separate law for the role {named}, and no parameter "
        f"has it; the roles here are {', '.join(sorted(present))}. Make the plan from "
        "the whole model, or take a recipe for this architecture: recipes.names()."
    )


def only_networks(recipe: str, reason: str) -> Rules:
    """Return a rule that matches nothing, and rejects plans from shapes alone.

    Raises:
      ValueError: when the plan is made, if there is no network.
    """

    def check(model: Model) -> tuple[()]:
        if model.network is None:
            raise ValueError(
                f"recipes.{recipe} {reason}, which names do not show. Make the plan "
                "from a Network: jinit.plan(jinit.network(model, *arguments), rules)."
            )
        return ()

    return [Rule(FromTree(check), refuse_fused_unit, optional=True)]


def where(text: str, test: Any) -> FromTree:
    """Return the pattern of the parameters of a network that pass a test.

    Args:
      text: what the parameters are, for errors.
      test: a function of a network that returns a function of a parameter.
    """

    def pattern(model: Model) -> Any:
        if model.network is None:
            return ()
        return Paths(f"{text}, as the network says", in_networks.paths(model, test))

    return FromTree(pattern)


def no_fused_units() -> Rules:
    """Return the rule that rejects kernels with both halves of a gated unit in one."""
    return [Rule(in_role("fused_units"), refuse_fused_unit, optional=True)]


def refuse_fused_unit(path: str, _leaf: Any = None) -> Any:
    """Raise the error of a kernel with both halves of a gated unit in one."""
    raise ValueError(
        f"the kernel at {path!r} holds both halves of a gated unit, which this recipe "
        "scales differently. Put a rule before the recipe's that draws them as "
        "jinit.blocks([gate, up])."
    )
