"""The taps of a network are recorded, or changed, while it runs.

When a traced function runs again, equation by equation, each tapped value is recorded,
and another value goes on in its place: by default itself plus a perturbation of zeros,
whose gradient is the gradient of the value. A scan is run as a scan of the tapped body,
so its values come stacked, one for each step.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn

from .equations import SCAN
from .interpret import inside, interpret, run, scanned
from .kept import Traced
from .open_loops import forward
from .reader.records import Tap
from .record import Network

# on_value(index, value, perturbation) -> (the value that goes on, the value to record).
OnValue = Callable[[int, Any, Any], tuple[Any, Any]]


def add(index: int, value: Any, perturbation: Any) -> tuple[Any, Any]:
    """Add its perturbation to a value; record the sum."""
    perturbed = value + perturbation
    return perturbed, perturbed


def recorded(index: int, value: Any, perturbation: Any) -> tuple[Any, Any]:
    """Record a value, with its perturbation if it has one.

    An empty tuple stands for no perturbation: an operand may be a whole number.
    """
    return (
        (value, value)
        if isinstance(perturbation, tuple)
        else add(index, value, perturbation)
    )


@dataclasses.dataclass
class _Node:
    """A node has the taps at one equation, and those of the equations inside it."""

    # Pairs: the number of a result or of an operand, and the index of the tap.
    results: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    operands: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    # The keys are ids of equations, which the places of the taps keep alive.
    inner: "dict[int, _Node]" = dataclasses.field(default_factory=dict)

    def indices(self) -> list[int]:
        """Return the indices of all taps at the equation and inside it."""
        here = [index for _, index in (*self.results, *self.operands)]
        return here + [i for node in self.inner.values() for i in node.indices()]


@dataclasses.dataclass(frozen=True, eq=False)
class Tapped:
    """A Tapped is a traced function with some of its taps, in execution order."""

    trace: Traced
    taps: tuple[Tap, ...]

    @property
    def form(self) -> Hashable:
        """Return a key: functions with equal forms compute and tap the same."""
        return self.trace.form, tuple(tap[1:2] + tap[3:] for tap in self.taps)

    @property
    def bare(self) -> "Tapped":
        """Return the same without the constants, which kept programs must not hold."""
        return Tapped(self.trace.bare, self.taps)

    def run(
        self,
        consts: Sequence[Any],
        arguments: Sequence[Any],
        perturbations: Sequence[Any],
        on_value: OnValue = add,
    ) -> tuple[Any, list[Any]]:
        """Return the function's result, and what `on_value` records of each tap.

        `consts` are those of the trace, which a program takes as arguments. A
        perturbation is any tree of arrays that begin with the lengths of the scans
        around the value.
        """
        flat = jax.tree.leaves(arguments)
        handler = _Recorder(_tree_of(self.taps), dict(enumerate(perturbations)))
        handler.on_value = on_value
        jaxpr = self.trace.jaxpr
        results = interpret(jaxpr, consts, flat, handler)
        records = [handler.records[index] for index in range(len(self.taps))]
        return jax.tree.unflatten(self.trace.tree, results), records


def tapped(net: Network, keep: Callable[[Tap], bool]) -> tuple[Tapped, dict[int, int]]:
    """Return a network with the taps that `keep` chooses.

    The second result maps the number of a tap in the network to its new number.
    """
    every = net._read.reading.taps
    numbers = [number for number, tap in enumerate(every) if keep(tap)]
    chosen = Tapped(net._read.trace, tuple(every[number] for number in numbers))
    return chosen, {number: i for i, number in enumerate(numbers)}


def _tree_of(taps: Sequence[Tap]) -> dict[int, _Node]:
    root: dict[int, _Node] = {}
    for index, tap in enumerate(taps):
        nodes = root
        for eqn in tap.place[:-1]:
            nodes = nodes.setdefault(id(eqn), _Node()).inner
        node = nodes.setdefault(id(tap.place[-1]), _Node())
        (node.operands if tap.is_operand else node.results).append((tap.number, index))
    return root


class _Recorder:
    """This handler records the tapped values and puts other values in their place."""

    on_value: OnValue = staticmethod(add)

    def __init__(self, nodes: dict[int, _Node], perturbations: Mapping[int, Any]):
        self.nodes, self.perturbations = nodes, perturbations
        self.records: dict[int, Any] = {}

    def __call__(self, eqn: JaxprEqn, values: list[Any]) -> Sequence[Any] | None:
        node = self.nodes.get(id(eqn))
        if node is None:
            return forward(eqn, values)
        values = self._tapped(values, node.operands)
        return self._tapped(self._results(eqn, values, node), node.results)

    def _tapped(
        self, values: Sequence[Any], taps: Sequence[tuple[int, int]]
    ) -> list[Any]:
        changed = list(values)
        for number, index in taps:
            perturbation = self.perturbations[index]
            value = changed[number]
            changed[number], record = self.on_value(index, value, perturbation)
            self.records[index] = record
        return changed

    def _results(self, eqn: JaxprEqn, values: list[Any], node: _Node) -> Sequence[Any]:
        if not node.inner:
            return run(eqn, values, forward)
        if eqn.primitive is not SCAN:
            outside, self.nodes = self.nodes, node.inner
            results = inside(eqn, values, self)
            self.nodes = outside
            return results
        indices = [i for inner in node.inner.values() for i in inner.indices()]
        perturbations = {index: self.perturbations[index] for index in indices}

        def step(arguments: list[Any], slices: Any) -> tuple[list[Any], Any]:
            handler = _Recorder(node.inner, slices)
            handler.on_value = self.on_value
            return inside(eqn, arguments, handler), handler.records

        results, records = scanned(eqn, values, step, perturbations)
        self.records |= records
        return results


def rows_of(
    taps: Sequence[Tap], outputs: Sequence[Any]
) -> Iterator[tuple[Tap, str, Any]]:
    """Yield the tap, the name and the array of each tap, for each step of its scans."""
    for number, step, path in names_of(taps):
        yield taps[number], path, outputs[number][step]


def names_of(taps: Sequence[Tap]) -> Iterator[tuple[int, tuple[int, ...], str]]:
    """Yield the number, step and name of each tap, for each step of its scans."""
    uses: dict[str, int] = {}
    for group in groups(taps):
        lengths = taps[group[0]].shape[: taps[group[0]].scans]
        for step in np.ndindex(*lengths):
            for number in group:
                suffix = "".join(f"[{i}]" for i in step)
                path = f"{taps[number].name}{suffix}"
                uses[path] = uses.get(path, 0) + 1
                again = f"#{uses[path]}" if uses[path] > 1 else ""
                yield number, step, path + again


def groups(taps: Sequence[Tap]) -> list[list[int]]:
    """Return the indices of the taps, with neighbors in one scan in one group.

    The taps of a group run step by step: all of step 0, then all of step 1.
    """
    groups: list[list[int]] = []
    last: tuple[int, ...] = ()
    for number, tap in enumerate(taps):
        scans = tuple(id(eqn) for eqn in tap.place[:-1] if eqn.primitive is SCAN)
        if scans and scans == last:
            groups[-1].append(number)
        else:
            groups.append([number])
        last = scans
    return groups
