"""The layout and the fans of a parameter are those of its product."""

import math
from collections.abc import Sequence

from ..._scale.fans import Fans, fans
from .uses import Use, sizes_of
from .values import place


def layout_of(use: Use, number: int, shape: Sequence[int]) -> str | None:
    """Return the letters of the axes of a parameter.

    None where an axis is unknown, or where it is inputs and outputs at once, as in a
    kernel that is kept as a vector.
    """
    letters_by_axis: dict[int, set[str]] = {}
    for name, letter in use.letters.items():
        parameter, axis = place(name)
        if parameter == number:
            letters_by_axis.setdefault(axis, set()).add(letter)
    if any(len(letters) > 1 for letters in letters_by_axis.values()):
        return None
    layout = {axis: letter for axis, (letter,) in letters_by_axis.items()}
    for axis, size in enumerate(shape):
        if axis in layout:
            continue
        if size != 1:
            return None
        # Nothing in the equations shows an axis of one entry that was dropped.
        missing = [letter for letter in "oi" if letter not in layout.values()]
        layout[axis] = missing[0] if missing else "b"
    return "".join(layout[axis] for axis in range(len(shape)))


def fans_of(
    use: Use, number: int, shape: Sequence[int], layout: str | None
) -> Fans | None:
    """Return the inputs that an output sums, and the outputs that an input reaches."""
    counted = _counted(use, number, shape, layout)
    if counted is None:
        return None
    if use.kind not in ("product", "convolution"):
        # One row is looked up: each output is one entry.
        return Fans(1, counted.fan_out)
    # Zeros between the entries of a transposed convolution's input reach no output.
    return Fans(max(1, round(counted.fan_in / use.idle)), counted.fan_out)


def _counted(
    use: Use, number: int, shape: Sequence[int], layout: str | None
) -> Fans | None:
    if layout is None:
        return _of_factors(use, number, shape)
    if not {"i", "o"} & set(layout):
        # A filter of one signal, which all axes are the window of.
        window = math.prod(s for s, x in zip(shape, layout, strict=True) if x == "k")
        return Fans(window, window)
    return fans(tuple(shape), layout, groups=use.groups)


def _of_factors(use: Use, number: int, shape: Sequence[int]) -> Fans | None:
    """Return the fans of a kernel that is kept in a shape without a layout."""
    sizes = dict.fromkeys("ikob", 1)
    for name, size in sizes_of(use.view).items():
        if place(name)[0] == number and name in use.letters:
            sizes[use.letters[name]] *= size
    # A slice of a kernel has its product's fans; a shard has not those of the whole.
    is_slice = any(term.part for term in use.view.terms if term.parameter == number)
    if math.prod(sizes.values()) != math.prod(shape) and not is_slice:
        return None
    window = sizes["k"]
    return Fans(sizes["i"] * window, sizes["o"] * window // use.groups)
