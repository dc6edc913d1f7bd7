"""One program for each law draws arrays of every shape, a chunk at a time.

A program fills a buffer with the entries from a given number on, in a loop over blocks,
so that a small array takes a short time. The buffer is copied, as an array or into one,
and used again. Programs run in threads, each with its buffers.
"""

import contextlib
import math
import threading
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._core import checks
from .._core.identity import keep
from .._core.programs import WIDE, may_choose_options
from .._network import jaxpr
from . import memory
from .entries import replayed
from .units import ProgramUnit

# A block stays in the nearest cache of a core, and a chunk in the next one.
BLOCK = 1 << 11
CHUNK = 1 << 18
# A thread draws at most so many entries at once; a larger array is drawn by several.
PIECE = 1 << 22


def available() -> bool:
    """Tell whether arrays may be drawn in chunks now, on this backend."""
    device: Any = checks.flag("jax_default_device")
    platform = getattr(device, "platform", device) or jax.default_backend()
    # The check for nan looks at the results of programs, and here these are buffers.
    checked = checks.flag("jax_debug_nans") or checks.flag("jax_debug_infs")
    partitionable = checks.flag("jax_threefry_partitionable")
    # Programs that XLA does not optimize have bits that depend on the shape.
    quick = jax.config.read("jax_disable_most_optimizations")
    # Inside `jax.set_mesh` a program puts its results on all devices of the mesh.
    alone = jax.sharding.get_mesh().empty and not (checked or quick)
    return platform == "cpu" and bool(partitionable) and alone


