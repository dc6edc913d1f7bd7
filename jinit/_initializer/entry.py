"""The registry has an entry for each scheme; a family's file ends with `ENTRIES`."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Entry:
    """An Entry names a scheme, its maker, and the facts that decide its use."""

    name: str
    maker: Callable[..., Any]
    law: str
    formula: str
    use: str
    reference: str
    pitfall: str = ""
