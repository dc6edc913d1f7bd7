"""Products, quotients and powers of single entries: scales, norms, gates, softmaxes."""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from . import attention, modulations, views
from .atoms import shape_of
from .entries import axes_of, bent, is_beside, linear, mixed, other, parts_of
from .uses import FROM_INPUTS, Log, Use
from .values import Data, View, is_real, number, rebased

# The reason of a parameter such as the multiplier of a residual branch.
MULTIPLIES_DATA = "it multiplies data entry by entry, and they are not normalized"


def multiply(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a product entry by entry."""
    operands, others = parts_of(values)
    if others:
        return scaled(log, eqn, values, others[0], operands[0])
    if len(operands) == 1:
        new = linear(log, eqn, values, operands[0])
        new.pending = operands[0].pending
        return new
    first, second = operands
    if first.curve.base is second.curve.base:
        return _powered(log, eqn, first, second)
    # The order of these tests matters: a softmax and a norm are products as well.
    for left, right in ((first, second), (second, first)):
        if right.norm == "inverse_root":
            return normal(log, eqn, left, right)
        if right.total and left.exponential is right.total:
            new = attention.normalized(log, left, right.total)
            return new.copy(axes=axes_of(log, operands, shape_of(eqn.outvars[0])))
        if is_beside(right, left) and not left.routing and not left.exponential:
            new = linear(log, eqn, operands, left)
            new.pending = left.pending
            new.ancestors |= right.ancestors
            return new
    return _gated(log, eqn, first, second)


def _powered(log: Log, eqn: JaxprEqn, one: Data, other: Data) -> Data:
    """Return a product of a value with a function of itself."""
    new = mixed(log, eqn, one, other)
    # x * sigmoid(x) has one base, too, and is an activation.
    if one is other or one.scalar is other.scalar:
        new.norm = "square"
    new.gated = one.gated or other.gated
    new.factors = (one, other)
    new.exponential = one.exponential or other.exponential
    return log.base(new)


def scaled(
    log: Log, eqn: JaxprEqn, values: Sequence[Any], view: View, data: Data
) -> Data:
    """Read a product with a parameter entry by entry: a norm's scale, or another."""
    use = log.note("multiply", view, data)
    new = linear(log, eqn, values, data)
    modulations.multiplied(log, use, data, new)
    new.shifts = 0
    if data.norm in ("inverse_root", "normalized"):
        use.roles.add("scale")
        # What a norm's scale feeds is fed by the scale: the norm hides the rest.
        if data.norm == "normalized":
            new.sources, new.norm = use.bit, None
        else:
            new.norm_scale |= use.bit
        return new
    if not use.roles:
        use.reason = MULTIPLIES_DATA
        new.mixes = use.bit
    stream = new.stream
    log.base(new)
    if not any(f[1] > 1 for t in view.terms for a in t.axes for f in a if is_real(f)):
        # A learned number may scale the stream. A vector of them is no shortcut, but
        # the D of a state-space layer, whose output C h + D x is no residual sum.
        new.stream |= stream
    new.pending = (views.expanded(view, shape_of(eqn.outvars[0])), use, new)
    new.exponential = None
    return new


def normal(log: Log, eqn: JaxprEqn, data: Data, root: Data) -> Data:
    """Return data that are divided by a root of a mean of squares."""
    new = data.copy(
        axes=axes_of(log, (data, root), shape_of(eqn.outvars[0])),
        ancestors=data.ancestors | root.ancestors,
        layers=data.layers | root.layers,
        norm="normalized",
        scalar=None,
        gated=None,
        terms=(),
        exponential=None,
        mixes=0,
    )
    for use in log.members(root.norm_scale):
        # A batch norm multiplies its scale with the root before the data.
        use.data = data
    if root.norm_scale:
        new.sources, new.norm = root.norm_scale, None
    if data.pending is not None and data.pending[2] is not None:
        _scaled_before(data.pending[1], data.pending[2], root, new)
    return log.base(new)


def _scaled_before(use: Use, product: Data, root: Data, new: Data) -> None:
    """Give the role of a norm's scale to what multiplied the data before the division.

    Where the root is that of the product, the parameter only multiplies the data.
    """
    number = product.stream.bit_length() - 1
    if use.kind == "multiply" and not root.ancestors >> number & 1:
        use.roles.add("scale")
        new.sources, new.norm, new.pending = use.bit, None, None


def _gated(log: Log, eqn: JaxprEqn, one: Data, other: Data) -> Data:
    """Return a product of two values of data, which may be a gated unit."""
    new = mixed(log, eqn, one, other)
    new.factors = (one, other)
    # Experts' outputs times their weights are the experts', whatever weighs them.
    for gate, up in ((one, other), (other, one)):
        if gate.routing and attention.chosen(log, gate, up):
            new.routing, new.last, new.sources = 0, up.last, up.sources
            new.scalar, new.gated = rebased(up.scalar), up.gated
            return log.base(new)
    for gate, up in ((one, other), (other, one)):
        if gate.curve.bends and not up.curve.bends:
            # A sigmoid beside a value: the value's product is the last on a branch.
            new.last = up.last or new.last
            _note_gate(log, gate, up, new)
    new.exponential = one.exponential or other.exponential
    if new.exponential:
        new.last = (other if one.exponential else one).last
    new.pending = one.pending or other.pending
    return log.base(new)


def _note_gate(log: Log, gate: Data, up: Data, new: Data) -> None:
    """Give the roles of a gated unit to two products that read the same values."""
    gates, ups = log.members(gate.last), log.members(up.last)
    # The gates of recurrent cells are sums of two products; attention may be gated
    # by what its own values were made of.
    if len(gates) != 1 or len(ups) != 1 or up.attention or gate.attention:
        return
    read, beside = gates[0].data, ups[0].data
    if read is None or beside is None or not modulations.reads_same(log, read, beside):
        return
    # Two slices of one product are a fused kernel; x * f(x) is none.
    if gates[0] is ups[0] and not (gate.is_part or up.is_part):
        return
    gates[0].roles.add("gate")
    ups[0].roles.add("up")
    new.gated = gate.curve
    new.last = gate.last | up.last


def divide(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a quotient: a softmax, a norm, or another."""
    left, right = values
    if not isinstance(right, Data):
        if isinstance(right, View):
            return scaled(log, eqn, values, right, left)
        return multiply(log, eqn, values)
    if not isinstance(left, Data):
        return _inverse(log, eqn, values, right)
    if right.total is not None:
        if left.exponential is right.total:
            new = attention.normalized(log, left, right.total)
            return new.copy(axes=axes_of(log, values, shape_of(eqn.outvars[0])))
        # Some divide by the sum only behind the values: exp(logits) v / sum.
        if any(event.weights is right.total for event in left.attention):
            right.total.is_normalized = True
            return left.copy(axes=axes_of(log, values, shape_of(eqn.outvars[0])))
    if right.norm == "root":
        return normal(log, eqn, left, right)
    if is_beside(right, left):
        return linear(log, eqn, values, left)
    return log.base(mixed(log, eqn, left, right))


def _inverse(log: Log, eqn: JaxprEqn, values: Sequence[Any], data: Data) -> Data:
    if isinstance(values[0], View):
        return scaled(log, eqn, values, values[0], data)
    new = bent(log, eqn, values, data)
    new.norm = "inverse_root" if data.norm == "root" else None
    new.total = data.total
    return new


def power(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a power, a root, or an inverse of one."""
    exponent = _exponent(eqn, values)
    data = next(v for v in values if isinstance(v, Data))
    if not isinstance(values[0], Data) or exponent is None:
        return other(log, eqn, values)
    new = bent(log, eqn, values, data)
    if exponent == 2:
        new.norm = "square"
    elif exponent == 0.5:
        new.norm = "root" if _is_mean_square(data) else None
    elif exponent == -0.5:
        new.norm = "inverse_root" if _is_mean_square(data) else None
    elif exponent == -1:
        new.norm = "inverse_root" if data.norm == "root" else None
        new.total = data.total
    return new


def _exponent(eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    powers = {"square": 2, "sqrt": 0.5, "rsqrt": -0.5}
    if eqn.primitive.name in powers:
        return powers[eqn.primitive.name]
    return eqn.params["y"] if "y" in eqn.params else number(values[1])


def _is_mean_square(data: Data) -> bool:
    # The statistics that a batch norm has stored come with the inputs.
    return data.norm == "mean_square" or not (
        data.layers or data.sources & ~FROM_INPUTS
    )
