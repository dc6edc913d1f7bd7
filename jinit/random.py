"""Random arrays with the bits of `jax.random`, fused into one loop.

The functions have the signatures of their namesakes in `jax.random`, and in float32 and
float64 their values, bit for bit. They differ in two things: on a CPU they are several
times faster, and in 16 and 8 bits they draw in float32 and round once, where
`jax.random` draws from the few values of the narrow type. A key that is not threefry,
JAX's default, takes its bits from `jax.random` and keeps the rest.
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from . import _checks, _numbers, _tail
from ._compiled import Sharding, compiled
from ._erf_inv import INSIDE, depends_on_loop, erf_inv
from ._rounding import is_narrow, round_finite, round_inside
from ._threefry import bits as _random_bits
from ._unit import (
    between,
    complex_unit,
    open_unit,
    real_dtype,
    sqrt2,
    unit_truncated,
)

__all__ = ["bits", "normal", "truncated_normal", "uniform"]
__dir__ = __all__.copy  # for `dir`, which would show the imports too


def bits(
    key: jax.Array,
    shape: _checks.Shape = (),
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
      TypeError: for something that is not a key, or not an unsigned type.
      ValueError: for a batch of keys, or a shape that is none.

    Example:
      >>> import jax, jinit
      >>> jinit.random.bits(jax.random.key(0), (2, 3)).dtype
      dtype('uint32')

    References:
      Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
      2011.
    """
    default = np.uint64 if _checks.flag("jax_enable_x64") else np.uint32
    dtype = _checks.dtype(default if dtype is None else dtype, np.unsignedinteger)
    _checks.key(key)
    shape = _checks.shape(shape, symbolic=True)
    return _bits(key, shape=shape, dtype=dtype, out_sharding=out_sharding)


