"""The figure of a watch: sizes of weights, gradients and updates, tensor by tensor."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._core import figures
from .._core.results import Finding, Row
from .findings import FAST

_SIZES = {"weight_rms": "weights", "grad_rms": "gradients", "update_rms": "updates"}


def figure_of(rows: Sequence[Row], troubles: Sequence[Finding], step: int) -> Any:
    """Draw a mark for each size of each tensor, and mark the sick tensors."""
    paths = [row["path"] for row in rows]
    marks = figures.marks_of(troubles, paths)
    figure, panels = figures.figure_of(2, len(rows))
    # None becomes NaN.
    column = {
        name: np.array([row[name] for row in rows], np.float64)
        for name in (*_SIZES, "update_ratio")
    }
    figures.dots(panels[0], {label: column[name] for name, label in _SIZES.items()})
    panels[0].set_ylabel("rms\n(log)")
    figures.dots(panels[1], {"updates over weights": column["update_ratio"]}, (FAST,))
    panels[1].set(ylabel="update / weight\n(log)", xlabel="tensor, by name")
    _name_limit(panels[1])
    figures.name_layers(panels[1], paths, list(marks))
    figures.mark(panels[0], marks)
    figures.mark(panels[1], dict.fromkeys(marks, ""))
    figure.align_ylabels()
    figures.legend(panels[0])
    figures.title(figure, figures.headline(troubles, _healthy(rows, step)))
    return figure


def _name_limit(axes: Any) -> None:
    """Draw the limit of what is usual, and say so beside the panel."""
    axes.axhline(FAST, color=figures.GREY, linewidth=1, linestyle="--")
    axes.annotate(
        f"fast: above {FAST:g}\nof the weight", (1, FAST), (4, 0),
        ("axes fraction", "data"), "offset points", va="center", fontsize=8,
        color=figures.GREY, annotation_clip=False,
    )  # fmt: skip


def _healthy(rows: Sequence[Row], step: int) -> str:
    ratios = [row["update_ratio"] for row in rows if row["update_ratio"] is not None]
    most = f": an update is at most {max(ratios):.2g} of its weight" if ratios else ""
    return f"No finding in {len(rows)} tensors after {step} steps{most}"
