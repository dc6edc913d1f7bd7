"""Each program unit of a call gets the function that computes it.

Numbers and keys are computed on the host, flat samplers share a program for all shapes
(chunks.py), and each other distinct program unit has its own program.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from jax.sharding import PartitionSpec

from .._core.erf_inv import is_exact, is_known, is_known_soon
from .._core.meshes import explicit_axes
from .._network import jaxpr
from . import chunks, executables, flat, numbers
from .call import Call
from .units import ProgramUnit

# From this many entries on, the short form of erf_inv saves more time than it takes to
# check that the form is exact on this machine, or to wait for a check that has begun.
_LONG, _WORTH_WAITING = 1 << 27, 1 << 22


# A program unit is computed by a function of its operands, or drawn by threads.
Run = Callable[..., Sequence[Any]] | executables.Fill | chunks.Draw


class OnHost:
    """This function computes a number or a key without XLA, wherever XLA agrees."""

    def __init__(self, unit: ProgramUnit, compute: Any, context: Hashable) -> None:
        self._unit, self._compute, self._context = unit, compute, context

    def __call__(self, *operands: Any) -> Sequence[Any]:
        values: Sequence[Any] | None = self._compute(*operands)
        if values is None:
            shared = executables.PROGRAMS
            program = executables.program(self._unit, None, self._context, shared)
            values = program(*operands)
        return values


def programs_of(call: Call, places: dict[int, Any], bound: set[int]) -> list[Run]:
    """Return a function for each program unit; it follows arrays bound to devices."""
    # In an explicit mesh the type of every array has a spec, so an array without a
    # place gets the empty spec.
    nowhere = PartitionSpec() if explicit_axes() else None
    context = executables.context()
    samplers = _Samplers(call, context)
    results = {o for o in call.listing.outputs if not jaxpr.is_literal(o)}
    programs: list[Run] = []
    for unit in call.units:
        here = {} if unit.is_small else places
        shardings = tuple(here.get(slot, nowhere) for slot in unit.writes)
        placed = any(s is not None for s in shardings)
        follows = any(r in bound for r in unit.reads if not jaxpr.is_literal(r))
        if not (placed or follows):
            run: Run | None = _without_program(unit, results, context)
            run = samplers.draw(unit) if run is None else run
            if run is not None:
                programs.append(run)
                continue
        shared = call.programs if unit.holds_arrays else executables.PROGRAMS
        program = executables.program(
            unit,
            shardings if placed else None,
            context,
            shared,
            samplers.bound(unit),
        )
        # A compiled program has fixed devices; a jitted function follows its operands.
        programs.append(program.jitted if follows else program)
        if placed or follows:
            bound.update(unit.writes)
    return programs


def _without_program(
    unit: ProgramUnit, results: set[int], context: Hashable
) -> Run | None:
    """Return a function that computes a program unit without XLA, or None."""
    # A number that the caller gets has to be an array of JAX.
    compute = numbers.on_host(unit) if results.isdisjoint(unit.writes) else None
    if compute is None:
        return executables.fill(unit)
    return OnHost(unit, compute, context)


class _Samplers:
    """These are the flat samplers of a call, which can share programs."""

    def __init__(self, call: Call, context: Hashable) -> None:
        self._context = context
        self._flats: dict[int, flat.Flat] = {}
        kinds: list[Any] = []
        large = call.units if chunks.available() else []
        for unit in (unit for unit in large if not unit.is_small):
            sampler = flat.flat(unit)
            if sampler is not None:
                self._flats[unit.writes[0]] = sampler
                kinds += unit.write_types()
        count = sum(kind.size for kind in kinds)
        is_long = count >= (_WORTH_WAITING if is_known_soon() else _LONG)
        self._is_short = (is_long and is_exact()) or is_known()

    def bound(self, unit: ProgramUnit) -> float:
        """Return a bound for erf_inv, or infinity if its short form does not pay."""
        sampler = self._flats.get(unit.writes[0]) if unit.writes else None
        return sampler.bound if sampler and self._is_short else math.inf

    def draw(self, unit: ProgramUnit) -> chunks.Draw | None:
        """Return the program that draws an array in chunks, or None."""
        sampler = self._flats.get(unit.writes[0]) if unit.writes else None
        if sampler is None:
            return None
        bound = self.bound(unit)
        key = sampler.key, bound, self._context
        return chunks.Draw(unit, chunks.program(unit, bound, key))
