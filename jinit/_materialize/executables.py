"""A distinct unit of a function has one compiled program, which equal units share."""

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

# Up to this number of elements a copy from the host costs less than a program. The
# biases of a network are smaller.
_SMALL_FILL = 1 << 18


def fill(unit: ProgramUnit) -> Callable[[Any], list[jax.Array]] | None:
    """Return a function that repeats a number without a program, if a unit does so."""
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
    """A program is a unit compiled for one placement; it serves all equal units."""

    def __init__(
        self, unit: ProgramUnit, shardings: tuple[Any, ...] | None, bound: float
    ) -> None:
        self.unit = unit
        self.jitted = _jitted(unit, shardings, bound)
        self.executable: Future[Callable[..., Any]] | None = None

    def start(self, pool: Executor) -> None:
        """Compile in the background; lowering needs this thread and its settings."""
        if self.executable is None:
            lowered = self.jitted.lower(*map(jaxpr.raw_type, self.unit.read_types()))
            wide = self.unit.is_wide and may_choose_options()
            options = WIDE if wide else None
            self.executable = pool.submit(lowered.compile, options)

    def __call__(self, *values: Any) -> Sequence[Any]:
        if self.executable is None:
            results: Sequence[Any] = self.jitted(*values)
        else:
            results = self.executable.result()(*values)
        return results


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
    bound: float = math.inf,
) -> Program:
    """Return the program of a unit, which all units that do the same share."""
    key = unit.signature, shardings, context, bound
    program = shared.get(key)
    if program is None:
        program = Program(unit, shardings, bound)
        keep(shared, key, program, _MOST_PROGRAMS)
    return program


def _jitted(unit: ProgramUnit, shardings: tuple[Any, ...] | None, bound: float) -> Any:
    reads = unit.read_types()

    def draw(*values: Any) -> tuple[Any, ...]:
        # Programs start faster on the words of keys than on typed keys.
        operands = list(map(jaxpr.typed, values, reads))
        return tuple(map(jaxpr.raw, run(unit, operands, bound)))

    return jit_to(draw, (), shardings, explicit_axes())
