"""The bias beside a kernel shows which axes of the kernel are its outputs.

A kernel (144, 48) beside a bias (144,) is (out, in). Shapes alone say no more than
this, and a bias may fit several readings of a kernel's axes. The likeliest is taken,
and Flax's order, (*window, in, out), before all others. A square kernel has the same
fans in both directions.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .._core.trees import Leaf
from .._initializer.kernel_axes import KernelAxes
from .._network.flax_names import INTO_HEADS

Shape = tuple[int, ...]
Parts = tuple[str, ...]


class Reading(NamedTuple):
    """A Reading has the axes of a kernel, and the reason if they are not known."""

    axes: KernelAxes
    reason: str = ""


def axes_beside_biases(leaves: Sequence[Leaf]) -> dict[Parts, Reading]:
    """Return the axes of the kernels that are not in Flax's order, by their paths."""
    modules = Modules.of(leaves)
    layouts = {leaf.parts: modules.layouts(leaf.parts) for leaf in leaves}
    known = {parts: several for parts, several in layouts.items() if several}
    readings = {parts: _reading(parts, several) for parts, several in known.items()}
    # The kernels of one library are alike: where the biases show (out, in), a kernel
    # without a bias is probably (out, in), too, but nothing shows it.
    turned = {parts[-1] for parts, several in known.items() if _is_turned(several)}
    plain = {parts[-1] for parts, several in known.items() if _is_plain(several)}
    for leaf in leaves if turned - plain else ():
        is_like = leaf.parts[-1:] and leaf.parts[-1] in turned - plain
        shape = modules.shape(leaf.parts)
        if is_like and leaf.parts not in known and len(shape) > 1 < len(set(shape)):
            readings[leaf.parts] = Reading(
                KernelAxes(None), _without_bias(leaf.parts[-1])
            )
    return {parts: one for parts, one in readings.items() if not one.axes.are_default}


class Modules(NamedTuple):
    """A Modules has the shapes of the leaves of each module, by their names."""

    shapes: dict[Parts, dict[str, Shape]]

    @classmethod
    def of(cls, leaves: Sequence[Leaf]) -> "Modules":
        """Return the modules of a tree."""
        shapes: dict[Parts, dict[str, Shape]] = {}
        for leaf in leaves:
            shape = tuple(getattr(leaf.value, "shape", ()))
            shapes.setdefault(leaf.parts[:-1], {})["".join(leaf.parts[-1:])] = shape
        return cls(shapes)

    def shape(self, parts: Parts) -> Shape:
        """Return the shape of a leaf."""
        return self.shapes[parts[:-1]]["".join(parts[-1:])]

    def layouts(self, parts: Parts) -> list[str]:
        """Return the layouts of a kernel that fit the bias beside it.

        The likeliest is the first. There are none without a bias, or with one that fits
        no axes.
        """
        shape, beside = self.shape(parts), self.shapes[parts[:-1]]
        name = "".join(parts[-1:])
        bias = _bias_of(name, beside)
        if bias is None or len(shape) < 2 or 0 in shape:
            return []
        layouts = list(_fitting(shape, beside[bias]))
        # A bias that serves several kernels must fit all of them in the same way.
        for other, size in beside.items():
            if other != name and len(size) > 1 and _bias_of(other, beside) == bias:
                alike = {_order(layout) for layout in _fitting(size, beside[bias])}
                layouts = [layout for layout in layouts if _order(layout) in alike]
        return layouts


def _bias_of(name: str, beside: Mapping[str, Shape]) -> str | None:
    """Return the name of the bias beside a kernel, by the kernel's name, or None."""
    return next((one for one in _names_of_bias(name) if one in beside), None)


def _names_of_bias(name: str) -> Iterator[str]:
    """Yield the names that a kernel's bias may have: bias_ih or bias for weight_ih."""
    for word in ("kernel", "weight"):
        if word in name:
            yield name.replace(word, "bias")
            yield "bias"
    # `w` and `b`, `w1` and `b1`, `wq` and `bq`.
    if re.fullmatch(r"[wW](_?\w)?", name):
        yield "b" + name[1:]
        yield "B" + name[1:]


def _fitting(shape: Shape, bias: Shape) -> Iterator[str]:
    """Yield each layout of a kernel that a bias of this shape fits.

    The order is that of likelihood: a single layer before scanned ones, (in, out)
    before (out, in), and layers along the first axis before those along the second.
    """
    yield from _of_one_layer(shape, bias)
    # Scanned layers have an axis more, in the kernel and in the bias.
    stacks = [
        layout[:axis] + "b" + layout[axis:]
        for axis in (0, 1)
        if len(shape) > 2 and len(bias) > 1 and shape[axis] == bias[axis]
        for layout in _of_one_layer(_without(shape, axis), _without(bias, axis))
    ]
    yield from (layout for layout in stacks if not _is_turned([layout]))
    yield from (layout for layout in stacks if _is_turned([layout]))


def _of_one_layer(shape: Shape, bias: Shape) -> Iterator[str]:
    window = len(shape) - 2
    # PyTorch's and Equinox's convolutions add a bias (out, 1, 1) to (out, *window).
    is_first = len(bias) == window + 1 > 1 and set(bias[1:]) == {1}
    if len(bias) == 1:
        if shape[-1] == bias[0]:
            yield "k" * window + "io"
        if window and shape[-2] == bias[0]:
            yield "k" * window + "oi"
    if (len(bias) == 1 or is_first) and shape[0] == bias[0]:
        yield "oi" + "k" * window
    # PyTorch's transposed convolutions are (in, out, *window).
    if len(bias) == 1 and window > 1 and shape[1] == bias[0]:
        yield "io" + "k" * window
    # The outputs of an attention's kernel (width, heads, size) are two axes.
    if len(bias) > 1 and not is_first and shape[-len(bias) :] == bias:
        yield "i" * (len(shape) - len(bias)) + "o" * len(bias)


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _order(layout: str) -> str:
    return re.sub(r"(.)\1+", r"\1", layout)


def _is_turned(layouts: Sequence[str]) -> bool:
    return all("oi" in layout.replace("b", "") for layout in layouts)


def _is_plain(layouts: Sequence[str]) -> bool:
    return not any("oi" in layout.replace("b", "") for layout in layouts)


def _reading(parts: Parts, layouts: Sequence[str]) -> Reading:
    first = layouts[0]
    # As many layers as inputs: the axis may count either. A name may tell.
    rivals = [layout for layout in layouts if layout.startswith("bi")]
    is_of_heads = "oo" in first and "b" not in first
    if is_of_heads and rivals and "".join(parts[-2:-1]) not in INTO_HEADS:
        reason = f"the bias beside it fits the layouts {first!r} and {rivals[0]!r}"
        return Reading(KernelAxes(None), reason)
    return Reading(KernelAxes(first))


def _without_bias(name: str) -> str:
    return (
        f"the biases of other leaves called {name!r} show that those are (out, in), "
        "and this one has no bias"
    )
