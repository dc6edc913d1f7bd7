"""Write the results of a benchmark into its part of a page of docs/results.

A part stands between two comments, which name it. A benchmark replaces its own parts
and leaves the rest of the page as it is, so that each benchmark can run on its own day.
Where only some rows of a table are measured again, the others stay, and each row says
which run it is from.
"""

import argparse
import contextlib
import datetime
import pathlib
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks import _report
from benchmarks._pages import PAGES
from docs.hooks import pictures

FOLDER = "docs/results"
_ROOT = pathlib.Path(__file__).resolve().parents[1]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_RUN = re.compile(r"^- \*\*([a-z]+)\*\*: (.*(?:\n  .*)*)", re.M)


class Part(NamedTuple):
    """A part of a page says what was measured and how, and shows the numbers.

    `page` and `name` say where it stands, `command` is the one that writes it. `body`
    is Markdown: tables, figures and notes.
    """

    page: str
    name: str
    title: str
    command: str
    about: str
    body: Sequence[str]


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--docs`, with or without a folder, to the options of a benchmark."""
    parser.add_argument(
        "--docs", nargs="?", const=FOLDER, metavar="FOLDER",
        help="write the results into the pages of this folder as well; "
        f"{FOLDER} if none is named",
    )  # fmt: skip


def folder(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> pathlib.Path | None:
    """Return the folder of `--docs`, or None; exit if it cannot have these results."""
    if arguments.docs is None:
        return None
    place = pathlib.Path(arguments.docs)
    if not place.is_dir():
        # A name that was meant as a part of the benchmark would become a folder.
        parser.error(
            f"`--docs` is {arguments.docs!r}, which is no folder. Make the folder "
            "first; names of parts come before `--docs`."
        )
    if arguments.quick and place.resolve() == (_ROOT / FOLDER).resolve():
        parser.error(
            f"`--quick` measures too little for the pages of {FOLDER}. Leave one of "
            "the two options away, or give `--docs` another folder."
        )
    return place


def run() -> str:
    """Return the date, the machine and the versions of this run in one line."""
    facts = _report.environment()
    versions = {"Python": facts["python"]} | {
        name: facts[name]
        for name in ("jinit", "jax", "jaxlib", "flax", "optax", "numpy", "torch")
        if facts[name]
    }
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}, {machine(facts)}; {listed}"


def machine(facts: dict[str, Any]) -> str:
    """Describe the machine by its cores, its vectors and its memory."""
    parts = [f"{facts['cores']} cores", facts["architecture"]]
    if facts["vector_bits"]:
        parts.append(f"vectors of {facts['vector_bits']} bits")
    if facts["memory_gib"]:
        parts.append(f"{facts['memory_gib']} GiB of memory")
    if facts["backend"] != "cpu":
        parts.append(f"{facts['backend'].upper()}: {facts['device']}")
    return ", ".join(parts)


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1
) -> str:  # fmt: skip
    """Return a Markdown table whose first columns are aligned left, others right."""
    marks = ["---" if i < left else "---:" for i in range(len(head))]
    lines = [_line(head), _line(marks), *map(_line, rows)]
    return "\n".join(lines)


def rows_of(table: Table) -> list[tuple[str, ...]]:
    """Return the rows of a table that is printed, to show them on a page as well."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return list(zip(*columns, strict=True))


def _line(cells: Sequence[str]) -> str:
    # A bar would begin a new cell.
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def ratio(value: float | None) -> str:
    """Return how many times faster jinit is, in bold type where it is slower."""
    if value is None:
        return "-"
    text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
    return f"**{text}**" if float(text) < 1 else text


class Merged(NamedTuple):
    """A table has rows of this run and of earlier ones, with the letters of the runs.

    `rows` are cells without the letter; `text` is the table and the list of its runs.
    """

    rows: list[tuple[str, ...]]
    text: str


def merged(
    place: pathlib.Path,
    page: str,
    name: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    keys: int = 1,
    order: Sequence[Sequence[str]] = (),
    left: int = 1,
) -> Merged:
    """Put rows into the table of a part; rows that were not measured again stay.

    Args:
      place: the folder of the pages.
      page: the page of the table.
      name: the part of the table.
      head: the names of the columns.
      rows: the rows of this run.
      keys: the number of first cells that tell one row from another.
      order: these cells, in the order of the table; other rows come last.
      left: the number of columns that are aligned left.

    Raises:
      ValueError: if the table of the page has other columns.
    """
    known = {tuple(key): number for number, key in enumerate(order)}
    latest = run()
    earlier = _earlier(part_of(place / f"{page}.md", name), head)
    lines = {row[:keys]: (row, when) for row, when in earlier}
    lines |= {tuple(row[:keys]): (tuple(row), latest) for row in rows}
    # A row that is not in `order` is too large for this machine, or it is of a case
    # that is no more: nothing that was measured is removed without being seen.
    places = sorted(lines, key=lambda key: known.get(key, len(known)))
    kept = [lines[key] for key in places]
    letters: dict[str, str] = {}
    for _, when in kept:
        repeats, index = divmod(len(letters), len(_LETTERS))
        letters.setdefault(when, _LETTERS[index] * (repeats + 1))
    text = table(
        [*head, "run"],
        [[*row, letters[when]] for row, when in kept],
        left=left,
    )
    listed = [item(f"- **{letter}**: {when}") for when, letter in letters.items()]
    return Merged([row for row, _ in kept], "\n".join([text, "", "Runs:", "", *listed]))


def _filled(paragraph: str, indent: str = "") -> str:
    """Break a paragraph into lines of 88 columns."""
    return textwrap.fill(
        " ".join(paragraph.split()), 88, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def item(text: str) -> str:
    """Break an item of a list, which begins with "- ", into lines of 88 columns."""
    return _filled(text, "  ")


def _earlier(
    text: str, head: Sequence[str]
) -> list[tuple[tuple[str, ...], str]]:  # fmt: skip
    """Return the rows of a part with the runs that they are from."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    if not lines:
        return []
    if lines[0] != _line([*head, "run"]):
        raise ValueError(
            f"The page has a table with the head {lines[0]}, and this run has "
            f"{_line([*head, 'run'])}. Remove the part from the page, and measure all "
            "rows."
        )
    runs = {letter: " ".join(when.split()) for letter, when in _RUN.findall(text)}
    cells = [
        tuple(cell.replace(r"\|", "|") for cell in re.split(r" (?<!\\)\| ", line[2:-2]))
        for line in lines[2:]
    ]
    return [(row[:-1], runs[row[-1]]) for row in cells]


def part_of(path: pathlib.Path, name: str) -> str:
    """Return the text of a part of a page, or "" if the page has none."""
    if not path.is_file():
        return ""
    match = _pattern(name).search(path.read_text())
    return match[1] if match else ""


def _pattern(name: str) -> re.Pattern[str]:
    start, end = (re.escape(mark) for mark in _marks(name))
    return re.compile(f"{start}\n(.*?){end}\n", re.S)


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- part: {name} -->", f"<!-- end: {name} -->"


def write(place: pathlib.Path, part: Part) -> None:
    """Put a part into its page, in the place of the one that stands there."""
    path = place / f"{part.page}.md"
    page = PAGES[part.page]
    new_page = f"# {page.title}\n\n{paragraphs(page.about)}\n"
    text = path.read_text() if path.is_file() else new_page
    start, end = _marks(part.name)
    new = f"{start}\n{_markdown(part)}\n{end}\n"
    if _pattern(part.name).search(text):
        path.write_text(_pattern(part.name).sub(lambda match: new, text))
        return
    # A new part stands behind the last one that comes before it in the page's order.
    before = page.parts[: page.parts.index(part.name)]
    ends = [_pattern(name).search(text) for name in before]
    position = max((match.end() for match in ends if match), default=None)
    if position is None:
        first = re.search(r"^<!-- part: ", text, re.M)
        position = first.start() if first else len(text)
    path.write_text(_spaced(text[:position], new, text[position:]))


def _spaced(before: str, new: str, after: str) -> str:
    rest = after.lstrip("\n")
    return before.rstrip("\n") + f"\n\n{new}" + (f"\n{rest}" if rest else "")


def paragraphs(text: str) -> str:
    """Return a text whose paragraphs are broken at 88 columns."""
    return "\n\n".join(map(_filled, text.strip().split("\n\n")))


def _markdown(part: Part) -> str:
    pieces = [f"## {part.title}", "", f"```sh\n{part.command}\n```", ""]
    pieces += [paragraphs(part.about), ""]
    for one in part.body:
        pieces += [one.strip(), ""]
    return "\n".join(pieces)


def measured(before: str = "") -> str:
    """Return the sentence that ends a part whose numbers are all of one run."""
    return _filled(f"{before} Measured: {run()}.")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw figures as the site does, for a light and for a dark page."""
    # Text stays text, which keeps files small; the salt makes them the same each time.
    with pictures.style(), plt.rc_context({
        "svg.fonttype": "none", "svg.hashsalt": "jinit",
    }):  # fmt: skip
        yield


def image(place: pathlib.Path, name: str, figure: Figure, alt: str) -> str:
    """Write a figure as an SVG beside the pages, and return its Markdown."""
    path = place / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # Matplotlib ends lines with spaces, which editors and hooks remove.
    lines = [line.rstrip() for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    return f"![{alt}]({path.name}){{ .drawn }}"
