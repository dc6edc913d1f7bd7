"""Residual branches have places in the order of execution, and in scans.

A scan is read once, and stands for as many layers as it has steps. The index of a layer
follows from the scans around each residual sum, and from the axis of each parameter
that the steps of a scan choose from.
"""

from collections.abc import Mapping, Sequence

from . import uses
from .adjust import axis_of
from .records import BranchPlace, Loop
from .uses import Log, Use


def places_of(log: Log) -> tuple[BranchPlace, ...]:
    """Return the place of each residual branch, in the order of the branches."""
    numbers = _numbers(log)
    return tuple(
        BranchPlace(
            addition.sum, tuple(_loop(numbers, loop) for loop in addition.loops)
        )
        for addition in log.additions
    )


def steps_of(
    log: Log, used: Sequence[Use], paths: Sequence[str], shapes: Sequence[Sequence[int]]
) -> Mapping[str, Mapping[int, int | None]]:
    """Return the axes of each parameter that the scans around its layers run along.

    An axis is None if the steps share the parameter, or if a scan runs along a part of
    an axis only.
    """
    numbers = _numbers(log)
    steps: dict[str, dict[int, int | None]] = {}
    for use in used:
        for term in use.view.terms:
            axes = steps.setdefault(paths[term.parameter], {})
            for loop in use.loops:
                if id(loop) not in numbers:
                    continue
                name = term.factor_of(id(loop))
                axis = None if name is None else axis_of(name, term.parameter)
                if axis is not None and shapes[term.parameter][axis] != loop.length:
                    axis = None
                axes[numbers[id(loop)]] = axis
    return steps


def _numbers(log: Log) -> dict[int, int]:
    """Give the scans that carry a residual stream numbers, in order of execution."""
    loops = [loop for addition in log.additions for loop in addition.loops]
    return {key: n for n, key in enumerate(dict.fromkeys(map(id, loops)))}


def _loop(numbers: Mapping[int, int], loop: uses.Loop) -> Loop:
    return Loop(numbers[id(loop)], loop.length, loop.reverse)
