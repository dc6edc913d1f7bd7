"""This file draws the random bits of `jax.random`, in one fused loop.

JAX lowers threefry on a CPU to loops over whole arrays, each of which reads and writes
memory. The same twenty rounds, written out over an iota, are elementwise operations, so
XLA fuses them with whatever is done to the bits, and only the result is ever written.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._core import checks
from .._core.erf_inv import depends_on_loop
from ._apart import drawn_apart

# Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_WORD = 0xFFFFFFFF

Words = tuple[jax.Array, jax.Array]


def bits(key: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """Draw words of 8, 16, 32 or 64 random bits, equal to `jax.random.bits`."""
    words = _fusible_words(key, shape, width)
    if words is None:
        return jax.random.bits(key, shape, np.dtype(f"uint{width}"))
    return bits_at(words, counters(shape), width)


def upper_bits(
    key: jax.Array, shape: tuple[int, ...], width: int, number: int, *, long: bool
) -> jax.Array:
    """Return the upper `number` bits of each word of `bits`, moved to its lower end.

    Of 32 bits they may be drawn in a loop of their own. `long` says that a long
    computation reads them.
    """
    words = _fusible_words(key, shape, width)
    if words is None or width != 32:
        return bits(key, shape, width) >> (width - number)
    mixed = functools.partial(_mixed, shape=shape)
    return drawn_apart(mixed, words, math.prod(shape), number, long=long)


def _fusible_words(key: jax.Array, shape: tuple[int, ...], width: int) -> Words | None:
    """Return the words of a key whose bits are drawn here; None leaves them to JAX."""
    # The stride of a symbolic dimension is no number, and an axis of 2**32 or more has
    # no 32-bit iota; nobody has met one yet.
    is_small = checks.is_static(shape) and max(shape, default=0) <= _WORD
    if not is_small or (width == 64 and not _x64()) or depends_on_loop(shape):
        # For such shapes the rounds of threefry must not share a loop with later
        # operations on the bits, whose rounding would change.
        return None
    return threefry_words(key)


def bits_at(key: Words, counter: Words, width: int) -> jax.Array:
    """Return the random bits of the elements with the flat indices `counter`."""
    dtype = np.dtype(f"uint{width}")
    high, low = threefry2x32(key, counter)
    if width == 64:
        both: jax.Array = (high.astype(dtype) << dtype.type(32)) | low.astype(dtype)
        return both
    return (high ^ low).astype(dtype)


def _mixed(*words: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return bits_at((words[0], words[1]), counters(shape), 32)


def threefry_words(key: jax.Array) -> Words | None:
    """Return the two words of a threefry key; None if the key needs `jax.random`."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        name = str(jax.random.key_impl(key))
    else:
        name = checks.flag("jax_default_prng_impl")
    if name != "threefry2x32" or not checks.flag("jax_threefry_partitionable"):
        return None
    data = jax.random.key_data(spent(key))
    return data[0], data[1]


def spent(key: jax.Array) -> jax.Array:
    """Use a key up, as JAX's checker of key reuse sees it, and return an equal key.

    The checker counts the draws of `jax.random`. It does not see that a key's words are
    read, and `jax.random.fold_in` leaves a key unused. If the checker is off, or does
    not follow the key, the result is the key itself.
    """
    if not checks.flag("jax_debug_key_reuse") or key.dtype == np.uint32:
        return key
    # The result must need the draw: a draw that nothing reads may be dropped unseen.
    used = jax.random.key_data(key), jax.random.bits(key)
    words, _ = lax.optimization_barrier(used)
    equal: jax.Array = jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
    return equal


def threefry2x32(key: Words, counter: Words) -> Words:
    """Encrypt a 64-bit counter with a 64-bit key, in twenty rounds."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(_PARITY))
    # `lax` rather than operators: the rounds are traced for every new shape.
    x0, x1 = lax.add(counter[0], schedule[0]), lax.add(counter[1], schedule[1])
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x0 = lax.add(x0, x1)
            x1 = lax.bitwise_xor(_rotate_left(x1, distance), x0)
        x0 = lax.add(x0, schedule[(group + 1) % 3])
        x1 = lax.add(x1, schedule[(group + 2) % 3] + np.uint32(group + 1))
    return x0, x1


def encrypted(key: tuple[int, int], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Encrypt a counter as `threefry2x32` does, with numbers of Python.

    The words of the counter may be arrays of NumPy of 64-bit words.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0, x1 = counter[0] + schedule[0] & _WORD, counter[1] + schedule[1] & _WORD
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x0 = x0 + x1 & _WORD
            x1 = (x1 << distance | x1 >> 32 - distance) & _WORD ^ x0
        x0 = x0 + schedule[(group + 1) % 3] & _WORD
        x1 = x1 + schedule[(group + 2) % 3] + group + 1 & _WORD
    return x0, x1


def _rotate_left(x: jax.Array, distance: int) -> jax.Array:
    return lax.bitwise_or(
        lax.shift_left(x, np.uint32(distance)),
        lax.shift_right_logical(x, np.uint32(32 - distance)),
    )


def counters(shape: tuple[int, ...]) -> Words:
    """Return the flat index of every element, as (high, low) words."""
    iotas = [lax.broadcasted_iota(np.uint32, shape, axis) for axis in range(len(shape))]
    return flat_index(iotas, shape)


def flat_index(index: Sequence[jax.Array], shape: tuple[int, ...]) -> Words:
    """Sum index times stride in 64 bits, as (high, low) words of 32."""
    high, low = jnp.uint32(0), jnp.uint32(0)
    stride, size = 1, int(np.prod(shape, dtype=object))
    for axis in reversed(range(len(shape))):
        # An array of up to 2**32 elements never carries: the high word is 0.
        if shape[axis] > 1 and size <= _WORD:
            low = low + index[axis] * np.uint32(stride)
        elif shape[axis] > 1:
            add_high, add_low = _times(index[axis], stride)
            low = low + add_low
            high = high + add_high + (low < add_low).astype(np.uint32)
        stride *= shape[axis]
    return high, jnp.broadcast_to(low, jnp.shape(index[0]) if index else ())


def _times(x: jax.Array, factor: int) -> Words:
    """Multiply 32-bit words by a 64-bit factor modulo 2**64, by 32-bit products."""
    low_factor, high_factor = factor & _WORD, (factor >> 32) & _WORD
    x_low, x_high = x & np.uint32(0xFFFF), x >> np.uint32(16)
    f_low, f_high = np.uint32(low_factor & 0xFFFF), np.uint32(low_factor >> 16)
    middle = x_high * f_low + ((x_low * f_low) >> np.uint32(16))
    middle_low = (middle & np.uint32(0xFFFF)) + x_low * f_high
    high = x_high * f_high + (middle >> np.uint32(16)) + (middle_low >> np.uint32(16))
    return high + x * np.uint32(high_factor), x * np.uint32(low_factor)


def _x64() -> bool:
    return bool(checks.flag("jax_enable_x64"))
