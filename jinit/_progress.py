"""A progress bar, on a terminal; off one, silence."""

import sys
from collections.abc import Sequence
from typing import Any


def track(items: Sequence[Any], description: str, *, show: bool) -> Any:
    """`items`, with a bar that follows them where `show` is true and somebody looks."""
    if not (show and sys.stdout.isatty()):
        return items
    from rich.progress import track as rich_track

    return rich_track(items, description=description, transient=True)
