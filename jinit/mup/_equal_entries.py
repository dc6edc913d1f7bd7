"""This file evaluates a traced function on arrays whose entries are all equal.

An array of equal entries is one number, whatever its shape. Sums and products of such
arrays are exact: a sum over n entries is n times one of them. A function that was
traced at the shapes of a large model, with every branch that it takes there, costs as
much as on scalars, and no array of the model's size is made.

An entry may have several lanes: an axis of experiments that run at once.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from .._network.equations import (
    COND,
    LOOKED_THROUGH,
    MAXIMUM,
    SCAN,
    SINGULAR_VALUES,
    WHILE,
    branches_of,
    by_primitive,
    scan_of,
    while_of,
)
from .._network.interpret import fused, inside, interpret, run, unrolled
from .._network.jaxpr import size

# The bits of a mark say what a number depends on: on a sum over something marked, on a
# product of two marked arrays, on a number that is traced outside. The higher bits mark
# the inputs.
SUMMED, MULTIPLIED, TRACED, FIRST_MARK = 1, 2, 4, 8

# A learning rate that is traced, as in a sweep of rates under `vmap`, has no value yet,
# and this number stands for it. How an update depends on gradients does not depend on
# the rate. It is small since an epsilon may be traced, too, and has to stay negligible
# beside the gradients of a trial.
_STAND_IN = 1e-8

# Constants with unequal entries are only followed below this size, and loops only for
# fewer rounds.
_SMALL = 2**14


class Uniform(NamedTuple):
    """A uniform array has one entry in each lane, and marks of what it depends on."""

    entry: Any
    marks: int = 0


class Unknown(NamedTuple):
    """An unknown array has a reason, and its largest entry where that is known."""

    reason: str
    largest: Uniform | None = None


# A constant whose entries are unequal is an array.
Value = Uniform | Unknown | np.ndarray


def evaluate(closed: ClosedJaxpr, arguments: Sequence[Value]) -> list[Value]:
    """Return the results of a traced function for uniform or unknown arguments."""
    consts = list(map(_constant, closed.consts))
    results = interpret(closed.jaxpr, consts, arguments, _handler)
    return list(map(_value, results))


def _value(value: Any) -> Value:
    """Return a value; a literal is a number, and a constant of a body is an array."""
    if isinstance(value, (Uniform, Unknown)):
        return value
    if isinstance(value, jax.Array):
        return _constant(value)
    array: np.ndarray = np.asarray(value)
    return array if array.ndim else Uniform(array)


def _constant(array: Any) -> Value:
    """Return a constant, as one number where its entries are equal."""
    if isinstance(array, jax.core.Tracer):
        if array.ndim or not jnp.issubdtype(array.dtype, jnp.floating):
            return Unknown("it holds an array that is traced outside of it")
        return Uniform(np.float64(_STAND_IN), TRACED)
    try:
        entries: np.ndarray = np.asarray(array)
    except TypeError:
        # Keys of a random generator have no NumPy type.
        return Unknown("it draws random numbers")
    first = entries.reshape(-1)[:1]
    if first.size and np.all(entries == first):
        return Uniform(first[0])
    return entries


def _handler(eqn: JaxprEqn, values: list[Any]) -> list[Value]:
    """Return the results of one equation."""
    values = list(map(_value, values))
    if eqn.primitive in LOOKED_THROUGH:
        return inside(eqn, values, _handler)
    # These rules come first, since a loop or a branch may carry unknown values along
    # and still have results that are known.
    if eqn.primitive in _WITH_UNKNOWNS:
        return _WITH_UNKNOWNS[eqn.primitive](eqn, values)
    numbers = [value for value in values if isinstance(value, Uniform)]
    if eqn.primitive in _ORDERS and _marks(numbers) & TRACED:
        # The number that stands for a traced one would decide, such as a norm at which
        # gradients are clipped.
        reason = "it compares with a number that is traced outside of it"
        return [Unknown(reason)] * len(eqn.outvars)
    if values and len(numbers) == len(values) and eqn.primitive in _RULES:
        return [_RULES[eqn.primitive](eqn, numbers)] * len(eqn.outvars)
    if len(values) == 1 and isinstance(values[0], np.ndarray):
        # Loops take coefficients out of a constant again and again. NumPy is faster.
        part = _PARTS.get(eqn.primitive)
        if part is not None:
            return [_constant(part(eqn, values[0]))]
    unknown = [value for value in values if isinstance(value, Unknown)]
    if not unknown:
        return _of_constants(eqn, values)
    # A spectral norm is the largest of the singular values, of which one is known.
    if eqn.primitive is MAXIMUM and unknown[0].largest:
        return [unknown[0].largest]
    return [Unknown(unknown[0].reason)] * len(eqn.outvars)


def _of_constants(eqn: JaxprEqn, values: Sequence[Any]) -> list[Value]:
    """Return the results of an equation that has no rule, for small constants."""
    atoms = (*eqn.invars, *eqn.outvars)
    plain = all(isinstance(v, np.ndarray) or np.ndim(v.entry) == 0 for v in values)
    if not plain or max(map(size, atoms), default=0) >= _SMALL:
        return _refused(eqn)
    entries = [getattr(value, "entry", value) for value in values]
    types: list[Any] = [atom.aval for atom in eqn.invars]
    arrays = [
        np.broadcast_to(entry, kind.shape).astype(kind.dtype)
        for entry, kind in zip(entries, types, strict=True)
    ]
    # The caller may be tracing, as `tx.init` is traced under a user's `jit`.
    with jax.ensure_compile_time_eval():
        return list(map(_constant, run(eqn, arrays, fused)))


def _refused(eqn: JaxprEqn) -> list[Value]:
    return [_refusal(eqn)] * len(eqn.outvars)


def _refusal(eqn: JaxprEqn) -> Unknown:
    return Unknown(f"it uses the operation {eqn.primitive.name!r} on unequal entries")


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(getattr(atom.aval, "shape", ()))


def _marks(values: Sequence[Uniform]) -> int:
    return functools.reduce(operator.or_, (value.marks for value in values), 0)


def _each(function: Callable[..., Any]) -> Callable[..., Uniform]:
    """Make the rule of an operation that takes every entry by itself."""

    def rule(eqn: JaxprEqn, values: Sequence[Uniform]) -> Uniform:
        return Uniform(function(*(value.entry for value in values)), _marks(values))

    return rule


def _moved(eqn: JaxprEqn, values: Sequence[Uniform]) -> Uniform:
    """Return the operand: its entries move, and stay equal."""
    return values[0]


def _joined(eqn: JaxprEqn, values: Sequence[Uniform]) -> Value:
    """Join arrays: the result is uniform if all have the same entry."""
    first = values[0].entry
    # A pad of zeros around equal entries, for instance, leaves nothing uniform.
    if all(np.array_equal(value.entry, first) for value in values):
        return Uniform(first, _marks(values))
    return _refusal(eqn)


def _converted(eqn: JaxprEqn, values: Sequence[Uniform]) -> Uniform:
    """Convert a number to another kind without rounding, which would hide equality."""
    dtype, (value,) = np.dtype(eqn.params["new_dtype"]), values
    wide = {"b": bool, "i": np.int64, "u": np.int64, "c": np.complex128}
    entry: Any = np.asarray(value.entry).astype(wide.get(dtype.kind, np.float64))
    return value._replace(entry=entry[()])


def _slice(eqn: JaxprEqn, array: np.ndarray) -> np.ndarray:
    names = ("start_indices", "limit_indices", "strides")
    first, last, steps = (eqn.params[name] for name in names)
    return array[tuple(map(slice, first, last, steps or [1] * array.ndim))]


def _reshaped(eqn: JaxprEqn, array: np.ndarray) -> np.ndarray:
    return array.reshape(_shape(eqn.outvars[0]))


def _count(eqn: JaxprEqn, operand: int, axes: Sequence[int]) -> int:
    """Return the number of entries along some axes of an operand."""
    shape = _shape(eqn.invars[operand])
    return math.prod(shape[axis] for axis in axes)


def _reduced(function: Callable[[Any, int], Any]) -> Callable[..., Uniform]:
    """Make the rule of a reduction, a function of the entry and of their number."""

    def rule(eqn: JaxprEqn, values: Sequence[Uniform]) -> Uniform:
        (value,) = values
        count = _count(eqn, 0, eqn.params["axes"])
        marks = value.marks | (SUMMED if value.marks >= FIRST_MARK else 0)
        return Uniform(function(value.entry, count), marks)

    return rule


def _product(eqn: JaxprEqn, values: Sequence[Uniform]) -> Uniform:
    """Multiply two matrices: an entry is a sum over the axes that are contracted."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left, right = values
    both = left.marks & right.marks >= FIRST_MARK
    entry = left.entry * right.entry * _count(eqn, 0, contracted)
    return Uniform(entry, _marks(values) | (SUMMED | MULTIPLIED if both else 0))


