"""Two equations, or two jaxprs, that have equal keys compute the same.

Equal equations share one compiled program: those of two layers of one shape, or those
of a model that is traced again. A key does not depend on the names of variables. It
keeps no array alive. Small constants enter by their numbers, and settings that cannot
be compared enter by their identity, through a weak reference. So a program may be
compiled once more, but a wrong one is never used.
"""

import functools
import itertools
import math
from collections.abc import Hashable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from .._core.identity import ById, identity, keep, remembered_weakly
from .equations import CUSTOM_JVP, CUSTOM_VJP, body_of, consts_of
from .interpret import fused, run
from .jaxpr import literal_value


def signature(eqn: JaxprEqn) -> Hashable:
    """Return a key of what an equation computes from its operands."""
    return _line(eqn, differentiable=False)


def form_of(jaxpr: Jaxpr) -> Hashable:
    """Return a key of what a jaxpr computes, and of what its gradient is."""
    return _text(jaxpr, differentiable=True)


def _text(jaxpr: Jaxpr, differentiable: bool) -> Hashable:
    """Return the equations of a jaxpr, with numbers for its variables."""
    slots = {v: i for i, v in enumerate((*jaxpr.constvars, *jaxpr.invars))}
    inputs = tuple(map(_type, slots))

    def name(atom: Any) -> Hashable:
        if isinstance(atom, Literal):
            return literal_value(atom).tobytes(), _type(atom)
        return slots[atom]

    lines = []
    for eqn in jaxpr.eqns:
        lines.append((_line(eqn, differentiable), tuple(map(name, eqn.invars))))
        slots |= {var: len(slots) + i for i, var in enumerate(eqn.outvars)}
    return inputs, tuple(lines), tuple(map(name, jaxpr.outvars))


def _line(eqn: JaxprEqn, differentiable: bool) -> Hashable:
    inputs = tuple(map(_type, eqn.invars))
    params: Hashable
    if eqn.primitive in (CUSTOM_JVP, CUSTOM_VJP):
        # The parameters hold the user's rule as a function that each trace makes anew,
        # so the jaxpr of the rule is compared. To trace it takes milliseconds, which
        # materialize does not spend: its programs are never differentiated.
        rule = _rule(eqn) if differentiable else None
        params = _setting(body_of(eqn), differentiable), rule
    else:
        params = tuple(
            (name, _setting(x, differentiable)) for name, x in eqn.params.items()
        )
    return eqn.primitive, inputs, params, identity(eqn.ctx)


def _type(atom: Any) -> Hashable:
    return _spelled(atom.aval)


@functools.lru_cache(maxsize=4096)
def _spelled(kind: Any) -> Hashable:
    """Return a type as text, or as it is if it has a mesh.

    Python keeps the hash of a text. The text of a type does not tell one mesh from
    another.
    """
    sharding = getattr(kind, "sharding", None)
    return str(kind) if sharding is None or sharding.mesh.empty else kind


def _setting(value: Any, differentiable: bool) -> Hashable:
    if isinstance(value, Jaxpr | ClosedJaxpr):
        jaxpr = value if isinstance(value, Jaxpr) else value.jaxpr
        number = _number_with_gradient if differentiable else _number
        return number(jaxpr), tuple(map(_constant, consts_of(value)))
    if isinstance(value, (tuple, list)):
        return tuple(_setting(x, differentiable) for x in value)
    # `==` is too coarse: x**1 is not x**1.0, and a pad of 0.0 is not one of -0.0.
    return identity(value)


# To read a larger constant costs more than it saves.
_SMALL = 1 << 20


def _constant(const: Any) -> Hashable:
    """Return the key of a constant of a jaxpr: its numbers, if they are few.

    Each trace makes the constants of the jitted functions inside it anew. Keys by their
    identities would differ between models of two schemes that are equal.
    """
    is_array = isinstance(getattr(const, "dtype", None), np.dtype)
    is_near = getattr(const, "is_fully_addressable", True)
    if not is_array or isinstance(const, jax.core.Tracer) or not is_near:
        return ById(const)
    if math.prod(const.shape) * const.dtype.itemsize > _SMALL:
        return ById(const)
    return _spelled(jax.typeof(const)), identity(np.asarray(const))


# A jaxpr inside another one enters a key as a number, since its text may be long. No
# number is used twice.
_KNOWN: dict[Hashable, int] = {}
_MOST_KNOWN = 4096
_NUMBERS = itertools.count()


@remembered_weakly
def _number(jaxpr: Jaxpr) -> int:
    return _numbered(_text(jaxpr, differentiable=False))


@remembered_weakly
def _number_with_gradient(jaxpr: Jaxpr) -> int:
    return _numbered(_text(jaxpr, differentiable=True))


def _numbered(text: Hashable) -> int:
    number = _KNOWN.get(text)
    if number is None:
        number = next(_NUMBERS)
        keep(_KNOWN, text, number, _MOST_KNOWN)
    return number


def _rule(eqn: JaxprEqn) -> Hashable:
    """Return a key of the user's gradient rule of an operation."""
    types = ([_abstract(v.aval) for v in atoms] for atoms in (eqn.invars, eqn.outvars))
    try:
        closed = jax.make_jaxpr(functools.partial(_pulled_back, eqn))(*types)
    except Exception:
        return ById(eqn)
    # A gradient is taken once: the operations that a rule calls are run and not
    # differentiated, so their own rules do not count.
    return _number(closed.jaxpr), tuple(map(_constant, closed.consts))


def _abstract(kind: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype)


def _pulled_back(eqn: JaxprEqn, inputs: list[Any], slopes: list[Any]) -> Any:
    """Return the gradients of an operation's inputs, given those of its outputs."""

    def of_floats(floats: list[Any]) -> list[Any]:
        rest = iter(floats)
        values = [next(rest) if _is_real(x) else x for x in inputs]
        return [y for y in run(eqn, values, fused) if _is_real(y)]

    pull = jax.vjp(of_floats, [x for x in inputs if _is_real(x)])[1]
    return pull([y for y in slopes if _is_real(y)])


def _is_real(x: Any) -> bool:
    return bool(jax.numpy.issubdtype(x.dtype, np.inexact))
