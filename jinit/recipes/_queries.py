"""Recipes that draw queries by another law must know which kernels make them."""

import warnings
from typing import Any

from .._core import patterns
from .._network import branches
from .._network.branches import Paths
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from ._roles import ATTENTION, Roles, Rules, role


def queries(recipe: str, roles: Roles, init: Any) -> Rules:
    """Return the rules of queries, and a refusal of kernels that may be queries.

    A network with residual branches and without queries gives a warning: an attention
    without a softmax does not show them.
    """
    is_passed = any(roles.get(name) is not None for name in ATTENTION)

    def checked(model: Model) -> Paths | tuple[()]:
        if is_passed:
            return ()
        if model.network is None:
            return branches.nameless(model.leaves)
        if not in_networks.paths(model, in_networks.has("query")):
            warnings.warn(
                f"recipes.{recipe} draws queries by another law, and the network shows "
                "none. If it has an attention, pass query=[...], patterns of its "
                "kernels.",
                UserWarning,
                stacklevel=patterns.level_of_caller(),
            )
        return ()

    return [
        *role(roles, "query", init, note="queries"),
        Rule(FromTree(checked), _refuse, optional=True),
    ]


def _refuse(path: str, _leaf: Any) -> Any:
    raise ValueError(
        f"nothing tells whether the kernel at {path!r} makes queries, keys or values, "
        "which this recipe draws by different laws. Make the plan from a Network, "
        "jinit.network(model, *arguments), which shows it; or pass the recipe "
        "query=[...] and key=[...], patterns of these kernels."
    )
