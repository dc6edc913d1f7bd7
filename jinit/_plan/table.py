"""A plan prints as a table of its leaves."""

from collections.abc import Sequence
from typing import Any

from .._core import numbers
from .._core.terminal import plain_text, text

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
        table.add_row(*map(plain_text, _cells(row)))
    return table


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
    if numbers.is_traced(value):
        return numbers.spell(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


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
