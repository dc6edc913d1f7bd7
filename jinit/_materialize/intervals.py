"""The values of a draw lie between two ends, which tell how short erf_inv may be.

The ends are computed in the dtype of the values. Rounding is monotone, so the ends of a
sum or a product are the sums or the products of ends.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import JaxprEqn

from .._core.erf_inv import CENTRAL, INSIDE
from .._network import equations


class Interval(NamedTuple):
    """An interval has a lowest and a highest value, both in the dtype of the array."""

    low: Any
    high: Any


def bound_of(u: Interval | None) -> float:
    """Return a bound on sqrt(2) erf_inv(u) that the short form knows, or infinity."""
    if u is None or u.low.dtype != np.float32:
        return math.inf
    most = max(abs(float(u.low)), abs(float(u.high)))
    if most < math.erf(CENTRAL / math.sqrt(2)):
        return CENTRAL
    # A product and a sum that XLA fuses and rounds once may end one number higher.
    is_inside = u.low > -1 and u.high <= 1 - 2.0**-23
    return INSIDE if is_inside else math.inf


def bounds_after(eqn: JaxprEqn, ends: Sequence[Interval | None]) -> Interval | None:
    """Return the interval of an equation's results, given those of its operands."""
    rule = _RULES.get(eqn.primitive)
    if rule is None or any(x is None for x in ends):
        return None
    with np.errstate(all="ignore"):
        result = rule(eqn, *ends)
    if result is None or not np.isfinite([float(x) for x in result]).all():
        return None
    return result


def number(eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Return what an equation makes of known numbers, or None if this is not known.

    The result may be off by an ulp, and serves for bounds alone.
    """
    known = [None if x is None else Interval(x, x) for x in values]
    result = bounds_after(eqn, known)
    return None if result is None else result.low


def _of_ends(function: Callable[..., Any]) -> Callable[..., Interval]:
    """Return the bounds of an operation that is monotone in each of its operands."""

    def rule(eqn: JaxprEqn, *ends: Interval) -> Interval:
        kind: Any = eqn.outvars[0].aval
        corners = np.meshgrid(*(np.stack(x) for x in ends))
        results = np.asarray(function(*corners)).astype(kind.dtype)
        return Interval(results.min(), results.max())

    return rule


def _erf(x: Any) -> Any:
    return np.vectorize(math.erf)(np.asarray(x, np.float64))


def _converted(eqn: JaxprEqn, x: Interval) -> Interval:
    dtype = eqn.params["new_dtype"]
    return Interval(*(np.asarray(end).astype(dtype) for end in x))


def _bits_of(eqn: JaxprEqn, x: Interval) -> Interval | None:
    """Return the interval of floats with given bits, which rise alike if unsigned."""
    dtype = np.dtype(eqn.params["new_dtype"])
    ends = Interval(*(np.asarray(end).view(dtype) for end in x))
    ordered = x.low.dtype.kind == "u" and bool(ends.high >= 0)
    return ends if ordered else None


def _or(eqn: JaxprEqn, x: Interval, y: Interval) -> Interval | None:
    """Return the interval of an "or" of words without a common bit, which is a sum."""
    values, (word, other) = (x, y) if y.low == y.high else (y, x)
    lowest = int(word) & -int(word)
    apart = word == other and int(values.high) < lowest
    return Interval(values.low | word, values.high | word) if apart else None


def _shifted(eqn: JaxprEqn, x: Interval, by: Interval) -> Interval | None:
    return Interval(x.low >> by.low, x.high >> by.low) if by.low == by.high else None


def _quotient(eqn: JaxprEqn, x: Interval, y: Interval) -> Interval | None:
    crosses_zero = y.low <= 0 <= y.high
    return None if crosses_zero else _of_ends(np.divide)(eqn, x, y)


_RULES: dict[Any, Callable[..., Interval | None]] = equations.by_primitive(
    {
        "add": _of_ends(np.add),
        "sub": _of_ends(np.subtract),
        "mul": _of_ends(np.multiply),
        "div": _quotient,
        "max": _of_ends(np.maximum),
        "min": _of_ends(np.minimum),
        "erf": _of_ends(_erf),
        "convert_element_type": _converted,
        "bitcast_convert_type": _bits_of,
        "or": _or,
        "shift_right_logical": _shifted,
    }
)
