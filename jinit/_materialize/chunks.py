"""One program for each law draws arrays of every shape, a chunk at a time.

A program fills a buffer with the entries from a given number on, in a loop over blocks,
so that a small array takes a short time. The buffer is copied into the array and used
again. Programs run in threads, each with its buffers.
"""

import ctypes
import math
import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._core import checks
from .._core.identity import keep
from .._core.programs import WIDE, may_choose_options
from .._network import jaxpr
from .entries import replayed
from .flat import Flat
from .units import ProgramUnit

# A block stays in the nearest cache, and a buffer in the last one.
BLOCK = 1 << 11
CHUNK = 1 << 20
# A larger array is worth a program that draws it in its place, without a copy.
MOST = 1 << 22


def available() -> bool:
    """Tell whether arrays may be drawn in chunks now, on this backend."""
    device: Any = checks.flag("jax_default_device")
    platform = getattr(device, "platform", device) or jax.default_backend()
    # The check for nan looks at the results of programs, and here these are buffers.
    checked = checks.flag("jax_debug_nans") or checks.flag("jax_debug_infs")
    partitionable = checks.flag("jax_threefry_partitionable")
    return platform == "cpu" and bool(partitionable) and not checked


class Chunked:
    """A chunked program draws all arrays of one law and one dtype."""

    def __init__(self, unit: ProgramUnit, bound: float) -> None:
        self._unit = unit
        self._bound = bound
        (kind,) = unit.write_types()
        self.dtype = np.dtype(kind.dtype)
        self._executable: Future[Any] | None = None

    def start(self, pool: Executor) -> None:
        """Compile in the background; lowering needs this thread and its settings."""
        if self._executable is not None:
            return
        words, number = (2,), ()
        types = [
            jax.ShapeDtypeStruct((CHUNK,), self.dtype),
            jax.ShapeDtypeStruct(words, np.uint32),
            jax.ShapeDtypeStruct(number, np.int32),
            *map(jaxpr.raw_type, self._unit.read_types()),
        ]
        lowered = jax.jit(self._fill, donate_argnums=0).lower(*types)
        wide = self.dtype.itemsize >= 4 and may_choose_options()
        self._executable = pool.submit(lowered.compile, WIDE if wide else None)

    def _fill(self, buffer: Any, first: Any, blocks: Any, *values: Any) -> Any:
        kinds = self._unit.read_types()
        operands = list(map(jaxpr.typed, values, kinds))
        within = lax.iota(np.uint32, BLOCK)

        def fill(i: Any, buffer: Any) -> Any:
            start = lax.convert_element_type(i, np.uint32) * np.uint32(BLOCK)
            low = within + (first[1] + start)
            numbers = jnp.broadcast_to(first[0], low.shape), low
            block = replayed(self._unit, operands, numbers, self._bound)
            at = (i * np.int32(BLOCK),)
            return lax.dynamic_update_slice(buffer, block, at)

        return lax.fori_loop(np.int32(0), blocks, fill, buffer)

    def draw(
        self, shape: tuple[int, ...], operands: Sequence[Any], buffers: "Buffers"
    ) -> jax.Array:
        """Draw an array; its memory is JAX's, so that a caller can donate it."""
        assert self._executable is not None
        executable, size = self._executable.result(), math.prod(shape)
        if size <= CHUNK:
            chunk = self._chunk(executable, 0, size, operands, buffers)
            return jnp.array(chunk.reshape(shape), copy=True)
        whole = np.empty(size, self.dtype)
        for start in range(0, size, CHUNK):
            count = min(CHUNK, size - start)
            whole[start : start + count] = self._chunk(
                executable, start, count, operands, buffers
            )
        return jnp.array(whole.reshape(shape), copy=True)

    def _chunk(
        self,
        executable: Any,
        start: int,
        count: int,
        operands: Sequence[Any],
        buffers: "Buffers",
    ) -> np.ndarray:
        """Return a view of a buffer, which the next chunk overwrites."""
        first, blocks = words_of(start), np.int32(-(-count // BLOCK))
        buffer = executable(buffers.take(self.dtype), first, blocks, *operands)
        buffers.put(buffer)
        # NumPy's view of an array would keep the array from being donated.
        address = buffer.block_until_ready().unsafe_buffer_pointer()
        memory = (ctypes.c_char * (count * self.dtype.itemsize)).from_address(address)
        return np.frombuffer(memory, self.dtype)


class Draw:
    """A draw is a unit whose array comes in chunks; it runs in a thread."""

    def __init__(self, unit: ProgramUnit, program: Chunked, buffers: "Buffers") -> None:
        (kind,) = unit.write_types()
        self._shape, self._buffers = kind.shape, buffers
        self.program = program

    def start(self, pool: Executor) -> None:
        """Compile the program in the background, unless it is compiled."""
        self.program.start(pool)

    def __call__(self, *operands: Any) -> list[jax.Array]:
        return [self.program.draw(self._shape, operands, self._buffers)]


_PROGRAMS: dict[Hashable, Chunked] = {}
_MOST_PROGRAMS = 1024


def program(unit: ProgramUnit, bound: float, key: Hashable) -> Chunked:
    """Return the program of a law, which arrays of all shapes share."""
    if key not in _PROGRAMS:
        keep(_PROGRAMS, key, Chunked(unit, bound), _MOST_PROGRAMS)
    return _PROGRAMS[key]


def words_of(number: int) -> np.ndarray:
    """Return a number of 64 bits as its (high, low) words."""
    return np.array([number >> 32, number & 0xFFFFFFFF], np.uint32)


class Buffers(threading.local):
    """Each thread has a buffer for each dtype."""

    def __init__(self) -> None:
        self._free: dict[np.dtype, jax.Array] = {}

    def take(self, dtype: np.dtype) -> jax.Array:
        buffer = self._free.pop(dtype, None)
        return jnp.zeros(CHUNK, dtype) if buffer is None else buffer

    def put(self, buffer: jax.Array) -> None:
        self._free[buffer.dtype] = buffer
