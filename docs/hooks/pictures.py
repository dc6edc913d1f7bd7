"""Pictures that are drawn when the site is built; they suit a light and a dark page."""

import contextlib
import io
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jax
import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from examples import _figures, gallery

ROOT = Path(__file__).resolve().parents[2]
COLORS = _figures.COLORS


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw figures that suit a light and a dark page, and open no window."""
    backend = matplotlib.get_backend()
    plt.switch_backend("Agg")
    with _figures.style():
        yield
    plt.switch_backend(backend)


def saved(figure: Figure, dpi: int = 150) -> bytes:
    """Return a figure as a PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=dpi, format="png")
    return stream.getvalue()


def everything() -> Iterator[tuple[str, bytes]]:
    """Yield each picture with its place in `docs`."""
    with style():
        for name, array, std in gallery.samples(jax.random.key(0)):
            figure = plt.figure(figsize=(10, 3))
            gallery.panel(figure, name, array, std, labels=True)
            yield f"assets/schemes/{name}.png", saved(figure)
            plt.close(figure)
        yield "assets/drawn/architecture.png", saved(architecture())
        plt.close("all")


def layers() -> list[list[str]]:
    """Return the packages of each floor, from the top, by the contract of imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = project["tool"]["importlinter"]["contracts"]
    return [[name.strip() for name in row.split("|")] for row in contract["layers"]]


def architecture() -> Figure:
    """Draw the floors of the library, each a row of packages."""
    floors = layers()
    figure = plt.figure(figsize=(8, 0.85 * len(floors)))
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(-len(floors), 0.1))
    axes.axis("off")
    for number, packages in enumerate(floors):
        width = 1 / len(packages)
        for place, name in enumerate(packages):
            public = not name.startswith("_")
            axes.add_patch(
                Rectangle(
                    (place * width + 0.006, -number - 0.78), width - 0.012, 0.7,
                    facecolor="none", edgecolor=COLORS[0 if public else 2], linewidth=2,
                )
            )  # fmt: skip
            axes.text((place + 0.5) * width, -number - 0.43, name, ha="center",
                      va="center", fontsize=11, family="monospace")  # fmt: skip
    return figure
