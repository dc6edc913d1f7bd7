"""Parameters meet data in products, convolutions and lookups: the layers of a network."""

import math
from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from . import attention, views
from .axes import BROADCAST, Axes, Axis, Factor
from .uses import FROM_INPUTS, Log, Use
from .values import Data, Meeting, View, number


def dot_general(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Read a product of two values, at least one of which is no constant."""
    left, right = values[:2]
    dims = eqn.params["dimension_numbers"]
    if isinstance(left, View) and isinstance(right, View):
        if views.is_repeated(left):
            left = learned(log, left, eqn.invars[0].aval.shape)
        elif views.is_repeated(right):
            right = learned(log, right, eqn.invars[1].aval.shape)
        else:
            return _of_parameters(eqn, left, right)
    if isinstance(left, View):
        return _with_parameter(log, eqn, left, right, _Dims(eqn, dims, 0))
    if isinstance(right, View):
        return _with_parameter(log, eqn, right, left, _Dims(eqn, dims, 1))
    return _of_data(log, eqn, left, right, dims)


class _Dims:
    """The dimensions of a product, seen from the operand on one side."""

    def __init__(self, eqn: JaxprEqn, dims: Any, side: int) -> None:
        contracted, batch = dims
        self.here = [int(d) for d in contracted[side]]
        self.there = [int(d) for d in contracted[1 - side]]
        self.batch_here = [int(d) for d in batch[side]]
        self.batch_there = [int(d) for d in batch[1 - side]]
        self.free_here = _free(eqn.invars[side].aval.ndim, self.here, self.batch_here)
        self.free_there = _free(
            eqn.invars[1 - side].aval.ndim, self.there, self.batch_there
        )
        self.side = side

    @property
    def letters(self) -> list[str]:
        """One letter for each dimension of the operand on this side."""
        count = len(self.here) + len(self.batch_here) + len(self.free_here)
        letters = ["o"] * count
        for dim in self.here:
            letters[dim] = "i"
        for dim in self.batch_here:
            letters[dim] = "b"
        return letters


def _free(ndim: int, *taken: Sequence[int]) -> list[int]:
    gone = {d for dims in taken for d in dims}
    return [d for d in range(ndim) if d not in gone]


def _with_parameter(
    log: Log, eqn: JaxprEqn, view: View, other: Any, dims: _Dims
) -> Any:
    if not isinstance(other, Data):
        if number(other) is None:
            # A fixed linear map of a parameter, such as resizing a table of positions.
            return _mapped(eqn, view, dims)
        other = Data(), eqn.invars[1 - dims.side].aval.shape
        data = other[0].copy(axes=log.labels.axes(other[1]))
    else:
        data = other
    use = note(log, "product", view, data, dims.letters)
    for here, there in zip(dims.here, dims.there, strict=True):
        match(use.contracted, view, here, data.axes[there])
    for here, there in zip(dims.batch_here, dims.batch_there, strict=True):
        match(use.batched, view, here, data.axes[there])
    fresh = [_output(log, use, view, d) for d in dims.free_here]
    free = [data.axes[d] for d in dims.free_there]
    batch = [data.axes[d] for d in dims.batch_there]
    axes = (*batch, *fresh, *free) if dims.side == 0 else (*batch, *free, *fresh)
    if data.is_one_hot and not dims.batch_here:
        use.kind, use.activation = "lookup", None
    return result(log, use, data, axes)


def note(
    log: Log, kind: str, view: View, data: Data, letters: Sequence[str], **facts: Any
) -> Use:
    """Note a use of a parameter that multiplies data and sums."""
    use = log.note(kind, view, data, letters=log.letters(view, letters), **facts)
    if kind != "lookup":
        use.activation, use.gate = data.scalar, data.gated
    for event in data.attention:
        event.readers.append(use)
    return use


def match(axes: dict[int, Axis], view: View, dim: int, axis: Axis) -> None:
    """Note which axis of data each factor of an axis of a view has met."""
    for term in view.terms:
        factors = [f for f in term.axes[dim] if f[1] > 1]
        if [size for _, size in factors] == [size for _, size in axis]:
            pairs = zip(factors, axis, strict=True)
            axes |= {name: (other,) for (name, _), other in pairs if name >= 0}
        else:
            axes |= {name: axis for name, _ in factors if name >= 0}


def _output(log: Log, use: Use, view: View, dim: int) -> Axis:
    """Return a new axis of data for a free axis of a parameter."""
    factors = [f for f in use.main.axes[dim] if f[1] > 1]
    axis: list[Factor] = [(log.labels.fresh(), size) for _, size in factors]
    match(use.outputs, view, dim, tuple(axis))
    return tuple(axis)


def result(log: Log, use: Use, data: Data, axes: Axes) -> Data:
    """Return the data that a product with a parameter makes."""
    return log.base(
        Data().copy(
            axes=axes,
            ancestors=data.ancestors,
            layers=data.layers | use.bit,
            last=use.bit,
            sources=use.bit,
        )
    )


def learned(log: Log, view: View, shape: Sequence[int]) -> Data:
    """Return a parameter that is repeated for each input as a value like an input."""
    use = log.note("other", view, None, reason="it is a value that is read like an input")
    data = log.base(Data().copy(axes=log.labels.axes(shape), sources=use.bit))
    log.learned[id(view)] = view, data
    return data


def _of_parameters(eqn: JaxprEqn, left: View, right: View) -> View:
    (lc, rc), (lb, rb) = eqn.params["dimension_numbers"]
    free_left = _free(eqn.invars[0].aval.ndim, lc, lb)
    free_right = _free(eqn.invars[1].aval.ndim, rc, rb)
    axes: list[tuple[int | None, int | None]] = list(zip(lb, rb, strict=True))
    axes += [(d, None) for d in free_left] + [(None, d) for d in free_right]
    pairs = list(zip(lc, rc, strict=True))
    return views.product(left, right, pairs, views.Output(tuple(axes)))


def _mapped(eqn: JaxprEqn, view: View, dims: _Dims) -> View:
    """Return a view behind a product with a constant; the new axis stands for the old."""
    shape = eqn.outvars[0].aval.shape
    first = len(dims.batch_here) + (0 if dims.side == 0 else len(dims.free_there))
    places = dims.batch_here + dims.free_here
    spots = [*range(len(dims.batch_here)), *range(first, first + len(dims.free_here))]

    def change(axes: Axes) -> Axes:
        new: list[Axis] = [((BROADCAST, s),) if s > 1 else () for s in shape]
        for spot, dim in zip(spots, places, strict=True):
            new[spot] = axes[dim]
        return tuple(new)

    return views.with_axes(view, change)


def _of_data(log: Log, eqn: JaxprEqn, left: Any, right: Any, dims: Any) -> Data:
    (lc, rc), (lb, rb) = dims
    if not (isinstance(left, Data) and isinstance(right, Data)):
        return _with_constant(log, eqn, left, right, dims)
    if _is_kernel(left, lc, lb) and not _is_kernel(right, rc, rb):
        return _pending_product(log, eqn, left, right, _Dims(eqn, dims, 0))
    if _is_kernel(right, rc, rb) and not _is_kernel(left, lc, lb):
        return _pending_product(log, eqn, right, left, _Dims(eqn, dims, 1))
    for a, b in (*zip(lc, rc, strict=True), *zip(lb, rb, strict=True)):
        log.labels.unite(left.axes[a], right.axes[b])
    axes = _joined_axes(log, eqn, left, right, dims)
    summed = attention.labels_of(left.axes[d] for d in lc)
    summed_right = attention.labels_of(right.axes[d] for d in rc)
    free_left = attention.labels_of(
        left.axes[d] for d in _free(len(left.axes), lc, lb)
    )
    free_right = attention.labels_of(axes[len(axes) - len(right.axes) + len(rc) + len(rb):])
    if left is right:
        free_right = free_right - free_left
    return meet(
        log, left, right, axes, (summed, summed_right), (free_left, free_right)
    )


def meet(
    log: Log,
    left: Data,
    right: Data,
    axes: Axes,
    summed: tuple[set[int], set[int]],
    free: tuple[set[int], set[int]],
) -> Data:
    """Return the product of two values of data that is summed over some axes."""
    new = joined(left, right).copy(axes=axes, meeting=Meeting(left, right, *free))
    if left is right:
        new.norm = "mean_square"
    for weights, values, labels in ((left, right, summed[0]), (right, left, summed[1])):
        if weights.exponential:
            new.attention += attention.contracted(log, weights, values, labels)
            new.last, new.sources, new.meeting = values.last, values.sources, None
        if weights.routing and attention.chosen(log, weights, values):
            new.last, new.sources, new.routing = values.last, values.sources, 0
        elif weights.routing and not values.routing:
            new.last, new.sources = values.last, values.sources
    return log.base(new)


def joined(left: Data, right: Data) -> Data:
    """Return what is known of any value that two values of data make."""
    norms = {left.norm, right.norm}
    return Data().copy(
        ancestors=left.ancestors | right.ancestors,
        layers=left.layers | right.layers,
        last=left.last | right.last,
        sources=_sources(left, right),
        routing=left.routing | right.routing,
        attention=tuple(dict.fromkeys(left.attention + right.attention)),
        meeting=left.meeting or right.meeting,
        norm="mean_square" if "mean_square" in norms else None,
        norm_scale=left.norm_scale | right.norm_scale,
    )


def _sources(left: Data, right: Data) -> int:
    """Return the sources of both; a mask or an adjacency matrix is no source."""
    for one, other in ((left, right), (right, left)):
        if other.layers and not one.layers and one.sources == FROM_INPUTS:
            return other.sources
    return left.sources | right.sources


def _joined_axes(log: Log, eqn: JaxprEqn, left: Data, right: Data, dims: Any) -> Axes:
    (lc, rc), (lb, rb) = dims
    axes = [left.axes[d] for d in (*lb, *_free(len(left.axes), lc, lb))]
    labels = attention.labels_of(axes)
    for dim in _free(len(right.axes), rc, rb):
        axis = right.axes[dim]
        if labels & attention.labels_of([axis]):
            # Queries and keys at the positions of one value: two axes from here on.
            axis = tuple((log.labels.fresh(), size) for _, size in axis)
        axes.append(axis)
    return tuple(axes)


def _with_constant(log: Log, eqn: JaxprEqn, left: Any, right: Any, dims: Any) -> Data:
    """Return data behind a fixed linear map."""
    side = 0 if isinstance(left, Data) else 1
    data: Data = (left, right)[side]
    one = _Dims(eqn, dims, side)
    shape = eqn.outvars[0].aval.shape
    axes = list(log.labels.axes(shape))
    first = len(one.batch_here) + (0 if side == 0 else len(one.free_there))
    for spot, dim in enumerate(one.batch_here):
        axes[spot] = data.axes[dim]
    for spot, dim in enumerate(one.free_here, first):
        axes[spot] = data.axes[dim]
    return log.base(
        data.copy(axes=tuple(axes), exponential=None, pending=None, norm=None, factors=None)
    )


def _is_kernel(data: Data, contracted: Sequence[int], batch: Sequence[int]) -> bool:
    """Tell whether data are a parameter that was looked up or scaled, used as a kernel.

    It is summed over one of the parameter's axes, and another is an output.
    """
    if data.pending is None:
        return False
    axes = data.pending[0].terms[0].axes
    real = [any(n >= 0 and s > 1 for n, s in axis) for axis in axes]
    free = _free(len(axes), contracted, batch)
    return any(real[d] for d in contracted) and any(real[d] for d in free)


def _pending_product(
    log: Log, eqn: JaxprEqn, kernel: Data, data: Data, dims: _Dims
) -> Data:
    assert kernel.pending is not None
    view, use, _ = kernel.pending
    new: Data = _with_parameter(log, eqn, view, data, dims)
    replaced(log, use, log.uses[-1])
    return modulated(log, new, kernel)


def modulated(log: Log, new: Data, kernel: Data) -> Data:
    """Let a product descend from what has scaled or chosen its kernel, too."""
    log.followed |= kernel.layers
    new.layers |= kernel.layers
    new.ancestors |= kernel.ancestors
    return new


def replaced(log: Log, old: Use, new: Use) -> None:
    """Drop a use that turned out to be the first half of another."""
    if old.kind == "lookup":
        # The entries that are looked up are copies of one kernel.
        new.letters |= {
            name: "b" for name, letter in old.letters.items() if letter == "i"
        }
    old.kind = "half"


def convolution(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Read a convolution of two values, at least one of which is no constant."""
    left, right = values
    if isinstance(left, View):
        left = learned(log, left, eqn.invars[0].aval.shape)
    if isinstance(right, Data) and right.pending is not None and isinstance(left, Data):
        view, use, _ = right.pending
        replaced(log, use, use)
        new: Data = convolution(log, eqn, [left, view])
        return modulated(log, new, right)
    dims = eqn.params["dimension_numbers"]
    if not isinstance(right, View):
        return _convolved(log, eqn, left, right)
    data = left if isinstance(left, Data) else log.base(
        Data().copy(axes=log.labels.axes(eqn.invars[0].aval.shape))
    )
    letters = ["k"] * len(dims.rhs_spec)
    letters[dims.rhs_spec[0]], letters[dims.rhs_spec[1]] = "o", "i"
    groups = eqn.params["feature_group_count"]
    idle = math.prod(eqn.params["lhs_dilation"])
    use = note(log, "convolution", right, data, letters, groups=groups, idle=idle)
    match(use.contracted, right, dims.rhs_spec[1], data.axes[dims.lhs_spec[1]])
    axes: list[Axis] = [()] * len(dims.out_spec)
    axes[dims.out_spec[1]] = _output(log, use, right, dims.rhs_spec[0])
    _grouped(log, use, right, data, dims)
    shape = eqn.outvars[0].aval.shape
    for there, here in zip(dims.lhs_spec, dims.out_spec, strict=True):
        if here != dims.out_spec[1]:
            same = eqn.invars[0].aval.shape[there] == shape[here]
            axes[here] = data.axes[there] if same else log.labels.axis(shape[here])
    return result(log, use, data, tuple(axes))


def _grouped(log: Log, use: Use, view: View, data: Data, dims: Any) -> None:
    """Tell a vmap over kernels, which JAX makes a grouped convolution, from groups."""
    outer = use.main.axes[dims.rhs_spec[0]]
    features = data.axes[dims.lhs_spec[1]]
    if len(outer) < 2 or use.groups % outer[0][1] or use.groups == 1:
        return
    name, size = outer[0]
    use.groups //= size
    if name >= 0:
        use.letters[name] = "b"
        use.outputs.pop(name, None)
        use.batched[name] = features[:1]
    use.contracted = {n: axis[1:] or axis for n, axis in use.contracted.items()}


def _convolved(log: Log, eqn: JaxprEqn, left: Any, right: Any) -> Data:
    """Return data behind a convolution that no parameter is in."""
    axes = log.labels.axes(eqn.outvars[0].aval.shape)
    datas = [value for value in (left, right) if isinstance(value, Data)]
    new = joined(datas[0], datas[-1]).copy(axes=axes, meeting=None)
    if len(datas) == 1:
        new.scalar, new.gated = datas[0].scalar, datas[0].gated
    return log.base(new)


def ragged_dot(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Read a product of rows with the kernels of the groups that the rows belong to."""
    left, right, sizes = values
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    if not (isinstance(left, Data) and isinstance(right, View)):
        return None
    dims = _Dims(eqn, numbers.dot_dimension_numbers, 1)
    letters = dims.letters
    for dim in numbers.rhs_group_dimensions:
        letters[dim] = "b"
    use = note(log, "product", right, left, letters)
    use.roles.add("expert")
    for here, there in zip(dims.here, dims.there, strict=True):
        match(use.contracted, right, here, left.axes[there])
    fresh = [_output(log, use, right, d) for d in dims.free_here if letters[d] == "o"]
    if isinstance(sizes, Data):
        for router in log.members(sizes.routing):
            log.routers[router.number] = attention.labels_of(router.outputs.values())
    free = [left.axes[d] for d in dims.free_there]
    return result(log, use, left, (*free, *fresh))


def lookup(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Read a `gather` from a parameter with indices that depend on the inputs."""
    view, indices = values[:2]
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape = eqn.outvars[0].aval.shape
    letters = [
        "i" if d in numbers.collapsed_slice_dims else "o" for d in range(len(sizes))
    ]
    use = note(log, "lookup", view, indices, letters)
    kept = [d for d in range(len(sizes)) if letters[d] == "o"]
    axes = list(log.labels.axes(shape))
    batch = [d for d in range(len(shape)) if d not in numbers.offset_dims]
    for spot, axis in zip(batch, indices.axes, strict=False):
        axes[spot] = axis
    spots = [int(d) for d in numbers.offset_dims]
    if len(spots) != len(kept):
        return result(log, use, indices, tuple(axes))
    for spot, dim in zip(spots, kept, strict=True):
        axes[spot] = _output(log, use, view, dim)
    new = result(log, use, indices, tuple(axes))
    if len(kept) > 1:
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


