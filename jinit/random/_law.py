"""A law is the distribution of an array's entries, and `draw` draws from any law."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._core.dtypes import is_narrow, real_dtype, sqrt2
from .._core.erf_inv import INSIDE, depends_on_loop, erf_inv
from .._core.meshes import Sharding
from .._core.numbers import cast, is_traced
from .._core.programs import compiled
from .._core.rounding import round_finite, round_inside
from ._standard import between, complex_unit, open_unit, unit_truncated
from ._tail import excess, is_tail


@dataclasses.dataclass(frozen=True)
class Law:
    """A Law has scale 1, and is normal, or uniform or truncated normal between bounds.

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
        return self.name == "truncated_normal" and is_traced(
            self.low, self.high, self.mean, self.sigma
        )


def draw(
    law: Law,
    key: jax.Array,
    shape: checks.Shape,
    dtype: np.dtype,
    scale: Any,
    out_sharding: Sharding = None,
) -> jax.Array:
    """Draw `scale` times a law.

    All initializers with a random law draw by this function. The key and the shape are
    checked already. The scale enters as an operand, so that one program serves every
    scale.
    """
    wide = real_dtype(dtype)
    scale = cast(scale, wide)
    settings: dict[str, Any] = {
        "shape": shape,
        "dtype": dtype,
        "out_sharding": out_sharding,
    }
    if law.is_traced:
        numbers = law.low, law.high, law.mean, law.sigma
        operands = (cast(x, wide) for x in numbers)
        return _truncated_of_operands(key, scale, *operands, **settings)
    unlike = law.name != "uniform" and depends_on_loop(shape)
    if unlike and not is_traced(scale):
        # The bits of such shapes also depend on whether the scale is a number in the
        # program. In JAX it is.
        return _scaled_by(key, scale=scale, law=law, **settings)
    return _scaled(key, scale, law=law, **settings)


def scaled(
    key: jax.Array, scale: Any, *, law: Law, shape: checks.Shape, dtype: np.dtype
) -> jax.Array:
    """Draw `scale` times a law, as operations of a larger program."""
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
    return narrowed(x, dtype, low, high, open_low=law.name == "truncated_normal")


_scaled = compiled(scaled)


@compiled
def _scaled_by(
    key: jax.Array,
    *,
    scale: np.floating,
    law: Law,
    shape: checks.Shape,
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
    shape: checks.Shape,
    dtype: np.dtype,
) -> jax.Array:
    """Draw `scale` times mean + sigma z, with z truncated to traced bounds."""
    z = unit_truncated(key, low, high, shape, real_dtype(dtype), math.inf)
    low, high = ((mean + sigma * end) * scale for end in (low, high))
    return narrowed((mean + sigma * z) * scale, dtype, low, high, open_low=True)


def _unit_truncated(
    law: Law, key: jax.Array, shape: checks.Shape, wide: np.dtype
) -> jax.Array:
    """Draw from a truncated normal law with scale 1."""
    low, high = law.low, law.high
    if is_tail(low, high, wide):
        # The excess over the bound is drawn, since it keeps all its digits.
        side, bound = (1, low) if low > 0 else (-1, high)
        e = excess(key, shape, abs(bound), max(abs(low), abs(high)), wide)
        x = wide.type(law.mean + law.sigma * bound) + wide.type(side * law.sigma) * e
    else:
        x = unit_truncated(key, low, high, shape, wide, max(abs(low), abs(high)))
        if law.mean == 0 and law.sigma == 1:
            return x
        x = wide.type(law.mean) + wide.type(law.sigma) * x
    (first, last), inf = _ends(law, wide), wide.type(math.inf)
    # If the ends are equal, or are neighbours, no number lies between them.
    inner = np.nextafter(first, inf), np.nextafter(last, -inf)
    return jnp.clip(x, *(inner if inner[0] <= inner[1] else (first, first)))


def _ends(law: Law, wide: np.dtype) -> tuple[Any, ...]:
    """Return the bounds of a law with scale 1."""
    return tuple(wide.type(law.mean + law.sigma * z) for z in (law.low, law.high))


def narrowed(
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
