"""A condition is read as the union of its branches."""

import functools
from typing import Any

from jax.extend.core import JaxprEqn

from ..equations import branches_of
from ..interpret import Handler, interpret
from . import views
from .atoms import shape_of
from .entries import axes_of
from .meetings import joined
from .uses import Log
from .values import Constant, Data, View


def cond(log: Log, eqn: JaxprEqn, values: list[Any], read: Handler) -> list[Any]:
    """Read all branches of a condition, and unite what they give."""
    index, *operands = values
    if isinstance(index, View):
        log.other(index, "it decides between branches")
    results = [interpret(b.jaxpr, b.consts, operands, read) for b in branches_of(eqn)]
    return [
        _either(log, list(cases), shape_of(var))
        for cases, var in zip(zip(*results, strict=True), eqn.outvars, strict=True)
    ]


def _either(log: Log, cases: list[Any], shape: tuple[int, ...]) -> Any:
    """Return the value that one of several branches gives."""
    operands = [case for case in cases if isinstance(case, Data)]
    parts = [case for case in cases if isinstance(case, View)]
    if operands:
        for part in parts:
            log.other(part, "a branch of a condition hands it out as it is")
        return functools.reduce(lambda a, b: _united(log, a, b, shape), operands)
    if parts:
        return functools.reduce(
            lambda a, b: views.combined(a, b, shape, multiplies=False), parts
        )
    return Constant()


def _united(log: Log, one: Data, other: Data, shape: tuple[int, ...]) -> Data:
    if one is other:
        return one
    new = log.base(joined(one, other).copy(axes=axes_of(log, (one, other), shape)))
    # Either branch may be the stream itself, as where a layer is left out.
    new.stream |= one.stream & other.stream
    return new
