"""Plain rows -> a table. rich is imported where it draws."""

import io
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from . import _numbers

_COLUMNS = ("path", "shape", "dtype", "layout", "fans", "initializer", "std")


def plan_table(rows: Sequence[dict[str, Any]]) -> Any:
    """The rows of a plan as a rich table, with the total below."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    total = sum(row["parameters"] for row in rows)
    for name in _COLUMNS:
        table.add_column(name, "total" if name == "path" else "", overflow="fold")
    table.add_column("parameters", f"{total:,}", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(_plain_text, _cells(row)))
    return table


def _plain_text(cell: str) -> Any:
    """Text in which brackets are brackets, not rich's markup."""
    from rich.text import Text

    return Text(cell)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    fans = (row["fan_in"], row["fan_out"])
    return (
        row["path"],
        "-" if row["shape"] is None else str(row["shape"]),
        row["dtype"] or "-",
        row["layout"] or "-",
        "-" if fans == (None, None) else " -> ".join(map(_number, fans)),
        row["initializer"],
        _number(row["std"]),
        f"{row['parameters']:,}",
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if _numbers.is_traced(value):
        return _numbers.spell(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def text(table: Any) -> str:
    """A table as plain text: as wide as it needs, or as the terminal is."""
    from rich.console import Console

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def plan_text(rows: Sequence[dict[str, Any]]) -> str:
    """The table as text; where rich is not installed, columns and spaces."""
    try:
        return text(plan_table(rows))
    except ImportError:
        total = sum(row["parameters"] for row in rows)
        head = (*_COLUMNS, "parameters")
        foot = ("total", *[""] * (len(head) - 2), f"{total:,}")
        cells = [head, *map(_cells, rows), foot]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(
            "  ".join(map(str.ljust, line, widths)).rstrip() for line in cells
        )


def plain_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Rows under a head as text, by rich where it is installed."""
    try:
        from rich import box
        from rich.table import Table
    except ImportError:
        widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
        return "\n".join(
            "  ".join(map(str.ljust, line, widths)).rstrip() for line in (head, *lines)
        )
    table = Table(box=box.SIMPLE_HEAD)
    for name in head:
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(*map(_plain_text, line))
    return text(table)
