"""Operations on data that move, cut, join and reduce entries."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from . import attention, views
from .atoms import shape_of
from .axes import Axes, Axis, size_of
from .entrywise import total
from .indexing import kept_dims
from .meetings import joined, match, meet
from .uses import Log, letters_of
from .values import Data, View, rebased

Rule = Callable[[Log, JaxprEqn, Sequence[Any]], Any]


def _moved(eqn: JaxprEqn, data: Data, axes: Axes) -> Data:
    """Return the same entries along other axes."""
    new = data.copy(axes=axes)
    if data.pending is not None:
        view = views.moved(eqn, data.pending[0])
        source = data.pending[2]
        use = data.pending[1]
        new.pending = None if view is None else (view, use, source and new)
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
    datas = [value for value in values if isinstance(value, Data)]
    for view in values:
        if isinstance(view, View):
            log.other(view, "it is put beside data, as a token is")
    new = datas[0].copy()
    for data in datas[1:]:
        new = joined(new, data)
    shape, along = shape_of(eqn.outvars[0]), eqn.params["dimension"]
    axes = list(log.labels.axes(shape))
    for dim in range(len(shape)):
        same = [d.axes[dim] for d in datas if d.axes[dim]]
        if dim != along and same:
            for axis in same[1:]:
                log.labels.unite(axis, same[0])
            axes[dim] = same[0]
    for data in datas:
        new.sources |= data.sources
    if len(datas) == 1 and datas[0].axes[along]:
        # A learned logit beside the keys' lengthens their axis.
        axes[along] = relabeled(log, datas[0].axes[along], shape[along])
    keep = {"scalar": rebased(datas[0].scalar), "gated": datas[0].gated}
    # Half of a rotary embedding is turned, and put beside the other half.
    streams = dict.fromkeys(("exponential", "total", "pending", "factors"))
    terms: dict[str, Any] = {"terms": (), "norm": None}
    return log.base(new.copy(axes=tuple(axes), **keep, **streams, **terms))


def reduce_sum(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Sum over axes: a norm, a softmax, a product that was written out, or a mean."""
    return _summed(log, values[0], {int(d) for d in eqn.params["axes"]})


