"""Operations on single entries of data: what any of them keeps, and what it ends."""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from .atoms import shape_of
from .axes import Axes, Axis, size_of
from .meetings import joined
from .uses import FROM_INPUTS, Log
from .values import Data, Scalar, View, number

# Longer chains of operations are a program, and no activation.
_LONGEST = 200


def curve_of(value: Any) -> Any:
    """Return an operand as an argument of a function of one number; None if unknown."""
    return value.curve if isinstance(value, Data) else number(value)


def scalar(eqn: JaxprEqn, values: Sequence[Any], data: Data) -> Scalar | None:
    """Return the function of one number that an operation goes on with.

    A factor or a summand that varies from entry to entry leaves the function as it is:
    a mask, a parameter's bias.
    """
    arguments = [curve_of(value) for value in values]
    # A factor that is not one number: the function stays what it was.
    if None in arguments:
        return data.scalar
    new = Scalar(eqn, arguments)
    return new if new.depth < _LONGEST else None


def axes_of(log: Log, values: Sequence[Any], shape: Sequence[int]) -> Axes:
    """Return the axes of what an operation makes of values entry by entry."""
    operands = [v for v in values if isinstance(v, Data) and len(v.axes) == len(shape)]
    if len(operands) == 1:
        axes = operands[0].axes
        if all(size_of(a) == s for a, s in zip(axes, shape, strict=True)):
            return axes
    # Logits keep their axes when a mask is added, whichever comes first.
    operands.sort(key=lambda data: data.meeting is None)
    return tuple(_united(log, operands, dim, size) for dim, size in enumerate(shape))


def _united(log: Log, operands: Sequence[Data], dim: int, size: int) -> Axis:
    axes = [
        d.axes[dim] for d in operands if d.axes[dim] and size_of(d.axes[dim]) == size
    ]
    for axis in axes[1:]:
        log.labels.unite(axis, axes[0])
    return axes[0] if axes else log.labels.repeat(size)


def parts_of(values: Sequence[Any]) -> tuple[list[Data], list[View]]:
    """Return the data and the views of parameters among some operands."""
    operands = [value for value in values if isinstance(value, Data)]
    return operands, [value for value in values if isinstance(value, View)]


def linear(log: Log, eqn: JaxprEqn, values: Sequence[Any], data: Data) -> Data:
    """Return data behind an operation that is linear in it, entry by entry."""
    return data.copy(
        axes=axes_of(log, values, shape_of(eqn.outvars[0])),
        scalar=scalar(eqn, values, data),
        pending=None,
        factors=None,
        is_one_hot=False,
    )


def bent(log: Log, eqn: JaxprEqn, values: Sequence[Any], data: Data) -> Data:
    """Return data behind a nonlinear function of one value of data."""
    for use in log.members(data.shifts):
        use.after.add(eqn.primitive.name)
    return log.base(
        Data().copy(
            axes=axes_of(log, values, shape_of(eqn.outvars[0])),
            ancestors=data.ancestors,
            layers=data.layers,
            last=data.last,
            sources=data.sources,
            scalar=scalar(eqn, values, data),
            meeting=data.meeting,
            attention=data.attention,
            routing=data.routing,
            gated=data.gated,
            shifts=data.shifts,
        )
    )


def mixed(log: Log, eqn: JaxprEqn, one: Data, other: Data) -> Data:
    """Return what an operation makes of two values of data."""
    new = joined(one, other)
    new.axes = axes_of(log, (one, other), shape_of(eqn.outvars[0]))
    # GELU's x + 0.0447 x^3 is a sum of functions of one value, and no residual sum.
    if one.curve.base is other.curve.base:
        new.scalar = Scalar(eqn, (one.curve, other.curve))
        new.shifts = one.shifts | other.shifts
    return new


def is_beside(one: Data, other: Data) -> bool:
    """Tell whether a value is a mask, a statistic of state, or noise beside another.

    It has come through no product, and the two have nothing in common.
    """
    return not (
        one.layers or one.ancestors & other.ancestors or one.sources & ~FROM_INPUTS
    )


def other(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read any other operation on single entries."""
    operands, others = parts_of(values)
    for view in others:
        log.other(view, f"it goes into `{eqn.primitive.name}` with data")
    if len(operands) == 1:
        return bent(log, eqn, values, operands[0])
    new = mixed(log, eqn, operands[0], operands[1])
    for data in operands[2:]:
        new = joined(new, data).copy(axes=new.axes)
    return log.base(new)
