"""Results print as tables, show as HTML in a notebook, and give plain data.

A result has `rows`, dicts with keys in snake_case. A subclass says which table shows
them (`_table`), and the base class writes it: as text, for rich, as HTML.
"""

import functools
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import html_table, numbers, terminal, text_table
from .terminal import plain_text

Row = dict[str, Any]


class Finding(NamedTuple):
    """A finding says which trouble a layer has, which number shows it, what to try."""

    category: str
    path: str
    value: float
    message: str

    @property
    def kind(self) -> str:
        """Return the category, which version 0.1 called a kind."""
        return self.category

    def __str__(self) -> str:
        return self.message


class Table(NamedTuple):
    """A table is a head and lines of cells, and the sentences above and below it.

    `marks` say for each line whether it is sick; the text of its first cell shows it.
    """

    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    foot: Sequence[str] = ()
    above: Sequence[str] = ()
    below: Sequence[str] = ()
    marks: Sequence[bool] = ()

    def marked_lines(self) -> Sequence[Sequence[str]]:
        """Return the lines with the mark of each in its first cell."""
        if not self.marks:
            return self.lines
        return [
            (("! " if mark else "  ") + first, *rest)
            for mark, (first, *rest) in zip(self.marks, self.lines, strict=True)
        ]

    def grid(self) -> Any:
        """Return the head, the lines and the foot as a rich table."""
        return _grid(self.head, self.marked_lines(), self.foot)

    def for_rich(self) -> Any:
        """Return what rich prints: the table, with its sentences if it has any."""
        from rich.console import Group

        if not (self.above or self.below):
            return self.grid()
        grids = [self.grid()] if self.head else []
        sentences = map(plain_text, self.above), map(plain_text, self.below)
        return Group(*sentences[0], *grids, *sentences[1])

    def text(self) -> str:
        """Return the table as plain text."""
        parts = [*self.above]
        if self.head:
            parts.append(self._written())
        if self.below:
            parts += ["", *self.below]
        return "\n".join(parts)

    def _written(self) -> str:
        def grid_of(lines: Sequence[Sequence[str]]) -> Any:
            return _grid(self.head, lines, self.foot)

        lines, width = self.marked_lines(), terminal.width()
        text = text_table.written(self.head, lines, self.foot, width, grid_of)
        return terminal.text(self.grid()) if text is None else text

    def html(self, name: str = "Table") -> str:
        """Return the table as HTML: the lines of the text, below a name."""
        below = html_table.sentences(self.below)
        if not self.head:
            return html_table.sentences(self.above) + below
        rows = "row" if len(self.lines) == 1 else "rows"
        caption = [f"{name}: {len(self.lines):,} {rows}", *self.above]
        lines = self.marked_lines()
        return (
            html_table.written(caption, self.head, lines, self.foot, self.marks) + below
        )


def _grid(
    head: Sequence[str], lines: Sequence[Sequence[str]], foot: Sequence[str]
) -> Any:
    """Return a head, lines and a foot as a rich table."""
    from rich import box
    from rich.table import Table as RichTable

    grid = RichTable(box=box.SIMPLE_HEAD, show_footer=bool(foot))
    for name, below in zip(head, foot or [""] * len(head), strict=True):
        # A foot that is a sum stands under its numbers, which end at the right.
        is_sum = below[:1].isdigit()
        justify: Any = "right" if is_sum else "left"
        # A path that is cut by an ellipsis could neither be told from others nor
        # copied.
        grid.add_column(name, below, overflow="fold", justify=justify, no_wrap=is_sum)
    for line in lines:
        grid.add_row(*map(plain_text, line))
    return grid


class Result:
    """A result is a value with rows that prints as a table.

    Subclasses have `rows` as a field or a property, and implement `_table`.
    """

    if TYPE_CHECKING:
        # At run time a property here would be the default value of a field `rows`.
        @property
        def rows(self) -> Sequence[Row]: ...

    def _table(self) -> Table:
        raise NotImplementedError

    def __str__(self) -> str:
        return self._table().text()

    def __rich__(self) -> Any:
        return self._table().for_rich()

    def _repr_html_(self) -> str:
        return self._table().html(type(self).__name__)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for numbers that are not finite."""
        return {"rows": plain(self.rows)}


def plain(value: Any) -> Any:
    """Return a value as plain data for JSON.

    Tuples become lists, findings become dicts, and numbers that are not finite become
    None, since JSON has neither of them.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    # A finding is a tuple too, so it is asked for its fields before it becomes a list.
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if numbers.is_traced(value):
        return numbers.spell(value)
    return str(value)


def saved(figure: Any, path: Any) -> Any:
    """Write a figure to a file, unless `path` is None, and return the figure.

    A notebook shows the figure where it is the value of a cell.
    """
    if path is not None:
        figure.savefig(path, dpi=120)
    # By themselves notebooks show the figures of pyplot alone, which would stay in its
    # memory until they are closed.
    figure._repr_png_ = functools.partial(_png, figure)
    return figure


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()