class Chunked:
    """A chunked program draws all arrays of one law and one dtype."""

    def __init__(self, unit: ProgramUnit, bound: float) -> None:
        self._unit = unit
        self._bound = bound
        (kind,) = unit.write_types()
        self.dtype = np.dtype(kind.dtype)
        # A chunk begins behind these entries of its buffer (see memory.py).
        self._lead = memory.lead(self.dtype)
        self._executable: Future[Any] | None = None

    def start(self, pool: Executor) -> None:
        """Compile in the background; lowering needs this thread and its settings."""
        if self._executable is not None:
            return
        types = [
            jax.ShapeDtypeStruct((CHUNK + self._lead,), self.dtype),
            jax.ShapeDtypeStruct((), np.int32),
            jax.ShapeDtypeStruct((2,), np.uint32),
            *map(jaxpr.raw_type, self._unit.read_types()),
        ]
        lowered = jax.jit(self._filled, donate_argnums=0).lower(*types)
        wide = self.dtype.itemsize >= 4 and may_choose_options()
        options: Any = WIDE if wide else None
        self._executable = pool.submit(lowered.compile, options)

    def _filled(self, buffer: Any, blocks: Any, *values: Any) -> Any:
        """Fill the first blocks of a buffer."""

        def fill(i: Any, buffer: Any) -> Any:
            # XLA would move what does not depend on i out of the loop, number by
            # number, and take twice as long to compile. It does not know that i is
            # never negative.
            none = [jnp.zeros_like(x) for x in values]
            first, *operands = (
                lax.select(jnp.broadcast_to(i < 0, x.shape), zero, x)
                for x, zero in zip(values, none, strict=True)
            )
            block = self._block(first, i, operands)
            start = i * np.int32(BLOCK) + np.int32(self._lead)
            return lax.dynamic_update_slice(buffer, block, (start,))

        return lax.fori_loop(np.int32(0), blocks, fill, buffer)

    def _block(self, first: Any, i: Any, values: Sequence[Any]) -> jax.Array:
        """Draw the entries of block i behind the entry with the number `first`."""
        operands = list(map(jaxpr.typed, values, self._unit.read_types()))
        start = lax.convert_element_type(i, np.uint32) * np.uint32(BLOCK)
        # `first` is a multiple of a chunk, so its low word never carries.
        low = lax.iota(np.uint32, BLOCK) + (first[1] + start)
        numbers = jnp.broadcast_to(first[0], low.shape), low
        return replayed(self._unit, operands, numbers, self._bound)

    def array(
        self, shape: tuple[int, ...], operands: Sequence[Any], buffers: "Buffers"
    ) -> jax.Array:
        """Draw an array of at most a chunk."""
        chunk = self._chunk(0, math.prod(shape), operands, buffers)
        (array,) = memory.copied([chunk.reshape(shape)])
        return array

    def fill(
        self,
        array: jax.Array,
        numbers: range,
        operands: Sequence[Any],
        buffers: "Buffers",
    ) -> None:
        """Draw the entries with some numbers of an array that nobody else has."""
        entries = memory.memory_of(array, 0, array.size)
        for start in numbers[::CHUNK]:
            count = min(CHUNK, numbers.stop - start)
            chunk = self._chunk(start, count, operands, buffers)
            entries[start : start + count] = chunk

    def _chunk(
        self,
        start: int,
        count: int,
        operands: Sequence[Any],
        buffers: "Buffers",
    ) -> np.ndarray:
        """Return a view of a buffer, which the next chunk overwrites."""
        assert self._executable is not None
        executable = self._executable.result()
        blocks, first = np.int32(-(-count // BLOCK)), words_of(start)
        buffer = buffers.take(self.dtype, CHUNK + self._lead)
        buffer = executable(buffer, blocks, first, *operands)
        buffers.put(buffer)
        return memory.memory_of(buffer, self._lead, count)


def words_of(number: int) -> np.ndarray:
    """Return a number of 64 bits as its (high, low) words."""
    return np.array([number >> 32, number & 0xFFFFFFFF], np.uint32)


class Draw:
    """A draw is a program unit whose array comes in chunks; it runs in threads."""

    def __init__(self, unit: ProgramUnit, program: Chunked) -> None:
        (kind,) = unit.write_types()
        self.program = program
        self._shape: tuple[int, ...] = kind.shape

    def submit(
        self, pool: Executor, operands: Sequence[Any], buffers: "Buffers"
    ) -> "Pending":
        """Let the threads of a pool draw the array; a large one in several pieces."""
        every = range(math.prod(self._shape))
        if len(every) <= PIECE:
            return Pending(pool.submit(self._whole, every, operands, buffers), [])
        array = pool.submit(self._new, buffers)
        starts = every[::PIECE]
        pieces = [every[start : start + PIECE] for start in starts]
        # A pool begins its tasks in order, so no piece waits for an array that is
        # behind it in the queue.
        tasks = [
            pool.submit(self._piece, array, part, operands, buffers) for part in pieces
        ]
        return Pending(array, tasks)

    def _new(self, buffers: "Buffers") -> jax.Array:
        with buffers.settings():
            return buffers.new(self._shape, self.program.dtype)

    def _whole(
        self, every: range, operands: Sequence[Any], buffers: "Buffers"
    ) -> jax.Array:
        with buffers.settings():
            if len(every) <= CHUNK:
                return self.program.array(self._shape, operands, buffers)
            array = buffers.new(self._shape, self.program.dtype)
            self.program.fill(array, every, operands, buffers)
            return array

    def _piece(
        self, array: Any, part: range, operands: Sequence[Any], buffers: "Buffers"
    ) -> None:
        with buffers.settings():
            self.program.fill(array.result(), part, operands, buffers)


class Pending(NamedTuple):
    """A Pending is an array that threads draw."""

    array: "Future[jax.Array]"
    pieces: "list[Future[None]]"

    def result(self) -> jax.Array:
        """Wait until the array is drawn, and return it."""
        for piece in self.pieces:
            piece.result()
        return self.array.result()


_PROGRAMS: dict[Hashable, Chunked] = {}
_MOST_PROGRAMS = 1024


def program(unit: ProgramUnit, bound: float, key: Hashable) -> Chunked:
    """Return the program of a law, which arrays of all shapes share."""
    known = _PROGRAMS.get(key)
    if known is None:
        known = Chunked(unit, bound)
        keep(_PROGRAMS, key, known, _MOST_PROGRAMS)
    return known


class Buffers:
    """Each thread of one call has a buffer for each dtype, and the call's settings.

    No array of the call is larger than `largest` bytes.
    """

    def __init__(self, largest: int) -> None:
        self._local = threading.local()
        self._zeros = memory.zeros(max(largest, CHUNK * 8 + 64))
        self._x64 = bool(checks.flag("jax_enable_x64"))
        self._device = checks.flag("jax_default_device")

    @contextlib.contextmanager
    def settings(self) -> Iterator[None]:
        """Give this thread the settings of the thread that has made the call."""
        with jax.enable_x64(self._x64), jax.default_device(self._device):
            yield

    def new(self, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        """Return an array that nobody else has, and whose memory is JAX's."""
        zeros = memory.unaligned(self._zeros, math.prod(shape), dtype)
        (array,) = memory.copied([zeros.reshape(shape)])
        return array

    def take(self, dtype: np.dtype, size: int) -> jax.Array:
        """Return the thread's buffer of a dtype, which then belongs to the caller."""
        buffer: jax.Array | None = self._free().pop(dtype, None)
        return self.new((size,), dtype) if buffer is None else buffer

    def put(self, buffer: jax.Array) -> None:
        """Return a buffer to the thread."""
        self._free()[buffer.dtype] = buffer

    def _free(self) -> dict[np.dtype, jax.Array]:
        free: dict[np.dtype, jax.Array] = self._local.__dict__.setdefault("free", {})
        return free
