"""Tables as text: line for line what rich prints, without its objects for each cell."""

import io
import random

import pytest
import rich.table
from rich.console import Console

from jinit._core import terminal
from jinit._core.results import Table

WORDS = [
    "a", "kernel", "params/block_0/attn", "(3, 4)", "0.5 * jinit.he()", "", "日本語 x",
    "x" * 30, "[red]a", "two\nlines", "a  b", "tab\there", "é", " lead", "trail ",
]  # fmt: skip


def by_rich(table, width):
    printed = io.StringIO()
    Console(file=printed, width=width, color_system=None).print(table.grid())
    lines = printed.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def tables(seed, many):
    """Yield tables of words and of numbers, whose columns have sums below them."""
    rng = random.Random(seed)

    def cell():
        return " ".join(rng.choice(WORDS) for _ in range(rng.choice((1, 1, 1, 2, 4))))

    for _ in range(many):
        columns, lines = rng.randint(1, 6), rng.randint(0, 6)
        foot = [rng.choice(["", "1,234"]) for _ in range(columns)]
        foot = rng.choice([(), ["total", *foot[1:]]])
        sums = [text[:1].isdigit() for text in foot or [""] * columns]
        yield Table(
            [rng.choice(["path", "parameters", "fan in"]) for _ in range(columns)],
            [
                [str(rng.randint(0, 10**6)) if is_sum else cell() for is_sum in sums]
                for _ in range(lines)
            ],
            foot,
        )


@pytest.mark.parametrize("width", [10_000, 200, 80, 40, 12])
def test_the_text_is_that_of_rich(width, monkeypatch):
    monkeypatch.setattr(terminal, "width", lambda: width)
    for table in tables(width, 60):
        assert table.text().strip("\n") == by_rich(table, width)


@pytest.mark.parametrize("width", [10_000, 40])
def test_long_tables_do_not_go_through_rich(width, monkeypatch):
    rows = []
    add = rich.table.Table.add_row

    def counted(grid, *cells, **options):
        rows.append(cells)
        add(grid, *cells, **options)

    monkeypatch.setattr(rich.table.Table, "add_row", counted)
    monkeypatch.setattr(terminal, "width", lambda: width)
    lines = [[f"params/block_{i}/kernel", "jinit.he()", f"{i}"] for i in range(2000)]
    text = Table(
        ["path", "initializer", "parameters"], lines, ["total", "", "1"]
    ).text()
    assert text.count("params/") == 2000
    # rich measures a few lines if they do not fit, and otherwise none.
    assert len(rows) <= 6 and bool(rows) == (width == 40)


def test_brackets_in_a_head_are_left_to_rich():
    assert Table(["[b]a"], [["[b]c"]]).text().split() == ["a", "──────", "[b]c"]
