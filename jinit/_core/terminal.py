"""Results print as tables, and long work shows its progress, both with rich.

Flax needs rich, so it is always there; it takes 0.1 s to load, so it waits until
something is printed.
"""

import io
import shutil
import sys
from collections.abc import Sequence
from typing import Any


def plain_text(cell: str) -> Any:
    """Return text whose brackets rich prints, and does not read as markup."""
    from rich.text import Text

    return Text(cell)


def width() -> int:
    """Return the number of columns that text may have: those of a terminal, or many."""
    # Without a terminal rich would fold all lines at 80 columns, in files and doctests
    # too.
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def text(table: Any) -> str:
    """Return a table of rich as plain text."""
    from rich.console import Console

    printed = io.StringIO()
    Console(file=printed, width=width(), color_system=None).print(table)
    lines = printed.getvalue().splitlines()
    # rich fills the last column with spaces, which a doctest would have to repeat.
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def track(items: Sequence[Any], description: str, *, show: bool) -> Any:
    """Return the items, with a progress bar if `show` is true and there is a terminal.

    Nobody reads a bar in a file, so output to a file has none.
    """
    if not (show and sys.stdout.isatty()):
        return items
    from rich.progress import track as rich_track

    return rich_track(items, description=description, transient=True)
