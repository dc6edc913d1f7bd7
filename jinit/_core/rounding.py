"""A float32 draw is rounded once to a narrower dtype, and stays inside its interval."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _as_identity(
    rounding: Callable[..., jax.Array], x: jax.Array, *operands: Any
) -> jax.Array:
    """Return `rounding(x, *operands)` with the derivative of a conversion of x.

    The derivative of `rounding` itself is zero: it is that of a bit pattern, or of the
    bound that a value was moved to.
    """
    return rounding(x, *operands)


@_as_identity.defjvp
def _(rounding: Any, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    rounded = _as_identity(rounding, *primals)
    return rounded, tangents[0].astype(rounded.dtype)


def round_inside(
    x: jax.Array, dtype: np.dtype, low: jax.Array, high: jax.Array, *, open_low: bool
) -> jax.Array:
    """Round float32 `x` to `dtype`, and keep it in [low, high) or (low, high).

    Rounding is monotone: a value clipped to representable ends stays between them. An
    interval without a single number of `dtype` gives the number next to its lower end.
    """
    rounding = functools.partial(_round_inside, dtype=dtype, open_low=open_low)
    return _as_identity(rounding, x, low, high)


def _round_inside(
    x: jax.Array, low: jax.Array, high: jax.Array, *, dtype: np.dtype, open_low: bool
) -> jax.Array:
    next_low = lax.nextafter(low, jnp.full_like(low, np.inf)) if open_low else low
    bottom = at_least(jnp.where(low < high, next_low, low), dtype).astype(np.float32)
    top = jnp.maximum(bottom, below(high, dtype).astype(np.float32))
    return _rounded(jnp.clip(x, bottom, top), dtype=dtype)


def round_finite(x: jax.Array, dtype: np.dtype) -> jax.Array:
    """Round float32 `x` to `dtype`; numbers that are too large become the largest."""
    return _as_identity(functools.partial(_round_finite, dtype=dtype), x)


def _round_finite(x: jax.Array, *, dtype: np.dtype) -> jax.Array:
    # A plain cast makes an infinity of a float32 above the range of float16, and NaN in
    # float8_e4m3fn, which has no infinity.
    limit = np.float32(jnp.finfo(dtype).max)
    return _rounded(jnp.clip(x, -limit, limit), dtype=dtype)


def round_once(x: jax.Array, dtype: np.dtype) -> jax.Array:
    """Round finite float32 `x` to the nearest `dtype`, ties to even."""
    return _as_identity(functools.partial(_rounded, dtype=dtype), x)


def _rounded(x: jax.Array, *, dtype: np.dtype) -> jax.Array:
    if dtype != jnp.bfloat16:
        return x.astype(dtype)
    # XLA's own conversion also looks for NaN, and a CPU takes twice as long over it.
    word = lax.bitcast_convert_type(x, np.uint32)
    odd = (word >> np.uint32(16)) & np.uint32(1)
    upper = (word + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    return lax.bitcast_convert_type(upper.astype(np.uint16), dtype)


def at_least(x: jax.Array, dtype: np.dtype) -> jax.Array:
    """Return the smallest number of `dtype` that is `x` or more."""
    near = jnp.asarray(x, np.float32).astype(dtype)
    return jnp.where(near.astype(np.float32) < x, _step(near, +1), near)


def below(x: jax.Array, dtype: np.dtype) -> jax.Array:
    """Return the largest number of `dtype` that is less than `x`."""
    near = jnp.asarray(x, np.float32).astype(dtype)
    return jnp.where(near.astype(np.float32) < x, near, _step(near, -1))


def _step(x: jax.Array, direction: int) -> jax.Array:
    """Return the next number of a narrow dtype.

    Floats of one sign are ordered as the integers with their bits are.
    """
    unsigned = np.dtype(f"uint{8 * x.dtype.itemsize}")
    sign = unsigned.type(1 << (8 * x.dtype.itemsize - 1))
    one = unsigned.type(1)
    word = lax.bitcast_convert_type(x, unsigned)
    # The bits of a negative number grow as the number falls.
    away = ((word & sign) != 0) == (direction < 0)
    moved = jnp.where(away, word + one, word - one)
    # From a zero of either sign the next number is the smallest in that direction.
    first = one if direction > 0 else sign | one
    moved = jnp.where((word & ~sign) == 0, first, moved)
    return lax.bitcast_convert_type(moved, x.dtype)
