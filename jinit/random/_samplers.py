"""This file has the public functions of `jinit.random`, which check their arguments."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._core import checks, dtypes
from .._core.dtypes import real_dtype
from .._core.meshes import Sharding
from .._core.programs import compiled
from ._law import Law, draw, narrowed
from ._standard import between, unit_truncated
from ._threefry import bits as _random_bits


def bits(
    key: jax.Array,
    shape: checks.Shape = (),
    dtype: DTypeLike | None = None,
    *,
    out_sharding: Sharding = None,
) -> jax.Array:
    """Draw uniform random bits as unsigned integers.

    Args:
      key: a PRNG key, typed or legacy.
      shape: the shape of the result.
      dtype: an unsigned integer type; by default uint32, or uint64 under x64.
      out_sharding: how the result is laid out over devices.

    Returns:
      An array equal to `jax.random.bits(key, shape, dtype)`.

    Raises:
      TypeError: if `key` is not a key, or `dtype` is not an unsigned type.
      ValueError: if `key` is a batch of keys, or `shape` is invalid.

    Example:
      >>> import jax, jinit
      >>> jinit.random.bits(jax.random.key(0), (2, 3)).dtype
      dtype('uint32')

    References:
      Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
        2011.
    """
    default = np.uint64 if checks.flag("jax_enable_x64") else np.uint32
    dtype = dtypes.dtype(default if dtype is None else dtype, np.unsignedinteger)
    checks.key(key)
    shape = checks.shape(shape, symbolic=True)
    return _bits(key, shape=shape, dtype=dtype, out_sharding=out_sharding)


def uniform(
    key: jax.Array,
    shape: checks.Shape = (),
    dtype: DTypeLike | None = None,
    minval: ArrayLike = 0.0,
    maxval: ArrayLike = 1.0,
    *,
    out_sharding: Sharding = None,
) -> jax.Array:
    """Draw from the uniform law on [minval, maxval).

    Args:
      key: a PRNG key, typed or legacy.
      shape: the shape of the result.
      dtype: a real floating type; by default float32, or float64 under x64.
      minval: the lower end, which may be drawn; broadcasts to `shape`.
      maxval: the upper end, which is never drawn in 16 and 8 bits, and in wider types
        as rarely as by `jax.random.uniform`; broadcasts to `shape`.
      out_sharding: how the result is laid out over devices.

    Returns:
      In float32 and float64 an array equal to `jax.random.uniform`.

    Raises:
      TypeError: if `key` is not a key, or `dtype` is not a real floating type.
      ValueError: if `key` is a batch of keys, or the bounds do not broadcast to
        `shape`.

    Example:
      >>> import jax, jinit
      >>> x = jinit.random.uniform(jax.random.key(0), (1000,), minval=-1.0)
      >>> bool(x.min() >= -1), bool(x.max() < 1)
      (True, True)
    """
    dtype = dtypes.dtype(dtype, np.floating)
    checks.key(key)
    shape = checks.shape(shape, symbolic=True)
    checks.broadcasts(shape, minval=minval, maxval=maxval)
    return _uniform(
        key, minval, maxval, shape=shape, dtype=dtype, out_sharding=out_sharding
    )


def normal(
    key: jax.Array,
    shape: checks.Shape = (),
    dtype: DTypeLike | None = None,
    *,
    out_sharding: Sharding = None,
) -> jax.Array:
    """Draw from the standard normal law: x = sqrt(2) erf_inv(u), u uniform on (-1, 1).

    Args:
      key: a PRNG key, typed or legacy.
      shape: the shape of the result.
      dtype: a floating type, real or complex; by default float32, or float64 under x64.
        A complex x has E|x|^2 = 1.
      out_sharding: how the result is laid out over devices.

    Returns:
      In float32, float64 and complex types an array equal to `jax.random.normal` as a
      jitted program gives it.

    Raises:
      TypeError: if `key` is not a key, or `dtype` is not a floating type.
      ValueError: if `key` is a batch of keys, or `shape` is invalid.

    Example:
      >>> import jax, jinit
      >>> x = jinit.random.normal(jax.random.key(0), (10_000,), "bfloat16")
      >>> len(set(x.tolist())) > 1000  # jax.random.normal has at most 128 values
      True
    """
    dtype = dtypes.dtype(dtype, np.inexact)
    checks.key(key)
    shape = checks.shape(shape, symbolic=True)
    return draw(Law("normal"), key, shape, dtype, 1.0, out_sharding)


def truncated_normal(
    key: jax.Array,
    lower: ArrayLike,
    upper: ArrayLike,
    shape: checks.Shape | None = None,
    dtype: DTypeLike | None = None,
    *,
    out_sharding: Sharding = None,
) -> jax.Array:
    """Draw from the standard normal law restricted to (lower, upper).

    x = sqrt(2) erf_inv(u), u uniform between erf(lower / sqrt(2)) and erf(upper /
    sqrt(2)).

    Args:
      key: a PRNG key, typed or legacy.
      lower: the lower bound, which is never reached; broadcasts to `shape`.
      upper: the upper bound, which is never reached; broadcasts to `shape`.
      shape: the shape of the result; by default that of the bounds.
      dtype: a real floating type; by default float32, or float64 under x64.
      out_sharding: how the result is laid out over devices.

    Returns:
      In float32 and float64 an array equal to `jax.random.truncated_normal`; but where
      both bounds are numbers that lie far out on one side, beyond 3 (7 in float64),
      `jax.random` has few values, and these follow the law.

    Raises:
      TypeError: if `key` is not a key, or `dtype` is not a real floating type.
      ValueError: if `key` is a batch of keys, or the bounds do not broadcast to
        `shape`.

    Example:
      >>> import jax, jinit
      >>> x = jinit.random.truncated_normal(jax.random.key(0), -2, 2, (1000,))
      >>> bool(abs(x).max() < 2)
      True
    """
    dtype = dtypes.dtype(dtype, np.floating)
    checks.key(key)
    if shape is None:
        shape = np.broadcast_shapes(np.shape(lower), np.shape(upper))
    shape = checks.shape(shape, symbolic=True)
    checks.broadcasts(shape, lower=lower, upper=upper)
    if all(isinstance(b, (int, float, np.number)) for b in (lower, upper)):
        # Known bounds go into the program: XLA then folds erf(bound / sqrt(2)), as it
        # does in a jitted `jax.random`, and knows how much of erf_inv is needed.
        ends = (float(np.asarray(b, dtype)) for b in (lower, upper))
        return draw(
            Law("truncated_normal", *ends), key, shape, dtype, 1.0, out_sharding
        )
    return _truncated(
        key, lower, upper, shape=shape, dtype=dtype, out_sharding=out_sharding
    )


@compiled
def _bits(key: jax.Array, *, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
    return _random_bits(key, shape, 8 * dtype.itemsize)


@compiled
def _uniform(
    key: jax.Array,
    minval: jax.Array,
    maxval: jax.Array,
    *,
    shape: checks.Shape,
    dtype: np.dtype,
) -> jax.Array:
    low, high = (_bound(b, shape, dtype) for b in (minval, maxval))
    x = jnp.maximum(low, between(key, shape, low, high))
    return narrowed(x, dtype, low, high, open_low=False)


@compiled
def _truncated(
    key: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    shape: checks.Shape,
    dtype: np.dtype,
) -> jax.Array:
    wide = real_dtype(dtype)
    low, high = (_bound(b, shape, dtype) for b in (lower, upper))
    x = unit_truncated(key, low, high, shape, wide, math.inf)
    return narrowed(x, dtype, low, high, open_low=True)


def _bound(bound: jax.Array, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
    """Return a user's bound as a number of the dtype asked for, as in `jax.random`."""
    bound = jnp.asarray(bound).astype(dtype).astype(real_dtype(dtype))
    return jnp.broadcast_to(bound, shape) if bound.ndim else bound
