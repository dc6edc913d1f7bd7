"""Each distinct unit of work has one compiled program, which all its equals share."""

import math
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import jax
import numpy as np

from .._core import checks
from .._core.identity import keep
from .._core.meshes import explicit_axes
from .._core.programs import WIDE, jit_to, may_choose_options, trace_context
from .._network import jaxpr
from .._network.equations import BROADCAST
from .units import ProgramUnit, run

# Up to here a copy costs less than a program: the biases of a network.
_SMALL_FILL = 1 << 18


def fill(unit: ProgramUnit) -> Callable[[Any], list[jax.Array]] | None:
    """What runs a unit that repeats one number, without a program; else None."""
    step, *others = unit.steps
    if others or step.eqn.primitive is not BROADCAST:
        return None
    (kind,) = unit.write_types()
    repeats = len(unit.reads) == 1 and jaxpr.size(step.eqn.invars[0]) == 1
    if jaxpr.is_key(kind) or not repeats:
        return None
    if not 1 < math.prod(kind.shape) <= _SMALL_FILL:
        return None

    def repeat(number: Any) -> list[jax.Array]:
        array = np.full(kind.shape, np.asarray(number).item(), kind.dtype)
        return [jax.device_put(array)]

    return repeat


class Program:
    """A unit compiled for one placement, and for all units that do the same."""

    def __init__(self, unit: ProgramUnit, shardings: tuple[Any, ...] | None) -> None:
        self.unit = unit
        self.jitted = _jitted(unit, shardings)
        self.executable: Future[Callable[..., Any]] | None = None

    def start(self, pool: Executor) -> None:
        """Compile in the background; lowering needs this thread and its settings."""
        if self.executable is None:
            lowered = self.jitted.lower(*map(jaxpr.raw_type, self.unit.read_types()))
            wide = self.unit.is_wide and may_choose_options()
            options = WIDE if wide else None
            self.executable = pool.submit(lowered.compile, options)

    def __call__(self, *values: Any) -> Sequence[Any]:
        run = self.jitted if self.executable is None else self.executable.result()
        return run(*values)


PROGRAMS: dict[Hashable, Program] = {}
_MOST_PROGRAMS = 4096


def context() -> Hashable:
    """Return what a program depends on beside its unit: settings and devices."""
    # The mesh is a part of the key, since a program is compiled for its devices.
    return trace_context(), jax.sharding.get_mesh(), checks.flag("jax_default_device")


def program(
    unit: ProgramUnit,
    shardings: tuple[Any, ...] | None,
    context: Hashable,
    shared: dict[Hashable, Program],
) -> Program:
    """The program of a unit, shared by all units that do the same."""
    key = unit.signature, shardings, context
    known = shared.get(key)
    if known is None:
        known = Program(unit, shardings)
        keep(shared, key, known, _MOST_PROGRAMS)
    return known


def _jitted(unit: ProgramUnit, shardings: tuple[Any, ...] | None) -> Any:
    reads = unit.read_types()

    def draw(*values: Any) -> tuple[Any, ...]:
        given = map(jaxpr.typed, values, reads)
        return tuple(map(jaxpr.raw, run(unit, list(given))))

    return jit_to(draw, (), shardings, explicit_axes())
