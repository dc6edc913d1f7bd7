"""Settings are frozen, so that initializers hash and compare by exact values."""

import hashlib
from collections.abc import Hashable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._core import numbers


def check_representable(argument: str, value: Any, dtype: np.dtype) -> None:
    """Raise for a number that a dtype of 8 bits or less would turn into NaN."""
    is_tiny = dtype.itemsize == 1 and jnp.issubdtype(dtype, np.floating)
    if not is_tiny or numbers.is_traced(value):
        return
    with np.errstate(all="ignore"):
        # The cast overflows, which is the question here and must not warn. A NaN that
        # the user asked for stays one, and is no loss.
        lost = np.isnan(np.asarray(value, dtype).astype(np.float32)) != np.isnan(value)
    if lost.any():
        first = np.asarray(value)[lost].flat[0]
        raise ValueError(
            f"`{argument}` is {first}, and `dtype` {dtype.name} has no such number; "
            f"its numbers lie between {jnp.finfo(dtype).min} and "
            f"{jnp.finfo(dtype).max}; pass one of these, or a wider `dtype`."
        )


def frozen(value: ArrayLike, argument: str = "value") -> Any:
    """Return a value that hashes: a number, nested tuples, or the tracer itself."""
    if numbers.is_traced(value):
        return value
    # NumPy gives all numbers of a nested list one type, so the first one tells it
    # below.
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind in "US":
        raise TypeError(
            f"`{argument}` is {value!r}; it must be a number or an array of numbers."
        )
    # Python's numbers hash and print alike, whichever library the array came from.
    plain = array.tolist()
    return _tupled(plain) if array.ndim else plain


def thawed(value: Any) -> Any:
    """Undo `frozen`: return the array, or the tracer, that a setting was made from."""
    return value if numbers.is_traced(value) else np.asarray(value)


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def exact(value: Any) -> Hashable:
    """Return a key that two settings share only if their types and bits are equal."""
    if isinstance(value, np.generic):
        value = value.item()
    kind = type(value)
    if kind is tuple:
        # A text for each number of a large table would take far longer than one digest.
        return _exact_table(value) or (kind, *map(exact, value))
    if kind in (float, complex):
        # 0.0 == -0.0, and nan is not itself; their texts tell.
        return kind, repr(value)
    return kind, value


def _exact_table(value: tuple[Any, ...]) -> Hashable:
    """Return a digest of nested tuples of floats; None for anything else."""
    entry: Any = value
    while type(entry) is tuple and entry:
        entry = entry[0]
    if type(entry) not in (float, complex):
        return None
    array = np.asarray(value)
    digest = hashlib.sha256(array.tobytes()).digest()
    return tuple, array.dtype.str, array.shape, digest
