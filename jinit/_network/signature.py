"""Equal equations share a signature, so that they share one compiled program."""

import functools
import itertools
from collections.abc import Hashable
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from .._core.identity import ById, identity, keep, remembered_weakly
from .equations import consts_of
from .jaxpr import literal_value


def signature(eqn: JaxprEqn) -> Hashable:
    """Return a key that equations share if they do the same to other variables.

    The key keeps neither the equation nor its arrays alive.
    """
    inputs = tuple(_type(atom) for atom in eqn.invars)
    params = tuple((name, _signed(value)) for name, value in eqn.params.items())
    return eqn.primitive, inputs, params, _signed(eqn.ctx)


def _type(atom: Any) -> Hashable:
    return _spelled(atom.aval)


@functools.lru_cache(maxsize=4096)
def _spelled(kind: Any) -> str:
    return str(kind)


def _signed(value: Any) -> Hashable:
    if isinstance(value, Jaxpr | ClosedJaxpr):
        jaxpr = value if isinstance(value, Jaxpr) else value.jaxpr
        return _number_of(jaxpr), tuple(map(ById, consts_of(value)))
    if isinstance(value, (tuple, list)):
        return tuple(map(_signed, value))
    # `==` is too coarse: x**1 is not x**1.0, and a pad of 0.0 is not one of -0.0.
    return identity(value)


# What a jaxpr does -> its number. A number is never given again.
_KNOWN: dict[Hashable, int] = {}
_MOST_KNOWN = 4096
_NUMBERS = itertools.count()


@remembered_weakly
def _number_of(jaxpr: Jaxpr) -> int:
    """Equal for jaxprs that do the same."""
    slots = {v: i for i, v in enumerate((*jaxpr.constvars, *jaxpr.invars))}
    inputs = tuple(map(_type, slots))

    def name(atom: Any) -> Hashable:
        if isinstance(atom, Literal):
            return literal_value(atom).tobytes(), _type(atom)
        return slots[atom]

    lines = []
    for eqn in jaxpr.eqns:
        lines.append((signature(eqn), tuple(map(name, eqn.invars))))
        slots |= {var: len(slots) + i for i, var in enumerate(eqn.outvars)}
    text = inputs, tuple(lines), tuple(map(name, jaxpr.outvars))
    if text not in _KNOWN:
        keep(_KNOWN, text, next(_NUMBERS), _MOST_KNOWN)
    return _KNOWN[text]
