"""Random bits become numbers with laws of scale 1, in the precision of the draw."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from .._core.checks import Shape
from .._core.dtypes import real_dtype, sqrt2
from .._core.erf_inv import INSIDE, depends_on_loop, erf_inv
from ._threefry import upper_bits


def between(
    key: jax.Array,
    shape: Shape,
    low: ArrayLike,
    high: ArrayLike,
    *,
    ordinary: bool = False,
    long: bool = False,
) -> jax.Array:
    """Draw uniform numbers on [low, high): random mantissas, stretched and moved.

    `jax.random` puts the mantissa bits under the exponent of 1 and subtracts 1. Where
    the width is `ordinary`, that is, far from underflow, the same float32 takes an
    operation less: m 2^-23 with m an integer, and the power goes into the width. `long`
    says that a long computation reads the numbers.
    """
    dtype = jnp.result_type(low)
    info = jnp.finfo(dtype)
    words = upper_bits(key, shape, info.bits, info.nmant, long=long)
    width = jnp.subtract(high, low)
    if ordinary and dtype == np.float32:
        # Signed, since processors without AVX-512 convert no unsigned integers.
        m = lax.bitcast_convert_type(words, np.int32).astype(dtype)
        direct: jax.Array = m * (width * dtype.type(2.0**-info.nmant)) + low
        return direct
    one = np.ones((), dtype).view(words.dtype)
    floats = lax.bitcast_convert_type(words | one, dtype) - dtype.type(1)
    moved: jax.Array = floats * width + low
    return moved


def open_unit(key: jax.Array, shape: Shape, dtype: np.dtype) -> jax.Array:
    """Draw uniform numbers on (-1, 1), from the number after -1 on."""
    low = np.nextafter(dtype.type(-1), dtype.type(0))
    return between(key, shape, low, dtype.type(1), ordinary=True, long=True)


def unit_truncated(
    key: jax.Array,
    lower: ArrayLike,
    upper: ArrayLike,
    shape: Shape,
    dtype: np.dtype,
    bound: float,
) -> jax.Array:
    """Draw from the standard normal law on (lower, upper).

    Both ends are within `bound` of 0; it is infinite where they are not known.
    """
    if bound <= INSIDE and depends_on_loop(shape):
        return jax.random.truncated_normal(key, lower, upper, shape, dtype)
    known = math.isfinite(bound)
    ordinary = known and float(np.asarray(upper) - np.asarray(lower)) > 1e-3
    lower, upper = jnp.asarray(lower, dtype), jnp.asarray(upper, dtype)
    root = sqrt2(dtype)
    a, b = lax.erf(lower / root), lax.erf(upper / root)
    u = between(key, shape, a, b, ordinary=ordinary, long=True)
    if not known:
        u = jnp.maximum(a, u)
    if not known or bound > INSIDE:
        # Where a bound's erf rounds to +-1, u must not: erf_inv would be infinite.
        inside = np.nextafter(dtype.type(1), dtype.type(0))
        u = jnp.clip(u, -inside, inside)
    # Rounding, or u = a, must not push a value out of the open interval.
    inf = dtype.type(np.inf)
    low, high = lax.stop_gradient(lower), lax.stop_gradient(upper)
    inner = lax.nextafter(low, inf), lax.nextafter(high, -inf)
    return jnp.clip(root * erf_inv(u, bound), *inner)


def complex_unit(law: str, key: jax.Array, shape: Shape, dtype: np.dtype) -> jax.Array:
    """Draw from a law on the complex plane, as JAX constructs it.

    "normal" has E|z|^2 = 1, "uniform" fills the disk with E|z|^2 = 1, and
    "truncated_normal" is the normal law whose modulus is cut at 2.
    """
    real = real_dtype(dtype)
    first, second = jax.random.split(key)
    if law == "normal":
        parts = (
            sqrt2(real) * erf_inv(open_unit(k, shape, real), INSIDE)
            for k in (first, second)
        )
        normal: jax.Array = lax.complex(*parts) / np.sqrt(2).astype(dtype)
        return normal
    u = between(first, shape, real.type(0), real.type(1))
    angle = real.type(2 * np.pi) * between(second, shape, real.type(0), real.type(1))
    if law == "uniform":
        radius = jnp.sqrt(2 * u)
    else:
        # |z|^2 is exponential; inverting its distribution function cuts it at 4.
        radius = jnp.sqrt(-jnp.log1p(real.type(math.expm1(-4)) * u))
    return lax.complex(radius * jnp.cos(angle), radius * jnp.sin(angle))
