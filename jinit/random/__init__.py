"""The functions of this module draw the bits of `jax.random`, fused into one loop.

The functions have the signatures of their namesakes in `jax.random`, and in float32 and
float64 their values, bit for bit. They differ in two things: on a CPU they are several
times faster, and in 16 and 8 bits they draw in float32 and round once, where
`jax.random` draws from the few values of the narrow type. A key that is not threefry,
JAX's default, takes its bits from `jax.random` and keeps the rest.
"""

from .._core.names import publish
from ._samplers import bits, normal, truncated_normal, uniform

__all__ = ["bits", "normal", "truncated_normal", "uniform"]
__dir__ = __all__.copy  # for `dir`, which would show the imports too
publish(__name__, *map(globals().get, __all__))
