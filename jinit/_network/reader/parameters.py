"""Operations on parameters and constants alone give views of the parameters.

A view may turn out to be data: a value that is learned and read like an input, or a
layer whose input is a constant.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from . import indexing, meetings, moves, views
from .atoms import shape_of
from .axes import BROADCAST, Axis
from .entrywise import BENDING
from .uses import Log
from .values import Data, Scalar, View, number

# Operations on views that meet entry by entry, and whether they multiply.
_COMBINING = {
    "add": False, "sub": False, "add_any": False, "complex": False, "select_n": False,
    "max": False, "min": False, "mul": True, "div": True, "pow": True, "atan2": True,
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "and", "or"), False),
}  # fmt: skip
# Functions of single entries.
_FUNCTIONS = BENDING | _COMBINING.keys() | {
    "exp", "log", "neg", "sqrt", "rsqrt", "integer_pow", "square",
}  # fmt: skip
# A parameter that is repeated for each input, and then normalized, is a value that the
# network reads: the latents of a Perceiver.
_READING = {"reduce_sum", "reduce_max", "square", "integer_pow"}
# Behind these, a constant times a parameter is a layer: the bias of relative positions
# may be what an MLP makes of their coordinates.
_ACTIVATIONS = BENDING | {
    "max",
    "min",
    "exp",
    "pow",
    "integer_pow",
    "square",
    "select_n",
}


def operation(
    log: Log,
    eqn: JaxprEqn,
    values: Sequence[Any],
    again: Callable[[JaxprEqn, list[Any]], Sequence[Any]],
) -> Any:
    """Read an operation on parameters and constants; `again` reads one on data."""
    parts = [value for value in values if isinstance(value, View)]
    data = _as_data(log, eqn, values, parts[0])
    if data is not None:
        return again(eqn, [data if value is parts[0] else value for value in values])
    view = _moved(log, eqn, values, parts)
    if view is None:
        return moves.other(log, eqn, values)
    return _bent(eqn, values, view) if isinstance(view, View) else view


def indexed(log: Log, eqn: JaxprEqn, view: View) -> View | None:
    """Return what an index that no input decides chooses from a parameter.

    In a loop the index counts the steps, each of which has a part of its own.
    """
    rule = indexing.indexed if eqn.primitive.name == "gather" else views.moved
    new = rule(eqn, view)
    if new is None or not log.loops:
        return new
    return indexing.chosen_by_step(view, new, id(log.loops[-1]))


def _as_data(log: Log, eqn: JaxprEqn, values: Sequence[Any], view: View) -> Data | None:
    """Return the data that a view turns out to be at this operation, or None."""
    name = eqn.primitive.name
    shape = next(
        shape_of(v) for v, x in zip(eqn.invars, values, strict=True) if x is view
    )
    # Weight norm squares kernels, which are repeated along no axis.
    is_square = name == "mul" and values[0] is values[1]
    if (name in _READING or is_square) and views.is_repeated(view):
        return meetings.learned(log, view, shape)
    if name in _ACTIVATIONS and any(term.mapped for term in view.terms):
        return meetings.of_constants(log, view, shape)
    return None


def _bent(eqn: JaxprEqn, values: Sequence[Any], view: View) -> View:
    """Return a view of one parameter with the function that its entries went through.

    The law of a decay depends on this function: A = -exp(A_log).
    """
    if eqn.primitive.name not in _FUNCTIONS or len(view.terms) != 1:
        return view
    arguments = [
        _function_of(value) if isinstance(value, View) else number(value)
        for value in values
    ]
    if None in arguments:
        return view
    bases = {a.base for a in arguments if isinstance(a, Scalar)}
    if len(bases) > 1:
        return view
    return views.each(
        view,
        lambda term: dataclasses.replace(term, function=Scalar(eqn, arguments)),
    )


def _function_of(view: View) -> Scalar | None:
    """Return the function of one number that a view of one parameter is."""
    if len(view.terms) != 1:
        return None
    function: Scalar | None = view.terms[0].function
    return function


def _gathered(eqn: JaxprEqn, view: View) -> View:
    """Return the view of a whole parameter, of which each device has a part."""
    shape = shape_of(eqn.outvars[0])
    if eqn.params["tiled"]:
        return views.local(view, shape)
    place = eqn.params["all_gather_dimension"]
    new: Axis = ((BROADCAST, shape[place]),)
    return views.with_axes(view, lambda axes: (*axes[:place], new, *axes[place:]))


def _moved(
    log: Log, eqn: JaxprEqn, values: Sequence[Any], parts: Sequence[View]
) -> Any:
    """Return the view, or the views, behind an operation; None if it is not read."""
    name, shape = eqn.primitive.name, shape_of(eqn.outvars[0])
    if name in ("gather", "dynamic_slice"):
        return indexed(log, eqn, parts[0]) if parts[0] is values[0] else None
    if name == "split":
        return [views.sliced(parts[0], eqn, i) for i in range(len(eqn.outvars))]
    if name == "unstack":
        return [views.entry(parts[0], eqn, i) for i in range(len(eqn.outvars))]
    if name == "stack":
        return views.in_rows(eqn, parts)
    if name == "all_gather":
        return _gathered(eqn, parts[0])
    if name == "concatenate":
        return views.concatenated(eqn, parts)
    if name in ("pad", "rem") or (name in _COMBINING and len(parts) == 1):
        return views.expanded(parts[0], shape)
    if name in _COMBINING:
        multiplies = _COMBINING[name]
        return functools.reduce(
            lambda a, b: views.combined(a, b, shape, multiplies=multiplies), parts
        )
    is_simple = len(parts) == len(eqn.outvars) == 1
    return views.moved(eqn, parts[0]) if is_simple else None
