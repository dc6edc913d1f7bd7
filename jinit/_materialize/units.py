"""The steps of a function are cut into units, each of which is one compiled program.

A function called outside a `jit` runs operation by operation, and so do units. A unit
is one operation (a sampler counts as one, since JAX jits its samplers), together with
the scaling, casting and reshaping of its result, which give the same bits whether they
are fused or not. Numbers enter as operands. So a unit has the values of the function
called eagerly, and units that differ in a number only, such as their standard
deviations, share a program.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn

from .._core.erf_inv import depends_on_loop, erf_inv
from .._core.programs import LARGE
from .._network import interpret, jaxpr, signature
from .._network.equations import INVERSE_ERF, JIT, MULTIPLY, NEGATE, moves
from .._network.jaxpr import Step


@dataclasses.dataclass(frozen=True)
class ProgramUnit:
    """A program unit has steps that run as one program.

    The slots of its steps are numbered anew: first come the slots of its operands, then
    those of the results of each step. So units that do the same have equal slots.
    """

    steps: tuple[Step, ...]
    # Its operands and its results as slots of the listing. An operand may be a literal.
    reads: tuple[Any, ...]
    writes: tuple[int, ...]

    @functools.cached_property
    def is_small(self) -> bool:
        """Tell whether it makes single values: a key, a standard deviation."""
        return all(jaxpr.size(var) <= 1 for var in self.steps[-1].eqn.outvars)

    def read_types(self) -> list[Any]:
        """Return the types of its operands."""
        return [
            atom.aval
            for step in self.steps
            for read, atom in zip(step.reads, step.eqn.invars, strict=True)
            if read < len(self.reads)
        ]

    def write_types(self) -> list[Any]:
        """Return the types of its results."""
        return [var.aval for var in self.steps[-1].eqn.outvars]

    def array_reads(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return the slots and the shapes of the arrays among its operands."""
        return [
            (read, kind.shape)
            for read, kind in zip(self.reads, self.read_types(), strict=True)
            if not jaxpr.is_literal(read) and math.prod(kind.shape) > 1
        ]

    @property
    def is_wide(self) -> bool:
        """Tell whether it is a loop over many elements, each by itself."""
        kinds = self.write_types()
        large = all(math.prod(kind.shape) >= LARGE for kind in kinds)
        single = all(kind.dtype.itemsize >= 4 for kind in kinds)
        sums = any(jaxpr.sums(step.eqn) for step in self.steps)
        return large and single and not sums and jaxpr.may_draw(self.steps[0].eqn)

    @property
    def has_effects(self) -> bool:
        """Tell whether it does more than compute, as a callback does."""
        return any(step.eqn.effects for step in self.steps)

    @property
    def holds_arrays(self) -> bool:
        """Tell whether its equations contain arrays, as constants."""
        return any(jaxpr.holds_arrays(step.eqn) for step in self.steps)

    @functools.cached_property
    def signature(self) -> Hashable:
        """Return a key that units share if they do the same: one program serves all."""
        return tuple((signature.signature(s.eqn), s.reads) for s in self.steps)


def units(listing: jaxpr.Listing) -> list[ProgramUnit]:
    """Cut the steps into units, in an order in which they can run."""
    readers = _readers(listing)
    by_last_step: list[tuple[int, ProgramUnit]] = []
    absorbed: set[int] = set()
    for index in range(len(listing.steps)):
        if index in absorbed:
            continue
        chain = _chain(index, listing.steps, readers)
        absorbed.update(chain)
        by_last_step.append((chain[-1], _unit([listing.steps[i] for i in chain])))
    # A unit runs when its last step would: then all operands of its steps are ready.
    return [unit for _, unit in sorted(by_last_step, key=lambda pair: pair[0])]


def _readers(listing: jaxpr.Listing) -> dict[int, list[int | None]]:
    """Return the indices of the steps that read each slot; None is the caller."""
    readers: dict[int, list[int | None]] = {}
    for index, step in enumerate(listing.steps):
        for read in step.reads:
            if not jaxpr.is_literal(read):
                readers.setdefault(read, []).append(index)
    for slot in listing.outputs:
        if not jaxpr.is_literal(slot):
            readers.setdefault(slot, []).append(None)
    return readers


