"""Notebooks in the percent format become pages with the results of their cells.

`examples/notebooks/*.py` are the only source. Markdown cells become prose and code
cells are run, from top to bottom; below each stands what Jupyter would show: the text
that it prints, its figures, and the value of its last expression, as HTML if it has
any. Jupytext opens the same files as notebooks; `ipynb` makes one without results.
"""

import ast
import contextlib
import io
import json
import pathlib
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from docs.hooks import pictures

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "notebooks"
_CELL = re.compile(r"^# %%(?: \[(\w+)\])?$", re.M)
_LINK = re.compile(r"\]\(\.\./([\w/-]+)\.md")


class Cell(NamedTuple):
    """A cell is prose or code; `line` is the number of its first line in the file."""

    is_code: bool
    text: str
    line: int


def sources() -> dict[str, str]:
    """Return the source of each notebook by the place of its page in `docs`."""
    return {
        f"examples/{path.stem}.md": path.read_text()
        for path in sorted(FOLDER.glob("*.py"))
    }


def title(source: str) -> str:
    """Return the heading of a notebook."""
    return next(cells(source)).text.partition("\n")[0].removeprefix("# ")


def cells(source: str) -> Iterator[Cell]:
    """Yield the cells of a notebook in the percent format."""
    marks = [*_CELL.finditer(source)]
    ends = [*(mark.start() for mark in marks[1:]), len(source)]
    # What stands above the first cell is Jupytext's header.
    for mark, end in zip(marks, ends, strict=True):
        line = source.count("\n", 0, mark.end()) + 2
        text = source[mark.end() + 1 : end].rstrip()
        if mark[1]:
            text = re.sub(r"^# ?", "", text, flags=re.M)
        yield Cell(mark[1] is None, text, line)


def ipynb(source: str, site: str) -> str:
    """Return a notebook without results, whose links lead to the site."""
    parts = []
    for number, cell in enumerate(cells(source)):
        one: dict[str, Any] = {"id": f"cell-{number}", "metadata": {}}
        if cell.is_code:
            one |= {"cell_type": "code", "source": cell.text}
            one |= {"execution_count": None, "outputs": []}
        else:
            text = _LINK.sub(rf"]({site}\1/", cell.text)
            one |= {"cell_type": "markdown", "source": text}
        parts.append(one)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {
        "cells": parts,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1) + "\n"


def executed(source: str, page: str) -> tuple[str, dict[str, bytes]]:
    """Run a notebook; return its page, and its figures by their place in `docs`.

    Args:
      source: the notebook in the percent format.
      page: the place of its page, such as "examples/diagnose.md".
    """
    name = pathlib.PurePath(page).stem
    namespace: dict[str, Any] = {"__name__": "__main__"}
    pieces, drawn = [], dict[str, bytes]()
    with pictures.style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, cell in enumerate(cells(source)):
            pieces.append(f"```python\n{cell.text}\n```" if cell.is_code else cell.text)
            if number == 0:
                pieces.append(_origin(name))
            if not cell.is_code:
                continue
            text, value = _run(cell, f"examples/notebooks/{name}.py", namespace)
            pieces.append(_fenced(text))
            for figure in _figures(value):
                path = f"assets/drawn/notebook-{name}-{len(drawn)}.png"
                drawn[path] = pictures.saved(figure)
                words = "The figure that the code above draws"
                pieces.append(f"![{words}](../{path}){{ .drawn }}")
            pieces.append(_shown(value))
            plt.close("all")
    return "\n\n".join(filter(None, pieces)) + "\n", drawn


def _origin(name: str) -> str:
    return (
        f"This page is a notebook that the build of the site runs. "
        f"[Download it]({name}.ipynb), or open `examples/notebooks/{name}.py` with "
        "Jupytext."
    )


def _run(cell: Cell, file: str, namespace: dict[str, Any]) -> tuple[str, Any]:
    """Run a cell; return what it prints, and the value of its last expression."""
    tree = ast.parse(cell.text)
    ast.increment_lineno(tree, cell.line - 1)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, file, "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), file, "eval"), namespace)
    return printed.getvalue(), value


def _figures(value: Any) -> list[Figure]:
    """Return the figures of pyplot that are open, and the value if it is one."""
    drawn = [plt.figure(number) for number in plt.get_fignums()]
    return [*drawn, value] if isinstance(value, Figure) else drawn


def _shown(value: Any) -> str:
    """Return a value as Jupyter shows it, in Markdown."""
    if value is None or isinstance(value, Figure):
        return ""
    if hasattr(value, "_repr_html_"):
        # Markdown would end a block of HTML at an empty line, and reads none here.
        html = re.sub(r"\s*\n\s*", " ", value._repr_html_())
        # The theme puts tables without a class into a second box that scrolls.
        html = html.replace("<table>", '<table class="jinit">')
        return f'<div class="result">{html}</div>'
    return _fenced(repr(value))


def _fenced(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
