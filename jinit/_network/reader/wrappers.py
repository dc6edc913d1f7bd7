"""Calls that only wrap equations are opened, whatever JAX calls them."""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from .. import equations
from ..interpret import Handler, interpret
from . import views
from .atoms import shape_of
from .axes import Axis, size_of
from .uses import Log
from .values import Data, View


def body_inside(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Return the body of a call that jinit has no name for, if it is only a wrapper.

    A wrapper has one body, which takes what the equation takes and gives what it gives.
    The body of a Pallas call, for example, takes references instead.
    """
    values = eqn.params.values()
    bodies = [value for value in values if isinstance(value, ClosedJaxpr | Jaxpr)]
    # A custom root or a linear solve has several, and is no wrapper of any.
    if len(bodies) != 1:
        return None
    (body,) = bodies
    closed = body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, ())
    is_same = _types(closed.jaxpr.invars) == _types(eqn.invars) and (
        _types(closed.jaxpr.outvars) == _types(eqn.outvars)
    )
    return closed if is_same else None


def _types(atoms: Sequence[Any]) -> list[Any]:
    # A call may pass Python's numbers, whose types are weak outside of it alone.
    return [atom.aval.strip_weak_type() for atom in atoms]


def shard_map(log: Log, eqn: JaxprEqn, values: list[Any], read: Handler) -> list[Any]:
    """Read the equations that one device executes on its parts of the arrays."""
    body = equations.body_of(eqn)
    arguments = _all_resized(log, values, body.jaxpr.invars)
    results = interpret(body.jaxpr, body.consts, arguments, read)
    return _all_resized(log, results, eqn.outvars)


def _all_resized(log: Log, values: Sequence[Any], places: Sequence[Any]) -> list[Any]:
    pairs = zip(values, places, strict=True)
    return [_resized(log, value, shape_of(var)) for value, var in pairs]


def _resized(log: Log, value: Any, shape: Sequence[int]) -> Any:
    """Return a value as one device has it, or as all devices together."""
    if isinstance(value, View):
        return views.local(value, shape)
    if not isinstance(value, Data):
        return value
    pairs = zip(value.axes, shape, strict=True)
    return value.copy(axes=tuple(_resized_axis(log, a, size) for a, size in pairs))


def _resized_axis(log: Log, axis: Axis, size: int) -> Axis:
    """Return an axis with another length, and its label if it is one factor."""
    # An axis that a mesh does not shard has one length inside and outside.
    if size_of(axis) == size:
        return axis
    return ((axis[0][0], size),) if len(axis) == 1 else log.labels.axis(size)
