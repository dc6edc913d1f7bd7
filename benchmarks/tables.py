"""Time the text of a plan's table, beside the same table printed by rich.

python -m benchmarks.tables --help
"""

import argparse
import functools
import io
import sys
from collections.abc import Callable
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

import jinit
from benchmarks import _page, _timing


def main(argv: list[str] | None = None) -> int:
    """Time both for plans of several sizes; print seconds and their ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="run a small size, for CI")
    _page.add_option(parser)
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
    table = Table("leaves", "print(plan), s", "by rich, s", "times faster")
    for leaves in (40,) if arguments.quick else (1000, 10_000):
        plan = _plan(leaves)
        calls: dict[str, Callable[[], Any]] = {
            "ours": plan.__str__,
            "rich": functools.partial(_by_rich, plan),
        }
        timings = _timing.interleaved(calls, 1 if arguments.quick else 3)
        ours, theirs = (timings[name].median for name in ("ours", "rich"))
        ratio = f"{theirs / ours:.1f}"
        table.add_row(f"{leaves:,}", f"{ours:.3f}", f"{theirs:.3f}", ratio)
    Console().print(table)
    if docs:
        head = ("leaves", "`print(plan)`, s", "by rich, s", "times faster")
        text = _page.table(head, _page.rows_of(table))
        about = "The text of a plan's table, beside the same table printed by rich."
        part = _page.Part(
            "speed", "tables", "Printing a plan", "python -m benchmarks.tables", about,
            [text, _page.measured()],
        )  # fmt: skip
        _page.write(docs, part)
    return 0


def _plan(leaves: int) -> jinit.Plan:
    shapes = {
        f"block_{i}": {
            "kernel": jax.ShapeDtypeStruct((256, 8, 32), "float32"),
            "bias": jax.ShapeDtypeStruct((8, 32), "float32"),
        }
        for i in range(leaves // 2)
    }
    rules = [("**/kernel", jinit.he(layout="ioo")), ("**", jinit.zeros)]
    return jinit.plan({"params": shapes}, rules)


def _by_rich(plan: jinit.Plan) -> str:
    printed = io.StringIO()
    Console(file=printed, width=10_000, color_system=None).print(plan)
    return printed.getvalue()


if __name__ == "__main__":
    sys.exit(main())