def psum(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Sum over devices, or over an axis that a vmap has a name for."""
    gone = {axis for axis in eqn.params["axes"] if isinstance(axis, int)}
    return [
        _summed(log, value, gone) if gone and isinstance(value, Data) else value
        for value in values
    ]


def _summed(log: Log, data: Data, gone: set[int]) -> Data:
    kept = tuple(a for i, a in enumerate(data.axes) if i not in gone)
    summed = attention.labels_of(data.axes[d] for d in gone)
    if data.pending is not None and data.pending[2] is not None:
        new = _written_out(log, data, gone, kept)
        if new is not None:
            return new
    if data.factors is not None and not data.norm:
        left, right = data.factors
        labels = [attention.labels_of(d.axes) for d in (left, right)]
        free = (labels[0] - labels[1], labels[1] - labels[0])
        return meet(log, left, right, kept, (summed, summed), free)
    new = data.copy(
        axes=kept, exponential=None, pending=None, factors=None, is_one_hot=False
    )
    new.scalar = rebased(data.scalar)
    if data.exponential is not None:
        data.exponential.labels |= summed
        new.total = data.exponential
    if data.norm == "square":
        new.norm = "mean_square"
    elif data.norm not in ("mean_square", None):
        new.norm = None
    return log.base(new)


def _written_out(log: Log, data: Data, gone: set[int], kept: Axes) -> Data | None:
    """Return the sum of (data * parameter) over an axis of the parameter, a product."""
    assert data.pending is not None
    view, use, _ = data.pending
    axes = view.terms[0].axes
    real = [any(n >= 0 and s > 1 for n, s in axis) for axis in axes]
    if not any(real[d] for d in gone):
        return None
    repeated = log.labels.repeated
    letters = [
        "i"
        if d in gone
        else "o"
        if all(label in repeated for label, _ in data.axes[d])
        else "b"
        for d in range(len(axes))
    ]
    use.kind, use.reason = "product", None
    use.letters = letters_of(view, letters)
    use.activation = data.scalar
    for dim, letter in enumerate(letters):
        names = {"i": use.contracted, "o": use.outputs, "b": use.batched}[letter]
        match(names, view, dim, data.axes[dim])
    read = use.data or data
    new = Data().copy(
        axes=kept,
        ancestors=read.ancestors,
        layers=read.layers | use.bit,
        last=use.bit,
        sources=use.bit,
    )
    return log.base(new)


def pool(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Sum over windows, which shortcuts may do, too."""
    data: Data = values[0]
    shape = shape_of(eqn.outvars[0])
    sizes = shape_of(eqn.invars[0])
    axes = tuple(
        a if n == m else log.labels.axis(n)
        for a, n, m in zip(data.axes, shape, sizes, strict=True)
    )
    scalar = rebased(data.scalar)
    return data.copy(axes=axes, pending=None, factors=None, scalar=scalar)


def reduce_other(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Take a maximum or another reduction over axes."""
    data: Data = values[0]
    gone = {int(d) for d in eqn.params["axes"]}
    kept = tuple(a for i, a in enumerate(data.axes) if i not in gone)
    new = data.copy(axes=kept, pending=None, factors=None, exponential=None, norm=None)
    new.scalar = rebased(data.scalar)
    if eqn.primitive.name in ("argmax", "argmin"):
        labels = attention.labels_of(data.axes[d] for d in gone)
        new.routing |= attention.routers(log, data, labels)
    return log.base(new)


def scatter_add(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Add rows to others: to zeros, as experts' outputs are, or to the stream."""
    onto, indices, rows = values
    if not isinstance(rows, Data) or isinstance(onto, View):
        return other(log, eqn, values)
    if not isinstance(onto, Data):
        axes = _kept_axes(log, eqn.outvars[0].aval, [rows])
        return log.base(rows.copy(axes=axes, pending=None, factors=None))
    new = joined(onto, rows).copy(axes=_kept_axes(log, eqn.outvars[0].aval, [onto]))
    if isinstance(indices, Data):
        new.ancestors |= indices.ancestors
        new.layers |= indices.layers
    return total(log, new, onto, rows)


def choose(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Read a top_k or a sort, by which a router may choose."""
    datas = [value for value in values if isinstance(value, Data)]
    axis = eqn.params.get("axis", eqn.params.get("dimension", -1))
    routing = 0
    for data in datas:
        if data.axes:
            labels = attention.labels_of([data.axes[axis]])
            routing |= data.routing | attention.routers(log, data, labels)
    results = other(log, eqn, values)
    return [new.copy(routing=new.routing | routing) for new in results]


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
    new = joined(data, indices)
    return new.copy(last=data.last, sources=data.sources or indices.sources)


def other(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> list[Data]:
    """Read any operation that this reader knows nothing of."""
    datas = [value for value in values if isinstance(value, Data)]
    for view in values:
        if isinstance(view, View):
            log.other(view, f"it goes into `{eqn.primitive.name}`, which is not read")
    new = datas[0] if datas else Data()
    for data in datas[1:]:
        new = joined(new, data)
    new = joined(new, new)
    return [
        log.base(new.copy(axes=_kept_axes(log, var.aval, datas))) for var in eqn.outvars
    ]


def _kept_axes(log: Log, kind: Any, datas: Sequence[Data]) -> Axes:
    """Keep the axes of an operand that is as long along each of them."""
    shape = tuple(getattr(kind, "shape", ()))
    for data in datas:
        if tuple(map(size_of, data.axes)) == shape:
            return data.axes
    return log.labels.axes(shape)


RULES: dict[str, Rule] = {
    "transpose": transpose,
    "reshape": reshape,
    "broadcast_in_dim": broadcast,
    "squeeze": squeeze,
    "slice": cut,
    "split": cut,
    "dynamic_slice": cut,
    "pad": pad,
    "concatenate": concatenate,
    "reduce_sum": reduce_sum,
    "reduce_window_sum": pool,
    "gather": gather,
    "top_k": choose,
    "sort": choose,
    "psum": psum,
    "psum_invariant": psum,
    "scatter-add": scatter_add,
    "scatter_add": scatter_add,
}
RULES |= dict.fromkeys(
    [
        "reduce_max",
        "reduce_min",
        "reduce_prod",
        "reduce_and",
        "reduce_or",
        "argmax",
        "argmin",
    ],
    reduce_other,
)
