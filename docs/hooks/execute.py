"""Run the code of a page, and put its output and its figures below each block."""

import contextlib
import io
import pathlib
import re
import warnings
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from docs.hooks import blocks, pictures

MARK = "<!-- figure -->"
FIGURE = re.compile(r"\n\n!\[.*\]\(.*\)\{ \.drawn \}\n")


def executed(markdown: str, page: str) -> tuple[str, dict[str, bytes]]:
    """Return a page with outputs and figures, and the figures by their place in `docs`.

    Args:
      markdown: the text of the page.
      page: its place in `docs`, such as "article/derivation.md".
    """
    namespace: dict[str, Any] = {}
    pieces: list[str] = []
    drawn: dict[str, bytes] = {}
    # The figures are kept, since the number of one that is gone may be used again.
    shown: dict[int, Figure] = {}
    place = 0
    with pictures.style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks.blocks(markdown):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                blocks.run(block, page, namespace)
            pieces.append(markdown[place : block.end])
            place = block.end
            if text := printed.getvalue().rstrip():
                pieces.append(f"\n\n```text\n{text}\n```\n")
            for figure in _figures(namespace):
                if id(figure) not in shown:
                    path = _path(page, len(drawn))
                    drawn[path] = pictures.saved(figure)
                    shown[id(figure)] = figure
                    pieces.append(f"\n\n{_image(path, page, figure)}\n")
            plt.close("all")
    return _placed("".join([*pieces, markdown[place:]])), drawn


def _placed(text: str) -> str:
    """Move the first figure to the comment "figure", where a page has one."""
    image = FIGURE.search(text)
    if image is None or MARK not in text:
        return text
    return text.replace(image[0], "", 1).replace(MARK, image[0].strip(), 1)


def _figures(namespace: dict[str, Any]) -> list[Figure]:
    """Return the figures of pyplot, and those that jinit returned to the page."""
    open_ones = [plt.figure(number) for number in plt.get_fignums()]
    return [*open_ones, *(v for v in namespace.values() if isinstance(v, Figure))]


def _path(page: str, number: int) -> str:
    name = page.removesuffix(".md").replace("/", "-")
    return f"assets/drawn/{name}-{number}.png"


def _image(path: str, page: str, figure: Figure) -> str:
    up = "../" * (len(pathlib.PurePosixPath(page).parts) - 1)
    return f"![{_finding(figure)}]({up}{path}){{ .drawn }}"


def _finding(figure: Figure) -> str:
    """Return the titles of a figure, which say its finding, for who cannot see it."""
    titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
    text = "; ".join(" ".join(title.split()) for title in titles if title)
    # A bracket would end the text, and a formula has no sound.
    text = re.sub(r"[\[\]$\\]", "", text)
    return text or "The figure that the code above draws"
