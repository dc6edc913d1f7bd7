"""Operations on data that sum, compare or order the entries along axes."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from . import attention
from .atoms import shape_of
from .axes import Axes, Axis
from .meetings import match, meet, result
from .moves import other
from .uses import Log, letters_of
from .values import Data, rebased

Rule = Callable[[Log, JaxprEqn, Sequence[Any]], Any]


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
    # (q * k).sum(-1) is a product of queries and keys, too, but x * x is a square.
    if data.factors is not None and not data.norm:
        left, right = data.factors
        labels = [attention.labels_of(d.axes) for d in (left, right)]
        free = (labels[0] - labels[1], labels[1] - labels[0])
        return meet(log, left, right, kept, (summed, summed), free)
    new = data.copy(
        axes=kept, exponential=None, pending=None, factors=None, is_one_hot=False
    )
    new.scalar = rebased(data.scalar)
    # A softmax sums before it divides: the axes of the sum are those of the softmax.
    if data.exponential is not None:
        data.exponential.labels |= summed
        new.total = data.exponential
    if data.norm == "square":
        new.norm = "mean_square"
    elif data.norm not in ("mean_square", None):
        new.norm = None
    return log.base(new)


def _written_out(log: Log, data: Data, gone: set[int], kept: Axes) -> Data | None:
    """Return a product that is written as a sum of (data * parameter), or None."""
    assert data.pending is not None
    view, use, _ = data.pending
    axes = view.terms[0].axes
    real = [any(n >= 0 and s > 1 for n, s in axis) for axis in axes]
    # A mean over positions sums none of the parameter's axes.
    if not any(real[d] for d in gone):
        return None
    letters = [_letter(log, data.axes[d], d in gone) for d in range(len(axes))]
    use.kind, use.reason = "product", None
    use.letters = letters_of(view, letters)
    use.activation = data.scalar
    for dim, letter in enumerate(letters):
        names = {"i": use.contracted, "o": use.outputs, "b": use.batched}[letter]
        match(names, view, dim, data.axes[dim])
    return result(log, use, use.data or data, kept)


def _letter(log: Log, axis: Axis, is_summed: bool) -> str:
    """Return the letter of an axis of a product that was written out."""
    if is_summed:
        return "i"
    # x[:, :, None] * w repeats x along the outputs; an axis of both is a batch.
    is_repeated = all(label in log.labels.repeated for label, _ in axis)
    return "o" if is_repeated else "b"


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
    # The index of the best expert routes, as its weight does.
    if eqn.primitive.name in ("argmax", "argmin"):
        labels = attention.labels_of(data.axes[d] for d in gone)
        new.routing |= attention.routers(log, data, labels)
    return log.base(new)


def choose(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Read a top_k or a sort, by which a router may choose."""
    operands = [value for value in values if isinstance(value, Data)]
    axis = eqn.params.get("axis", eqn.params.get("dimension", -1))
    routing = 0
    for data in operands:
        if data.axes:
            labels = attention.labels_of([data.axes[axis]])
            routing |= data.routing | attention.routers(log, data, labels)
    # A sort has several results, of which the weights and the indices both route.
    results = other(log, eqn, values)
    return [new.copy(routing=new.routing | routing) for new in results]


RULES: dict[str, Rule] = {
    "reduce_sum": reduce_sum,
    "reduce_window_sum": pool,
    "psum": psum,
    "psum_invariant": psum,
    "top_k": choose,
    "sort": choose,
}
for _name in ("max", "min", "prod", "and", "or"):
    RULES[f"reduce_{_name}"] = reduce_other
RULES["argmax"] = RULES["argmin"] = reduce_other