def _chain(
    first: int, steps: Sequence[Step], readers: dict[int, list[int | None]]
) -> list[int]:
    """Return a step's index, then those of the steps that only reshape its result.

    A result is also scaled once, cast, or negated in the same unit.
    """
    chain, scaled = [first], False
    while True:
        step = steps[chain[-1]]
        if len(step.writes) != 1 or jaxpr.size(step.eqn.outvars[0]) <= 1:
            return chain
        if step.eqn.effects:
            # Effects stay in their order, so no later step may move in front of others.
            return chain
        kind: Any = step.eqn.outvars[0].aval
        if depends_on_loop(kind.shape):
            # Fused with the next operation, this one would have another loop than in
            # JAX, and other bits.
            return chain
        (slot,) = step.writes
        following = readers.get(slot, [])
        if len(following) != 1 or following[0] is None:
            return chain
        eqn = steps[following[0]].eqn
        # From jax 0.12 on a normal law is a uniform one and an inverse erf behind it.
        # A second factor could be multiplied with the first, which rounds otherwise.
        if eqn.primitive is MULTIPLY and _scales(eqn) and not scaled:
            scaled = True
        elif not moves(eqn) and eqn.primitive not in (NEGATE, INVERSE_ERF):
            return chain
        chain.append(following[0])


def _scales(eqn: Any) -> bool:
    """Tell whether one of two factors is a single number."""
    return any(jaxpr.size(atom) == 1 for atom in eqn.invars)


def _unit(steps: list[Step]) -> ProgramUnit:
    inside = {slot for step in steps for slot in step.writes}
    reads = [r for step in steps for r in step.reads]
    operands = tuple(r for r in reads if jaxpr.is_literal(r) or r not in inside)
    # Each operand is read once, since numbers that happen to be equal in one unit need
    # not be equal in another unit of the same program.
    outside, number = itertools.count(), itertools.count(len(operands))
    slots: dict[Any, int] = {}
    renumbered = []
    for step in steps:
        read = tuple(
            next(outside) if jaxpr.is_literal(r) or r not in slots else slots[r]
            for r in step.reads
        )
        slots |= {slot: next(number) for slot in step.writes}
        renumbered.append(Step(step.eqn, read, tuple(slots[w] for w in step.writes)))
    return ProgramUnit(tuple(renumbered), operands, steps[-1].writes)


def run(unit: ProgramUnit, values: Sequence[Any], bound: float = math.inf) -> list[Any]:
    """Return the results of a program unit for the values of its operands.

    A finite `bound` says that the short form of erf_inv is exact here (see flat.py).
    """
    first, *others = unit.steps
    slots = dict(enumerate(values))
    short = functools.partial(_short, bound)
    handler = functools.partial(_after_the_first, short)
    interpret.evaluate([first], slots, (), short)
    return interpret.evaluate(others, slots, unit.steps[-1].writes, handler)


def _short(bound: float, eqn: JaxprEqn, values: list[Any]) -> Sequence[Any] | None:
    """Draw bits in one fused loop, and use the short form of erf_inv if it is exact."""
    if math.isinf(bound):
        return interpret.fused(eqn, values)
    if eqn.primitive is INVERSE_ERF:
        return [erf_inv(values[0], bound)]
    if eqn.primitive is JIT and jaxpr.draws(eqn):
        return interpret.inside(eqn, values, functools.partial(_short, bound))
    return interpret.fused(eqn, values)


def _after_the_first(
    handler: interpret.Handler, eqn: JaxprEqn, values: list[Any]
) -> Sequence[Any] | None:
    """Handle the steps behind a sampler: keep their factor apart from the sampler's."""
    if eqn.primitive is MULTIPLY and _joins_factors():
        values = jax.lax.optimization_barrier(values)
    return interpret.run(eqn, values, handler)


@functools.cache
def _joins_factors() -> bool:
    """Tell whether XLA multiplies two factors with each other before it applies them.

    The last factor of a sampler, sqrt(2), times the standard deviation rounds otherwise
    than one factor after the other. A barrier keeps them apart. Where XLA does not join
    them, as from jax 0.12 on, a barrier would only cost a pass over memory.
    """

    def scaled(x: Any, factor: Any) -> Any:
        return x * np.float32(math.sqrt(2)) * factor

    x, factor = np.arange(1000, dtype=np.float32), np.float32(0.3)
    with jax.ensure_compile_time_eval():
        return bool(np.any(np.asarray(jax.jit(scaled)(x, factor)) != scaled(x, factor)))
