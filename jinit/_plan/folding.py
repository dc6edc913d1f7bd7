"""A table shows equal layers in one line, by the range of their numbers.

Four blocks of a transformer have fifty leaves, and the lines of three blocks only
repeat those of the first. The rows of a plan, as data, are never folded.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# Two equal layers are shown as they are: a range would hide more than it saves.
_FEWEST = 3
_NUMBERED = re.compile(r"(.*?)(\d+)")
_LONG_NUMBER = re.compile(r"(?<![\w.])\d*\.\d+(?:e[+-]?\d+)?")


class Line(NamedTuple):
    """A line is a path, the other cells, and a number of parameters."""

    path: str
    cells: tuple[str, ...]
    parameters: int


def folded(lines: Sequence[Line]) -> list[Line]:
    """Return the lines with those of equal layers as one: "blocks/0..3/kernel"."""
    result = list(lines)
    deepest = max((line.path.count("/") for line in lines), default=0)
    for depth in range(deepest + 1):
        result = _folded_at(depth, result)
    return result


def _folded_at(depth: int, lines: Sequence[Line]) -> list[Line]:
    """Fold the lines that differ in the number of one part of their paths alone."""
    groups: dict[object, list[_Numbered]] = {}
    for place, line in enumerate(lines):
        parts = line.path.split("/")
        match = _NUMBERED.fullmatch(parts[depth]) if depth < len(parts) else None
        if match is None:
            groups[place] = [_Numbered(0, place, line)]
            continue
        frame = (*parts[:depth], match[1], None, *parts[depth + 1 :])
        numbered = _Numbered(int(match[2]), place, line)
        groups.setdefault((frame, *line[1:]), []).append(numbered)
    pairs = [pair for group in groups.values() for pair in _merged(group, depth)]
    return [line for _, line in sorted(pairs, key=lambda pair: pair[0])]


class _Numbered(NamedTuple):
    number: int
    place: int
    line: Line


def _merged(group: list[_Numbered], depth: int) -> Iterator[tuple[int, Line]]:
    """Yield one line, with its place, for each long run of successive numbers."""
    group = sorted(group)
    starts = [
        i for i, one in enumerate(group) if i and one.number != group[i - 1].number + 1
    ]
    for start, end in itertools.pairwise([0, *starts, len(group)]):
        run = group[start:end]
        if len(run) < _FEWEST:
            yield from ((one.place, one.line) for one in run)
            continue
        parts = run[0].line.path.split("/")
        parts[depth] += f"..{run[-1].number}"
        total = sum(one.line.parameters for one in run)
        yield run[0].place, Line("/".join(parts), run[0].line.cells, total)


def short_numbers(code: str) -> str:
    """Write the long numbers of an initializer with four digits: 0.007071."""

    def short(match: re.Match[str]) -> str:
        return match[0] if len(match[0]) <= 8 else f"{float(match[0]):.4g}"

    return _LONG_NUMBER.sub(short, code)
