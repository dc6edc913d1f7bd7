"""A plan prints as a table of its leaves."""

from collections.abc import Sequence

from .._core import numbers
from .._core.results import Row, Table
from .._network.network_table import shown_roles
from .folding import Line, folded, short_numbers

_HEAD = (
    "path", "shape", "dtype", "roles", "layout", "fans", "initializer", "std",
    "parameters",
)  # fmt: skip


def table(rows: Sequence[Row], notes: Sequence[str] = ()) -> Table:
    """Return the rows of a plan as a table, with the number of parameters below."""
    # Roles are known in the plan of a network alone.
    has_roles = any("roles" in row for row in rows)
    head = [name for name in _HEAD if has_roles or name != "roles"]
    total = sum(row["parameters"] for row in rows)
    foot = ("total", *[""] * (len(head) - 2), f"{total:,}")
    lines = folded([Line(row["path"], _cells(row), row["parameters"]) for row in rows])
    cells = [(line.path, *line.cells, f"{line.parameters:,}") for line in lines]
    return Table(head, cells, foot, below=[*_remark(rows, lines), *notes])


def _remark(rows: Sequence[Row], lines: Sequence[Line]) -> list[str]:
    if len(lines) == len(rows):
        return []
    return [
        f"{len(rows)} leaves: a line with a range such as 0..3 stands for equal layers"
    ]


def _cells(row: Row) -> tuple[str, ...]:
    """Return the cells between the path and the number of parameters."""
    fans = (row["fan_in"], row["fan_out"])
    roles = row.get("roles")
    return (
        "-" if row["shape"] is None else str(row["shape"]),
        row["dtype"] or "-",
        *([] if roles is None else [", ".join(shown_roles(frozenset(roles)))]),
        row["layout"] or "-",
        "-" if fans == (None, None) else " -> ".join(map(_number, fans)),
        short_numbers(row["initializer"]),
        _number(row["std"]),
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    # A plan may be made and printed under `jit`, where a scale has no value yet.
    if numbers.is_traced(value):
        return numbers.spell(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
