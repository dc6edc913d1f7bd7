"""`sweep` runs a function of a key for many seeds, in one compiled program."""

import functools
import math
import os
import weakref
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ._core import checks
from ._core.identity import ById, identity, keep
from ._core.snapshot import Snapshot, snapshot
from ._core.terminal import track

# The share of a device's memory that a chunk may take. The user needs the rest.
_SHARE = 0.5


def sweep(
    fn: Callable[[jax.Array], Any],
    key: jax.Array,
    num: int,
    *,
    batch_size: int | None = None,
    devices: Any = None,
    progress: bool = True,
) -> Any:
    """Run a function for many seeds: vmapped, in chunks, on all devices.

    Seed i has the key `jax.random.split(key, num)[i]`, so that a shorter sweep is the
    beginning of a longer one. The results are those of `jax.vmap(fn)` over these keys.
    The numbers that a seed draws depend on neither chunks nor devices. Its results may
    differ by the rounding of a product whose loop has another length. All chunks run
    one compiled program; the last chunk is filled up with seeds that are thrown away.

    Args:
      fn: a function of one key that returns a tree of arrays. It must be traceable, as
        under `jit`, and may draw, train and measure.
      key: the root key.
      num: the number of seeds, at least 1.
      batch_size: the number of seeds that run at once, on all devices together; by
        default as many as half of a device's memory holds, by XLA's own estimate.
      devices: a mesh, or a list of devices, over which the seeds are spread; by default
        all devices of this process.
      progress: whether to show a progress bar over the chunks, on a terminal.

    Returns:
      The tree of results, each with a first axis of length `num`.

    Raises:
      TypeError: if `fn` is not callable, or `key` is not a key.
      ValueError: if `num` or `batch_size` is below 1, or `devices` is empty.

    Example:
      >>> import jax, jax.numpy as jnp, jinit, numpy as np
      >>> std = lambda key: jnp.std(jinit.he()(key, (8, 64)))
      >>> stds = jinit.sweep(std, jax.random.key(0), 5)
      >>> stds.shape
      (5,)
      >>> more = jinit.sweep(std, jax.random.key(0), 9)
      >>> np.allclose(stds, more[:5])
      True
    """
    if not callable(fn):
        raise TypeError(
            f"`fn` is {fn!r}, of type {type(fn).__name__}; it must be a function of a "
            "key."
        )
    checks.key(key)
    num = checks.count("num", checks.integer("num", num)) or 1
    used = _devices(devices)[:num]
    programs = _programs(fn, used)
    size = _size(programs, key, num, checks.count("batch_size", batch_size))
    if size >= num:
        return _cut(programs.whole(num)(key), num)
    keys = jax.random.split(key, num)
    chunks = [
        # Without the wait JAX would queue all chunks at once, and the bar would show
        # what is queued, not what is done.
        jax.block_until_ready(programs.chunk(_filled(keys[start : start + size], size)))
        for start in track(range(0, num, size), "sweep", show=progress)
    ]
    return _cut(jax.tree.map(lambda *parts: jnp.concatenate(parts), *chunks), num)


def _cut(results: Any, num: int) -> Any:
    """Return the results without those of the seeds that filled up the last chunk."""
    # To slice an array whole would be a program for each leaf.
    return jax.tree.map(lambda x: x if len(x) == num else x[:num], results)


class _Programs:
    """The programs of a function: one for all seeds at once, one for a chunk of keys.

    The first one splits the key, so that a sweep that fits into memory is one call.
    """

    def __init__(self, function: Callable[[], Any], devices: tuple[Any, ...]) -> None:
        self.devices = devices
        self._run = jax.vmap(lambda key: function()(key))
        self.chunk = _jitted(self._run, devices)
        self._whole: dict[Hashable, Any] = {}
        self._needed: dict[Hashable, int] = {}

    def whole(self, num: int) -> Any:
        """Return the program from the root key to the results of all seeds."""
        program = self._whole.get(num)
        if program is None:
            size = _rounded(num, len(self.devices))
            split = functools.partial(jax.random.split, num=num)
            program = _jitted(
                self._run, self.devices, lambda k: _filled(split(k), size)
            )
            keep(self._whole, num, program, _MOST_PROGRAMS)
        return program

    def bytes(self, num: int, key: Any) -> int:
        """Return the bytes that all seeds at once would take on a device, by XLA."""
        # XLA takes milliseconds to count them. `jax.typeof` of a typed key takes 20
        # microseconds, which a sweep of a small function would notice.
        kind = num, key.shape, key.dtype
        if kind not in self._needed:
            memory = self.whole(num).lower(key).compile().memory_analysis()
            sizes = memory and (memory.temp_size_in_bytes, memory.output_size_in_bytes)
            keep(self._needed, kind, int(sum(sizes or ())), _MOST_PROGRAMS)
        return self._needed[kind]


