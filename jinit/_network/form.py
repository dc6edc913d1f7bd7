"""Equal jaxprs share a key, whatever their variables are called."""

import functools
from collections.abc import Hashable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from . import equations, interpret
from .behavior import Same
from .equations import CUSTOM_JVP, CUSTOM_VJP, consts_of
from .jaxpr import literal_value


def form_of(jaxpr: Jaxpr) -> Hashable:
    """Return a key of what a jaxpr does: its operations, in order, and their settings.

    A setting that cannot be compared enters by its identity, and the key keeps it
    alive. Then no other jaxpr has this key: a program is compiled once more, but never
    a wrong one used.
    """
    return _Form().of(jaxpr)


class _Form:
    """A walk makes the key of a jaxpr; a body met again becomes a number."""

    def __init__(self) -> None:
        # The bodies are kept too: an id means something only while its object lives.
        self._bodies: dict[int, tuple[int, Jaxpr]] = {}
        self._in_rule = False

    def of(self, jaxpr: Jaxpr) -> Hashable:
        if id(jaxpr) in self._bodies:
            return self._bodies[id(jaxpr)][0]
        self._bodies[id(jaxpr)] = len(self._bodies), jaxpr
        slots = {v: i for i, v in enumerate((*jaxpr.constvars, *jaxpr.invars))}
        inputs = tuple(var.aval for var in slots)

        def name(atom: Any) -> Hashable:
            if isinstance(atom, Literal):
                return atom.aval, literal_value(atom).tobytes()
            return slots[atom]

        lines = []
        for eqn in jaxpr.eqns:
            lines.append((self._line(eqn), tuple(map(name, eqn.invars))))
            slots |= {var: len(slots) + i for i, var in enumerate(eqn.outvars)}
        return inputs, tuple(lines), tuple(map(name, jaxpr.outvars))

    def _line(self, eqn: JaxprEqn) -> Hashable:
        if eqn.primitive in (CUSTOM_JVP, CUSTOM_VJP):
            # A gradient is taken once: what a rule calls is run, not differentiated.
            rule = None if self._in_rule else self._rule(eqn)
            return eqn.primitive, self.of(equations.body_of(eqn).jaxpr), rule
        params = ((name, self._setting(x)) for name, x in eqn.params.items())
        kinds = tuple(var.aval for var in eqn.outvars)
        return eqn.primitive, kinds, tuple(params), self._setting(eqn.ctx)

    def _rule(self, eqn: JaxprEqn) -> Hashable:
        """Return the form of the user's gradient rule of an operation.

        The rule is a function that each trace makes anew, so its jaxpr is compared.
        """
        inputs, outputs = (
            [var.aval for var in atoms] for atoms in (eqn.invars, eqn.outvars)
        )
        arguments = [[_abstract(kind) for kind in kinds] for kinds in (inputs, outputs)]
        try:
            closed = jax.make_jaxpr(functools.partial(_pulled, eqn))(*arguments)
        except Exception:
            return Same(eqn)
        self._in_rule = True
        form = self.of(closed.jaxpr)
        self._in_rule = False
        return form, tuple(map(Same, closed.consts))

    def _setting(self, value: Any) -> Hashable:
        if isinstance(value, Jaxpr | ClosedJaxpr):
            jaxpr = value if isinstance(value, Jaxpr) else value.jaxpr
            return self.of(jaxpr), tuple(map(Same, consts_of(value)))
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


def _abstract(kind: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype)


def _pulled(eqn: JaxprEqn, inputs: list[Any], slopes: list[Any]) -> Any:
    """Return the gradients of an operation's inputs, given those of its outputs."""

    def run(floats: list[Any]) -> list[Any]:
        rest = iter(floats)
        values = [next(rest) if _is_real(x) else x for x in inputs]
        return [y for y in interpret.run(eqn, values, interpret.fused) if _is_real(y)]

    pull = jax.vjp(run, [x for x in inputs if _is_real(x)])[1]
    return pull([y for y in slopes if _is_real(y)])


def _is_real(x: Any) -> bool:
    return bool(jax.dtypes.issubdtype(x.dtype, np.inexact))
