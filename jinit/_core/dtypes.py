"""The functions of this file check dtypes, and choose the wide dtype to draw in."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def dtype(value: Any, kind: type[Any]) -> np.dtype:
    """Return `value` as the dtype that JAX will use; None is the default float.

    Args:
      value: a dtype, its name, or None.
      kind: the abstract type that the dtype must belong to, such as `np.floating`.

    Raises:
      TypeError: if the dtype does not belong to `kind`, or cannot be drawn.
    """
    chosen = _default_float() if value is None else dtype_like(value)
    _check_kind(chosen, kind)  # type: ignore[arg-type]  # abstract types do hash
    if chosen.itemsize == (16 if chosen.kind == "c" else 8) and not jax.config.read(
        "jax_enable_x64"
    ):
        # JAX warns here that 64 bits need jax_enable_x64.
        chosen = np.dtype(jnp.zeros((), chosen).dtype)
    return chosen


def _default_float() -> np.dtype:
    # JAX's answer takes 3 us, and without x64 it is always the same one.
    if not jax.config.read("jax_enable_x64"):
        return _FLOAT32
    return np.dtype(jnp.result_type(float))


_FLOAT32 = np.dtype(np.float32)


@functools.cache
def _check_kind(dtype: np.dtype, kind: type[Any]) -> None:
    # NumPy's `issubdtype` does not know bfloat16 and the types of 8 bits as floating.
    if not jnp.issubdtype(dtype, kind):
        needed: dict[type[Any], str]
        needed = {np.unsignedinteger: "an unsigned integer type such as 'uint32'"}
        raise TypeError(
            f"`dtype` is {dtype.name}; it must be "
            + needed.get(kind, "a floating type such as 'float32' or 'bfloat16'")
            + (", and a real one." if kind is np.floating else ".")
        )
    if dtype.itemsize == 1 and kind is not np.generic and not _can_be_drawn(dtype):
        raise TypeError(
            f"`dtype` is {dtype.name}, which has too few numbers for a draw; of the "
            "types of 8 bits those with a sign can be drawn, such as 'float8_e4m3fn'. "
            "Draw one of them, or 'bfloat16', and cast the array."
        )


def _can_be_drawn(dtype: np.dtype) -> bool:
    """Tell whether a dtype of one byte has a sign and uses all 8 bits."""
    if not jnp.issubdtype(dtype, np.floating):
        return True
    # float8_e8m0fnu has neither a sign nor a zero, and a float of 4 bits has 16
    # numbers, although NumPy stores it in a byte.
    info = jnp.finfo(dtype)
    return bool(info.bits == 8 and info.min < 0)


def _number_meant(value: Any) -> str:
    """Return what a user probably means by a number in the place of a dtype."""
    # torch's normal_(w, 0, 0.02) and uniform_(w, -b, b) have two numbers.
    if isinstance(value, int | float):
        return (
            " If it is a second number by position: normal(stddev) has the mean 0, "
            "uniform(scale) begins at 0, and a shape is one tuple."
        )
    return ""


def dtype_like(value: Any) -> np.dtype:
    """Return the dtype that a value names, as `jnp.dtype` reads it."""
    try:
        dtype: np.dtype = jnp.dtype(value)
    except TypeError:
        raise TypeError(
            f"`dtype` is {value!r}, which names no type; pass one such as jnp.float32 "
            f"or 'bfloat16'.{_number_meant(value)}"
        ) from None
    return dtype


# JAX draws in the narrow type itself: in bfloat16 its normal law has 128 distinct
# values, none beyond 2.9 standard deviations (jax 0.10.2).
def is_narrow(dtype: np.dtype) -> bool:
    """Tell whether a float of this dtype is drawn in float32 and then rounded."""
    return bool(jnp.issubdtype(dtype, np.floating)) and dtype.itemsize < 4


def real_dtype(dtype: np.dtype) -> np.dtype:
    """Return the real dtype to draw in: float64 for 64-bit floats, else float32.

    A complex number is drawn as two of them.
    """
    return np.dtype(np.float64 if dtype in (np.float64, np.complex128) else np.float32)


def sqrt2(dtype: np.dtype) -> Any:
    """Return the square root of 2 as a scalar of a dtype."""
    return dtype.type(math.sqrt(2))


def canonical_dtype(dtype: DTypeLike | None) -> np.dtype | None:
    """Return a maker's `dtype` setting as a value that hashes and prints."""
    return None if dtype is None else dtype_like(dtype)


def wide_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype to compute in: float32 for all narrower floats."""
    return np.dtype(np.float32) if is_narrow(dtype) else dtype


def is_complex(dtype: np.dtype) -> bool:
    """Tell whether a dtype is complex."""
    return bool(jnp.issubdtype(dtype, np.complexfloating))
