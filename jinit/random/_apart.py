"""Random bits that a long computation reads are drawn in a loop of their own.

XLA fuses the rounds of threefry with all that is done to the bits. Two chains of
operations, one after the other, are too long for a processor to overlap an iteration of
the loop with the next one, so it mostly waits. Two loops, with the bits in memory
between them, take half to three quarters of the time. XLA would fuse the two loops
again. It leaves a case of a conditional alone while it does not know the predicate, and
an optimization barrier hides that the predicate is true.

Between the loops a word is two halves of 16 bits, since LLVM chooses the length of its
vectors by the types in memory. In the first loop the type that is stored makes it draw
16 words at a time, in one register of 512 bits where the processor has them, although
XLA asks for 256. In the second loop the type that is loaded does so, if the loop also
calls a function that LLVM has vectors of. So it calls a logarithm that changes nothing.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._core.programs import LARGE, prefers_wide

# Two loops win between these numbers of words. Fewer words take microseconds anyway,
# and for more words the system needs as long to provide the memory as to draw them.
_FEWEST, _MOST = LARGE, 1 << 22

Draw = Callable[..., jax.Array]


def drawn_apart(
    draw: Draw, key: tuple[jax.Array, ...], size: int, number: int, *, long: bool
) -> jax.Array:
    """Return the upper bits of `size` words of 32 bits, on CPUs by a separate loop.

    The memory for the words is as large as the result, and at most 16 MiB.

    Args:
      draw: a function of the key that returns the words.
      key: its arguments.
      size: the number of words.
      number: the number of bits that are kept of each word, 16 to 32.
      long: whether a long computation reads the bits.
    """

    def fused(*key: jax.Array) -> jax.Array:
        return draw(*key) >> np.uint32(32 - number)

    # With 512 bits preferred one loop is faster, unless it is long.
    one_loop = prefers_wide() and not long
    if one_loop or not _FEWEST <= size <= _MOST:
        return fused(*key)
    # JAX remembers the trace of a jitted function, so the rounds are traced once.
    draw = jax.jit(draw)
    # With 512 bits preferred the logarithm would make pairs of such vectors, which are
    # slower.
    join = _as_words if prefers_wide() else _joined
    words: jax.Array = lax.platform_dependent(
        *key, cpu=lambda *key: join(_apart(draw, size)(*key), number), default=fused
    )
    return words


def _as_words(halves: jax.Array, number: int) -> jax.Array:
    """Return the upper bits of words that come in halves, by loads of whole words."""
    words = lax.bitcast_convert_type(halves, np.uint32)
    return words >> np.uint32(32 - number)


def _joined(halves: jax.Array, number: int) -> jax.Array:
    """Return the upper bits of words that come in halves, the lower half first.

    LLVM would load a word as a whole if it were put together before the bits are
    dropped, and make shorter vectors.
    """
    low, high = (halves[..., i].astype(np.uint32) for i in (0, 1))
    dropped = 32 - number
    kept = (high << np.uint32(16 - dropped)) | (low >> np.uint32(dropped))
    # Of two successive numbers one is even. Neither XLA nor LLVM knows that this is 0,
    # so they keep the question, and the words are right even where a program without
    # NaN (`--xla_cpu_fast_math_honor_nans=false`) answers it with False.
    zero = (kept * (kept + np.uint32(1))) & np.uint32(1)
    return kept | jnp.where(_is_true(kept), np.uint32(0), zero)


@jax.custom_batching.custom_vmap
def _is_true(words: jax.Array) -> jax.Array:
    """Return True for each word, by a logarithm whose vectors cost nothing.

    The logarithm of a number from -2 to -1 is NaN. LLVM finds that out only after it
    has made the vectors, and then the comparison and the logarithm disappear. Neither
    `jax.debug_nans` nor checkify shall see the NaN; checkify looks into no function
    that has a rule of its own for `vmap`.
    """
    negative = lax.bitcast_convert_type(
        (words & np.uint32(0x7FFFFF)) | np.uint32(0xBF800000), np.float32
    )
    with jax.debug_nans(False):
        return jnp.isnan(lax.log(negative))


@_is_true.def_vmap
def _(number: int, is_batched: list[bool], words: jax.Array) -> tuple[jax.Array, bool]:
    del number
    return _is_true(words), is_batched[0]


def _apart(draw: Draw, size: int) -> Draw:
    """Return a function that draws the halves of the same words in a conditional."""

    @jax.custom_batching.custom_vmap
    def drawn(*key: jax.Array) -> jax.Array:
        is_true = lax.optimization_barrier(jnp.bool_(True))
        branches = (functools.partial(f, draw) for f in (_halves, _zeros))
        halves: jax.Array = lax.cond(is_true, *branches, *key)
        return halves

    @drawn.def_vmap
    def _(
        number: int, is_batched: list[bool], *key: jax.Array
    ) -> tuple[jax.Array, bool]:
        batch = jax.vmap(draw, [0 if mapped else None for mapped in is_batched])
        total = number * size
        halves = (
            _apart(batch, total)
            if total <= _MOST
            else functools.partial(_halves, batch)
        )
        return halves(*key), True

    return drawn


def _halves(draw: Draw, *key: jax.Array) -> jax.Array:
    halves: jax.Array = lax.bitcast_convert_type(draw(*key), np.uint16)
    return halves


def _zeros(draw: Draw, *key: jax.Array) -> jax.Array:
    """Return zeros of the same type, which on a mesh says where the entries lie."""
    return _halves(draw, *key) & np.uint16(0)
