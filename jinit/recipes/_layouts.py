"""Recipes read the layout of a kernel from its module's name and its shape."""

import math
from collections.abc import Callable
from typing import Any

from .._initializer.base import Initializer
from .._network.flax_names import FUSED, INTO_HEADS, OUT_OF_HEADS
from .._scale.fans import Fans, fans


def module(path: str) -> str:
    """Return the name of the module that holds a parameter."""
    # A parameter at the root has no module, and gets an empty name.
    return ("", *path.split("/"))[-2]


def layout(
    path: str, shape: tuple[int, ...], stacked: bool = False, heads: str | None = None
) -> str:
    """Return the layout of a kernel in Flax, by its module's name and number of axes.

    Args:
      path: the path of the kernel.
      shape: its shape.
      stacked: whether its first axis counts layers.
      heads: the layout of a kernel with three axes, in a role that tells it.

    Raises:
      ValueError: if neither the name nor the number of axes decides.
    """
    letters = _letters(module(path), shape[stacked:], heads)
    if letters is None:
        raise ValueError(
            f"the kernel at {path!r} has shape {shape}, and neither its number of axes "
            "nor its module's name tells which of them are inputs"
            f"{' (the first counts layers)' if stacked else ''}. Pass a pattern for it "
            "in its role (query, key, value, residual_outputs), or put your own rule, "
            "with a layout, before the recipe's."
        )
    return "b" * stacked + letters


def _letters(name: str, shape: tuple[int, ...], heads: str | None) -> str | None:
    """Return the layout of a kernel that is not stacked, or None if it is unknown."""
    if len(shape) == 2:
        return "io"
    # Names come before numbers of axes: the kernel of a convolution over one axis has
    # three, as those of an attention have.
    if 3 <= len(shape) <= 5 and "conv" in name.lower():
        return "k" * (len(shape) - 2) + "io"
    # (d, heads, head_dim): by numbers of axes alone it would be a 1-D convolution.
    if len(shape) >= 3 and name in INTO_HEADS:
        return "i" + "o" * (len(shape) - 1)
    # Three axes without a known name may be heads, or a convolution over one axis, so
    # the role or the lengths must decide.
    if len(shape) == 3:
        # A role that the user named is surer than the guess by sizes.
        return "iio" if name in OUT_OF_HEADS else heads or _from_heads(shape)
    # These layers of Flax may have any number of axes of inputs and of outputs.
    if name.startswith(("DenseGeneral", "LinearGeneral")):
        return _from_heads(shape)
    return "k" * (len(shape) - 2) + "io" if len(shape) in (4, 5) else None


def _from_heads(shape: tuple[int, ...]) -> str | None:
    """Return the layout of a kernel between a width and its heads, or None.

    The heads fill the width if heads * head_dim = width. If both readings of a shape
    fit, as for (8, 1, 8), they have the same fans.
    """
    if len(shape) >= 3 and shape[0] == math.prod(shape[1:]):
        return "i" + "o" * (len(shape) - 1)
    if len(shape) >= 3 and shape[-1] == math.prod(shape[:-1]):
        return "i" * (len(shape) - 1) + "o"
    return None


def with_layout(
    make: Callable[..., Initializer],
    stacked: bool,
    heads: str | None = None,
    **options: Any,
) -> Callable[[str, Any], Initializer]:
    """Return a function (path, leaf) -> initializer that sets the kernel's layout."""

    def init(path: str, leaf: Any) -> Initializer:
        return make(layout=layout(path, leaf.shape, stacked, heads), **options)

    return init


def with_fans(
    make: Callable[[Fans], Initializer], stacked: bool, heads: str | None = None
) -> Callable[[str, Any], Initializer]:
    """Return a function (path, leaf) -> an initializer made from the kernel's fans."""

    def init(path: str, leaf: Any) -> Initializer:
        return make(fans(leaf.shape, layout(path, leaf.shape, stacked, heads)))

    return init


def not_fused(init: Callable[[str, Any], Initializer]) -> Callable[[str, Any], Any]:
    """Wrap a function so that it rejects kernels with queries, keys and values in one.

    Args:
      init: the function (path, leaf) -> initializer, which serves all other kernels.
    """

    def checked(path: str, leaf: Any) -> Initializer:
        # One gain for the whole kernel would scale queries and keys as the values, and
        # nothing would show it.
        if module(path) in FUSED:
            raise ValueError(
                f"the kernel at {path!r} holds queries, keys and values, which this "
                "recipe scales differently; put a rule before the recipe's that draws "
                "them as jinit.blocks([query, key, value])."
            )
        return init(path, leaf)

    return checked
