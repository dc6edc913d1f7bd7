"""A snapshot tells in microseconds that a function still computes what it did.

The key of `identity` takes 20 microseconds for a small function, and hashes the arrays
of NumPy that the function closes over, at 1 GB/s. A snapshot compares the same parts by
`is`. It knows fewer kinds of parts, and a function with another part has none.
"""

import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from .identity import is_library, names_in

_EXACT = (type(None), bool, int, float, str, bytes)
_BY_ID = (types.ModuleType, type, jax.Array, types.BuiltinFunctionType, np.ufunc)
# A snapshot has a copy of the numbers of NumPy's arrays, which may change.
_MOST_BYTES = 1 << 22
_MOST_PARTS = 1000


class _UnknownError(Exception):
    """A part of a function may change in a way that `is` would not show."""


class Snapshot(NamedTuple):
    """A Snapshot has the parts of a function; it keeps no array of JAX alive.

    `parts` are weak references, and plain values.
    """

    parts: tuple[Any, ...]
    numbers: tuple[tuple[Any, ...], ...]

    def is_of(self, function: Callable[..., Any]) -> bool:
        """Tell whether a function has these parts, and the same numbers in arrays."""
        try:
            now = _parts(function)
        except _UnknownError:
            return False
        same = len(now) == len(self.parts) and all(
            a is b for a, b in zip(now, self.parts, strict=True)
        )
        return same and _numbers(now) == self.numbers


def snapshot(function: Callable[..., Any]) -> Snapshot | None:
    """Return the snapshot of a function, or None if it has parts of other kinds."""
    try:
        parts = _parts(function)
    except _UnknownError:
        return None
    size = sum(x.nbytes for x in _arrays(parts))
    return None if size > _MOST_BYTES else Snapshot(parts, _numbers(parts))


def _parts(function: Any) -> tuple[Any, ...]:
    """Return all that the result of a function depends on.

    A weak reference to a living object is one object, so it is compared by `is`.
    """
    functions, parts = [function], []
    # The list of functions grows while it is read.
    for each in functions:
        for value in _named(each):
            kind = type(value)
            if kind is types.FunctionType:
                parts.append(weakref.ref(value))
                if not any(value is other for other in functions):
                    functions.append(value)
            elif kind in _EXACT or kind is types.CodeType:
                parts.append(value)
            elif kind is np.ndarray or isinstance(value, _BY_ID):
                parts.append(_reference(value))
            else:
                raise _UnknownError
        if len(parts) > _MOST_PARTS:
            raise _UnknownError
    return tuple(parts)


def _reference(value: Any) -> Any:
    try:
        return weakref.ref(value)
    except TypeError:
        raise _UnknownError from None


def _named(function: Any) -> Iterator[Any]:
    """Yield the parts of one function: code, defaults, cells and globals."""
    if type(function) is not types.FunctionType:
        raise _UnknownError
    code = function.__code__
    yield code
    if function.__kwdefaults__ or function.__dict__:
        raise _UnknownError
    yield from function.__defaults__ or ()
    # The numbers of cells and globals are parts, too, since an empty one has no value.
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            raise _UnknownError from None
    around = function.__globals__
    if not is_library(around.get("__name__")):
        for name in names_in(code):
            if name in around:
                yield name
                yield around[name]


def _arrays(parts: tuple[Any, ...]) -> list[np.ndarray]:
    values = (part() for part in parts if type(part) is weakref.ref)
    return [x for x in values if type(x) is np.ndarray]


def _numbers(parts: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
    """Return the numbers of the arrays of NumPy among the parts."""
    arrays = _arrays(parts)
    if any(x.dtype.hasobject for x in arrays):
        # Each list is another object, so that no comparison is true.
        return ((object(),),)
    return tuple((x.shape, x.dtype, x.tobytes()) for x in arrays)
