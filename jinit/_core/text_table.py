"""A table becomes plain text, line for line as rich prints it, without rich's objects.

rich makes several objects for each cell: a plan of 10,000 leaves took it 5 s. Here rich
computes only two things: the widths of the columns if the table is wider than its
console, and the lines of the cells that do not fit into their column.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# Between two columns are three spaces, and two on each side of the table.
_BETWEEN, _OUTSIDE = 3, 4


def written(
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    foot: Sequence[str],
    width: int,
    grid_of: Callable[[Sequence[Sequence[str]]], Any],
) -> str | None:
    """Return a table as text, or None if rich has to write it.

    Args:
      head: the names of the columns.
      lines: the cells of each line.
      foot: the cells below the lines, or none.
      width: the width of the console.
      grid_of: a function of some of the lines that returns rich's table of them.
    """
    every = [head, *lines, foot] if foot else [head, *lines]
    columns = list(zip(*every, strict=True))
    widths = [max(map(_length, column)) for column in columns]
    if sum(widths) + _BETWEEN * (len(widths) - 1) + _OUTSIDE > width:
        widths = _narrower(lines, columns, width, grid_of)
    # A console too narrow for a letter of each column makes rich drop columns. In the
    # head and the foot it reads brackets as markup.
    if min(widths, default=0) < 1 or any("[" in cell for cell in (*head, *foot)):
        return None
    # A foot that is a sum stands under its numbers, which end at the right.
    right = [cell[:1].isdigit() for cell in foot or [""] * len(head)]
    rule = " " + "─" * (sum(widths) + _BETWEEN * len(widths) - 1)
    parts = [_line(head, widths, right, at_bottom=True), [rule]]
    parts += [_line(cells, widths, right) for cells in lines]
    parts += [[""], _line(foot, widths, right)] if foot else []
    return "\n".join(itertools.chain.from_iterable(parts))


def _length(cell: str) -> int:
    """Return the number of columns of a terminal that a text takes."""
    if cell.isascii() and cell.isprintable():
        return len(cell)
    from rich.text import Text

    # Some characters take two places, and a text may have several lines.
    return max(line.cell_len for line in Text(cell).split(allow_blank=True))


def _narrower(
    lines: Sequence[Sequence[str]],
    columns: Sequence[Sequence[str]],
    width: int,
    grid_of: Callable[[Sequence[Sequence[str]]], Any],
) -> list[int]:
    """Return the widths that rich gives the columns of a table that is too wide."""
    from rich import box

    # A width depends on the longest cell of a column and on its longest word, so a few
    # lines have the widths of all.
    picked = set()
    for column in columns:
        cells = column[1 : len(lines) + 1]
        for measure in (_length, _longest_word):
            lengths = list(map(measure, cells))
            picked |= {lengths.index(max(lengths))} if lengths else set()
    grid = grid_of([lines[index] for index in sorted(picked)])
    # In this box the line below the head shows where the columns end.
    grid.box = box.ASCII
    printed = _console(width)
    printed.print(grid)
    text = printed.file.getvalue().splitlines()
    rule = next((line for line in text if line.startswith("|-")), "|--|")
    return [len(part) - 2 for part in rule.strip("|").split("+")]


def _longest_word(cell: str) -> int:
    return max(map(_length, cell.split()), default=0)


def _console(width: int) -> Any:
    import io

    from rich.console import Console

    return Console(file=io.StringIO(), width=width, color_system=None)


def _line(
    cells: Sequence[str],
    widths: Sequence[int],
    right: Sequence[bool],
    at_bottom: bool = False,
) -> Iterator[str]:
    """Yield the lines of text of one line of cells."""
    parts = [list(_fold(*pair)) for pair in zip(cells, widths, strict=True)]
    if at_bottom:
        height = max(map(len, parts))
        parts = [[""] * (height - len(part)) + part for part in parts]
    for row in itertools.zip_longest(*parts, fillvalue=""):
        padded = [
            _padded(text, width, at_right)
            for text, width, at_right in zip(row, widths, right, strict=True)
        ]
        # rich fills the last column with spaces, which a doctest would have to repeat.
        yield ("  " + "   ".join(padded)).rstrip()


def _fold(cell: str, width: int) -> Iterator[str]:
    if cell.isascii() and cell.isprintable() and len(cell) <= width:
        yield cell
        return
    from rich.text import Text

    for line in Text(cell).wrap(_console(width), width, overflow="fold"):
        yield line.plain


def _padded(text: str, width: int, at_right: bool) -> str:
    spaces = " " * (width - _length(text))
    return spaces + text if at_right else text + spaces
