"""`materialize` makes an init function faster: each distinct sampler is compiled once.

The function is traced once, to equations. The equations that no result needs are
dropped: they are the forward pass. The others run in program units (see units.py).
Each law, and each other distinct program unit, is compiled once, in threads, while the
next one is lowered (see programs.py).
"""

import contextlib
import functools
import gc
import os
import reprlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from .._core import checks
from .._core.meshes import explicit_axes
from .._core.patterns import PatternLike
from .._core.programs import at_top_level, jit_to
from .._core.terminal import track
from .._core.trees import Leaf
from .._network import interpret, jaxpr
from .._network.adapters import is_linen
from . import chunks
from .call import Call, Traces
from .results import joined, places_of, separate
from .schedule import schedule_of
from .skipping import Skip, skip_of


def materialize(
    init_fn: Callable[..., Any],
    *,
    shardings: Any = None,
    skip: PatternLike | None = None,
    progress: bool = False,
) -> Callable[..., Any]:
    """Transform a function that draws parameters into a faster one, of equal results.

    `materialize(model.init)(key, x)` returns the tree that `model.init(key, x)`
    returns, with the same boxes, equal bit for bit, whatever initializers the model
    uses. The forward pass is not run, and each distinct sampler is compiled once,
    however many layers share it. JAX must be able to trace the function. Results may
    depend on each other, on control flow and on callbacks.

    The function may make a whole training state: parameters, `tx.init(params)` for any
    optimizer of Optax, step counts. No two leaves share memory, so that a training
    step may donate the state. Arrays that the function holds are copied; an argument
    that it returns, such as restored weights, is not, and is donated with the state.

    Args:
      init_fn: a function of keys, arrays, and any settings. A function under `jax.jit`
        stays one program, which compiles as slowly as before, so pass the function
        inside it.
      shardings: where each array is drawn and lives: one sharding; a tree of
        `Sharding`s, of `PartitionSpec`s (inside `jax.set_mesh`), or of
        `ShapeDtypeStruct`s that have a sharding, or a prefix of such a tree; a function
        `(path, ShapeDtypeStruct) -> sharding`, with paths such as
        "params/Dense_0/kernel"; or "metadata", for the axes that the model names by
        `nn.with_partitioning`. No device holds more than its part, and the values are
        equal to those on one device. A Python number with a sharding, such as the
        `step=0` of a TrainState, becomes an array, as under `jax.jit`; without a
        sharding it stays a number. Leaves that cannot be arrays need no sharding, and
        an entry for one is not used. A leaf of an optimizer's state without a sharding
        (an entry None, no metadata) gets the sharding of its parameter: of the leaf of
        the same shape in another field of the state whose path below that field is the
        end of the leaf's path.
      skip: a pattern of the leaves that a checkpoint brings, such as
        "params/body/**". These leaves are not drawn. Each becomes a
        `jax.ShapeDtypeStruct` with the sharding that its array would have, into which
        Orbax restores. Leaves that cannot be arrays stay.
      progress: whether to show a progress bar, on a terminal.

    Returns:
      A function of the same arguments. An array of which only the shape matters may be
      replaced by a `jax.ShapeDtypeStruct`.

    Raises:
      TypeError: if `init_fn` is not a function, `skip` is not a pattern, or an entry of
        `shardings` is not a sharding.
      ValueError: when called, if a sharding does not fit (the text names the path), if
        the results depend on an array that came as a `ShapeDtypeStruct`, if a pattern
        of `skip` matches no leaf, or if a drawn leaf is computed from a skipped one,
        such as an average of the weights, which would then not match the checkpoint.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> x = jax.ShapeDtypeStruct((1, 3), jnp.float32)
      >>> variables = jinit.materialize(nn.Dense(4).init)(jax.random.key(0), x)
      >>> variables["params"]["kernel"].shape
      (3, 4)
      >>> restored = jinit.materialize(nn.Dense(4).init, skip="**/kernel")
      >>> restored(jax.random.key(0), x)["params"]["kernel"]
      ShapeDtypeStruct(shape=(3, 4), dtype=float32, ...)
    """
    return transformed(init_fn, shardings, skip_of(skip), progress)


