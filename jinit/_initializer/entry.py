"""What the registry says of a scheme. Each family's file ends with its `ENTRIES`."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Entry:
    """One scheme: its maker, and what to know before using it."""

    name: str
    maker: Callable[..., Any]
    law: str
    formula: str
    use: str
    reference: str
    pitfall: str = ""
