"""Operations on single entries of data: sums, factors, activations, norms, gates.

Each rule takes (log, equation, operands), of which one at least is data, and returns the
result. Operands are data, views of parameters, and constants.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from . import attention, residuals, views
from .axes import Axes, Axis
from .products import joined
from .uses import FROM_INPUTS, Log, Use
from .values import Attention, Data, Scalar, View, number

Rule = Callable[[Log, JaxprEqn, Sequence[Any]], Data]


def curve_of(value: Any) -> Any:
    """Return an operand as an argument of a function of one number; None if unknown."""
    return value.curve if isinstance(value, Data) else number(value)


def scalar(eqn: JaxprEqn, values: Sequence[Any], data: Data) -> Scalar | None:
    """Return the function of one number that an operation goes on with.

    A factor or a summand that varies from entry to entry leaves the function as it is:
    a mask, a parameter's bias.
    """
    arguments = [curve_of(value) for value in values]
    return data.scalar if None in arguments else Scalar(eqn, arguments)


def axes_of(log: Log, values: Sequence[Any], shape: Sequence[int]) -> Axes:
    """Return the axes of what an operation makes of values entry by entry."""
    datas = [v for v in values if isinstance(v, Data) and len(v.axes) == len(shape)]
    if len(datas) == 1:
        axes = datas[0].axes
        if all(a or s == 1 for a, s in zip(axes, shape, strict=True)):
            return axes
    # Logits keep their axes when a mask is added, whichever comes first.
    datas.sort(key=lambda data: data.meeting is None)
    return tuple(_united(log, datas, dim, size) for dim, size in enumerate(shape))


def _united(log: Log, datas: Sequence[Data], dim: int, size: int) -> Axis:
    if size == 1:
        return ()
    axes = [data.axes[dim] for data in datas if data.axes[dim]]
    for axis in axes[1:]:
        log.labels.unite(axis, axes[0])
    return axes[0] if axes else log.labels.repeat(size)


def _shape(eqn: JaxprEqn) -> Sequence[int]:
    shape: Sequence[int] = eqn.outvars[0].aval.shape
    return shape


def _parts(values: Sequence[Any]) -> tuple[list[Data], list[View]]:
    datas = [value for value in values if isinstance(value, Data)]
    return datas, [value for value in values if isinstance(value, View)]


def linear(log: Log, eqn: JaxprEqn, values: Sequence[Any], data: Data) -> Data:
    """Return data behind an operation that is linear in it, entry by entry."""
    return data.copy(
        axes=axes_of(log, values, _shape(eqn)),
        scalar=scalar(eqn, values, data),
        pending=None,
        factors=None,
        is_one_hot=False,
    )


def bent(log: Log, eqn: JaxprEqn, values: Sequence[Any], data: Data) -> Data:
    """Return data behind a nonlinear function of one value of data."""
    return log.base(
        Data().copy(
            axes=axes_of(log, values, _shape(eqn)),
            ancestors=data.ancestors,
            layers=data.layers,
            last=data.last,
            sources=data.sources,
            scalar=Scalar(eqn, list(map(curve_of, values)))
            if None not in map(curve_of, values)
            else data.scalar,
            meeting=data.meeting,
            attention=data.attention,
            routing=data.routing,
            gated=data.gated,
        )
    )


def mixed(log: Log, eqn: JaxprEqn, one: Data, other: Data) -> Data:
    """Return what an operation makes of two values of data."""
    new = joined(one, other)
    new.axes = axes_of(log, (one, other), _shape(eqn))
    if one.curve.base is other.curve.base:
        new.scalar = Scalar(eqn, (one.curve, other.curve))
    return new


def is_beside(one: Data, other: Data) -> bool:
    """Tell whether a value is a mask, a statistic of state, or noise beside another.

    It has come through no product, and the two have nothing in common.
    """
    return not (
        one.layers or one.ancestors & other.ancestors or one.sources & ~FROM_INPUTS
    )


def add(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a sum: a bias, a table that is added, a residual sum, or another."""
    datas, others = _parts(values)
    if others:
        _added(log, others[0], datas[0])
    if len(datas) == 1 or datas[0] is datas[1]:
        new = linear(log, eqn, values, datas[0])
        new.exponential = new.log_total = None
        return new
    one, other = datas
    new = mixed(log, eqn, one, other)
    if one.total or other.total:
        new.total = one.total or other.total
    if new.scalar is not None:
        return log.base(new)
    is_residual = residuals.added(log, one, other)
    if is_residual:
        new.attention, new.routing, new.meeting = (), 0, None
        new.sources = one.sources | other.sources
    log.base(new)
    new.stream |= one.stream | other.stream
    new.terms = () if is_residual else (one, other)
    return new