def transformed(
    init_fn: Callable[..., Any],
    shardings: Any,
    skip: Skip | None,
    progress: bool,
    root: tuple[str, ...] = (),
) -> Callable[..., Any]:
    """Return the function that `materialize` returns, for a `skip` that is checked.

    `root` is the path of the user's state in the results.
    """
    if is_linen(init_fn) or not callable(init_fn):
        # Parameters that are drawn already would be written out with all their numbers.
        raise TypeError(
            f"`init_fn` is {reprlib.repr(init_fn)}, of type {type(init_fn).__name__}; "
            "it must be a function that draws parameters, such as model.init. Call "
            "jinit.materialize(model.init)(key, ...)."
        )
    traces = Traces(init_fn, skip)

    def materialized(*args: Any, **kwargs: Any) -> Any:
        # `jax.disable_jit` is for debugging a user's code, not for these programs.
        with _without_collecting(), jax.disable_jit(False):
            call, arguments = traces.of(args, kwargs)
            where = places_of(shardings, call, root)
            values = _run(call, arguments, where, progress)
            return joined(call, values, where)

    functools.update_wrapper(materialized, init_fn, updated=())
    return materialized


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Pause the garbage collector, which visits a trace's many objects repeatedly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _run(
    call: Call, arguments: list[Leaf], where: list[Any], progress: bool
) -> list[Any]:
    """Return the results that a traced call draws, each with its sharding."""
    known = call.results.known
    where = [s for s, known in zip(where, known, strict=True) if known is None]
    outputs = call.listing.outputs
    inputs = _inputs(call.listing, arguments)
    if not at_top_level():
        return _run_inside(call, inputs, where)
    if checks.flag("jax_debug_key_reuse"):
        interpret.spend_keys(call.listing, inputs)
    schedule = schedule_of(call, where, inputs)
    slots = dict(enumerate(map(jaxpr.raw, inputs)))
    buffers = chunks.Buffers(schedule.largest)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        schedule.compile(pool)
        slots |= schedule.numbers()
        for row in track(schedule.rows, "drawing", show=progress):
            operands = [_value(read, slots) for read in row.reads]
            if isinstance(row.run, chunks.Draw):
                (slot,) = row.writes
                slots[slot] = row.run.submit(pool, operands, buffers)
            else:
                slots |= zip(row.writes, row.run(*operands), strict=True)
            # The arrays that no later row reads are freed at once.
            for slot in row.dead:
                del slots[slot]
        slots |= schedule.filled()
        values = [
            jaxpr.literal_value(x) if jaxpr.is_literal(x) else _value(x, slots)
            for x in outputs
        ]
    values = separate(outputs, values)
    return list(map(_placed, map(jaxpr.typed, values, call.shapes), where))


def _run_inside(call: Call, inputs: list[Any], where: list[Any]) -> list[Any]:
    """Return the results as a part of an outer trace, with JAX's bits inside a jit."""
    explicit = explicit_axes()
    shardings = tuple(PartitionSpec() if s is None and explicit else s for s in where)

    def replay(*inputs: Any) -> tuple[Any, ...]:
        return tuple(interpret.replay(call.listing, inputs))

    placed = any(s is not None for s in shardings)
    return list(jit_to(replay, (), shardings if placed else None, explicit)(*inputs))


def _inputs(listing: jaxpr.Listing, arguments: list[Leaf]) -> list[Any]:
    """Return the values of the first slots: the constants, then the used arguments."""
    used = [leaf for leaf, use in zip(arguments, listing.used, strict=True) if use]
    for leaf in used:
        if isinstance(leaf.value, jax.ShapeDtypeStruct):
            raise ValueError(
                f"the results depend on the values of {leaf.path}, which came as a "
                f"jax.ShapeDtypeStruct of shape {leaf.value.shape}; pass the array "
                "itself."
            )
    return [*listing.consts, *(leaf.value for leaf in used)]


def _value(read: Any, slots: dict[int, Any]) -> Any:
    """Return the value of a slot; wait for it if threads draw it."""
    value = slots[read] if isinstance(read, int) else read
    return value.result() if isinstance(value, chunks.Pending) else value


def _placed(value: Any, sharding: Any) -> jax.Array:
    """Return a result in its place; move it only if it was not drawn there."""
    result: jax.Array = value
    if sharding is None and not isinstance(value, jax.Array):
        result = jnp.asarray(value)
    if sharding is not None and getattr(value, "sharding", None) != sharding:
        result = jax.device_put(value, sharding)
    return result
