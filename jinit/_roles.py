"""Paths -> roles: what Flax's modules call their parameters, in Linen and in NNX."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from ._constant import ones, zeros
from ._fans import Fans, fans
from ._initializer import Initializer
from ._rules import Rule

Patterns = Any

# The last layer of a branch, whose output is added to the stream. Linen counts the
# layers of a module: the second Dense of a module within the model ends its MLP.
_RESIDUAL_OUTPUTS = (
    "**/out/kernel", "*/*_*/**/Dense_1/kernel", "**/linear2/kernel", "**/fc2/kernel",
    "**/down/kernel", "**/down_proj/kernel", "**/c_proj/kernel", "**/out_proj/kernel",
    "**/o_proj/kernel", "**/wo/kernel", "**/linear_out/kernel", "**/mlp_out/kernel",
)  # fmt: skip
_HEADS = ("head", "lm_head", "readout", "classifier", "unembed", "logits")
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "residual_outputs": _RESIDUAL_OUTPUTS,
    "embeddings": ("**/embedding",),
    "positions": ("**/*pos*/embedding", "**/wpe/embedding", "**/*pos*emb*", "**/pos"),
    "readout": tuple(f"**/{name}/kernel" for name in _HEADS),
    "query": ("**/query/kernel",),
    "key": ("**/key/kernel",),
    "value": ("**/value/kernel",),
    # What lies in modules within the model, or in lists of them.
    "branches": ("*/*_*/*/**/kernel", "**/blocks/*/**/kernel", "**/layers/*/**/kernel"),
}

# Kernels of nnx's and Linen's recurrent cells, one for each gate.
CELLS = (
    "ii", "if", "ig", "io", "hi", "hf", "hg", "ho", "ir", "iz", "in", "hr", "hz", "hn",
)  # fmt: skip

_INTO_HEADS = ("query", "key", "value", "q", "k", "v")
_OUT_OF_HEADS = ("out", "o")
_FUSED = ("qkv", "in_proj", "c_attn", "qkv_proj", "to_qkv")


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


def kernels(init: Any) -> list[Rule]:
    """The kernels that no rule before has taken."""
    return [Rule("**/kernel", init, optional=True)]


def the_rest() -> list[Rule]:
    """Norms, biases and statistics, as every recipe has them."""
    of = {"scale": ones, "bias": zeros, "mean": zeros, "var": ones}
    return [Rule(f"**/{name}", init, optional=True) for name, init in of.items()]


def module(path: str) -> str:
    """The name of the module that holds a parameter."""
    return ("", *path.split("/"))[-2]


def layout(path: str, shape: tuple[int, ...], stacked: bool = False) -> str:
    """The layout of a kernel of Flax's, by its module's name and number of axes.

    `stacked` says that kernels have a first axis that counts layers.
    """
    own = len(shape) - stacked
    if own == 3 and module(path) in _INTO_HEADS:
        letters = "ioo"
    elif own == 3 and module(path) in _OUT_OF_HEADS:
        letters = "iio"
    elif 2 <= own <= 5:
        letters = "k" * (own - 2) + "io"
    else:
        raise ValueError(
            f"the kernel at {path!r} has shape {shape}; a recipe knows kernels of 2 to "
            f"5 axes{', and one more for the stack' if stacked else ''}. Put a rule of "
            "your own before the recipe's."
        )
    return "b" * stacked + letters


def with_layout(
    make: Callable[..., Initializer], stacked: bool, **options: Any
) -> Callable[[str, Any], Initializer]:
    """A scheme that counts fans, for kernels of every layout."""

    def init(path: str, leaf: Any) -> Initializer:
        return make(layout=layout(path, leaf.shape, stacked), **options)

    return init


def with_fans(
    make: Callable[[Fans], Initializer], stacked: bool
) -> Callable[[str, Any], Initializer]:
    """A scheme that is a function of the fans."""

    def init(path: str, leaf: Any) -> Initializer:
        return make(fans(leaf.shape, layout(path, leaf.shape, stacked)))

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
