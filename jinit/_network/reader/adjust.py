"""A layer is adjustable if its output follows a factor of one of its parameters.

The output y = W x + b of a layer is linear in one parameter, so that y follows a factor
of W. That parameter is the kernel, or the gain of a weight norm. Each axis of a
parameter is that of a scan, an axis of the output (a unit, or a member such as an
expert), or neither.
"""

from collections.abc import Sequence

from .axes import Axes, size_of
from .records import Adjustable, Part
from .uses import Log, Use
from .values import Term, place


def adjustable(
    use: Use, name: str, shapes: Sequence[Sequence[int]]
) -> Adjustable | None:
    """Return how the output of a product is set; None if no parameter sets it."""
    kernel = _kernel(use)
    if kernel is None:
        return None
    gains = [term for term in use.view.terms if term.is_scale]
    if kernel.is_normalized and len(gains) != 1:
        return None
    axes = use.point.value.axes
    parts = [_part(use, t, axes, shapes) for t in (kernel, *gains[:1])]
    if None in parts:
        return None
    first, last = parts[0], parts[-1]
    assert first is not None and last is not None
    return Adjustable(
        name,
        first,
        last if kernel.is_normalized else first,
        _bias(use, axes, shapes),
        *_kept_dims(use, first, axes),
    )


def _kernel(use: Use) -> Term | None:
    """Return the parameter that a product is linear in, or None.

    A sum of two parameters does not follow a factor of one; a product of two does.
    """
    terms = [t for t in use.view.terms if not (t.is_scale or t.is_reduced)]
    if len(terms) == 1 or (terms and all(term.inner for term in terms)):
        term = use.main
        return None if term.mapped or term.gathered else term
    return None


def _part(
    use: Use, term: Term, axes: Axes, shapes: Sequence[Sequence[int]]
) -> Part | None:
    """Return a parameter with its axes by scans and by dimensions of the output."""
    shape = shapes[term.parameter]
    scans = []
    for loop in use.loops:
        name = term.factor_of(id(loop))
        axis = None if name is None else axis_of(name, term.parameter)
        if name is not None and (axis is None or shape[axis] != loop.length):
            return None
        scans.append(axis)
    dims = []
    for name in use.letters:
        axis = axis_of(name, term.parameter)
        if axis is None or axis in scans:
            continue
        dim = _dim(use, name, axes)
        if dim is not None and size_of(axes[dim]) == shape[axis]:
            dims.append((dim, axis))
    return Part(term.parameter, tuple(scans), tuple(sorted(dims)))


def axis_of(name: int, parameter: int) -> int | None:
    """Return the axis of a parameter that a factor is; None for a part of an axis."""
    number, axis = place(name)
    return axis if name >= 0 and number == parameter and not name >> 32 else None


def _dim(use: Use, name: int, axes: Axes) -> int | None:
    """Return the dimension of the output that runs along a factor of a parameter."""
    axis = use.outputs.get(name) or use.batched.get(name) or ()
    labels = {label for label, _ in axis}
    dims = [d for d, other in enumerate(axes) if labels & {n for n, _ in other}]
    return dims[0] if len(dims) == 1 else None


def _kept_dims(
    use: Use, kernel: Part, axes: Axes
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the dimensions of the output that are members, and those of the units.

    None says that the units of the kernel cannot be told in the output.
    """
    letters = {
        axis: letter
        for name, letter in use.letters.items()
        if (axis := axis_of(name, kernel.number)) is not None
    }
    members = tuple(dim for dim, axis in kernel.dims if letters[axis] == "b")
    units = tuple(dim for dim, axis in kernel.dims if letters[axis] == "o")
    outputs = {
        name
        for name, letter in use.letters.items()
        if letter == "o" and place(name)[0] == kernel.number
    }
    return members, units if len(units) == len(outputs) else None


def _bias(use: Use, axes: Axes, shapes: Sequence[Sequence[int]]) -> Part | None:
    """Return the bias of a layer with its axes, or None."""
    if use.bias is None:
        return None
    (term,) = use.bias.terms
    shape = shapes[term.parameter]
    scans = [term.factor_of(id(loop)) for loop in use.loops]
    dims = [
        (dim, place(name)[1])
        for dim, axis in enumerate(term.axes)
        for name, size in axis
        if name >= 0 and size > 1
    ]
    return Part(
        term.parameter,
        tuple(None if n is None else axis_of(n, term.parameter) for n in scans),
        tuple(d for d in dims if shape[d[1]] == size_of(axes[d[0]])),
    )


def summed_dims(use: Use) -> tuple[tuple[int, int], ...]:
    """Return the dimensions of the data that a product sums, and the kernel's axes."""
    dims: list[tuple[int, int]] = []
    if use.data is None:
        return ()
    for name, axis in use.contracted.items():
        place_of = axis_of(name, use.main.parameter)
        labels = {label for label, _ in axis}
        at = [d for d, a in enumerate(use.data.axes) if labels & {n for n, _ in a}]
        if place_of is not None and len(at) == 1:
            dims.append((at[0], place_of))
    return tuple(dims)


def other_uses(log: Log, number: int) -> bool:
    """Tell whether a parameter has uses that are no products, such as a lookup."""
    return any(
        use.kind not in ("product", "convolution", "half", "carry")
        and any(term.parameter == number for term in use.view.terms)
        for use in log.uses
    )


def inner_axes(uses: Sequence[Use], number: int, shape: Sequence[int]) -> int:
    """Count the axes of a parameter without those that steps of scans choose from."""
    scanned = {
        name
        for use in uses
        for term in use.view.terms
        if term.parameter == number
        for _, name in term.loops
    }
    return len(shape) - len(scanned)


def biases_of(uses: Sequence[Use]) -> set[int]:
    """Return the parameters that are biases of layers."""
    views = [use.bias for use in uses if use.bias is not None]
    return {term.parameter for view in views for term in view.terms}
