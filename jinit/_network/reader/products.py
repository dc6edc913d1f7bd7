"""Parameters meet data in products: the layers of a network."""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from . import attention, views
from .atoms import shape_of
from .axes import BROADCAST, Axes, Axis
from .factors import multiply
from .meetings import learned, match, meet, modulated, note, output, replaced, result
from .uses import Log, letters_of
from .values import Constant, Data, View, number


def dot_general(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Read a product of two values, at least one of which is no constant."""
    left, right = values[:2]
    dims = eqn.params["dimension_numbers"]
    if isinstance(left, View) and isinstance(right, View):
        # Learned queries that are repeated for each input, times their kernel; a batch
        # of one input repeats nothing, and a single query is a vector.
        if views.is_repeated(left) or views.is_summed(left, dims[0][0]):
            left = learned(log, left, shape_of(eqn.invars[0]))
        elif views.is_repeated(right) or views.is_summed(right, dims[0][1]):
            right = learned(log, right, shape_of(eqn.invars[1]))
        else:
            return _of_parameters(eqn, left, right)
    for side in (0, 1):
        if _is_entrywise(eqn, values, side):
            return _entrywise(log, eqn, values, side)
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
        self.free_here = _free(
            len(shape_of(eqn.invars[side])), self.here, self.batch_here
        )
        self.free_there = _free(
            len(shape_of(eqn.invars[1 - side])), self.there, self.batch_there
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


def _is_entrywise(eqn: JaxprEqn, values: Sequence[Any], side: int) -> bool:
    """Tell whether a product only multiplies the entries of data on one side.

    Nothing is summed, and the other operand has no axis that the data have not, as in
    einsum("bhqk,h->bhqk", weights, head_mask).
    """
    (contracted, _), batch = eqn.params["dimension_numbers"]
    is_within = len(batch[1 - side]) == len(shape_of(eqn.invars[1 - side]))
    return isinstance(values[side], Data) and not contracted and is_within


def _entrywise(log: Log, eqn: JaxprEqn, values: Sequence[Any], side: int) -> Data:
    """Read a product that sums nothing as a multiplication entry by entry."""
    data, other = values[side], values[1 - side]
    dims = _Dims(eqn, eqn.params["dimension_numbers"], side)
    if isinstance(other, Data):
        for here, there in zip(dims.batch_here, dims.batch_there, strict=True):
            log.labels.unite(data.axes[here], other.axes[there])
    elif isinstance(other, View):
        sizes = [shape_of(eqn.invars[side])[d] for d in dims.free_here]
        rest = [((BROADCAST, size),) if size > 1 else () for size in sizes]
        order = dims.batch_there
        other = views.with_axes(other, lambda axes: (*(axes[d] for d in order), *rest))
    # `data.curve` creates a missing base of the function of one number. A copy shares
    # the base only if it was created before.
    assert data.curve is not None
    axes = tuple(data.axes[d] for d in (*dims.batch_here, *dims.free_here))
    return multiply(log, eqn, (data.copy(axes=axes), other))


def _with_parameter(
    log: Log, eqn: JaxprEqn, view: View, other: Any, dims: _Dims
) -> Any:
    if not isinstance(other, Data):
        if number(other) is None:
            # A fixed linear map of a parameter, such as resizing a table of positions.
            is_one_hot = isinstance(other, Constant) and other.is_one_hot
            return _mapped(eqn, view, dims, is_one_hot)
        # Zeros, with which a recurrent network that is written out begins.
        shape = shape_of(eqn.invars[1 - dims.side])
        data = Data().copy(axes=log.labels.axes(shape))
    else:
        data = other
    use = note(log, "product", view, data, dims.letters)
    use.side = 1 - dims.side
    for here, there in zip(dims.here, dims.there, strict=True):
        match(use.contracted, view, here, data.axes[there])
    for here, there in zip(dims.batch_here, dims.batch_there, strict=True):
        match(use.batched, view, here, data.axes[there])
    fresh = [output(log, use, view, d) for d in dims.free_here]
    free = [data.axes[d] for d in dims.free_there]
    batch = [data.axes[d] for d in dims.batch_there]
    axes = (*batch, *fresh, *free) if dims.side == 0 else (*batch, *free, *fresh)
    # A one-hot along a batch axis chooses nothing.
    if data.is_one_hot and not dims.batch_here:
        use.kind, use.activation = "lookup", None
    return result(log, use, data, axes)


def _of_parameters(eqn: JaxprEqn, left: View, right: View) -> View:
    (lc, rc), (lb, rb) = eqn.params["dimension_numbers"]
    free_left = _free(len(shape_of(eqn.invars[0])), lc, lb)
    free_right = _free(len(shape_of(eqn.invars[1])), rc, rb)
    kept_left = [*lb, *free_left, *[None] * len(free_right)]
    kept_right = [*rb, *[None] * len(free_left), *free_right]
    return views.product(left, right, (lc, rc), (kept_left, kept_right))


def _mapped(eqn: JaxprEqn, view: View, dims: _Dims, is_one_hot: bool) -> View:
    """Return a view behind a product with a constant, whose axes are no parameter's."""
    if is_one_hot:
        view = views.gathered(view, dims.here)
    shape = shape_of(eqn.outvars[0])
    first = len(dims.batch_here) + (0 if dims.side == 0 else len(dims.free_there))
    places = dims.batch_here + dims.free_here
    spots = [*range(len(dims.batch_here)), *range(first, first + len(dims.free_here))]

    def change(axes: Axes) -> Axes:
        new: list[Axis] = [((BROADCAST, s),) if s > 1 else () for s in shape]
        for spot, dim in zip(spots, places, strict=True):
            new[spot] = axes[dim]
        return tuple(new)

    new = views.with_axes(view, change)
    if is_one_hot:
        return new
    return views.mapped(new, tuple(letters_of(view, dims.letters).items()))


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
    free_left = attention.labels_of(left.axes[d] for d in _free(len(left.axes), lc, lb))
    free_right = attention.labels_of(
        axes[len(axes) - len(right.axes) + len(rc) + len(rb) :]
    )
    # Both sides of x x^T have one label, which cannot tell queries from keys.
    if left is right:
        free_right = free_right - free_left
    return meet(log, left, right, axes, (summed, summed_right), (free_left, free_right))


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
    shape = shape_of(eqn.outvars[0])
    axes = list(log.labels.axes(shape))
    first = len(one.batch_here) + (0 if side == 0 else len(one.free_there))
    for spot, dim in enumerate(one.batch_here):
        axes[spot] = data.axes[dim]
    for spot, dim in enumerate(one.free_here, first):
        axes[spot] = data.axes[dim]
    return log.base(
        data.copy(
            axes=tuple(axes), exponential=None, pending=None, norm=None, factors=None
        )
    )


def _is_kernel(data: Data, contracted: Sequence[int], batch: Sequence[int]) -> bool:
    """Tell whether data are a parameter that was looked up or scaled, used as a kernel.

    It is summed over one of the parameter's axes, and another is an output.
    """
    if data.pending is None:
        return False
    axes = data.pending[0].terms[0].axes
    real = [any(n >= 0 and s > 1 for n, s in axis) for axis in axes]
    # A scale of queries has no further axis: q * s, times k, is no kernel.
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
    use.side = 0
    use.roles.add("expert")
    for here, there in zip(dims.here, dims.there, strict=True):
        match(use.contracted, right, here, left.axes[there])
    fresh = [output(log, use, right, d) for d in dims.free_here if letters[d] == "o"]
    # The sizes of the groups are counted from what a router has chosen.
    if isinstance(sizes, Data):
        for router in log.members(sizes.routing):
            log.routers[router.number] = attention.labels_of(router.outputs.values())
    free = [left.axes[d] for d in dims.free_there]
    return result(log, use, left, (*free, *fresh))
