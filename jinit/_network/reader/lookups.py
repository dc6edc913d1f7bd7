"""Indices that depend on the inputs look entries of a parameter up: an embedding."""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from . import views
from .atoms import shape_of
from .axes import BROADCAST, Axes, Axis
from .indexing import kept_dims
from .meetings import note, output, result
from .uses import Log
from .values import View


def lookup(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Read a `gather` from a parameter with indices that depend on the inputs."""
    view, indices = values[:2]
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape = shape_of(eqn.outvars[0])
    whole = shape_of(eqn.invars[0])
    # A vmap of an index keeps the axis that it has chosen from, with one entry.
    letters = ["o" if size == n else "i" for size, n in zip(sizes, whole, strict=True)]
    for dim in numbers.collapsed_slice_dims:
        letters[dim] = "i"
    use = note(log, "lookup", view, indices, letters)
    kept = kept_dims(numbers, sizes)
    axes = list(log.labels.axes(shape))
    batch = [d for d in range(len(shape)) if d not in numbers.offset_dims]
    for spot, axis in zip(batch, indices.axes, strict=False):
        axes[spot] = axis
    spots = [int(d) for d in numbers.offset_dims]
    # A gather with batching dimensions has fewer axes than are kept.
    if len(spots) != len(kept):
        return result(log, use, indices, tuple(axes))
    for spot, dim in zip(spots, kept, strict=True):
        if letters[dim] == "o":
            axes[spot] = output(log, use, view, dim)
    new = result(log, use, indices, tuple(axes))
    # Rows of two axes or more may be kernels, which the inputs choose among.
    if letters.count("o") > 1:
        new.pending = (_scattered(view, spots, kept, shape), use, None)
    return new


def _scattered(
    view: View, spots: Sequence[int], kept: Sequence[int], shape: Sequence[int]
) -> View:
    """Return the view of entries that were looked up, one for each index."""

    def change(axes: Axes) -> Axes:
        new: list[Axis] = [((BROADCAST, s),) if s > 1 else () for s in shape]
        for spot, dim in zip(spots, kept, strict=True):
            new[spot] = axes[dim]
        return tuple(new)

    return views.with_axes(view, change)