def uniform(
    key: jax.Array,
    shape: _checks.Shape = (),
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
      TypeError: for something that is not a key, or not a real floating type.
      ValueError: for a batch of keys, or bounds that do not broadcast to `shape`.

    Example:
      >>> import jax, jinit
      >>> x = jinit.random.uniform(jax.random.key(0), (1000,), minval=-1.0)
      >>> bool(x.min() >= -1), bool(x.max() < 1)
      (True, True)
    """
    dtype = _checks.dtype(dtype, np.floating)
    _checks.key(key)
    shape = _checks.shape(shape, symbolic=True)
    _checks.broadcasts(shape, minval=minval, maxval=maxval)
    return _uniform(
        key, minval, maxval, shape=shape, dtype=dtype, out_sharding=out_sharding
    )


def normal(
    key: jax.Array,
    shape: _checks.Shape = (),
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
      TypeError: for something that is not a key, or not a floating type.
      ValueError: for a batch of keys, or a shape that is none.

    Example:
      >>> import jax, jinit
      >>> x = jinit.random.normal(jax.random.key(0), (10_000,), "bfloat16")
      >>> len(set(x.tolist())) > 1000  # jax.random.normal has at most 128 values
      True
    """
    dtype = _checks.dtype(dtype, np.inexact)
    return draw(Law("normal"), key, shape, dtype, 1.0, out_sharding)


def truncated_normal(
    key: jax.Array,
    lower: ArrayLike,
    upper: ArrayLike,
    shape: _checks.Shape | None = None,
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
      TypeError: for something that is not a key, or not a real floating type.
      ValueError: for a batch of keys, or bounds that do not broadcast to `shape`.

    Example:
      >>> import jax, jinit
      >>> x = jinit.random.truncated_normal(jax.random.key(0), -2, 2, (1000,))
      >>> bool(abs(x).max() < 2)
      True
    """
    dtype = _checks.dtype(dtype, np.floating)
    _checks.key(key)
    if shape is None:
        shape = np.broadcast_shapes(np.shape(lower), np.shape(upper))
    shape = _checks.shape(shape, symbolic=True)
    _checks.broadcasts(shape, lower=lower, upper=upper)
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


@dataclasses.dataclass(frozen=True)
class Law:
    """A law with scale 1: normal, or uniform or truncated normal between two bounds.

    A truncated normal law may be that of mean + sigma z, with z between the bounds. Its
    four numbers may be traced.
    """

    name: Literal["normal", "uniform", "truncated_normal"]
    low: float = -math.inf
    high: float = math.inf
    mean: float = 0.0
    sigma: float = 1.0

    @property
    def is_traced(self) -> bool:
        """Tell whether the law holds a tracer, so that it cannot be a program's key."""
        return self.name == "truncated_normal" and _numbers.is_traced(
            self.low, self.high, self.mean, self.sigma
        )


def draw(
    law: Law,
    key: jax.Array,
    shape: Any,
    dtype: np.dtype,
    scale: Any,
    out_sharding: Sharding = None,
) -> jax.Array:
    """Draw `scale` times a law; the one door through which initializers draw.

    The scale enters as an operand, so that one program serves every scale.
    """
    _checks.key(key)
    wide = real_dtype(dtype)
    scale = _numbers.cast(scale, wide)
    settings: dict[str, Any] = {
        "shape": _checks.shape(shape, symbolic=True),
        "dtype": dtype,
        "out_sharding": out_sharding,
    }
    if law.is_traced:
        numbers = law.low, law.high, law.mean, law.sigma
        operands = (_numbers.cast(x, wide) for x in numbers)
        return _truncated_of_operands(key, scale, *operands, **settings)
    unlike = law.name != "uniform" and depends_on_loop(settings["shape"])
    if unlike and not _numbers.is_traced(scale):
        # The bits of such shapes also depend on whether the scale is a number in the
        # program. In JAX it is.
        return _scaled_by(key, scale=scale, law=law, **settings)
    return _scaled(key, scale, law=law, **settings)


@compiled
def _bits(key: jax.Array, *, shape: _checks.Shape, dtype: np.dtype) -> jax.Array:
    return _random_bits(key, shape, 8 * dtype.itemsize)


def scaled(
    key: jax.Array, scale: Any, *, law: Law, shape: _checks.Shape, dtype: np.dtype
) -> jax.Array:
    """`scale` times a law, as operations for a larger program."""
    wide = real_dtype(dtype)
    if jnp.issubdtype(dtype, np.complexfloating):
        # Strict promotion wants the factor's type to be the array's.
        return complex_unit(law.name, key, shape, dtype) * jnp.asarray(scale, dtype)
    if law.name == "normal":
        x = erf_inv(open_unit(key, shape, wide), INSIDE) * (sqrt2(wide) * scale)
        return round_finite(x, dtype) if is_narrow(dtype) else x
    if law.name == "uniform":
        ends = wide.type(law.low), wide.type(law.high)
        x = between(key, shape, *ends, ordinary=True) * scale
    else:
        x = _unit_truncated(law, key, shape, wide) * scale
    low, high = (end * scale for end in _ends(law, wide))
    return _narrowed(x, dtype, low, high, open_low=law.name == "truncated_normal")


_scaled = compiled(scaled)


@compiled
def _scaled_by(
    key: jax.Array,
    *,
    scale: np.floating,
    law: Law,
    shape: _checks.Shape,
    dtype: np.dtype,
) -> jax.Array:
    return scaled(key, scale, law=law, shape=shape, dtype=dtype)


@compiled
def _truncated_of_operands(
    key: jax.Array,
    scale: jax.Array,
    low: jax.Array,
    high: jax.Array,
    mean: jax.Array,
    sigma: jax.Array,
    *,
    shape: _checks.Shape,
    dtype: np.dtype,
) -> jax.Array:
    """Draw `scale` times mean + sigma z, with z truncated to traced bounds."""
    z = unit_truncated(key, low, high, shape, real_dtype(dtype), math.inf)
    low, high = ((mean + sigma * end) * scale for end in (low, high))
    return _narrowed((mean + sigma * z) * scale, dtype, low, high, open_low=True)


def _unit_truncated(
    law: Law, key: jax.Array, shape: _checks.Shape, wide: np.dtype
) -> jax.Array:
    """A truncated normal law with scale 1."""
    low, high = law.low, law.high
    if _tail.is_tail(low, high, wide):
        # What is added to the bound keeps all its digits.
        side, bound = (1, low) if low > 0 else (-1, high)
        e = _tail.excess(key, shape, abs(bound), max(abs(low), abs(high)), wide)
        x = wide.type(law.mean + law.sigma * bound) + wide.type(side * law.sigma) * e
    else:
        x = unit_truncated(key, low, high, shape, wide, max(abs(low), abs(high)))
        if law.mean == 0 and law.sigma == 1:
            return x
        x = wide.type(law.mean) + wide.type(law.sigma) * x
    (first, last), inf = _ends(law, wide), wide.type(math.inf)
    # Between two neighbours, or one number, there is no inside.
    inner = np.nextafter(first, inf), np.nextafter(last, -inf)
    return jnp.clip(x, *(inner if inner[0] <= inner[1] else (first, first)))


def _ends(law: Law, wide: np.dtype) -> tuple[np.floating, np.floating]:
    """The bounds of a law with scale 1."""
    return tuple(wide.type(law.mean + law.sigma * z) for z in (law.low, law.high))


@compiled
def _uniform(
    key: jax.Array,
    minval: jax.Array,
    maxval: jax.Array,
    *,
    shape: _checks.Shape,
    dtype: np.dtype,
) -> jax.Array:
    low, high = (_bound(b, shape, dtype) for b in (minval, maxval))
    x = jnp.maximum(low, between(key, shape, low, high))
    return _narrowed(x, dtype, low, high, open_low=False)


@compiled
def _truncated(
    key: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    shape: _checks.Shape,
    dtype: np.dtype,
) -> jax.Array:
    wide = real_dtype(dtype)
    low, high = (_bound(b, shape, dtype) for b in (lower, upper))
    x = unit_truncated(key, low, high, shape, wide, math.inf)
    return _narrowed(x, dtype, low, high, open_low=True)


def _narrowed(
    x: jax.Array,
    dtype: np.dtype,
    low: jax.Array,
    high: jax.Array,
    *,
    open_low: bool,
) -> jax.Array:
    """Round to a narrow dtype inside [low, high), or (low, high)."""
    if not is_narrow(dtype):
        return x
    # A negative scale has swapped the ends.
    low, high = jnp.minimum(low, high), jnp.maximum(low, high)
    return round_inside(x, dtype, low, high, open_low=open_low)


def _bound(bound: jax.Array, shape: _checks.Shape, dtype: np.dtype) -> jax.Array:
    """A user's bound: a number of the dtype asked for, as in `jax.random`."""
    bound = jnp.asarray(bound).astype(dtype).astype(real_dtype(dtype))
    return jnp.broadcast_to(bound, shape) if bound.ndim else bound
