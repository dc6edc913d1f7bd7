"""The recipe `hyper_connections` starts these as plain residual connections."""

from collections.abc import Callable
from typing import Any, Unpack

from .._core import checks, patterns
from .._core.papers import ZHU_2025
from .._core.patterns import PatternLike
from .._initializer.base import Initializer
from .._initializer.stack import stacked
from .._network.branches import Paths
from .._network.reader.records import Parameter
from .._plan.hyper_roles import HyperParts, hyper_parts
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.constant import constant, ones, zeros
from .._schemes.hyper_connections import hyper_alpha
from ._depth import Depth
from ._recipe import RECIPES, Law, Recipe, Source, get, recipe
from ._recurrent_roles import norms_and_biases, only_in_networks, requires_network
from ._roles import Roles, Rules

_LUCIDRAINS = "lucidrains/hyper-connections"


class HyperRoles(Roles, total=False):
    """A user passes a pattern, or a sequence of them, for each role of a connection."""

    alphas: PatternLike
    betas: PatternLike
    dynamic_kernels: PatternLike
    dynamic_scales: PatternLike


@recipe(
    use="networks with hyper-connections",
    law="alpha (one-hot, identity); beta 1; dynamic kernels 0, their scale 0.01",
    sources=(
        Source(_LUCIDRAINS, "hyper_connections/hyper_connections.py", "4775103"),
        ZHU_2025,
    ),
    roles=("alphas", "betas", "dynamic_kernels", "dynamic_scales"),
)
def hyper_connections(
    num_layers: int | None = None,
    *,
    base: str = "torch_defaults",
    **roles: Unpack[HyperRoles],
) -> Recipe:
    """Return rules under which hyper-connections start as residual connections.

    The static alpha of the connection with index l, of shape (n, 1 + n) for n streams,
    is the one-hot column of stream l mod n beside the identity. The static beta is 1,
    the kernels of the dynamic parts are 0 and the numbers that scale them 0.01. So the
    network starts as exactly a pre-norm residual network. All other parameters follow
    the recipe `base`.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      base: the name of the recipe for all other parameters, one that needs no number of
        layers. For another recipe put your own rules before this one.
      **roles: patterns of alphas, betas, dynamic_kernels and dynamic_scales, for
        connections that the equations do not show.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes. The plan must be that of a network.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if there is no recipe `base`; in a plan, if it is made from shapes
        alone, or the network has no hyper-connection.

    Example:
      >>> import jinit
      >>> recipe = jinit.recipes.hyper_connections()
      >>> {law.role: law.law for law in recipe.laws}["dynamic kernels"]
      '0'

    References:
      Zhu, Huang, Huang, Zeng, Mao, Wu, Min and Zhou, "Hyper-connections", ICLR 2025.
    """
    Depth("hyper_connections", num_layers)  # It raises for an invalid number.
    # A second alpha would take the place of the first, and `from_hf_config` does not
    # go without a configuration.
    several = [name for name, entry in sorted(RECIPES.items()) if not entry.example]
    allowed = [name for name in several if name != "hyper_connections"]
    other = get(checks.choice("base", base, allowed))
    laws = [
        Law("alphas", "one-hot stream l mod n, and identity", "static alpha"),
        Law("betas", "1", "static beta"),
        Law("dynamic kernels", "0", "of alpha and of beta"),
        Law("dynamic scales", "0.01", "of alpha and of beta"),
        *other.laws,
    ]
    rules = [
        *only_in_networks("hyper_connections"),
        *_part(roles, "alphas", FromTree(_alphas)),
        *_part(roles, "betas", ones),
        *_part(roles, "dynamic_kernels", zeros),
        *_part(roles, "dynamic_scales", constant(0.01)),
        norms_and_biases()[0],
        *other.rules,
    ]
    return Recipe(rules, laws)


def _part(roles: HyperRoles, name: str, init: Any) -> Rules:
    """Return the rules of a role, which raise if a network has no connections."""
    passed: Any = roles.get(name)
    several = [] if passed is None else list(patterns.several(passed))

    def pattern(model: Model) -> Any:
        parts = hyper_parts(requires_network("hyper_connections", model))
        paths = _paths(parts)[name]
        if not paths and not several:
            raise ValueError(
                f"recipes.hyper_connections starts {name!r}, and the network has none "
                "that its equations show: a parameter that is added to what a dynamic "
                "kernel computes, times a learned number, and that then mixes streams. "
                "Take another recipe, or pass a pattern: "
                f"recipes.hyper_connections({name}='**/...')."
            )
        return Paths(f"{name.replace('_', ' ')} of hyper-connections", paths)

    user = [Rule(one, init, False) for one in several]
    return [*user, Rule(FromTree(pattern), init, optional=True)]


def _paths(parts: HyperParts) -> dict[str, frozenset[str]]:
    return {
        "alphas": frozenset(parts.alphas),
        "betas": parts.betas,
        "dynamic_kernels": parts.kernels,
        "dynamic_scales": parts.scales,
    }


def _alphas(model: Model) -> Callable[[str, Any], Initializer]:
    """Return the law of static alphas, each with the index of its connection."""
    parts = hyper_parts(requires_network("hyper_connections", model))

    def init(path: str, _p: Parameter) -> Initializer:
        # An alpha that only the user's pattern shows has no index in the network.
        place, axis = parts.alphas.get(path, (0, None))
        if axis is None:
            return hyper_alpha(place)
        return stacked(lambda i: hyper_alpha(place + parts.per_step * i), axis)

    return init
