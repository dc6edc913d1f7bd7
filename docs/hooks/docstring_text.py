"""The text of a docstring in Markdown: lists of papers, links between names."""

import inspect
import re
import textwrap

from docs.hooks import reference
from jinit._core import papers
from jinit._core.papers import Paper

BY_TITLE = {p.title: p for p in vars(papers).values() if isinstance(p, Paper)}
SECTION = re.compile(r"^(References|Sources|See):\n((?:  +\S.*\n?|\n(?=  ))+)", re.M)
# The options of a family, which stand indented below "**options".
OPTIONS = re.compile(
    r"^  \*\*options: [^\n]*\n((?:    +\w+: .*\n(?:      +.*\n)*)+)", re.M
)
# A name in backquotes, perhaps with the arguments of a call.
NAME = re.compile(r"`(jinit(?:\.\w+)+)(\([^`]*\))?`(?!\])")


def markdown(doc: str, card: str) -> str:
    """Return a docstring with its card, lists of papers, and links between names."""
    first, blank, rest = inspect.cleandoc(doc).partition("\n\n")
    text = f"{first}\n\n{card}\n\n{rest}" if card else first + blank + rest
    text = OPTIONS.sub(
        lambda match: textwrap.indent(textwrap.dedent(match[1]), "  "), text + "\n"
    )
    text = SECTION.sub(_listed, text)
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
    return "\n".join(map(_linked, text.splitlines()))


def _listed(match: re.Match[str]) -> str:
    """Return the entries of a section as a list, papers with their addresses."""
    entries = re.split(r"\n(?=\S)", textwrap.dedent(match[2]).strip())
    lines = [f"- {_cited(' '.join(entry.split()))}" for entry in entries]
    return "\n".join([f"**{match[1]}**", "", *lines, ""])


def _cited(entry: str) -> str:
    title = re.search(r'"(.+?)"', entry)
    paper = BY_TITLE.get(title[1]) if title else None
    if title is None or paper is None:
        return entry
    return entry.replace(f'"{title[1]}"', f'"[{title[1]}]({paper.url})"')


def _linked(line: str) -> str:
    """Link the public names of a line that is no code."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    places = reference.page_of()
    return NAME.sub(
        lambda match: f"[{match[0]}][{match[1]}]" if match[1] in places else match[0],
        line,
    )
