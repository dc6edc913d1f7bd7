"""A loop over shifts of data, each times a slice of one parameter, is a convolution.

So do public models write a depthwise convolution over time: the slice w[k] multiplies
data that are moved by k steps, and the products are added.
"""

from collections.abc import Mapping, Sequence

from .adjust import axis_of
from .factors import MULTIPLIES_DATA
from .uses import Log, Use
from .values import Term, is_real

# A slice of one entry: the axis of the parameter, and the index of the entry.
_Slice = tuple[int, int]


def windows_of(
    log: Log, paths: Sequence[str], shapes: Sequence[Sequence[int]]
) -> Mapping[str, int]:
    """Return the axis of the window of each parameter that is such a convolution."""
    uses: dict[int, list[Use]] = {}
    for use in log.uses:
        for term in use.view.terms:
            uses.setdefault(term.parameter, []).append(use)
    windows: dict[str, int] = {}
    for number, several in uses.items():
        for axis in range(len(shapes[number])):
            if _is_window(several, axis, shapes[number], log.mixed):
                windows[paths[number]] = axis
    return windows


def slices_of(term: Term, shape: Sequence[int]) -> list[_Slice]:
    """Return the axes of a parameter of which a view has one entry, with its index."""
    axes = ((axis_of(n, term.parameter), start, stop) for n, start, stop in term.part)
    return [
        (axis, start)
        for axis, start, stop in axes
        if axis is not None and stop - start == 1 and shape[axis] > 1
    ]


def _is_window(
    uses: Sequence[Use], axis: int, shape: Sequence[int], sums: set[int]
) -> bool:
    groups: dict[tuple[_Slice, ...], list[tuple[int, Use]]] = {}
    for use in uses:
        # A vector for each shift; single numbers weigh parts of a value.
        if use.reason != MULTIPLIES_DATA or not _has_channels(use):
            return False
        slices = slices_of(use.view.terms[0], shape)
        others = tuple(one for one in slices if one[0] != axis)
        indices = [index for along, index in slices if along == axis]
        if len(indices) != 1:
            return False
        groups.setdefault(others, []).append((indices[0], use))
    return all(_covers(group, shape[axis], sums) for group in groups.values())


def _has_channels(use: Use) -> bool:
    axes = use.view.terms[0].axes
    return len(use.view.terms) == 1 and any(
        is_real(factor) and factor[1] > 1 for axis in axes for factor in axis
    )


def _covers(group: list[tuple[int, Use]], size: int, sums: set[int]) -> bool:
    """Tell whether each index multiplies a shift of one value, and all are added."""
    bits, read = 0, set()
    for _, use in group:
        data = use.data
        if data is None:
            return False
        bits |= use.bit
        read.add((data.layers, data.last, data.sources))
    is_added = any(mixes & bits == bits for mixes in sums)
    is_whole = sorted(index for index, _ in group) == list(range(size))
    return is_whole and is_added and len(read) == 1
