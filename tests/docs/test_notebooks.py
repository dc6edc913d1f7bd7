"""Notebooks become pages that show what Jupyter would show, and files to download."""

import ast
import json
import re

import pytest

from docs.hooks import notebooks
from tests.support.repository import ROOT

SOURCES = notebooks.sources()
SOURCE = """\
# ---
# jupyter: {}
# ---

# %% [markdown]
# # A heading
#
# Prose with a [link](../guides/mup.md#traps).

# %%
class Table:
    def _repr_html_(self):
        return "<table>\\n\\n<tr><td>1</td></tr></table>"


print(3 * 4)
Table()

# %%
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

figure, _ = plt.subplots()
_ = Figure()

# %%
Figure()

# %% [markdown]
# More.

# %%
x = "text"
x + "s"

# %%
x = 1
"""


def test_cells_are_code_or_prose_and_know_their_lines():
    cells = [*notebooks.cells(SOURCE)]
    kinds = "".join("c" if cell.is_code else "p" for cell in cells)
    assert kinds == "pcccpcc"
    assert cells[0].text.splitlines()[::2] == [
        "# A heading",
        "Prose with a [link](../guides/mup.md#traps).",
    ]
    lines = SOURCE.splitlines()
    for cell in cells:
        first = cell.text.splitlines()[0]
        assert lines[cell.line - 1] in (first, f"# {first}")
    assert notebooks.title(SOURCE) == "A heading"


def test_a_page_shows_what_cells_print_draw_and_return():
    text, drawn = notebooks.executed(SOURCE, "examples/page.md")
    # A figure of pyplot, and the one that is the value of a cell.
    assert [*drawn] == [f"assets/drawn/notebook-page-{i}.png" for i in (0, 1)]
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())
    parts = [
        "# A heading", "[Download it](page.ipynb)", "print(3 * 4)", "```text\n12\n```",
        '<div class="result"><table class="jinit"> <tr><td>1</td></tr></table></div>',
        "page-0.png", "page-1.png", "\nMore.\n", "```text\n'texts'\n```", "x = 1",
    ]  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places) and text.count(".png") == 2
    assert text.rstrip().endswith("x = 1\n```")


def test_an_error_names_the_notebook_and_its_line():
    source = "# %% [markdown]\n# # Title\n\n# %%\nx = 1\n\nx / 0\n"
    with pytest.raises(ZeroDivisionError) as error:
        notebooks.executed(source, "examples/page.md")
    last = error.traceback[-1]
    assert str(last.path).endswith("examples/notebooks/page.py")
    assert last.lineno + 1 == 7


def test_a_download_has_the_cells_and_links_to_the_site():
    notebook = json.loads(notebooks.ipynb(SOURCE, "https://site/"))
    assert notebook["nbformat"] == 4 and "kernelspec" in notebook["metadata"]
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds[:2] == ["markdown", "code"] and len(kinds) == 7
    assert "](https://site/guides/mup/#traps)" in notebook["cells"][0]["source"]
    assert notebook["cells"][1]["outputs"] == []


@pytest.mark.parametrize("page", SOURCES)
def test_a_notebook_stands_alone(page):
    """A file that is downloaded has neither the repository nor what tests import."""
    source = SOURCES[page]
    cells = [*notebooks.cells(source)]
    assert not cells[0].is_code and cells[0].text.startswith("# ")
    assert "formats: ipynb,py:percent" in source.partition("# %%")[0]
    assert not re.search(r"^\s*(from|import) (examples|docs|tests)\b", source, re.M)
    for cell in cells:
        if cell.is_code:
            ast.parse(cell.text)
    # A guide or an overview leads to each of them.
    assert (
        f"({page.partition('/')[2]})" in (ROOT / "docs/examples/index.md").read_text()
    )
