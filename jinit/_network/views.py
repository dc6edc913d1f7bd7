"""Views of parameters go through the operations that move, cut and rescale them.

A view that no rule here understands becomes a use with the role "other", and says why.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from .atoms import shape_of
from .axes import BROADCAST, Axes, Axis, Factor, regroup, size_of
from .values import Term, View, is_real

Rule = Callable[[JaxprEqn, Term], Term | None]


def moved(eqn: JaxprEqn, view: View) -> View | None:
    """Return a view behind an operation on it; None if that is not understood."""
    rule = _RULES.get(eqn.primitive.name)
    if rule is None:
        return None
    terms = [rule(eqn, term) for term in view.terms]
    kept = tuple(term for term in terms if term is not None)
    return View(kept) if len(kept) == len(terms) else None


def with_axes(view: View, change: Callable[[Axes], Axes]) -> View:
    """Return a view whose terms have other axes."""
    return View(tuple(dataclasses.replace(t, axes=change(t.axes)) for t in view.terms))


def expanded(view: View, shape: Sequence[int]) -> View:
    """Return a view that is repeated along axes where it has one entry."""

    def change(axes: Axes) -> Axes:
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


def combined(one: View, other: View, shape: Sequence[int], *, multiplies: bool) -> View:
    """Return the view of two views that meet entry by entry.

    A product has the kernel as its term, and the gain of a weight norm as a scale. A
    statistic of a parameter that the view already has, such as its norm, adds nothing.
    """
    one, other = expanded(one, shape), expanded(other, shape)
    if multiplies:
        one, other = _scales(one, other)
    terms = dict.fromkeys(one.terms + other.terms)
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
    if counts[0] == counts[1]:
        return one, other
    marked = [
        view
        if count == max(counts)
        else View(tuple(dataclasses.replace(t, is_scale=True) for t in view.terms))
        for view, count in zip((one, other), counts, strict=True)
    ]
    return marked[0], marked[1]


def _extent(term: Term) -> int:
    """Count the axes of a term that are axes of its parameter and vary."""
    if term.is_reduced:
        return -1
    return sum(any(is_real(f) and f[1] > 1 for f in axis) for axis in term.axes)


def concatenated(eqn: JaxprEqn, pieces: Sequence[View]) -> View:
    """Return the view of several views side by side, each as long as the whole."""
    along = eqn.params["dimension"]
    size = shape_of(eqn.outvars[0])[along]

    def lengthened(axes: Axes) -> Axes:
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

    return View(tuple(map(part, view.terms)))


def product(
    one: View, other: View, pairs: Sequence[tuple[int, int]], output: "Output"
) -> View:
    """Return the view of a product of two parameters, such as LoRA's factors."""
    left, right = pairs_of(pairs)
    terms = [_remaining(t, left, output(0), len(output.axes)) for t in one.terms]
    terms += [_remaining(t, right, output(1), len(output.axes)) for t in other.terms]
    return View(tuple(terms))