def _singular_values(eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """Return the singular values: |x| sqrt(m n) for equal entries x, and zeros."""
    (value,) = values
    if not isinstance(value, Uniform) or eqn.params["compute_uv"]:
        return _refused(eqn)
    # A matrix of equal entries has rank one, so its norm is its Frobenius norm.
    largest = abs(value.entry) * math.sqrt(_count(eqn, 0, (-2, -1)))
    marks = value.marks | (SUMMED | MULTIPLIED if value.marks >= FIRST_MARK else 0)
    return [Unknown(_refusal(eqn).reason, Uniform(largest, marks))]


def _cond(eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """Run every branch that some lane takes."""
    index, *operands = values
    if not isinstance(index, Uniform):
        return _refused(eqn)
    branches = branches_of(eqn)
    which = np.clip(index.entry, 0, len(branches) - 1).astype(int)
    first, *others = np.unique(which)
    results = evaluate(branches[first], operands)
    for other in others:
        taken = Uniform(which == other, index.marks)
        results = _chosen(taken, evaluate(branches[other], operands), results)
    return results


def _chosen(taken: Uniform, new: Sequence[Value], old: Sequence[Value]) -> list[Value]:
    """Return new values in the lanes that are taken, old ones in the others."""
    if np.all(taken.entry):
        return list(new)
    return [_either(taken, *pair) for pair in zip(new, old, strict=True)]


def _either(taken: Uniform, new: Value, old: Value) -> Value:
    if isinstance(new, Uniform) and isinstance(old, Uniform):
        entry = np.where(taken.entry, new.entry, old.entry)
        return Uniform(entry, _marks([taken, new, old]))
    if isinstance(new, np.ndarray) and new is old:
        return new
    return Unknown("its branches differ in more than one number")


def _while(eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """Run a loop until it has ended in every lane."""
    loop = while_of(eqn)
    of_test, of_body, state = loop.parts(values)
    for _ in range(_SMALL):
        (going,) = evaluate(loop.test, [*of_test, *state])
        if not isinstance(going, Uniform):
            return _refused(eqn)
        if not np.any(going.entry):
            return state
        after = evaluate(loop.body, [*of_body, *state])
        # A lane whose loop has ended keeps its state while the others go on.
        state = _chosen(going, after, state)
    return _refused(eqn)


def _scan(eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """Run a loop over the leading axis of some operands."""
    if not 0 < scan_of(eqn).length < _SMALL:
        return _refused(eqn)
    carry, columns = unrolled(eqn, values, _handler, _slice_of)
    return [*map(_value, carry), *(_joined_rows(eqn, column) for column in columns)]


def _slice_of(value: Value, index: int) -> Value:
    return value if isinstance(value, (Uniform, Unknown)) else _constant(value[index])


def _joined_rows(eqn: JaxprEqn, column: Sequence[Any]) -> Value:
    """Stack the results of a loop's rounds."""
    numbers = [v for v in map(_value, column) if isinstance(v, Uniform)]
    if len(numbers) < len(column):
        return _refusal(eqn)
    return _joined(eqn, numbers)


def _power(value: Uniform, exponent: int) -> Uniform:
    # NumPy refuses integers to negative powers, which XLA's integer_pow may have.
    return value._replace(entry=np.power(np.asarray(value.entry) * 1.0, exponent))


def _divided(a: Any, b: Any) -> Any:
    # XLA's division of integers rounds towards 0, NumPy's `//` downwards.
    whole = np.result_type(a, b).kind in "iu"
    return np.trunc(a / b).astype(int) if whole else a / b


def _selected(which: Any, *cases: Any) -> Any:
    return np.select([np.equal(which, i) for i in range(len(cases))], cases)


# The rules are by name, since no release of JAX has all of these primitives.
_EACH: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "add": np.add, "add_jaxvals": np.add, "and": np.bitwise_and,
    "atan2": np.arctan2, "cbrt": np.cbrt, "ceil": np.ceil, "conj": np.conj,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "complex": lambda a, b: a + 1j * b, "cos": np.cos, "cosh": np.cosh,
    "div": _divided, "eq": np.equal, "exp": np.exp, "exp2": np.exp2,
    "expm1": np.expm1, "floor": np.floor, "ge": np.greater_equal, "gt": np.greater,
    "imag": np.imag, "is_finite": np.isfinite, "le": np.less_equal, "log": np.log,
    "log1p": np.log1p, "log2": np.log2, "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "lt": np.less, "max": np.maximum, "min": np.minimum, "mul": np.multiply,
    "ne": np.not_equal, "neg": np.negative, "not": np.invert, "or": np.bitwise_or,
    "pow": lambda x, y: np.power(x, np.asarray(y) * 1.0), "real": np.real,
    "rem": np.fmod, "round": np.round, "rsqrt": lambda x: 1 / np.sqrt(x),
    "select_n": _selected, "sign": np.sign, "sin": np.sin, "sinh": np.sinh,
    "sqrt": np.sqrt, "square": np.square, "sub": np.subtract, "tan": np.tan,
    "tanh": np.tanh, "xor": np.bitwise_xor,
}  # fmt: skip
_MOVED = (
    "broadcast_in_dim", "copy", "dynamic_slice", "gather", "name", "reduce_precision",
    "reshape", "rev", "sharding_constraint", "slice", "split", "squeeze",
    "stop_gradient", "tile", "transpose", "unstack",
)  # fmt: skip
_REDUCED: dict[str, Callable[[Any, int], Any]] = {
    "reduce_sum": lambda entry, count: entry * count,
    "reduce_prod": lambda entry, count: entry**count,
    **dict.fromkeys(
        ("reduce_max", "reduce_min", "reduce_and", "reduce_or"), lambda entry, _: entry
    ),
}


_RULES: dict[Any, Callable[[JaxprEqn, Sequence[Uniform]], Any]] = by_primitive(
    {name: _each(function) for name, function in _EACH.items()}
    | dict.fromkeys(_MOVED, _moved)
    | {name: _reduced(function) for name, function in _REDUCED.items()}
    | {
        "concatenate": _joined,
        "convert_element_type": _converted,
        "dot_general": _product,
        # Behind the two arrays are the positions of one in the other.
        "dynamic_update_slice": lambda eqn, values: _joined(eqn, values[:2]),
        "integer_pow": lambda eqn, values: _power(values[0], eqn.params["y"]),
        "pad": _joined,
        "stack": _joined,
    }
)
_ORDERS = by_primitive(
    dict.fromkeys(("clamp", "ge", "gt", "le", "lt", "max", "min"), True)
)
_PARTS: dict[Any, Callable[[JaxprEqn, np.ndarray], np.ndarray]] = by_primitive(
    {"reshape": _reshaped, "slice": _slice, "squeeze": _reshaped}
)
_WITH_UNKNOWNS: dict[Any, Callable[[JaxprEqn, list[Value]], list[Value]]] = {
    COND: _cond,
    SCAN: _scan,
    WHILE: _while,
    SINGULAR_VALUES: _singular_values,
}
