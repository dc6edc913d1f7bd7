"""The far tail of the normal law is drawn by the excess of a value over a bound.

In the tail erf is 1 up to a few last digits, so that its inverse would give only a few
values. The excess e over the bound a keeps its digits. Its survival function is

  S(a + e) / S(a) = exp(-a e - e^2 / 2) h(a) / h(a + e),

where h is the hazard rate phi / S, which is nearly linear.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.checks import Shape
from ._standard import between

# From here on erf leaves fewer than 50,000 values, in float32 and in float64.
_NEAREST = {np.dtype(np.float32): 3.0, np.dtype(np.float64): 7.0}
# With so many terms of the continued fraction, and so many of Newton's steps, rounding
# is the only error.
_TERMS, _STEPS = 16, 3
# exp(-40) is less than a float64 shows.
_DECAYED = 40.0


def is_tail(low: float, high: float, dtype: np.dtype) -> bool:
    """Tell whether (low, high) lies so far out that erf cannot tell its values."""
    nearest = low if low > 0 else -high
    return nearest > _NEAREST[dtype]


def hazard(x: Any) -> Any:
    """Return phi(x) / S(x) for x >= 3: x + 1/(x + 2/(x + 3/(x + ...))), by Laplace."""
    rate = x
    for term in range(_TERMS, 0, -1):
        rate = x + term / rate
    return rate


def excess(
    key: jax.Array, shape: Shape, low: float, high: float, dtype: np.dtype
) -> jax.Array:
    """Draw z - low for z standard normal on (low, high), low positive and far out."""
    u = between(key, shape, dtype.type(0), dtype.type(1))
    # t = -log of the survival function, from 0 at low to that at high.
    t = -jnp.log1p(u * dtype.type(math.expm1(-_cost(low, high - low))))
    a, rate = dtype.type(low), dtype.type(hazard(low))
    # The root without the hazards is too large, and Newton's steps descend to it.
    e = 2 * t / (a + jnp.sqrt(a * a + 2 * t))
    for _ in range(_STEPS):
        here = hazard(a + e)
        e = e - (e * (a + e / 2) + jnp.log(here / rate) - t) / here
    return jnp.clip(e, np.finfo(dtype).tiny, dtype.type(high - low))


def std(low: float, high: float) -> float:
    """Return the standard deviation of N(0, 1) restricted to (low, high), low > 0.

    It is integrated over the excess, whose density is exp(-low e - e^2 / 2), since the
    closed form is a small difference of large numbers.
    """
    reach = 2 * _DECAYED / (low + math.sqrt(low * low + 2 * _DECAYED))
    nodes, weights = np.polynomial.legendre.leggauss(64)
    e = min(high - low, reach) * (1 + nodes) / 2
    density = weights * np.exp(-e * (low + e / 2))
    mean = np.sum(density * e) / np.sum(density)
    return float(np.sqrt(np.sum(density * (e - mean) ** 2) / np.sum(density)))


def _cost(low: float, e: float) -> float:
    """Return -log(S(low + e) / S(low))."""
    if math.isinf(e):
        return math.inf
    return e * (low + e / 2) + math.log(hazard(low + e) / hazard(low))
