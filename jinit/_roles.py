"""Paths -> roles: what Flax's modules call their parameters, in Linen and in NNX."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from ._branches import HEADS, in_branches, refuse, residual_outputs, unclear
from ._constant import constant, ones, zeros
from ._fans import Fans, fans
from ._initializer import Initializer
from ._paths import Leaf
from ._rules import OfTree, Rule, matches, spell_pattern

Patterns = Any

_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "embeddings": ("**/embedding",),
    "positions": ("**/*pos*/embedding", "**/wpe/embedding", "**/*pos*emb*", "**/pos"),
    "readout": tuple(f"**/{name}/kernel" for name in HEADS),
    "query": ("**/query/kernel",),
    "key": ("**/key/kernel",),
    "value": ("**/value/kernel",),
    "branches": (OfTree(in_branches),),
}

_FUSED = ("qkv", "in_proj", "c_attn", "qkv_proj", "to_qkv")
_INTO_HEADS = (
    "query", "key", "value", "q", "k", "v", "q_proj", "k_proj", "v_proj", "wq", "wk",
    "wv", *_FUSED,
)  # fmt: skip
_OUT_OF_HEADS = ("out", "o", "o_proj", "out_proj", "c_proj", "wo")


class Roles(TypedDict, total=False):
    """Patterns for what no name tells, one or several for each role."""

    residual_outputs: Patterns
    embeddings: Patterns
    positions: Patterns
    readout: Patterns
    query: Patterns
    key: Patterns
    value: Patterns
    branches: Patterns


@dataclasses.dataclass(frozen=True)
class Role:
    """The patterns of a role. The defaults may match nothing, a user's may not."""

    patterns: tuple[Any, ...]
    optional: bool

    def rules(self, init: Any) -> list[Rule]:
        return [Rule(pattern, init, self.optional) for pattern in self.patterns]


def role(given: Roles, name: str, default: Sequence[Any] | None = None) -> Role:
    """A role as a user gave it, or as Flax's names have it."""
    found: Any = given.get(name)
    if found is None:
        return Role(tuple(default or _DEFAULTS[name]), optional=True)
    several = isinstance(found, Sequence) and not isinstance(found, str)
    return Role(tuple(found) if several else (found,), optional=False)


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
    """A predicate: a leaf that two patterns match."""

    outer: Any
    inner: Any

    def __call__(self, path: str, leaf: Any) -> bool:
        found = Leaf(tuple(path.split("/")), leaf)
        return matches(self.outer, found) and matches(self.inner, found)

    def __repr__(self) -> str:
        return f"{spell_pattern(self.outer)} and {spell_pattern(self.inner)}"


def both(outer: Any, inner: Any) -> Any:
    if isinstance(inner, OfTree):
        return OfTree(lambda leaves: Both(outer, inner.function(leaves)))
    return Both(outer, inner)


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


def module(path: str) -> str:
    """The name of the module that holds a parameter."""
    return ("", *path.split("/"))[-2]


def layout(
    path: str, shape: tuple[int, ...], stacked: bool = False, heads: str | None = None
) -> str:
    """The layout of a kernel of Flax's, by its module's name and number of axes.

    `stacked` says that kernels have a first axis that counts layers, `heads` the layout
    of three axes in a role that tells it.
    """
    letters = _letters(module(path), shape[stacked:], heads)
    if letters is None:
        raise ValueError(
            f"the kernel at {path!r} has shape {shape}, and neither its number of axes "
            "nor its module's name tells which of them are inputs"
            f"{' (the first counts layers)' if stacked else ''}. Pass a pattern for it "
            "in its role (query, key, value, residual_outputs), or put a rule of your "
            "own, with a layout, before the recipe's."
        )
    return "b" * stacked + letters


def _letters(name: str, own: tuple[int, ...], heads: str | None) -> str | None:
    """One letter for each axis of a kernel that is not stacked; None if unknown."""
    if len(own) == 2:
        return "io"
    if 3 <= len(own) <= 5 and "conv" in name.lower():
        return "k" * (len(own) - 2) + "io"
    if len(own) >= 3 and name in _INTO_HEADS:
        return "i" + "o" * (len(own) - 1)
    if len(own) == 3:
        return "iio" if name in _OUT_OF_HEADS else heads or _of_heads(own)
    if name.startswith(("DenseGeneral", "LinearGeneral")):
        return _of_heads(own)
    return "k" * (len(own) - 2) + "io" if len(own) in (4, 5) else None


def _of_heads(own: tuple[int, ...]) -> str | None:
    """The layout of a kernel between a width and heads that fill it; None for others.

    Where both readings fit, they have the same fans.
    """
    if len(own) >= 3 and own[0] == math.prod(own[1:]):
        return "i" + "o" * (len(own) - 1)
    if len(own) >= 3 and own[-1] == math.prod(own[:-1]):
        return "i" * (len(own) - 1) + "o"
    return None


def with_layout(
    make: Callable[..., Initializer],
    stacked: bool,
    heads: str | None = None,
    **options: Any,
) -> Callable[[str, Any], Initializer]:
    """A scheme that counts fans, for kernels of every layout."""

    def init(path: str, leaf: Any) -> Initializer:
        return make(layout=layout(path, leaf.shape, stacked, heads), **options)

    return init


def with_fans(
    make: Callable[[Fans], Initializer], stacked: bool, heads: str | None = None
) -> Callable[[str, Any], Initializer]:
    """A scheme that is a function of the fans."""

    def init(path: str, leaf: Any) -> Initializer:
        return make(fans(leaf.shape, layout(path, leaf.shape, stacked, heads)))

    return init


def not_fused(init: Callable[[str, Any], Initializer]) -> Callable[[str, Any], Any]:
    """A scheme whose query, key and value differ, so that one kernel cannot be all."""

    def checked(path: str, leaf: Any) -> Initializer:
        if module(path) in _FUSED:
            raise ValueError(
                f"the kernel at {path!r} holds queries, keys and values, which this "
                "recipe scales differently; put a rule before the recipe's that draws "
                "them as jinit.blocks([query, key, value])."
            )
        return init(path, leaf)

    return checked
