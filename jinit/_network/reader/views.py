"""Views of parameters go through the operations that move, cut and rescale them.

A view that no rule here understands becomes a use with the role "other", and says why.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from jax.extend.core import JaxprEqn

from .atoms import shape_of
from .axes import BROADCAST, Axes, Axis, Factor, regroup, size_of
from .values import Term, View, is_real, outer_piece

Rule = Callable[[JaxprEqn, Term], Term | None]


def moved(eqn: JaxprEqn, view: View) -> View | None:
    """Return a view behind an operation on it; None if that is not understood."""
    rule = _RULES.get(eqn.primitive.name)
    if rule is None:
        return None
    terms = [rule(eqn, term) for term in view.terms]
    kept = tuple(term for term in terms if term is not None)
    return View(kept) if len(kept) == len(terms) else None


def each(view: View, change: Callable[[Term], Term]) -> View:
    """Return a view with every term changed."""
    return View(tuple(map(change, view.terms)))


def with_axes(view: View, change: Callable[[Axes], Axes]) -> View:
    """Return a view whose terms have other axes."""
    return each(view, lambda term: dataclasses.replace(term, axes=change(term.axes)))


def expanded(view: View, shape: Sequence[int]) -> View:
    """Return a view that is repeated along axes where it has one entry."""

    def change(axes: Axes) -> Axes:
        # Newer versions of JAX let an axis of one entry meet a longer one.
        axes = axes or ((),) * len(shape)
        return tuple(
            ((BROADCAST, size),) if size > 1 and size_of(axis) == 1 else axis
            for axis, size in zip(axes, shape, strict=True)
        )

    return with_axes(view, change)


def is_repeated(view: View) -> bool:
    """Tell whether a view has an axis along which it is repeated, such as the batch."""
    return any(
        name == BROADCAST and size > 1
        for term in view.terms
        for axis in term.axes
        for name, size in axis
    )


def is_summed(view: View, dims: Sequence[int]) -> bool:
    """Tell whether a view varies along some axes alone, which a product sums over."""
    return all(
        any(size > 1 for _, size in axis) == (dim in dims)
        for term in view.terms
        for dim, axis in enumerate(term.axes)
    )


def combined(one: View, other: View, shape: Sequence[int], *, multiplies: bool) -> View:
    """Return the view of two views that meet entry by entry.

    A product has the kernel as its term, and the gain of a weight norm as a scale. A
    statistic of a parameter that the view already has, such as its norm, adds nothing.
    """
    one, other = expanded(one, shape), expanded(other, shape)
    if multiplies:
        one, other = _scales(one, other)
    terms = dict.fromkeys(one.terms + other.terms)
    # g v / |v|: the norm of v adds nothing to what v itself says.
    full = {term.parameter for term in terms if not term.is_reduced}
    normed = {t.parameter for t in terms if t.is_reduced} & full
    return View(
        tuple(
            dataclasses.replace(t, is_normalized=True) if t.parameter in normed else t
            for t in terms
            if not (t.is_reduced and t.parameter in full)
        )
    )


def _scales(one: View, other: View) -> tuple[View, View]:
    """Mark the view with fewer axes as what scales the other."""
    counts = [max(map(_extent, view.terms)) for view in (one, other)]
    # Two whole kernels that are multiplied, such as a kernel and its learned mask.
    if counts[0] == counts[1]:
        return one, other
    if counts[0] < counts[1]:
        return each(one, _as_scale), other
    return one, each(other, _as_scale)


def _as_scale(term: Term) -> Term:
    return dataclasses.replace(term, is_scale=True)


def _extent(term: Term) -> int:
    """Count the axes of a term that are axes of its parameter and vary."""
    if term.is_reduced:
        return -1
    return sum(any(is_real(f) and f[1] > 1 for f in axis) for axis in term.axes)


def concatenated(eqn: JaxprEqn, pieces: Sequence[View]) -> View:
    """Return the view of several views side by side, each as long as the whole."""
    return _together(eqn, pieces, eqn.params["dimension"])


def in_rows(eqn: JaxprEqn, pieces: Sequence[View]) -> View:
    """Return the view of several views that are put beside each other by `stack`."""
    along = eqn.params["axis"]
    rows = [
        with_axes(one, lambda axes: (*axes[:along], (), *axes[along:]))
        for one in pieces
    ]
    return _together(eqn, rows, along)


def _together(eqn: JaxprEqn, pieces: Sequence[View], along: int) -> View:
    size = shape_of(eqn.outvars[0])[along]

    def lengthened(axes: Axes) -> Axes:
        # The lengths must fit, or later reshapes would lose the piece's axis.
        real = [name for name, _ in axes[along] if name >= 0]
        axis = ((real[0] if real else BROADCAST, size),)
        return (*axes[:along], axis, *axes[along + 1 :])

    terms: dict[Term, None] = {}
    for piece in pieces:
        terms |= dict.fromkeys(with_axes(piece, lengthened).terms)
    return View(tuple(terms))


def sliced(view: View, eqn: JaxprEqn, place: int) -> View:
    """Return the view of one part of a `split`."""
    axis, sizes = eqn.params["axis"], [int(size) for size in eqn.params["sizes"]]
    start = sum(sizes[:place])
    shape = shape_of(eqn.outvars[place])

    def part(term: Term) -> Term:
        ranges = [(0, size) for size in shape]
        ranges[axis] = (start, start + sizes[place])
        return _sliced(term, ranges, shape)

    return each(view, part)


def entry(view: View, eqn: JaxprEqn, place: int) -> View:
    """Return the view of one entry of an axis, of those that `unstack` gives."""
    axis, shape = eqn.params["axis"], list(shape_of(eqn.invars[0]))
    ranges = [(0, size) for size in shape]
    ranges[axis], shape[axis] = (place, place + 1), 1
    return each(view, lambda term: _without(_sliced(term, ranges, shape), {axis}))


def product(
    one: View,
    other: View,
    contracted: tuple[Sequence[int], Sequence[int]],
    kept: tuple[Sequence[int | None], Sequence[int | None]],
) -> View:
    """Return the view of a product of two parameters, such as LoRA's factors.

    Args:
      one: the view on the left.
      other: the view on the right.
      contracted: the dimensions of each that the product sums over.
      kept: for each axis of the product the dimension of each view that it is, or None.
    """
    sides = zip((one, other), contracted, kept, strict=True)
    return View(
        tuple(_remaining(t, gone, dims) for v, gone, dims in sides for t in v.terms)
    )


def _remaining(
    term: Term, contracted: Sequence[int], kept: Sequence[int | None]
) -> Term:
    axes = tuple(() if dim is None else term.axes[dim] for dim in kept)
    used = [f for dim in contracted for f in term.axes[dim] if is_real(f)]
    return dataclasses.replace(term, axes=axes, inner=(*term.inner, *used))


def gathered(view: View, dims: Sequence[int]) -> View:
    """Say of some axes of a view that entries are looked up along them."""

    def marked(term: Term) -> Term:
        names = [name for dim in dims for name, _ in term.axes[dim] if name >= 0]
        return dataclasses.replace(term, gathered=(*term.gathered, *names))

    return each(view, marked)


def mapped(view: View, letters: tuple[tuple[int, str], ...]) -> View:
    """Return a view that remembers its letters in a product with a constant."""
    return each(view, lambda term: dataclasses.replace(term, mapped=letters))


def step_of(view: View, loop: int) -> View:
    """Return what one step of a scan gets of a stacked view."""

    def step(term: Term) -> Term:
        first, *axes = term.axes
        name = first[0][0] if len(first) == 1 else BROADCAST
        members, loops = (*term.members, first), (*term.loops, (loop, name))
        return dataclasses.replace(term, axes=tuple(axes), members=members, loops=loops)

    return each(view, step)


def stacked(view: View, length: int, loop: int) -> View:
    """Return the view of what the steps of a scan have handed out."""

    def outside(term: Term) -> Term:
        # Parameters that a scan only hands through get their axis back.
        if term.factor_of(loop) is not None:
            members, axis = term.members[:-1], term.members[-1]
        else:
            members, axis = term.members, ((BROADCAST, length),)
        loops = tuple(pair for pair in term.loops if pair[0] != loop)
        axes = (axis, *term.axes)
        return dataclasses.replace(term, axes=axes, members=members, loops=loops)

    return each(view, outside)


def local(view: View, shape: Sequence[int]) -> View:
    """Return a view with other lengths: a shard's, or a whole's again."""

    def resized(axis: Axis, size: int) -> Axis:
        if size_of(axis) == size or not axis:
            return axis
        (name, _), *rest = axis
        inner = size_of(tuple(rest))
        return ((name, size // inner if inner else size), *rest)

    return with_axes(
        view,
        lambda axes: tuple(resized(a, s) for a, s in zip(axes, shape, strict=True)),
    )


def cut(axis: Axis, size: int) -> Axis:
    """Shorten an axis of which a slice was taken."""
    if size_of(axis) == size:
        return axis
    real = [f for f in axis if is_real(f)]
    return ((real[0][0] if real else BROADCAST, size),)


def _split(factor: Factor, size: int) -> tuple[Factor, Factor]:
    name, whole = factor
    inner = whole // size
    return (outer_piece(name, inner), size), (name, inner)


def _same(eqn: JaxprEqn, term: Term) -> Term:
    return term


def _transpose(eqn: JaxprEqn, term: Term) -> Term:
    order = eqn.params["permutation"]
    return dataclasses.replace(term, axes=tuple(term.axes[i] for i in order))


def _reshape(eqn: JaxprEqn, term: Term) -> Term | None:
    # A vmap of a convolution reorders axes in the same step.
    order = eqn.params["dimensions"] or range(len(term.axes))
    axes = regroup(tuple(term.axes[i] for i in order), shape_of(eqn.outvars[0]), _split)
    return None if axes is None else dataclasses.replace(term, axes=axes)


def _broadcast(eqn: JaxprEqn, term: Term) -> Term:
    shape, places = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    axes: list[Axis] = [((BROADCAST, size),) if size > 1 else () for size in shape]
    for axis, place in zip(term.axes, places, strict=True):
        if size_of(axis) == shape[place]:
            axes[int(place)] = axis
    return dataclasses.replace(term, axes=tuple(axes))


def _tile(eqn: JaxprEqn, term: Term) -> Term | None:
    # A class token is repeated for each input. The parts of a repeated axis of more
    # than one entry are unknown.
    sizes = shape_of(eqn.outvars[0])
    pairs = list(zip(term.axes, sizes, strict=True))
    if any(size_of(axis) not in (1, size) for axis, size in pairs):
        return None
    axes = tuple(
        axis if size_of(axis) == size else ((BROADCAST, size),) for axis, size in pairs
    )
    return dataclasses.replace(term, axes=axes)


def _squeeze(eqn: JaxprEqn, term: Term) -> Term:
    dims = {d % max(len(term.axes), 1) for d in eqn.params["dimensions"]}
    return _without(term, dims)


def _without(term: Term, dims: set[int]) -> Term:
    """Drop axes of one entry."""
    axes = tuple(a for i, a in enumerate(term.axes) if i not in dims)
    gone = tuple(term.axes[i] for i in sorted(dims) if any(map(is_real, term.axes[i])))
    # An index has cut these axes down to one entry; those of length one stay unknown.
    parts = {name for name, *_ in term.part}
    members = tuple(a for a in gone if any(name in parts for name, _ in a))
    return dataclasses.replace(term, axes=axes, members=(*term.members, *members))


def _slice(eqn: JaxprEqn, term: Term) -> Term:
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    return _sliced(term, zip(starts, limits, strict=True), shape_of(eqn.outvars[0]))


def _dynamic_slice(eqn: JaxprEqn, term: Term) -> Term:
    sizes = eqn.params["slice_sizes"]
    return _sliced(term, [(0, size) for size in sizes], sizes)


def _sliced(
    term: Term, ranges: Iterable[tuple[int, int]], sizes: Sequence[int]
) -> Term:
    axes, part = [], list(term.part)
    for axis, size, (start, stop) in zip(term.axes, sizes, ranges, strict=True):
        if size_of(axis) != size:
            part += [(name, int(start), int(stop)) for name, _ in axis if name >= 0]
        axes.append(cut(axis, size))
    return dataclasses.replace(term, axes=tuple(axes), part=tuple(part))


def _reduce(eqn: JaxprEqn, term: Term) -> Term:
    gone = set(eqn.params["axes"])
    axes = tuple(a for i, a in enumerate(term.axes) if i not in gone)
    return dataclasses.replace(term, axes=axes, is_reduced=True)


_SAME = """rev copy copy_p convert_element_type reduce_precision stop_gradient name neg
sharding_constraint reshard pvary real imag conj tanh logistic exp exp2 log log1p expm1
sqrt rsqrt cbrt sin cos tan erf erf_inv abs sign floor ceil round integer_pow square
cumsum cumprod psum pmean optimization_barrier sort clamp psum_invariant"""

_RULES: dict[str, Rule] = dict.fromkeys(_SAME.split(), _same) | {
    "transpose": _transpose,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "tile": _tile,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "reduce_sum": _reduce,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
}
