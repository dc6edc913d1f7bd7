"""A schedule says how a call computes its results in one placement.

It is made at the first call. A later call of equal arguments, settings and devices
finds its programs there, and the numbers that depend on no argument.
"""

import functools
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import jax
import numpy as np

from .._core.identity import keep
from .._network import jaxpr
from . import chunks, executables, numbers
from .call import Call
from .places import committed, places
from .programs import OnHost, Run, programs_of
from .units import ProgramUnit

# A training program starts a model on one mesh, or on a few.
_MOST = 4

Pair = tuple[ProgramUnit, Run]


class Row(NamedTuple):
    """A row computes values from others: it is a function, or a draw in threads.

    `reads` are slots or numbers. No later row reads the `dead` slots.
    """

    run: Run
    reads: tuple[Any, ...]
    writes: tuple[int, ...]
    dead: tuple[int, ...] = ()


def schedule_of(call: Call, where: Sequence[Any], inputs: Sequence[Any]) -> "Schedule":
    """Return the schedule of a call whose results get the places `where`."""
    bound = committed(inputs)
    # Whether arrays may be drawn in chunks depends on more than a program does.
    settings = executables.context(), chunks.available()
    key = (*where,), frozenset(bound), settings
    schedule: Schedule | None = call.schedules.get(key)
    if schedule is None:
        schedule = Schedule(call, places(call, [*where]), bound)
        keep(call.schedules, key, schedule, _MOST)
    return schedule


class Schedule:
    """A Schedule has the rows of a call, and what all its calls have in common."""

    def __init__(self, call: Call, places: dict[int, Any], bound: set[int]) -> None:
        programs = programs_of(call, places, bound)
        pairs = list(zip(call.units, programs, strict=True))
        outputs = {o for o in call.listing.outputs if not jaxpr.is_literal(o)}
        self._constant = _constant(pairs, outputs)
        fixed = {slot for _, unit, _ in self._constant for slot in unit.writes}
        pairs = [pair for pair in pairs if fixed.isdisjoint(pair[0].writes)]
        self._fills = _fills(pairs, fixed)
        filled = {unit.writes for unit, _ in self._fills}
        rows = _rows([pair for pair in pairs if pair[0].writes not in filled])
        self.rows = _with_ends(rows, outputs)
        self._programs = _compiled(programs)
        self._numbers: dict[int, Any] | None = None
        kinds = [k for unit, run in pairs for k in _drawn(unit, run)]
        # The largest array that is drawn, in bytes.
        self.largest = max((k.size * k.dtype.itemsize for k in kinds), default=0)

    def compile(self, pool: Executor) -> None:
        """Compile all programs in threads; each lowers here while others compile."""
        for program in self._programs:
            program.start(pool)

    def numbers(self) -> dict[int, Any]:
        """Return the numbers that depend on no argument, by their slots."""
        if self._numbers is None:
            slots: dict[int, Any] = {}
            results: dict[Hashable, Sequence[Any]] = {}
            for name, unit, run in self._constant:
                if name not in results:
                    results[name] = run(*(_number(r, slots) for r in unit.reads))
                slots |= zip(unit.writes, results[name], strict=True)
            self._numbers = slots
        return self._numbers

    def filled(self) -> dict[int, jax.Array]:
        """Return the arrays of equal numbers that no row reads, by their slots."""
        known = self.numbers()
        fills = [fill for _, fill in self._fills]
        values = [_number(unit.reads[0], known) for unit, _ in self._fills]
        arrays = executables.Fill.all(fills, values)
        slots = (unit.writes[0] for unit, _ in self._fills)
        return dict(zip(slots, arrays, strict=True))


def _number(read: Any, slots: dict[int, Any]) -> Any:
    return jaxpr.literal_value(read) if jaxpr.is_literal(read) else slots[read]


def _drawn(unit: ProgramUnit, run: Run) -> list[Any]:
    return unit.write_types() if isinstance(run, chunks.Draw) else []


def _compiled(programs: Iterable[Run]) -> list[Any]:
    """Return the distinct programs that have to be compiled."""
    runs = (run.program if isinstance(run, chunks.Draw) else run for run in programs)
    kinds = executables.Program, chunks.Chunked
    return list(dict.fromkeys(run for run in runs if isinstance(run, kinds)))


def _constant(
    pairs: Sequence[Pair], outputs: set[int]
) -> list[tuple[int, ProgramUnit, Any]]:
    """Return the units that compute numbers from literals alone, as sqrt(2 / 256).

    Units of equal results have equal numbers beside them, since layers repeat such
    operations, and each run of a program takes microseconds.
    """
    known: dict[Hashable, int] = {}
    names: dict[Any, Hashable] = {}
    constant = []
    for unit, run in pairs:
        # Two results of the function must not be one buffer, since a caller may donate
        # one of them.
        is_result = not outputs.isdisjoint(unit.writes)
        if not unit.is_small or unit.has_effects or is_result:
            continue
        reads = tuple(
            jaxpr.literal_value(r).tobytes() if jaxpr.is_literal(r) else names.get(r)
            for r in unit.reads
        )
        if None not in reads:
            name = known.setdefault((unit.signature, reads), len(known))
            names |= {slot: (name, i) for i, slot in enumerate(unit.writes)}
            constant.append((name, unit, run))
    return constant


def _fills(
    pairs: Sequence[Pair], fixed: set[int]
) -> list[tuple[ProgramUnit, executables.Fill]]:
    """Return the units that repeat a number, if no other unit reads the result."""
    read = {r for unit, _ in pairs for r in unit.reads if not jaxpr.is_literal(r)}
    return [
        (unit, run)
        for unit, run in pairs
        if isinstance(run, executables.Fill)
        and all(jaxpr.is_literal(r) or r in fixed for r in unit.reads)
        and read.isdisjoint(unit.writes)
    ]


def _rows(pairs: Sequence[Pair]) -> list[Row]:
    """Return the rows of units; all keys that are derived from one key share a row."""
    rows: list[Row] = []
    derived: dict[Any, list[tuple[int, int]]] = {}
    places: dict[Any, int] = {}
    for unit, run in pairs:
        number = numbers.folded_number(unit) if isinstance(run, OnHost) else None
        if number is None:
            reads = (
                jaxpr.literal_value(r) if jaxpr.is_literal(r) else r for r in unit.reads
            )
            rows.append(Row(run, tuple(reads), unit.writes))
            continue
        key, slot = unit.reads[0], unit.writes[0]
        if key not in derived:
            places[key] = len(rows)
            rows.append(Row(run, (key,), ()))
        derived.setdefault(key, []).append((slot, number))
    for key, place in places.items():
        slots, data = zip(*derived[key], strict=True)
        run = functools.partial(numbers.folded_in, np.array(data, np.uint32))
        rows[place] = Row(run, (key,), slots)
    return rows


def _with_ends(rows: Sequence[Row], outputs: set[int]) -> list[Row]:
    """Return the rows, each with the slots that no later row reads."""
    alive = set(outputs)
    ended: list[Row] = []
    for row in reversed(rows):
        slots = {r for r in row.reads if isinstance(r, int)} | {*row.writes}
        ended.append(row._replace(dead=tuple(slots - alive)))
        alive |= slots
    return ended[::-1]
