"""The layout of a kernel is read from its module's name and its shape."""

import math
from collections.abc import Callable
from typing import Any

from .._initializer.base import Initializer
from .._network.flax_names import FUSED, INTO_HEADS, OUT_OF_HEADS
from .._scale.fans import Fans, fans


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
    if len(own) >= 3 and name in INTO_HEADS:
        return "i" + "o" * (len(own) - 1)
    if len(own) == 3:
        return "iio" if name in OUT_OF_HEADS else heads or _of_heads(own)
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
        if module(path) in FUSED:
            raise ValueError(
                f"the kernel at {path!r} holds queries, keys and values, which this "
                "recipe scales differently; put a rule before the recipe's that draws "
                "them as jinit.blocks([query, key, value])."
            )
        return init(path, leaf)

    return checked
