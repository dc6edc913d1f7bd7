"""The rules for operations on single entries of data.

Each rule takes (log, equation, operands), of which one at least is data, and returns
the result. Operands are data, views of parameters, and constants.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from . import attention, modulations, points, residuals, views
from .atoms import is_whole, shape_of
from .entries import axes_of, bent, is_beside, linear, mixed, other, parts_of
from .factors import divide, multiply, power, scaled
from .meetings import joined
from .uses import Log, Use, letters_of
from .values import Data, Exponential, View, number

Rule = Callable[[Log, JaxprEqn, Sequence[Any]], Data]

# Operations that pass entries on, or change their sign or type.
PASSING = frozenset(
    """copy copy_p convert_element_type reduce_precision name neg pvary real conj
    sharding_constraint reshard""".split()  # noqa: SIM905
)
BENDING = frozenset(
    """tanh logistic log1p expm1 exp2 cbrt sin cos tan asin acos atan sinh cosh asinh
    acosh atanh erf erfc erf_inv abs sign floor ceil round is_finite not and or xor rem
    atan2 clamp nextafter imag complex lgamma digamma""".split()  # noqa: SIM905
)


def add(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a sum: a bias, a table that is added, a residual sum, or another."""
    operands, others = parts_of(values)
    use = _added(log, others[0], operands[0]) if others else None
    if len(operands) == 1 or operands[0] is operands[1]:
        new = linear(log, eqn, values, operands[0])
        new.exponential = new.log_total = None
        if use is not None:
            new.shifts |= use.bit
        if use is not None and not operands[0].layers:
            # Noise may be added to a kernel, as to the weights of a Bayesian network.
            shape = shape_of(eqn.outvars[0])
            new.pending = (views.expanded(others[0], shape), use, None)
        if not others:
            _masked(log, new, values, operands[0])
        return new
    new = total(log, mixed(log, eqn, *operands), *operands)
    new.mixes = operands[0].mixes | operands[1].mixes
    if operands[0].mixes and operands[1].mixes:
        log.mixed.add(new.mixes)
    logits = [data for data in operands if data.meeting is not None]
    if len(logits) == 1 and not all(data.layers for data in operands):
        _masked(log, new, values, logits[0])
    return new


def _masked(log: Log, new: Data, values: Sequence[Any], logits: Data) -> None:
    """Note that a mask, with entries such as -1e9, was added to logits."""
    if logits.meeting is not None:
        points.shifted(log, new, logits, _place(values, logits))


def total(log: Log, new: Data, one: Data, other: Data) -> Data:
    """Return the sum of two values of data, of which `new` knows the rest."""
    # A small number is added to the sum of a softmax, or a learned sink to it.
    if one.total or other.total:
        new.total = one.total or other.total
    if new.scalar is not None:
        return log.base(new)
    for product, shift in ((one, other), (other, one)):
        modulations.scaled_and_shifted(log, product, shift)
    is_residual = residuals.added(log, one, other)
    # On the stream nothing is known of attention or routers any more.
    if is_residual:
        new.attention, new.routing, new.meeting = (), 0, None
        new.sources = one.sources | other.sources
    log.base(new)
    new.stream |= one.stream | other.stream
    new.terms = () if is_residual else (one, other)
    return new


def _added(log: Log, view: View, data: Data) -> Use:
    """Note a parameter that is added to data: a bias, or a table."""
    use = log.note("add", view, data)
    gathered = [name for term in view.terms for name in term.gathered]
    if gathered:
        use.roles.add("embedding")
        use.letters = letters_of(view, ["o"] * len(view.terms[0].axes))
        use.letters |= dict.fromkeys(gathered, "i")
    elif any(term.mapped for term in view.terms):
        # A table of positions that is resized, or a layer that reads fixed positions.
        use.reason = "a constant times it is added to data"
    else:
        use.roles.add("bias")
        modulations.shifted(log, use, data)
    return use


def subtract(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a difference, such as that from a mean."""
    operands, others = parts_of(values)
    if others:
        log.note(
            "other", others[0], operands[0], reason="its difference from data counts"
        )
    if len(operands) == 1 or operands[0] is operands[1]:
        new = linear(log, eqn, values, operands[0])
        new.exponential = new.log_total = None
        if not others:
            _masked(log, new, values, operands[0])
        return new
    one, other = operands
    # The mean that a batch norm has stored.
    if is_beside(other, one):
        new = linear(log, eqn, values, one)
        new.ancestors |= other.ancestors
        _masked(log, new, values, one)
        return new
    new = mixed(log, eqn, one, other)
    if new.scalar is None and residuals.subtracted(log, one, other):
        new.attention, new.routing, new.meeting = (), 0, None
        log.base(new).stream |= one.stream
        return new
    if other.log_total:
        new.log_total = other.log_total
    # A softmax subtracts the largest of its logits.
    points.shifted(log, new, one, 0)
    return log.base(new)


def select(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a choice between values, such as a dropout or a mask."""
    test, *cases = values
    operands, others = parts_of(cases)
    if not operands:
        if not others:
            return bent(log, eqn, values, test)
        # A mask of a parameter's entries, such as a dropout of weights.
        return scaled(log, eqn, (test, *others), others[0], test)
    for view in others:
        log.other(view, "it replaces entries of data")
    if len(operands) == 1 and (
        not isinstance(test, Data) or is_beside(test, operands[0])
    ):
        axes = axes_of(log, values, shape_of(eqn.outvars[0]))
        new = operands[0].copy(axes=axes, pending=None)
        points.shifted(log, new, operands[0], 1 + _place(cases, operands[0]))
        return new
    bases = [data.curve.base for data in operands]
    if isinstance(test, Data) and test.curve.base in bases:
        return bent(log, eqn, values, operands[0])
    new = log.base(joined(operands[0], operands[-1]))
    new.axes = axes_of(log, values, shape_of(eqn.outvars[0]))
    new.scalar = operands[0].scalar
    # A router's choice may be a mask.
    new.routing |= test.routing if isinstance(test, Data) else 0
    new.stream |= operands[0].stream | operands[-1].stream
    if len(operands) == 1:
        # The mask of a cache comes from how full the cache is.
        points.shifted(log, new, operands[0], 1 + _place(cases, operands[0]))
    return new


def _place(values: Sequence[Any], value: Any) -> int:
    return next(i for i, other in enumerate(values) if other is value)


def compare(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a comparison; that of indices with a row of numbers is a one-hot."""
    new = other(log, eqn, values)
    operands, _ = parts_of(values)
    rows = [value for value in values if number(value) is None]
    is_row = len(operands) == 1 and len(rows) == 2
    are_indices = eqn.primitive.name == "eq" and all(map(is_whole, eqn.invars))
    new.is_one_hot = are_indices and is_row
    return new


def maximum(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read a maximum; that of a sum with a small number guards a division."""
    new = other(log, eqn, values)
    for data in parts_of(values)[0]:
        new.total = new.total or data.total
        if data.norm in ("mean_square", "root"):
            new.norm = data.norm
    return new


def exponential(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Data:
    """Read an exponential, which may become softmax weights."""
    (data,) = values
    new = bent(log, eqn, values, data)
    # exp(x - log(sum(exp(x)))) is a softmax that is normalized already.
    if data.log_total is None:
        new.exponential = Exponential(data, points.begin_logits(log, data))
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
    **dict.fromkeys(("pow", "integer_pow", "square", "sqrt", "rsqrt"), power),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), compare),
    **dict.fromkeys(PASSING, straight),
    **dict.fromkeys(BENDING, other),
}
