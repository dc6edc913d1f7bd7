"""The traces of a function's calls are kept, by the exact arguments of the calls.

A call is traced once for its settings, the types of its arrays, and the settings of JAX
that a trace depends on. A later call that agrees in all of these traces nothing.
"""

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._core import erf_inv, trees
from .._core.identity import identity, keep
from .._core.meshes import automatic_axes
from .._core.programs import at_top_level, trace_context
from .._core.trees import Leaf
from .._network import jaxpr
from .._network.adapters.nnx import shared_objects
from . import chunks, executables, loops, units
from .skipping import Skip, check_independent


class _Known(NamedTuple):
    """A known result is not a tracer: a number, a string, an array of the closure."""

    value: Any


class _Results:
    """A _Results is the tree of a traced function's results, with the known leaves.

    This object keeps no tracer, which would outlive its trace.
    """

    def __init__(self, results: Any, skip: Skip | None) -> None:
        leaves, self.tree = jax.tree.flatten(results)
        self.known = [None if _is_traced(x) else _Known(x) for x in leaves]
        self.drawn: list[Leaf] = []
        self.skipped: list[Leaf] = []
        self.is_skipped = [False] * len(leaves)
        if skip is not None:
            self._leave_out(trees.leaves(results), skip)

    def _leave_out(self, leaves: list[Leaf], skip: Skip) -> None:
        """Let skipped leaves count as known: a struct stands for each of them."""
        self.is_skipped = skip.of(leaves)
        for index, (leaf, skipped) in enumerate(
            zip(leaves, self.is_skipped, strict=True)
        ):
            struct = trees.struct(leaf.value)
            is_traced = self.known[index] is None
            if skipped:
                self.known[index] = _Known(struct)
            if is_traced:
                rows = self.skipped if skipped else self.drawn
                rows.append(Leaf(leaf.parts, struct))

    def filled(self, values: Iterable[Any]) -> list[Any]:
        """Return all leaves, given the values of those that are not known."""
        drawn = iter(values)
        return [next(drawn) if known is None else known.value for known in self.known]


class Call(NamedTuple):
    """A traced call has units, and results that their outputs are put into."""

    listing: jaxpr.Listing
    units: list[units.ProgramUnit]
    shapes: list[jax.ShapeDtypeStruct]
    results: _Results
    # The programs that hold arrays of the function; they live as long as its trace.
    programs: dict[Hashable, executables.Program]
    # How the results are computed, for each placement (see schedule.py).
    schedules: dict[Hashable, Any]


class Traces:
    """This store keeps the latest calls of a function by their arguments' types."""

    _MOST = 8

    def __init__(self, function: Callable[..., Any], skip: Skip | None = None) -> None:
        self._function = function
        self._skip = skip
        self._calls: dict[Hashable, Call] = {}

    def of(self, args: Any, kwargs: Any) -> tuple[Call, list[Leaf]]:
        """Return the traced call for these arguments, and the arrays among them."""
        leaves, tree = jax.tree_util.tree_flatten_with_path((args, kwargs))
        arrays = [Leaf((_argument(path),), x) for path, x in leaves if is_array(x)]
        settings = [None if is_array(x) else x for _, x in leaves]
        types = tuple(_type(leaf.value) for leaf in arrays)
        # The static fields of a dataclass are settings too, and only in the structure.
        key = identity((tree, settings)), types, trace_context()
        call = self._calls.get(key)
        if call is None:
            if _has_time_to_look():
                erf_inv.look_ahead()
            call = self._trace(leaves, tree)
            keep(self._calls, key, call, self._MOST)
        return call, arrays

    def _trace(self, leaves: list[tuple[Any, Any]], tree: Any) -> Call:
        def function(*arrays: Any) -> Any:
            rest = iter(arrays)
            values = [next(rest) if is_array(x) else x for _, x in leaves]
            args, kwargs = jax.tree.unflatten(tree, values)
            return self._function(*args, **kwargs)

        return _traced(function, [x for _, x in leaves if is_array(x)], self._skip)


def _has_time_to_look() -> bool:
    """Tell whether another core may look at erf_inv while this one traces."""
    several = (os.cpu_count() or 1) > 1
    return several and at_top_level() and chunks.available()


def is_array(x: Any) -> bool:
    """Tell whether an argument is an array, or a struct in the place of one."""
    return isinstance(x, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def _is_traced(x: Any) -> bool:
    return isinstance(x, jax.core.Tracer)


def _type(x: Any) -> Hashable:
    if isinstance(x, jax.Array):
        kind: Hashable = jax.typeof(x)
        return kind
    return x.shape, x.dtype, getattr(x, "weak_type", False)


def _plain(x: Any) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of an array, without its device."""
    dtype = trees.canonical(x.dtype)
    return jax.ShapeDtypeStruct(
        x.shape, dtype, weak_type=getattr(x, "weak_type", False)
    )


def _argument(path: Any) -> str:
    """Return the name of an argument, such as `args[1]` or `kwargs['x']`."""
    (first, *rest) = path
    return ("args", "kwargs")[first.idx] + jax.tree_util.keystr(tuple(rest))


def _check_unshared(tree: Any) -> None:
    """Raise if NNX modules share a part, which JAX's trees would untie."""
    if groups := shared_objects(tree):
        raise ValueError(
            f"`init_fn` returns an NNX model in which {'; '.join(groups)} are one "
            "object, and would come back as several. jinit.nnx.materialize keeps them "
            "one."
        )


def _traced(
    function: Callable[..., Any], arrays: Sequence[Any], skip: Skip | None
) -> Call:
    """Trace a function of arrays, and keep its results that are not tracers aside."""
    results: _Results | None = None

    def drawn(*values: Any) -> list[Any]:
        nonlocal results
        tree = function(*values)
        _check_unshared(tree)
        results = _Results(tree, skip)
        pairs = list(zip(jax.tree.leaves(tree), results.is_skipped, strict=True))
        # The skipped results come last, so that they can be cut off after a check.
        return [
            x for last in (False, True) for x, s in pairs if s is last and _is_traced(x)
        ]

    with automatic_axes():
        closed, shapes = jaxpr.trace(drawn, list(map(_plain, arrays)))
    assert results is not None
    first = len(shapes) - len(results.skipped)
    if results.skipped:
        check_independent(jaxpr.listing(closed), results.drawn, results.skipped)
    listing = loops.taken_apart(jaxpr.listing(closed, first))
    shapes = list(map(_plain, shapes[:first]))
    return Call(listing, units.units(listing), shapes, results, {}, {})
