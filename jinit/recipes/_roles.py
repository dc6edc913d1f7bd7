"""Paths -> roles: what Flax's modules call their parameters, in Linen and in NNX."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from .._core import patterns
from .._core.patterns import Pattern, PatternLike
from .._core.trees import Leaf
from .._initializer.base import Initializer
from .._network.branches import in_branches, refuse, residual_outputs, unclear
from .._network.flax_names import HEADS
from .._plan.rules import OfTree, Rule
from .._schemes.constant import constant, ones, zeros

_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "embeddings": ("**/embedding",),
    "positions": ("**/*pos*/embedding", "**/wpe/embedding", "**/*pos*emb*", "**/pos"),
    "readout": tuple(f"**/{name}/kernel" for name in HEADS),
    "query": ("**/query/kernel",),
    "key": ("**/key/kernel",),
    "value": ("**/value/kernel",),
    "branches": (OfTree(in_branches),),
}


class Roles(TypedDict, total=False):
    """Patterns for what no name tells, one or several for each role."""

    residual_outputs: PatternLike
    embeddings: PatternLike
    positions: PatternLike
    readout: PatternLike
    query: PatternLike
    key: PatternLike
    value: PatternLike
    branches: PatternLike


@dataclasses.dataclass(frozen=True)
class Role:
    """The patterns of a role. The defaults may match nothing, a user's may not."""

    patterns: tuple[Any, ...]
    optional: bool

    def rules(self, init: Any) -> list[Rule]:
        return [Rule(pattern, init, self.optional) for pattern in self.patterns]


def role(given: Roles, name: str, default: Sequence[Any] | None = None) -> Role:
    """A role as a user gave it, or as Flax's names have it."""
    pattern: Any = given.get(name)
    if pattern is None:
        return Role(tuple(default or _DEFAULTS[name]), optional=True)
    return Role(patterns.several(pattern), optional=False)


def last_layers(
    given: Roles, init: Any, branch_layers: int | None = None
) -> list[Rule]:
    """The layers that end branches, and a refusal of those that may or may not."""
    if given.get("residual_outputs") is not None:
        return role(given, "residual_outputs").rules(init)

    def those(function: Callable[..., Any]) -> OfTree:
        return OfTree(lambda leaves: function(leaves, branch_layers))

    return [
        Rule(those(residual_outputs), init, optional=True),
        Rule(those(unclear), refuse, optional=True),
    ]


def others(given: Roles, names: Sequence[str], init: Any) -> list[Rule]:
    """Roles that a user gave, and whose law is that of any other kernel."""
    return [
        r for n in names if given.get(n) is not None for r in role(given, n).rules(init)
    ]


def check(recipe: str, given: Roles, *allowed: str) -> None:
    """Raise for a role that a recipe has no law for: its pattern would do nothing."""
    unused = sorted(set(given) - set(allowed))
    if unused:
        raise TypeError(
            f"recipes.{recipe} has no use for {', '.join(map(repr, unused))}; it takes "
            f"the roles {', '.join(map(repr, allowed))}."
        )


@dataclasses.dataclass(frozen=True)
class Both:
    """A predicate matches the leaves that two patterns match."""

    outer: Pattern
    inner: Pattern

    def __call__(self, path: str, leaf: Any) -> bool:
        placed = Leaf(tuple(path.split("/")), leaf)
        return self.outer.matches(placed) and self.inner.matches(placed)

    def __repr__(self) -> str:
        return f"{self.outer} and {self.inner}"


def both(outer: Pattern, inner: Any) -> Any:
    """Return the pattern of the leaves that `outer` and a rule's pattern match."""
    several = tuple(_both(outer, one) for one in patterns.several(inner))
    return several[0] if len(several) == 1 else several


def _both(outer: Pattern, inner: Any) -> Any:
    if isinstance(inner, OfTree):
        return OfTree(lambda leaves: Both(outer, Pattern((inner.function(leaves),))))
    return Both(outer, Pattern((inner,)))


def kernels(init: Any) -> list[Rule]:
    """The kernels that no rule before has taken."""
    return [Rule("**/kernel", init, optional=True)]


def the_rest() -> list[Rule]:
    """Norms, biases, statistics and PReLU's slope, as every recipe has them."""
    of: dict[str, Initializer] = {
        "negative_slope": constant(0.01),
        "scale": ones,
        "bias": zeros,
        "mean": zeros,
        "var": ones,
    }
    return [Rule(f"**/{name}", init, optional=True) for name, init in of.items()]


ATTENTION = ("query", "key", "value")
WHOLE = ("residual_outputs", "embeddings", "positions", "readout")
