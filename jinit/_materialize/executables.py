"""A distinct unit of a function has one compiled program, which equal units share."""

import math
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import jax
import numpy as np

from .._core import checks
from .._core.identity import keep
from .._core.meshes import explicit_axes
from .._core.programs import WIDE, jit_to, may_choose_options, trace_context
from .._network import jaxpr
from .._network.equations import BROADCAST, keeps_order
from . import memory
from .units import ProgramUnit, run

# Up to this number of elements a copy from the host costs less than a program. The
# biases of a network are smaller.
_SMALL_FILL = 1 << 18


class Fill(NamedTuple):
    """A Fill makes an array that repeats a number, without a program."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __call__(self, number: Any) -> list[jax.Array]:
        return self.all([self], [number])

    @staticmethod
    def all(fills: "Sequence[Fill]", numbers: Sequence[Any]) -> list[jax.Array]:
        """Return an array for each fill; many at once take half the time."""
        # Arrays of equal numbers are copies of the beginnings of one array.
        pairs = [
            (fill.dtype, np.asarray(number, fill.dtype).tobytes())
            for fill, number in zip(fills, numbers, strict=True)
        ]
        sizes: dict[tuple[np.dtype, bytes], int] = {}
        for pair, fill in zip(pairs, fills, strict=True):
            sizes[pair] = max(sizes.get(pair, 0), math.prod(fill.shape))
        filled = {pair: _filled(size, *pair) for pair, size in sizes.items()}
        return memory.copied(
            [
                filled[pair][: math.prod(fill.shape)].reshape(fill.shape)
                for pair, fill in zip(pairs, fills, strict=True)
            ]
        )


def _filled(size: int, dtype: np.dtype, number: bytes) -> np.ndarray:
    array = memory.unaligned(memory.zeros(size * dtype.itemsize), size, dtype)
    array[:] = np.frombuffer(number, dtype)
    return array


def fill(unit: ProgramUnit) -> Fill | None:
    """Return what repeats a number without a program, if a unit does so."""
    step, *others = unit.steps
    if step.eqn.primitive is not BROADCAST or not all(
        keeps_order(x.eqn) for x in others
    ):
        return None
    (kind,) = unit.write_types()
    repeats = len(unit.reads) == 1 and jaxpr.size(step.eqn.invars[0]) == 1
    if jaxpr.is_key(kind) or not repeats:
        return None
    if not 1 < math.prod(kind.shape) <= _SMALL_FILL:
        return None
    return Fill(kind.shape, np.dtype(kind.dtype))


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
