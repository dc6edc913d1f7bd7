"""Results get memory that is JAX's, so that a training step may donate them.

JAX takes the memory of a NumPy array as it is, without a copy, if its address is a
multiple of 64. Nobody could donate that memory, and two results would share it. So what
is copied from NumPy to JAX here lies at other addresses.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_ALIGNED = 64
# Vectors of 256 bits are stored faster to a multiple of this number.
_APART = 32


def lead(dtype: np.dtype) -> int:
    """Return the entries that JAX's memory begins with, before an unaligned place."""
    return max(1, _APART // dtype.itemsize)


def unaligned(memory: np.ndarray, size: int, dtype: np.dtype) -> np.ndarray:
    """Return an unaligned array of `size` entries inside some bytes of memory."""
    first = -memory.ctypes.data % _ALIGNED + lead(dtype) * dtype.itemsize
    return memory[first : first + size * dtype.itemsize].view(dtype)


def zeros(largest: int) -> np.ndarray:
    """Return the bytes for an unaligned array of up to `largest` bytes.

    Pages that nobody has written take no memory.
    """
    return np.zeros(largest + 2 * _ALIGNED, np.uint8)


def copied(arrays: Sequence[np.ndarray]) -> list[jax.Array]:
    """Copy unaligned arrays of NumPy into arrays of JAX.

    `jnp.zeros` would compile a program for each shape, and `jnp.array` copies twice.
    The originals may be written again as soon as this function returns.
    """
    copies: list[jax.Array] = jax.device_put(list(arrays))
    return [
        jnp.array(x, copy=True) if _is_shared(copy, x) else copy
        for copy, x in zip(copies, arrays, strict=True)
    ]


def _is_shared(copy: jax.Array, original: np.ndarray) -> bool:
    # The wait is for the copy, which JAX may make in a thread.
    address = copy.block_until_ready().unsafe_buffer_pointer()
    return bool(address == original.__array_interface__["data"][0])


def memory_of(array: jax.Array, start: int, count: int) -> np.ndarray:
    """Return a view, to read and to write, of entries of an array that nobody shares.

    NumPy's own view of an array of JAX would keep the array from being donated.
    """
    address = array.block_until_ready().unsafe_buffer_pointer()
    itemsize = array.dtype.itemsize
    memory: Any = (ctypes.c_char * (count * itemsize)).from_address(
        address + start * itemsize
    )
    entries: np.ndarray = np.frombuffer(memory, array.dtype)
    return entries
