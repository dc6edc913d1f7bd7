"""Find the Python code of a page, and run it.

The blocks of one page share a namespace, from top to bottom, as in a notebook. A page
is one test: pytest may send tests to several processes, and a block must not lose the
names of the blocks above it.
"""

import ast
import importlib.util
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

FENCE = re.compile(
    r"^(?P<indent> *)```python *(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=indent)```",
    re.M | re.S,
)
# Libraries that jinit reads and does not require.
LIBRARIES = ("equinox", "haiku", "keras", "penzai")


class Block(NamedTuple):
    """A block is the code of one fence, and the number of its first line."""

    code: str
    line: int
    end: int


def blocks(markdown: str) -> Iterator[Block]:
    """Yield the Python blocks of a page, also those in tabs, which are indented."""
    for match in FENCE.finditer(markdown):
        indent = match["indent"]
        code = re.sub(rf"^{indent}", "", match["code"], flags=re.M)
        line = markdown.count("\n", 0, match.start("code")) + 1
        yield Block(code, line, match.end())


def missing(block: Block) -> str:
    """Return the library that a block imports and this environment lacks, or ""."""
    for node in ast.walk(ast.parse(block.code)):
        names = (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        )
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            library = name.partition(".")[0]
            if library in LIBRARIES and importlib.util.find_spec(library) is None:
                return library
    return ""


def run(block: Block, page: str, namespace: dict[str, Any]) -> None:
    """Run a block; a traceback names the page and its line."""
    # Empty lines above the code give it the line numbers of the page.
    padded = "\n" * (block.line - 1) + block.code
    exec(compile(padded, page, "exec"), namespace)
