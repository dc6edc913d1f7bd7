"""Checks and kinds of dtypes: real, complex, narrow, and the wide type to draw in."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def dtype(value: Any, kind: type[Any]) -> np.dtype:
    """`value` as the dtype JAX will use; None is the default float."""
    found = np.dtype(jnp.result_type(float) if value is None else dtype_like(value))
    if not jnp.issubdtype(found, kind):
        wanted: dict[type[Any], str]
        wanted = {np.unsignedinteger: "an unsigned integer type such as 'uint32'"}
        raise TypeError(
            f"`dtype` is {found.name}; it must be "
            + wanted.get(kind, "a floating type such as 'float32' or 'bfloat16'")
            + (", and a real one." if kind is np.floating else ".")
        )
    if found.itemsize == 1 and kind is not np.generic and not _can_be_drawn(found):
        raise TypeError(
            f"`dtype` is {found.name}, which has too few numbers for a draw; of the "
            "types of 8 bits those with a sign can be drawn, such as 'float8_e4m3fn'. "
            "Draw one of them, or 'bfloat16', and cast the array."
        )
    if found.itemsize == (16 if found.kind == "c" else 8) and not jax.config.read(
        "jax_enable_x64"
    ):
        # Says once what JAX says: 64 bits want jax_enable_x64.
        found = jnp.zeros((), found).dtype
    return found


@functools.cache
def _can_be_drawn(dtype: np.dtype) -> bool:
    """Tell whether a dtype of one byte has a sign and uses all 8 bits."""
    if not jnp.issubdtype(dtype, np.floating):
        return True
    info = jnp.finfo(dtype)
    return bool(info.bits == 8 and info.min < 0)


def dtype_like(value: Any) -> np.dtype:
    try:
        return jnp.dtype(value)
    except TypeError:
        raise TypeError(
            f"`dtype` is {value!r}, which names no type; pass one such as jnp.float32 "
            "or 'bfloat16'."
        ) from None


def is_narrow(dtype: np.dtype) -> bool:
    """Whether a float of this dtype is drawn in float32 and then rounded."""
    return jnp.issubdtype(dtype, np.floating) and dtype.itemsize < 4


def real_dtype(dtype: np.dtype) -> np.dtype:
    """The type to draw in: float32 for all narrower ones, a complex type's parts."""
    return np.dtype(np.float64 if dtype in (np.float64, np.complex128) else np.float32)


def sqrt2(dtype: np.dtype) -> np.floating:
    return dtype.type(math.sqrt(2))


def canonical_dtype(dtype: DTypeLike | None) -> np.dtype | None:
    """A maker's `dtype` setting, as a value that hashes and prints."""
    return None if dtype is None else dtype_like(dtype)


def wide_dtype(dtype: np.dtype) -> np.dtype:
    """The type to compute in: float32 for all narrower ones."""
    return np.dtype(np.float32) if is_narrow(dtype) else dtype


def is_complex(dtype: np.dtype) -> bool:
    return jnp.issubdtype(dtype, np.complexfloating)
