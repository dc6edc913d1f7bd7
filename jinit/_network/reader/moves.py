"""Operations on data that move, cut, join and look up entries."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from . import views
from .atoms import shape_of
from .axes import Axes, Axis, size_of
from .entrywise import total
from .indexing import kept_dims
from .meetings import joined
from .uses import Log
from .values import Data, View, rebased

Rule = Callable[[Log, JaxprEqn, Sequence[Any]], Any]

# The reason of a parameter that is joined to data, such as a class token.
BESIDE_DATA = "it is put beside data, as a token is"


def _moved(eqn: JaxprEqn, data: Data, axes: Axes) -> Data:
    """Return the same entries along other axes."""
    new = data.copy(axes=axes)
    # A modulated kernel is reshaped before its convolution, and its view with it.
    if data.pending is not None:
        view, use, product = data.pending
        moved = views.moved(eqn, view)
        product = None if product is None else new
        new.pending = None if moved is None else (moved, use, product)
    return new


def transpose(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Put axes into another order."""
    data = values[0]
    return _moved(eqn, data, tuple(data.axes[i] for i in eqn.params["permutation"]))


def reshape(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Split and join axes."""
    shape = shape_of(eqn.outvars[0])
    axes = values[0].axes
    axes = tuple(axes[i] for i in eqn.params["dimensions"] or range(len(axes)))
    return _moved(eqn, values[0], log.labels.reshape(axes, shape))


def broadcast(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Repeat data along new axes."""
    data, shape = values[0], eqn.params["shape"]
    axes: list[Axis | None] = [None] * len(shape)
    for axis, place in zip(data.axes, eqn.params["broadcast_dimensions"], strict=True):
        axes[int(place)] = axis if size_of(axis) == shape[place] else None
    whole = tuple(
        axis or log.labels.repeat(size) for axis, size in zip(axes, shape, strict=True)
    )
    return _moved(eqn, data, whole)


def tile(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Repeat data along axes of one entry."""
    data, shape = values[0], shape_of(eqn.outvars[0])
    pairs = list(zip(data.axes, shape, strict=True))
    if any(size_of(axis) not in (1, size) for axis, size in pairs):
        return other(log, eqn, values)
    axes = (a if size_of(a) == size else log.labels.repeat(size) for a, size in pairs)
    return _moved(eqn, data, tuple(axes))


def squeeze(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Drop axes of one entry."""
    data = values[0]
    gone = {d % len(data.axes) for d in eqn.params["dimensions"]}
    return _moved(eqn, data, tuple(a for i, a in enumerate(data.axes) if i not in gone))


def cut(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Take parts of data: a slice, a split, or a window that a number chooses."""
    data = values[0]
    if not isinstance(data, Data):
        return other(log, eqn, values)
    return [_part(log, eqn, data, shape_of(var)) for var in eqn.outvars]


def relabeled(log: Log, axis: Axis, size: int) -> Axis:
    """Return an axis that was lengthened or cut, with the label that it had."""
    # Of an axis of several factors nobody knows which one was cut.
    if len(axis) != 1:
        return log.labels.axis(size)
    return ((axis[0][0], size),)


def _part(log: Log, eqn: JaxprEqn, data: Data, shape: Sequence[int]) -> Data:
    axes = []
    for axis, size in zip(data.axes, shape, strict=True):
        axes.append(axis if size_of(axis) == size else relabeled(log, axis, size))
    new = data.copy(axes=tuple(axes), pending=None, factors=None, is_part=True)
    new.scalar = rebased(data.scalar)
    strides = eqn.params.get("strides")
    stream = data.stream
    new = log.base(new)
    if strides is not None and max(strides) > 1:
        # Some shortcuts only drop every second row.
        new.stream |= stream
    return new


def pad(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Put a constant around data."""
    data = values[0]
    if not isinstance(data, Data):
        return other(log, eqn, values)
    shape = shape_of(eqn.outvars[0])
    sizes = shape_of(eqn.invars[0])
    axes = tuple(
        a if n == m else log.labels.axis(n)
        for a, n, m in zip(data.axes, shape, sizes, strict=True)
    )
    return data.copy(axes=axes, pending=None, factors=None)


def concatenate(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Put values beside each other."""
    return _together(log, eqn, values, eqn.params["dimension"])


def stack(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Put values beside each other along a new axis."""
    along = eqn.params["axis"]

    def row(value: Any) -> Any:
        if not isinstance(value, Data):
            return value
        axes = (*value.axes[:along], log.labels.repeat(1), *value.axes[along:])
        return value.copy(axes=axes, pending=None)

    return _together(log, eqn, list(map(row, values)), along)


def unstack(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Take data apart into its entries along an axis, as `q, k, v = qkv` does."""
    data, along = values[0], eqn.params["axis"]
    if not isinstance(data, Data):
        return other(log, eqn, values)
    shape = list(shape_of(eqn.invars[0]))
    shape[along] = 1
    parts = [_part(log, eqn, data, shape) for _ in eqn.outvars]
    return [
        _moved(eqn, part, (*part.axes[:along], *part.axes[along + 1 :]))
        for part in parts
    ]


def _together(log: Log, eqn: JaxprEqn, values: Sequence[Any], along: int) -> Data:
    operands = [value for value in values if isinstance(value, Data)]
    for view in values:
        if isinstance(view, View):
            log.other(view, BESIDE_DATA)
    new = operands[0].copy()
    for data in operands[1:]:
        new = joined(new, data)
    for data in operands:
        new.sources |= data.sources
    axes = _beside(log, operands, shape_of(eqn.outvars[0]), along)
    new = new.copy(axes=axes, terms=(), norm=None, pending=None, factors=None)
    new.exponential = new.total = None
    # Features behind one activation are put beside others behind the same.
    new.scalar, new.gated = rebased(operands[0].scalar), operands[0].gated
    return log.base(new)


def scatter_add(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Add rows to others: to zeros, as experts' outputs are, or to the stream."""
    onto, indices, rows = values
    if not isinstance(rows, Data) or isinstance(onto, View):
        return other(log, eqn, values)
    # Experts' outputs are scattered back to their tokens; the indices route only.
    if not isinstance(onto, Data):
        axes = _kept_axes(log, eqn.outvars[0].aval, [rows])
        return log.base(rows.copy(axes=axes, pending=None, factors=None))
    new = joined(onto, rows).copy(axes=_kept_axes(log, eqn.outvars[0].aval, [onto]))
    if isinstance(indices, Data):
        new.ancestors |= indices.ancestors
        new.layers |= indices.layers
    return total(log, new, onto, rows)


def _beside(
    log: Log, operands: Sequence[Data], shape: Sequence[int], along: int
) -> Axes:
    """Return the axes of values beside each other along one of them."""
    axes = list(log.labels.axes(shape))
    for dim in range(len(shape)):
        same = [data.axes[dim] for data in operands if data.axes[dim]]
        if dim != along and same:
            for axis in same[1:]:
                log.labels.unite(axis, same[0])
            axes[dim] = same[0]
    if len(operands) == 1 and operands[0].axes[along]:
        # A learned logit beside the keys' lengthens their axis.
        axes[along] = relabeled(log, operands[0].axes[along], shape[along])
    return tuple(axes)


def gather(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Look entries of data up."""
    data, indices = values[:2]
    if not isinstance(data, Data):
        return other(log, eqn, values)
    shape = shape_of(eqn.outvars[0])
    axes = list(log.labels.axes(shape))
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    kept = kept_dims(numbers, sizes)
    for spot, dim in zip(numbers.offset_dims, kept, strict=True):
        if shape[spot] == shape_of(eqn.invars[0])[dim]:
            axes[spot] = data.axes[dim]
    new = data if not isinstance(indices, Data) else _with_indices(data, indices)
    return log.base(
        new.copy(
            axes=tuple(axes), pending=None, factors=None, scalar=rebased(data.scalar)
        )
    )


def _with_indices(data: Data, indices: Data) -> Data:
    # What indices are made of is no source of what they choose.
    new = joined(data, indices)
    return new.copy(last=data.last, sources=data.sources or indices.sources)


def other(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> list[Data]:
    """Read any operation that this reader knows nothing of."""
    operands = [value for value in values if isinstance(value, Data)]
    for view in values:
        if isinstance(view, View):
            log.other(view, f"it goes into `{eqn.primitive.name}`, which is not read")
    new = operands[0] if operands else Data()
    for data in operands[1:]:
        new = joined(new, data)
    # Nothing that one entry says of another survives: norms, softmaxes, kernels.
    new = joined(new, new)
    return [
        log.base(new.copy(axes=_kept_axes(log, var.aval, operands)))
        for var in eqn.outvars
    ]


def _kept_axes(log: Log, kind: Any, operands: Sequence[Data]) -> Axes:
    """Keep the axes of an operand that is as long along each of them."""
    shape = tuple(getattr(kind, "shape", ()))
    for data in operands:
        if tuple(map(size_of, data.axes)) == shape:
            return data.axes
    return log.labels.axes(shape)


RULES: dict[str, Rule] = {
    "transpose": transpose,
    "reshape": reshape,
    "broadcast_in_dim": broadcast,
    "squeeze": squeeze,
    "tile": tile,
    "slice": cut,
    "split": cut,
    "dynamic_slice": cut,
    "pad": pad,
    "concatenate": concatenate,
    # JAX wrote these two with the others until its version 0.10.
    "stack": stack,
    "unstack": unstack,
    "gather": gather,
    "scatter-add": scatter_add,
    "scatter_add": scatter_add,
}
