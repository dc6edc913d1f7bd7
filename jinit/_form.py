"""A jaxpr -> a key that equal jaxprs share, whatever their variables are called."""

from collections.abc import Hashable
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from . import _jaxpr
from ._identity import Same


def form_of(jaxpr: Jaxpr) -> Hashable:
    """Return a key of what a jaxpr does: its operations, in order, and their settings.

    What cannot be compared stands by its identity, and the key keeps it alive: then no
    other jaxpr has this key, so a program is compiled once more, and never a wrong one
    taken.
    """
    return _Form().of(jaxpr)


class _Form:
    """One walk; a body that is met again, as the relu of each layer, is a number."""

    def __init__(self) -> None:
        self._bodies: dict[int, int] = {}

    def of(self, jaxpr: Jaxpr) -> Hashable:
        number = self._bodies.setdefault(id(jaxpr), len(self._bodies))
        if number < len(self._bodies) - 1:
            return number
        slots = {v: i for i, v in enumerate((*jaxpr.constvars, *jaxpr.invars))}
        inputs = tuple(var.aval for var in slots)

        def name(atom: Any) -> Hashable:
            if isinstance(atom, Literal):
                return atom.aval, _jaxpr.literal_value(atom).tobytes()
            return slots[atom]

        lines = []
        for eqn in jaxpr.eqns:
            lines.append((self._line(eqn), tuple(map(name, eqn.invars))))
            slots |= {var: len(slots) + i for i, var in enumerate(eqn.outvars)}
        return inputs, tuple(lines), tuple(map(name, jaxpr.outvars))

    def _line(self, eqn: JaxprEqn) -> Hashable:
        params = ((name, self._setting(x)) for name, x in eqn.params.items())
        kinds = tuple(var.aval for var in eqn.outvars)
        return eqn.primitive, kinds, tuple(params), self._setting(eqn.ctx)

    def _setting(self, value: Any) -> Hashable:
        if isinstance(value, Jaxpr):
            return self.of(value)
        if isinstance(value, ClosedJaxpr):
            return self.of(value.jaxpr), tuple(map(Same, value.consts))
        if isinstance(value, (tuple, list)):
            return type(value), *map(self._setting, value)
        if isinstance(value, (float, complex)):
            return type(value), repr(value)
        if isinstance(value, np.ndarray) and value.dtype != object:
            return value.shape, str(value.dtype), value.tobytes()
        try:
            hash(value)
        except TypeError:
            return Same(value)
        return type(value), value
