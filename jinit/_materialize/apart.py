"""Bits that have a loop of their own (random/_apart.py) are read like other bits.

Such bits stand behind a conditional whose predicate a barrier hides from XLA, and their
words are stored as halves. Neither changes a bit: the predicate is always true, and the
halves become words again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend.core import JaxprEqn

from .._network import equations, jaxpr


class Halves(NamedTuple):
    """A Halves stands for the entries of an array as shorter words, one axis more."""

    whole: Any
    dtype: Any


def joined(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any] | None:
    """Return the results of an equation that only stands between bits and their loop.

    The result is None for other equations.
    """
    if eqn.primitive is equations.BARRIER and jaxpr.is_literal(eqn.invars[0]):
        return [bool(jaxpr.literal_value(eqn.invars[0]))] if len(values) == 1 else None
    if eqn.primitive is equations.CONVERT and isinstance(values[0], bool):
        return [int(values[0])]
    if eqn.primitive is equations.BITCAST:
        return _bitcast(eqn, values[0])
    return None


def _bitcast(eqn: JaxprEqn, value: Any) -> list[Any] | None:
    before: Any = eqn.invars[0].aval
    after: Any = eqn.outvars[0].aval
    if isinstance(value, Halves) and after.dtype == value.dtype:
        return [value.whole]
    if after.size > before.size:
        return [Halves(value, before.dtype)]
    return None
