"""A role says what a parameter does in a model, such as "query" or "readout".

Recipes find roles by the names that Flax gives to modules. Linen and NNX have the same
names, so one table of patterns serves both.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from .._core import patterns
from .._core.patterns import Pattern, PatternLike
from .._core.trees import Leaf
from .._initializer.base import Initializer
from .._network.branches import in_branches, refuse, residual_outputs, unclear
from .._network.flax_names import HEADS
from .._plan.rules import FromTree, Rule
from .._schemes.constant import constant, ones, zeros

Rules = list[Rule]

# The roles that a recipe may distinguish, in two groups; see `check`.
ATTENTION = ("query", "key", "value")
WHOLE = ("residual_outputs", "embeddings", "positions", "readout")

_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "embeddings": ("**/embedding",),
    # "wpe" is GPT-2's name of the table.
    "positions": ("**/*pos*/embedding", "**/wpe/embedding", "**/*pos*emb*", "**/pos"),
    "readout": tuple(f"**/{name}/kernel" for name in HEADS),
    "query": ("**/query/kernel",),
    "key": ("**/key/kernel",),
    "value": ("**/value/kernel",),
    "branches": (FromTree(in_branches),),
}


class Roles(TypedDict, total=False):
    """A user passes a pattern, or a sequence of them, for each role of a model."""

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
    """A role has patterns; a user's patterns must match a leaf, the defaults need not.

    A user's pattern that matches nothing is most often misspelled. A default that
    matches nothing only shows that the model has no such layer.
    """

    patterns: tuple[Any, ...]
    optional: bool

    def rules(self, init: Any) -> Rules:
        """Return a rule for each pattern of the role."""
        return [Rule(pattern, init, self.optional) for pattern in self.patterns]


def role(roles: Roles, name: str, default: Sequence[Any] | None = None) -> Role:
    """Return a role with the user's patterns, or else with those of Flax's names."""
    pattern: Any = roles.get(name)
    # A default may match nothing, since no model has all roles. A user's pattern that
    # matches nothing is misspelled.
    if pattern is None:
        return Role(tuple(default or _DEFAULTS[name]), optional=True)
    return Role(patterns.several(pattern), optional=False)


def last_layers(roles: Roles, init: Any, branch_layers: int | None = None) -> Rules:
    """Return the rules for the layers that end branches.

    Without a pattern of the user, layers that may or may not end a branch are an error:
    a wrong guess would start the model with the wrong branches at 0.
    """
    if roles.get("residual_outputs") is not None:
        return role(roles, "residual_outputs").rules(init)

    # Both functions look at a whole tree, which is not known yet.
    def among(function: Callable[..., Any]) -> FromTree:
        return FromTree(lambda leaves: function(leaves, branch_layers))

    return [
        Rule(among(residual_outputs), init, optional=True),
        Rule(among(unclear), refuse, optional=True),
    ]


def others(roles: Roles, names: Sequence[str], init: Any) -> Rules:
    """Return rules for those of the named roles that the user passed patterns for.

    A recipe that treats a role like any other kernel needs no rule for the role by
    default. But a parameter that the user names need not be called "kernel", and then
    the rule for "**/kernel" does not match it.
    """
    return [
        rule
        for name in names
        if roles.get(name) is not None
        for rule in role(roles, name).rules(init)
    ]


def check(recipe: str, roles: Roles, *allowed: str) -> None:
    """Raise if the user passed a role that a recipe does not use.

    Its pattern would do nothing, without a word.

    Raises:
      TypeError: if there is such a role. The text lists the roles that are used.
    """
    unused = sorted(set(roles) - set(allowed))
    if unused:
        raise TypeError(
            f"recipes.{recipe} has no use for {', '.join(map(repr, unused))}; it takes "
            f"the roles {', '.join(map(repr, allowed))}."
        )


@dataclasses.dataclass(frozen=True)
class Both:
    """A Both is a predicate for the leaves that two patterns match."""

    outer: Pattern
    inner: Pattern

    def __call__(self, path: str, leaf: Any) -> bool:
        # A predicate gets a path as text, and a Pattern matches leaves.
        placed = Leaf(tuple(path.split("/")), leaf)
        return self.outer.matches(placed) and self.inner.matches(placed)

    def __repr__(self) -> str:
        return f"{self.outer} and {self.inner}"


def both(outer: Pattern, inner: Any) -> Any:
    """Return the pattern of the leaves that `outer` and a rule's pattern match."""
    # Each alternative stays one, since `check_used` asks for a match of each.
    several = tuple(_both(outer, one) for one in patterns.several(inner))
    return several[0] if len(several) == 1 else several


def _both(outer: Pattern, inner: Any) -> Any:
    # A side that depends on the tree becomes another one, which `bind` resolves.
    if isinstance(inner, FromTree):
        # The tree that the inner rule looks at stays whole: neighbours that decide,
        # such as the widths around a branch, may lie outside of the outer pattern.
        return FromTree(lambda leaves: Both(outer, Pattern((inner.function(leaves),))))
    return Both(outer, Pattern((inner,)))


def kernels(init: Any) -> Rules:
    """Return the rule for the kernels that no rule before it matches."""
    return [Rule("**/kernel", init, optional=True)]


def the_rest() -> Rules:
    """Return the rules for norms, biases, statistics and the slopes of PReLU."""
    # The slope is that of Flax's PReLU; "mean" and "var" are a batch norm's statistics.
    inits: dict[str, Initializer] = {
        "negative_slope": constant(0.01),
        "scale": ones,
        "bias": zeros,
        "mean": zeros,
        "var": ones,
    }
    return [Rule(f"**/{name}", init, optional=True) for name, init in inits.items()]
