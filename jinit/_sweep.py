"""`sweep` runs a function of a key for many seeds, in one compiled program."""

import math
import os
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ._core import checks
from ._core.identity import ById, identity, keep
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
    program = _program(fn, used)
    keys = jax.random.split(key, num)
    size = _size(program, keys, len(used), checks.count("batch_size", batch_size))
    starts = range(0, num, size)
    chunks = [
        # Without the wait JAX would queue all chunks at once, and the bar would show
        # what is queued, not what is done.
        jax.block_until_ready(program(_filled(keys[start : start + size], size)))
        for start in track(starts, "sweep", show=progress and len(starts) > 1)
    ]
    stacked = (
        chunks[0]
        if len(chunks) == 1
        else jax.tree.map(lambda *parts: jnp.concatenate(parts), *chunks)
    )
    return jax.tree.map(lambda leaf: leaf[:num], stacked)


# The programs of each function. They hold the data that the function closes over, so
# they refer to the function weakly and are dropped with it.
_PROGRAMS: dict[Hashable, dict[Hashable, Any]] = {}
_MOST_PROGRAMS = 8


def _program(fn: Callable[..., Any], devices: tuple[Any, ...]) -> Any:
    """Return the program from keys to results, kept for a function and devices."""
    try:
        function = weakref.ref(fn)
    except TypeError:
        return _vmapped(lambda: fn, devices)
    name = ById(fn)
    if name not in _PROGRAMS:
        _PROGRAMS[name] = {}
        weakref.finalize(fn, _PROGRAMS.pop, name, None)
    # The function is the same object, but the values that it closes over may change.
    key = identity(fn), devices
    if key not in _PROGRAMS[name]:
        keep(_PROGRAMS[name], key, _vmapped(function, devices), _MOST_PROGRAMS)
    return _PROGRAMS[name][key]


def _vmapped(function: Callable[[], Any], devices: tuple[Any, ...]) -> Any:
    run = jax.vmap(lambda key: function()(key))
    if len(devices) == 1:
        place = jax.sharding.SingleDeviceSharding(devices[0])
        return jax.jit(run, in_shardings=place, out_shardings=place)
    mesh = Mesh(devices, ("seeds",))
    spread = NamedSharding(mesh, P("seeds"))
    # Seeds are independent, so each device runs its own without communication. With the
    # check of varying axes (`check_vma`) a user's scan that begins with zeros, and so
    # with a carry that no seed varies, would be an error.
    apart = jax.shard_map(
        run, mesh=mesh, in_specs=P("seeds"), out_specs=P("seeds"), check_vma=False
    )
    return jax.jit(apart, in_shardings=spread, out_shardings=spread)


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


def _size(program: Any, keys: Any, devices: int, batch_size: int | None) -> int:
    """Return the number of seeds in a chunk, a multiple of the number of devices."""
    num = len(keys)
    most = batch_size or num
    if batch_size is None:
        # XLA knows the memory of a program before it runs, so no attempt has to fail.
        whole = -(-num // devices) * devices
        needed = _bytes(program, _filled(keys, whole))
        free = _memory()
        if needed and free:
            most = max(1, math.floor(num * min(1.0, _SHARE * free / needed)))
    chunks = -(-num // most)
    # Chunks of one size: of 10 seeds with at most 6 at once each chunk has 5, not 6, so
    # fewer seeds of the last one are thrown away.
    return -(-num // (chunks * devices)) * devices


def _bytes(program: Any, keys: Any) -> int:
    """Return the bytes that all seeds at once would take on a device, by XLA."""
    memory = program.lower(keys).compile().memory_analysis()
    if memory is None:
        return 0
    return int(memory.temp_size_in_bytes + memory.output_size_in_bytes)


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
