"""Rewrite the references of all docstrings: python -m tests.support.references.

An entry of a section "References:" is the `reference` of a paper in
`jinit/_core/papers.py`; a note in whole sentences may follow it. The paper is known by
its quoted title, so authors, venue and year always come from the bibliography.
"""

import pathlib
import re
import textwrap
from collections.abc import Iterator

from jinit._core import papers
from jinit._core.papers import Paper

JINIT = pathlib.Path(papers.__file__).parents[1]
WIDTH = 88

BY_TITLE = {p.title: p for p in vars(papers).values() if isinstance(p, Paper)}
# The heading, and all lines that are indented more than the heading.
SECTION = re.compile(r"^( *)References:\n((?:\1 +\S.*\n)+)", re.M)
ENTRY = re.compile(r'.+?, "(?P<title>.+?)", .*?\d{4}\.(?P<note> .+)?')


def sources() -> list[pathlib.Path]:
    """Return every file of the library."""
    return sorted(JINIT.rglob("*.py"))


def entries(section: str) -> Iterator[tuple[Paper, str]]:
    """Yield the paper and the note of each entry in the text below a heading.

    An entry begins at the indentation of the first line; its other lines are indented
    more.
    """
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(section).strip()):
        match = ENTRY.fullmatch(" ".join(entry.split()))
        if match is None or match["title"] not in BY_TITLE:
            raise ValueError(
                f"{entry!r} is not a reference of jinit/_core/papers.py. Add the paper "
                "there, and spell its title here as there."
            )
        yield BY_TITLE[match["title"]], match["note"] or ""


def rewritten(source: str) -> str:
    """Return the text of a file, with its references spelled as in the bibliography."""

    def section(match: re.Match[str]) -> str:
        indent = f"{match[1]}  "
        lines = []
        for paper, note in entries(match[2]):
            lines += textwrap.wrap(
                paper.reference + note,
                WIDTH,
                initial_indent=indent,
                subsequent_indent=f"{indent}  ",
                break_on_hyphens=False,
            )
        return "\n".join([f"{match[1]}References:", *lines, ""])

    return SECTION.sub(section, source)


def cited(docstring: str) -> list[Paper]:
    """Return the papers in the references of a docstring."""
    match = SECTION.search(docstring + "\n")
    return [paper for paper, _ in entries(match[2])] if match else []


if __name__ == "__main__":
    for path in sources():
        path.write_text(rewritten(path.read_text()))
