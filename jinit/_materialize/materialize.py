"""`materialize` makes an init function faster: each distinct sampler is compiled once.

The function is traced once, to equations. The equations that no result needs are
dropped: they are the forward pass. The others run in units (see units.py). Each law,
and each other distinct unit, is compiled once, in threads, while the next one is
lowered (see programs.py).
"""

import contextlib
import functools
import gc
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from .._core import checks, trees
from .._core.meshes import explicit_axes
from .._core.programs import at_top_level, is_drawn_whole, jit_to
from .._core.terminal import track
from .._core.trees import Leaf
from .._network import interpret, jaxpr
from .._network.shardings import resolve
from . import chunks
from .call import Call, Traces
from .programs import Run, compile_all, programs_of
from .units import ProgramUnit


def materialize(
    init_fn: Callable[..., Any], *, shardings: Any = None, progress: bool = False
) -> Callable[..., Any]:
    """Transform a function that draws parameters into a faster one, of equal results.

    `materialize(model.init)(key, x)` returns the tree that `model.init(key, x)`
    returns, with the same boxes, equal bit for bit, whatever initializers the model
    uses. The forward pass is not run, and each distinct sampler is compiled once,
    however many layers share it. JAX must be able to trace the function. Results may
    depend on each other, on control flow and on callbacks.

    Args:
      init_fn: a function of keys, arrays, and any settings.
      shardings: where each array is drawn and lives: one sharding; a tree of
        `Sharding`s, of `PartitionSpec`s (inside `jax.set_mesh`), or of
        `ShapeDtypeStruct`s that have a sharding, or a prefix of such a tree; a function
        `(path, ShapeDtypeStruct) -> sharding`, with paths such as
        "params/Dense_0/kernel"; or "metadata", for the axes that the model names by
        `nn.with_partitioning`. No device holds more than its part, and the values are
        equal to those on one device. A Python number with a sharding, such as the
        `step=0` of a TrainState, becomes an array, as under `jax.jit`; without a
        sharding it stays a number. Leaves that cannot be arrays need no sharding, and
        an entry for one is not used.
      progress: whether to show a progress bar, on a terminal.

    Returns:
      A function of the same arguments. An array of which only the shape matters may be
      replaced by a `jax.ShapeDtypeStruct`.

    Raises:
      TypeError: if `init_fn` is not a function, or an entry of `shardings` is not a
        sharding.
      ValueError: when called, if a sharding does not fit (the text names the path), or
        if the results depend on an array that came as a `ShapeDtypeStruct`.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> x = jax.ShapeDtypeStruct((1, 3), jnp.float32)
      >>> variables = jinit.materialize(nn.Dense(4).init)(jax.random.key(0), x)
      >>> variables["params"]["kernel"].shape
      (3, 4)
    """
    if not callable(init_fn):
        raise TypeError(
            f"`init_fn` is {init_fn!r}, of type {type(init_fn).__name__}; it must be a "
            "function that draws parameters, such as model.init."
        )
    traces = Traces(init_fn)

    def materialized(*args: Any, **kwargs: Any) -> Any:
        # `jax.disable_jit` is for debugging a user's code, not for these programs.
        with _without_collecting(), jax.disable_jit(False):
            call, arguments = traces.of(args, kwargs)
            where = _where(shardings, call)
            return _joined(call, _run(call, arguments, where, progress), where)

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


def _where(shardings: Any, call: Call) -> list[Any]:
    """Return the sharding of each result, or None, before anything is drawn."""
    values = call.results.filled(call.shapes)
    if shardings is None:
        return [None] * len(values)
    tree = jax.tree.unflatten(call.results.tree, values)
    # A tree of shardings may have entries where the results have None, so these places
    # count as leaves until the entries are matched.
    leaves = trees.leaves(tree, lambda node: node is None)
    places = zip(leaves, resolve(shardings, leaves, tree), strict=True)
    return [sharding for leaf, sharding in places if leaf.value is not None]


