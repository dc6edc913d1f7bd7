"""Random bits that a long computation reads are drawn in a loop of their own.

XLA fuses the rounds of threefry with all that is done to the bits. Two chains of
operations, one after the other, are too long for a processor to overlap an iteration of
the loop with the next one, so it mostly waits. Two loops, with the bits in memory
between them, take half to three quarters of the time. The first loop stores halves of
words: LLVM fills its vectors by the type that is stored, and so it draws two vectors of
words at a time.

XLA would fuse the two loops again. It leaves a case of a conditional alone while it
does not know the predicate, and an optimization barrier hides that the predicate is
true.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Two loops win between these numbers of words. Fewer words take microseconds anyway,
# and for more words the system needs as long to provide the memory as to draw them.
_FEWEST, _MOST = 1 << 14, 1 << 22

Draw = Callable[..., jax.Array]


def drawn_apart(draw: Draw, key: tuple[jax.Array, ...], size: int) -> jax.Array:
    """Return `draw(*key)`, `size` words of 32 bits, on CPUs by a loop of their own.

    The memory for the words is as large as the result, and at most 16 MiB.
    """
    if not _FEWEST <= size <= _MOST:
        return draw(*key)
    # JAX remembers the trace of a jitted function, so the rounds are traced once.
    draw = jax.jit(draw)
    words: jax.Array = lax.platform_dependent(
        *key, cpu=_apart(draw, size), default=draw
    )
    return words


def _apart(draw: Draw, size: int) -> Draw:
    """Return a function that draws the same words behind a conditional."""

    @jax.custom_batching.custom_vmap
    def drawn(*key: jax.Array) -> jax.Array:
        is_true = lax.optimization_barrier(jnp.bool_(True))
        branches = (functools.partial(f, draw) for f in (_halves, _zeros))
        halves = lax.cond(is_true, *branches, *key)
        words: jax.Array = lax.bitcast_convert_type(halves, np.uint32)
        return words

    @drawn.def_vmap
    def _(
        number: int, is_batched: list[bool], *key: jax.Array
    ) -> tuple[jax.Array, bool]:
        batch = jax.vmap(draw, [0 if mapped else None for mapped in is_batched])
        total = number * size
        return (_apart(batch, total) if total <= _MOST else batch)(*key), True

    return drawn


def _halves(draw: Draw, *key: jax.Array) -> jax.Array:
    halves: jax.Array = lax.bitcast_convert_type(draw(*key), np.uint16)
    return halves


def _zeros(draw: Draw, *key: jax.Array) -> jax.Array:
    """Return zeros of the same type, which on a mesh says where the entries lie."""
    return _halves(draw, *key) & np.uint16(0)