def pairs_of(pairs: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Split pairs of contracted dimensions into those of the left and of the right."""
    return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)


@dataclasses.dataclass(frozen=True)
class Output:
    """For each axis of a product: which operands it comes from, at which dimension."""

    # (dimension of the left operand or None, dimension of the right operand or None)
    axes: tuple[tuple[int | None, int | None], ...]

    def __call__(self, side: int) -> dict[int, int]:
        """Return output axis -> dimension of the operand on a side."""
        return {
            i: d for i, pair in enumerate(self.axes) if (d := pair[side]) is not None
        }


def _remaining(
    term: Term, contracted: Sequence[int], kept: dict[int, int], ndim: int
) -> Term:
    axes = tuple(term.axes[kept[i]] if i in kept else () for i in range(ndim))
    used = [f for dim in contracted for f in term.axes[dim] if is_real(f)]
    inner = term.inner + tuple((name, "") for name, _ in used)
    return dataclasses.replace(term, axes=axes, inner=inner)


def mapped(view: View, letters: tuple[tuple[int, str], ...]) -> View:
    """Return a view that remembers its letters in a product with a constant."""
    return View(tuple(dataclasses.replace(t, mapped=letters) for t in view.terms))


def step_of(view: View, loop: int) -> View:
    """Return what one step of a scan gets of a stacked view."""
    return View(
        tuple(
            dataclasses.replace(
                t,
                axes=t.axes[1:],
                members=(*t.members, t.axes[0]),
                loops=t.loops | {loop},
            )
            for t in view.terms
        )
    )


def looked_up(view: View, part: View) -> View:
    """Say of a part that the inputs have chosen that it is looked up."""

    def marked(before: Term, after: Term) -> Term:
        cut = {n for n, *_ in after.part} - {n for n, *_ in before.part}
        return dataclasses.replace(after, gathered=(*after.gathered, *sorted(cut)))

    pairs = zip(view.terms, part.terms, strict=True)
    return View(tuple(marked(before, after) for before, after in pairs))


def chosen(view: View, part: View, loop: int) -> View:
    """Say of a part that has one entry of a longer axis that it is that of a step."""

    def marked(before: Term, after: Term) -> Term:
        sizes = {name for axis in before.axes for name, size in axis if size > 1}
        ones = {name for axis in after.axes for name, size in axis if size == 1}
        ones |= {name for axis in after.members for name, _ in axis}
        is_chosen = bool(sizes & ones)
        return (
            dataclasses.replace(after, loops=after.loops | {loop})
            if is_chosen
            else after
        )

    pairs = zip(view.terms, part.terms, strict=True)
    return View(tuple(marked(before, after) for before, after in pairs))


def stacked(view: View, length: int, loop: int) -> View:
    """Return the view of what the steps of a scan have handed out."""

    def outside(term: Term) -> Term:
        if loop in term.loops:
            members, axis = term.members[:-1], term.members[-1]
        else:
            members, axis = term.members, ((BROADCAST, length),)
        loops = term.loops - {loop}
        axes = (axis, *term.axes)
        return dataclasses.replace(term, axes=axes, members=members, loops=loops)

    return View(tuple(map(outside, view.terms)))


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


def indexed(eqn: JaxprEqn, view: View) -> View | None:
    """Return a view behind a `gather` whose indices no input decides."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    batching = getattr(numbers, "operand_batching_dims", ())
    kept = [
        d
        for d in range(len(sizes))
        if d not in numbers.collapsed_slice_dims and d not in batching
    ]
    shape = shape_of(eqn.outvars[0])
    chosen = [d for d in range(len(shape)) if d not in numbers.offset_dims]
    count = 1
    for dim in chosen:
        count *= shape[dim]
    return View(
        tuple(
            _indexed(t, numbers, kept, chosen, shape, sizes, count) for t in view.terms
        )
    )


def _indexed(
    term: Term,
    numbers: Any,
    kept: list[int],
    chosen: list[int],
    shape: Sequence[int],
    sizes: Sequence[int],
    count: int,
) -> Term:
    axes: list[Axis] = [()] * len(shape)
    for place, dim in zip(numbers.offset_dims, kept, strict=True):
        axes[place] = _cut(term.axes[dim], sizes[dim])
    collapsed = [f for d in numbers.collapsed_slice_dims for f in term.axes[d]]
    if count == 1:
        return dataclasses.replace(
            term, axes=tuple(axes), members=(*term.members, tuple(collapsed))
        )
    # The chosen entries lie along the first axis of the indices.
    for dim in chosen:
        axes[dim] = ((BROADCAST, shape[dim]),)
    name = next((f[0] for f in collapsed if is_real(f)), BROADCAST)
    if chosen:
        axes[chosen[0]] = ((name, shape[chosen[0]]),)
    gathered = (*term.gathered, *(name for name, _ in collapsed))
    return dataclasses.replace(term, axes=tuple(axes), gathered=gathered)


def _cut(axis: Axis, size: int) -> Axis:
    """Shorten an axis of which a slice was taken."""
    if size_of(axis) == size:
        return axis
    real = [f for f in axis if is_real(f)]
    return ((real[0][0] if real else BROADCAST, size),)


def _split(factor: Factor, size: int) -> tuple[Factor, Factor]:
    name, whole = factor
    return (name, size), (name, whole // size)


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


def _squeeze(eqn: JaxprEqn, term: Term) -> Term:
    dims = {d % max(len(term.axes), 1) for d in eqn.params["dimensions"]}
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
        axes.append(_cut(axis, size))
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
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "reduce_sum": _reduce,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
}