# The programs of each function. They hold the data that the function closes over, so
# they refer to the function weakly and are dropped with it.
_PROGRAMS: dict[Hashable, dict[Hashable, Any]] = {}
_MOST_PROGRAMS = 8


def _programs(fn: Callable[..., Any], devices: tuple[Any, ...]) -> _Programs:
    """Return the programs from keys to results, kept for a function and devices."""
    try:
        function = weakref.ref(fn)
    except TypeError:
        return _Programs(lambda: fn, devices)
    name = ById(fn)
    if name not in _PROGRAMS:
        _PROGRAMS[name] = {}
        weakref.finalize(fn, _PROGRAMS.pop, name, None)
    # The function is the same object, but the values that it closes over may change.
    stored = _PROGRAMS[name]
    latest: _Latest | None = stored.get(_LATEST)
    if latest and latest.devices == devices and latest.snapshot.is_of(fn):
        return latest.programs
    key = identity(fn), devices
    programs: _Programs | None = stored.get(key)
    if programs is None:
        programs = _Programs(function, devices)
        keep(stored, key, programs, _MOST_PROGRAMS)
    look = snapshot(fn)
    if look is not None:
        stored[_LATEST] = _Latest(look, devices, programs)
    return programs


class _Latest(NamedTuple):
    """The latest programs of a function, and how the function looked then."""

    snapshot: Snapshot
    devices: tuple[Any, ...]
    programs: _Programs


_LATEST = "latest"


def _jitted(
    run: Callable[..., Any],
    devices: tuple[Any, ...],
    keys_of: Callable[[Any], Any] | None = None,
) -> Any:
    """Compile a function of keys, or of what `keys_of` makes keys of, for devices."""
    if len(devices) == 1:
        place: Any = jax.sharding.SingleDeviceSharding(devices[0])
        source = place
    else:
        mesh = Mesh(devices, ("seeds",))
        place = NamedSharding(mesh, P("seeds"))
        source = place if keys_of is None else NamedSharding(mesh, P())
        # Seeds are independent, so each device runs its part without communication.
        # With the check of varying axes (`check_vma`) a user's scan that begins with
        # zeros, and so with a carry that no seed varies, would be an error.
        run = jax.shard_map(
            run, mesh=mesh, in_specs=P("seeds"), out_specs=P("seeds"), check_vma=False
        )

    def swept(operand: Any) -> Any:
        return run(operand if keys_of is None else _apart(keys_of(operand)))

    return jax.jit(swept, in_shardings=source, out_shardings=place)


def _apart(keys: Any) -> Any:
    """Keep the split of a key out of the loops that draw with its results."""
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        return jax.lax.optimization_barrier(keys)
    # JAX's checker of key reuse takes a barrier for a use of the keys, not of words.
    words = jax.lax.optimization_barrier(jax.random.key_data(keys))
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(keys))


def _devices(devices: Any) -> tuple[Any, ...]:
    if devices is None:
        return tuple(jax.local_devices())
    if isinstance(devices, Mesh):
        return tuple(devices.devices.flat)
    several = tuple(devices) if isinstance(devices, (list, tuple)) else ()
    if not several or not all(isinstance(device, jax.Device) for device in several):
        raise ValueError(
            f"`devices` is {devices!r}; it must be a mesh or a list of devices, such "
            "as jax.devices()."
        )
    return several


def _size(programs: _Programs, key: Any, num: int, batch_size: int | None) -> int:
    """Return the number of seeds in a chunk, a multiple of the number of devices."""
    most = batch_size or num
    if batch_size is None:
        # XLA knows the memory of a program before it runs, so no attempt has to fail.
        needed = programs.bytes(num, key)
        free = _memory()
        if needed and free:
            most = max(1, math.floor(num * min(1.0, _SHARE * free / needed)))
    # Chunks of one size: of 10 seeds with at most 6 at once each chunk has 5, not 6, so
    # fewer seeds of the last one are thrown away.
    chunks = -(-num // most)
    return _rounded(-(-num // chunks), len(programs.devices))


def _rounded(num: int, devices: int) -> int:
    """Return a number of seeds, rounded up to a multiple of the number of devices."""
    return -(-num // devices) * devices


def _memory() -> int:
    """Return the free bytes of a device, or of the machine; 0 if they are unknown."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    try:
        pages = os.sysconf("SC_AVPHYS_PAGES")
        return int(pages * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return 0


def _filled(keys: Any, size: int) -> Any:
    """Return keys, followed by the first key until there are `size` keys."""
    missing = size - len(keys)
    if not missing:
        return keys
    # The keys are cloned, so that JAX's checker lets the first seed run again.
    again = jnp.repeat(jax.random.clone(keys)[:1], missing, axis=0)
    return jnp.concatenate([jax.random.clone(keys), again])