def _joined(call: Call, values: Sequence[Any], where: list[Any]) -> Any:
    """Return the tree of results; move known results to their shardings."""
    leaves = [
        x if known is None or sharding is None else jax.device_put(x, sharding)
        for x, known, sharding in zip(
            call.results.filled(values), call.results.known, where, strict=True
        )
    ]
    return jax.tree.unflatten(call.results.tree, leaves)


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
    programs = programs_of(call, _places(call, where), _committed(inputs))
    slots = dict(enumerate(map(jaxpr.raw, inputs)))
    known_numbers = _Numbers(outputs)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compile_all(programs, pool)
        for unit, program, dead in _tracked(call.units, programs, outputs, progress):
            operands = [_value(read, slots) for read in unit.reads]
            if isinstance(program, chunks.Draw):
                (slot,) = unit.writes
                slots[slot] = program.submit(pool, operands)
            else:
                results = known_numbers.once(
                    unit, functools.partial(program, *operands)
                )
                slots |= zip(unit.writes, results, strict=True)
            # The arrays that no later unit reads are freed at once.
            for slot in dead:
                del slots[slot]
        values = [_value(output, slots) for output in outputs]
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
    if jaxpr.is_literal(read):
        return jaxpr.literal_value(read)
    value = slots[read]
    return value.result() if isinstance(value, chunks.Pending) else value


def _places(call: Call, where: list[Any]) -> dict[int, Any]:
    """Return the shardings of the results, and of the arrays that they are made of."""
    places = {
        slot: sharding
        for slot, sharding in zip(call.listing.outputs, where, strict=True)
        if sharding is not None and not jaxpr.is_literal(slot)
    }
    for unit in reversed(call.units):
        if len(unit.writes) == 1 and unit.writes[0] in places:
            sharding, shape = places[unit.writes[0]], unit.write_types()[0].shape
            # An operation on the parts of an array reads arrays in the same parts. A
            # result that is drawn whole, and then cut, needs its operands whole.
            in_parts = not is_drawn_whole(shape, sharding)
            for slot, read_shape in unit.array_reads():
                same = read_shape == shape and in_parts
                places.setdefault(slot, sharding if same else _replicated(sharding))
    return places


def _replicated(sharding: Any) -> Any:
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec())
    return PartitionSpec() if isinstance(sharding, PartitionSpec) else None


def _committed(inputs: Sequence[Any]) -> set[int]:
    """Return the slots of the inputs that are bound to their devices."""
    return {i for i, x in enumerate(inputs) if getattr(x, "committed", False)}


class _Numbers:
    """A _Numbers runs operations on literals alone, as sqrt(2 / 256), only once.

    Layers repeat such operations, and each run of a program takes microseconds.
    """

    def __init__(self, outputs: Sequence[Any]) -> None:
        self._outputs = {o for o in outputs if not jaxpr.is_literal(o)}
        self._names: dict[int, Hashable] = {}
        self._results: dict[Hashable, Sequence[Any]] = {}

    def once(
        self, unit: ProgramUnit, run: Callable[[], Sequence[Any]]
    ) -> Sequence[Any]:
        """Return the results of a unit, from an equal unit if one has run."""
        name = self._name(unit)
        if name is None:
            return run()
        if name not in self._results:
            self._results[name] = run()
        self._names |= {slot: (name, i) for i, slot in enumerate(unit.writes)}
        return self._results[name]

    def _name(self, unit: ProgramUnit) -> Hashable | None:
        """Return a key of a unit that computes numbers from literals, or else None."""
        # Two results of the function must not be one buffer, since a caller may donate
        # one of them.
        is_result = not self._outputs.isdisjoint(unit.writes)
        if not unit.is_small or unit.has_effects or is_result:
            return None
        reads = tuple(
            jaxpr.literal_value(read).tobytes()
            if jaxpr.is_literal(read)
            else self._names.get(read)
            for read in unit.reads
        )
        return None if None in reads else (unit.signature, reads)


def _tracked(
    units: list[ProgramUnit],
    programs: list[Run],
    outputs: Sequence[Any],
    progress: bool,
) -> Iterator[tuple[ProgramUnit, Run, list[int]]]:
    """Yield the units with their programs, and the slots that no later unit reads."""
    last = {slot: -1 for slot in outputs if not jaxpr.is_literal(slot)}
    dead: list[list[int]] = [[] for _ in units]
    for index in reversed(range(len(units))):
        unit = units[index]
        for slot in {r for r in unit.reads if not jaxpr.is_literal(r)} | {*unit.writes}:
            if last.setdefault(slot, index) == index:
                dead[index].append(slot)
    rows = list(zip(units, programs, dead, strict=True))
    return iter(track(rows, "drawing", show=progress))


def _placed(value: Any, sharding: Any) -> jax.Array:
    """Return a result in its place; move it only if it was not drawn there."""
    result: jax.Array = value
    if sharding is None and not isinstance(value, jax.Array):
        result = jnp.asarray(value)
    if sharding is not None and getattr(value, "sharding", None) != sharding:
        result = jax.device_put(value, sharding)
    return result
