"""Indices choose parts of a parameter: members, rows of a table, steps of a loop."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from jax.extend.core import JaxprEqn

from .atoms import shape_of
from .axes import BROADCAST, Axis
from .values import Term, View
from .views import cut, each


def indexed(eqn: JaxprEqn, view: View) -> View:
    """Return a view behind a `gather` whose indices no input decides."""
    numbers, shape = eqn.params["dimension_numbers"], shape_of(eqn.outvars[0])
    chosen = [d for d in range(len(shape)) if d not in numbers.offset_dims]
    # w[0] for a constant index is one of several kernels that are kept together.
    if math.prod(shape[d] for d in chosen) == 1:
        return each(view, lambda term: _one(term, eqn))
    return each(view, lambda term: _several(term, eqn, chosen))


def _one(term: Term, eqn: JaxprEqn) -> Term:
    """Return the term of one entry: its axis counts members from here on."""
    gone = eqn.params["dimension_numbers"].collapsed_slice_dims
    members = (*term.members, *(term.axes[d] for d in gone))
    return dataclasses.replace(_kept(term, eqn), members=members)


def _several(term: Term, eqn: JaxprEqn, chosen: list[int]) -> Term:
    """Return the term of entries that lie along the first axis of the indices."""
    shape, new = shape_of(eqn.outvars[0]), _kept(term, eqn)
    gone = eqn.params["dimension_numbers"].collapsed_slice_dims
    names = [name for d in gone for name, _ in term.axes[d]]
    axes = list(new.axes)
    for dim in chosen:
        axes[dim] = ((BROADCAST, shape[dim]),)
    if chosen and names:
        axes[chosen[0]] = ((names[0], shape[chosen[0]]),)
    gathered = (*term.gathered, *(name for name in names if name >= 0))
    return dataclasses.replace(new, axes=tuple(axes), gathered=gathered)


def _kept(term: Term, eqn: JaxprEqn) -> Term:
    """Return the term with the axes that the indices leave, as long as the slices."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    axes: list[Axis] = [()] * len(shape_of(eqn.outvars[0]))
    part = list(term.part)
    for place, dim in zip(numbers.offset_dims, kept_dims(numbers, sizes), strict=True):
        axis = axes[place] = cut(term.axes[dim], sizes[dim])
        # A slice of one entry is an index that a later squeeze drops.
        if axis is not term.axes[dim]:
            part += [(name, 0, sizes[dim]) for name, _ in axis if name >= 0]
    return dataclasses.replace(term, axes=tuple(axes), part=tuple(part))


def kept_dims(numbers: Any, sizes: Any) -> list[int]:
    """Return the dimensions of a `gather`'s operand that its result has, too."""
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    return [dim for dim in range(len(sizes)) if dim not in gone]


def looked_up(view: View, part: View) -> View:
    """Say of a part that the inputs have chosen that it is looked up."""

    def marked(before: Term, after: Term) -> Term:
        cut = {n for n, *_ in after.part} - {n for n, *_ in before.part}
        return dataclasses.replace(after, gathered=(*after.gathered, *sorted(cut)))

    return _paired(view, part, marked)


def chosen_by_step(view: View, part: View, loop: int) -> View:
    """Say of a part that is one entry of a longer axis that it belongs to a step."""

    def marked(before: Term, after: Term) -> Term:
        # Only an axis that the index has cut tells the steps apart.
        long = {name for axis in before.axes for name, size in axis if size > 1}
        ones = {name for axis in after.axes for name, size in axis if size == 1}
        ones |= {name for axis in after.members for name, _ in axis}
        steps = tuple((loop, name) for name in sorted(long & ones)[:1])
        return dataclasses.replace(after, loops=after.loops + steps)

    return _paired(view, part, marked)


def _paired(view: View, part: View, marked: Callable[[Term, Term], Term]) -> View:
    pairs = zip(view.terms, part.terms, strict=True)
    return View(tuple(marked(before, after) for before, after in pairs))