def _added(log: Log, view: View, data: Data) -> None:
    """Note a parameter that is added to data: a bias, or a table."""
    use = log.note("add", view, data)
    gathered = [name for term in view.terms for name in term.gathered]
    if gathered:
        use.roles.add("embedding")
        use.letters = log.letters(view, ["o"] * len(view.terms[0].axes))
        use.letters |= dict.fromkeys(gathered, "i")
    else:
        use.roles.add("bias")


def subtract(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a difference, such as that from a mean."""
    datas, others = _parts(values)
    if others:
        _added(log, others[0], datas[0])
    if len(datas) == 1 or datas[0] is datas[1]:
        new = linear(log, eqn, values, datas[0])
        new.exponential = new.log_total = None
        return new
    one, other = datas
    if is_beside(other, one):
        new = linear(log, eqn, values, one)
        new.ancestors |= other.ancestors
        return new
    new = mixed(log, eqn, one, other)
    if other.log_total:
        new.log_total = other.log_total
    return log.base(new)


def multiply(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a product entry by entry."""
    datas, others = _parts(values)
    if others:
        return scaled(log, eqn, values, others[0], datas[0])
    if len(datas) == 1:
        new = linear(log, eqn, values, datas[0])
        new.pending = datas[0].pending
        return new
    one, other = datas
    if one.curve.base is other.curve.base:
        return _powered(log, eqn, one, other)
    for left, right in ((one, other), (other, one)):
        if right.norm == "inverse_root":
            return normal(log, eqn, left, right)
        if right.total and left.exponential is right.total:
            new = attention.normalized(log, left, right.total)
            return new.copy(axes=axes_of(log, datas, _shape(eqn)))
        if is_beside(right, left) and not left.routing and not left.exponential:
            new = linear(log, eqn, datas, left)
            new.pending = left.pending
            new.ancestors |= right.ancestors
            return new
    return _gated(log, eqn, one, other)


def _powered(log: Log, eqn: JaxprEqn, one: Data, other: Data) -> Data:
    """Return a product of a value with a function of itself."""
    new = mixed(log, eqn, one, other)
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
    if data.norm in ("inverse_root", "normalized"):
        use.roles.add("scale")
        if data.norm == "normalized":
            new.sources, new.norm = use.bit, None
        else:
            new.norm_scale |= use.bit
        return new
    if not use.roles:
        use.reason = "it multiplies data entry by entry, and they are not normalized"
    stream = new.stream
    log.base(new).stream |= stream
    new.pending = (views.expanded(view, _shape(eqn)), use, new)
    new.exponential = None
    return new


def normal(log: Log, eqn: JaxprEqn, data: Data, root: Data) -> Data:
    """Return data that are divided by a root of a mean of squares."""
    new = data.copy(
        axes=axes_of(log, (data, root), _shape(eqn)),
        ancestors=data.ancestors | root.ancestors,
        layers=data.layers | root.layers,
        norm="normalized",
        scalar=None,
        gated=None,
        terms=(),
        exponential=None,
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

    It is none if the root is that of the product.
    """
    number = product.stream.bit_length() - 1
    if use.kind == "multiply" and not root.ancestors >> number & 1:
        use.roles.add("scale")
        new.sources, new.norm, new.pending = use.bit, None, None


def _gated(log: Log, eqn: JaxprEqn, one: Data, other: Data) -> Data:
    """Return a product of two values of data, which may be a gated unit."""
    new = mixed(log, eqn, one, other)
    new.factors = (one, other)
    for gate, up in ((one, other), (other, one)):
        if gate.routing and attention.chosen(log, gate, up):
            new.routing, new.last, new.sources = 0, up.last, up.sources
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
    if len(gates) != 1 or len(ups) != 1 or up.attention or gate.attention:
        return
    read, beside = gates[0].data, ups[0].data
    if read is None or beside is None or read.ancestors != beside.ancestors:
        return
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
        events: tuple[Attention, ...] = left.attention
        if left.exponential is right.total:
            new = attention.normalized(log, left, right.total)
            return new.copy(axes=axes_of(log, values, _shape(eqn)))
        if any(event.weights is right.total for event in events):
            right.total.is_normalized = True
            return left.copy(axes=axes_of(log, values, _shape(eqn)))
    if right.norm in ("root", "mean_square"):
        return normal(log, eqn, left, right)
    if is_beside(right, left):
        return linear(log, eqn, values, left)
    return log.base(mixed(log, eqn, left, right))


def _inverse(log: Log, eqn: JaxprEqn, values: Sequence[Any], data: Data) -> Data:
    if isinstance(values[0], View):
        log.other(values[0], "it is divided by data")
    new = bent(log, eqn, values, data)
    new.norm = "inverse_root" if data.norm == "root" else None
    new.total = data.total
    return new


def select(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a choice between values, such as a dropout or a mask."""
    test, *cases = values
    datas, others = _parts(cases)
    for view in others:
        log.other(view, "it replaces entries of data")
    if not datas:
        return bent(log, eqn, values, test)
    if len(datas) == 1 and (not isinstance(test, Data) or is_beside(test, datas[0])):
        new = datas[0].copy(axes=axes_of(log, values, _shape(eqn)), pending=None)
        return new
    if isinstance(test, Data) and any(
        test.curve.base is data.curve.base for data in datas
    ):
        return bent(log, eqn, values, datas[0])
    new = mixed(log, eqn, datas[0], datas[-1])
    new.axes = axes_of(log, values, _shape(eqn))
    new = log.base(new)
    new.stream |= datas[0].stream | datas[-1].stream
    return new


def compare(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a comparison; that of indices with a row of numbers is a one-hot."""
    new = other(log, eqn, values)
    datas, _ = _parts(values)
    counts = len(datas) == 1 and datas[0].last == 0
    new.is_one_hot = (
        eqn.primitive.name == "eq"
        and counts | (datas[0].routing > 0)
        and len(datas) == 1
        and all(v is datas[0] or number(v) is None for v in values)
    )
    return new


def other(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read any other operation on single entries."""
    datas, others = _parts(values)
    for view in others:
        log.other(view, f"it goes into `{eqn.primitive.name}` with data")
    if len(datas) == 1:
        return bent(log, eqn, values, datas[0])
    new = mixed(log, eqn, datas[0], datas[1])
    for data in datas[2:]:
        new = joined(new, data).copy(axes=new.axes)
    return log.base(new)


def maximum(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a maximum; that of a sum with a small number guards a division."""
    new = other(log, eqn, values)
    for data in _parts(values)[0]:
        new.total = new.total or data.total
        if data.norm in ("mean_square", "root"):
            new.norm = data.norm
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
    return data.norm == "mean_square" or not (data.layers or data.sources & ~1)


def exponential(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read an exponential, which may become softmax weights."""
    (data,) = values
    new = bent(log, eqn, values, data)
    if data.log_total is None:
        new.exponential = attention.Exponential(data)
        return new
    return attention.normalized(log, new, data.log_total)


def logarithm(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a logarithm, which may be that of a sum of exponentials."""
    new = bent(log, eqn, values, values[0])
    new.log_total = values[0].total
    return new


def straight(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read an operation that passes entries on, or changes their sign or type."""
    data: Data = values[0]
    return data if eqn.primitive.name != "neg" else linear(log, eqn, values, data)


def stopped(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read an operation that no gradient passes: what is added behind is no branch."""
    return log.base(values[0].copy(ancestors=0))


RULES: dict[str, Rule] = {
    "add": add,
    "add_any": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
    "select_n": select,
    "max": maximum,
    "min": maximum,
    "exp": exponential,
    "log": logarithm,
    "stop_gradient": stopped,
}
RULES |= dict.fromkeys("pow integer_pow square sqrt rsqrt".split(), power)
RULES |= dict.fromkeys("eq ne lt le gt ge".split(), compare)
RULES |= dict.fromkeys(
    """copy copy_p convert_element_type reduce_precision name neg pvary
    sharding_constraint reshard psum pmean real conj psum_invariant""".split(),
    straight,
)
RULES |= dict.fromkeys(
    """tanh logistic log1p expm1 exp2 cbrt sin cos tan asin acos atan sinh cosh asinh
    acosh atanh erf erfc erf_inv abs sign floor ceil round is_finite not and or xor rem
    pow atan2 clamp nextafter imag complex lgamma digamma""".split(),
    other,
) | {"pow": power}
