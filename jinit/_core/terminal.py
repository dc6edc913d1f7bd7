"""Results print as tables, and long work shows its progress, both with rich."""

import io
import shutil
import sys
from collections.abc import Sequence
from typing import Any


def plain_text(cell: str) -> Any:
    """Text in which brackets are brackets, not rich's markup."""
    from rich.text import Text

    return Text(cell)


def text(table: Any) -> str:
    """A table as plain text: as wide as it needs, or as the terminal is."""
    from rich.console import Console

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def track(items: Sequence[Any], description: str, *, show: bool) -> Any:
    """`items`, with a bar that follows them where `show` is true and somebody looks."""
    if not (show and sys.stdout.isatty()):
        return items
    from rich.progress import track as rich_track

    return rich_track(items, description=description, transient=True)
