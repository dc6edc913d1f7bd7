"""The name of a curve stands beside its end, and hides neither curves nor names."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# The size of a label in points, and the height of its line.
_SIZE = 8
_PITCH = 1.35 * _SIZE
# Points between the end of the panel and a label.
_AWAY = 14


def readable(name: str) -> str:
    """Return the name of a column or a category as words: "grad_rms" as "grad rms"."""
    return name.replace("_", " ")


def label_ends(
    *panels: Any, emphasis: Callable[[str], dict[str, Any]] | None = None
) -> None:
    """Write the name of each curve beside its end, joined to it by a thin line.

    A panel with more curves than names have room gets a legend beside it. The limits of
    the axes must be final.

    Args:
      *panels: panels of one figure.
      emphasis: gives the properties of the text of a name, such as its colour.
    """
    figure = panels[0].get_figure()
    # Names are spread over the height that a panel has in the end.
    figure.get_layout_engine().execute(figure)
    for axes in panels:
        axes.apply_aspect()
        curves = [
            line for line in axes.get_lines() if not line.get_label().startswith("_")
        ]
        height = 72 * axes.get_position().height * figure.get_figheight()
        if len(curves) * _PITCH <= height:
            _label(axes, curves, height, emphasis)
        else:
            axes.legend(
                handles=curves, loc="upper left", bbox_to_anchor=(1.005, 1),
                fontsize=_SIZE, frameon=False,
            )  # fmt: skip


def _label(axes: Any, curves: Sequence[Any], height: float, emphasis: Any) -> None:
    ends = [_end(axes, line) for line in curves]
    # Curves without a finite value have their names at the foot, without a line.
    heights = [height * _fraction(axes, end) for end in ends]
    width = 72 * axes.get_position().width * axes.get_figure().get_figwidth()
    for line, end, place in zip(curves, ends, _spread(heights, height), strict=True):
        text = axes.annotate(
            line.get_label(), end or (1, place / height),
            (1 + _AWAY / width, place / height),
            "data" if end else "axes fraction", "axes fraction",
            va="center", ha="left", fontsize=_SIZE, annotation_clip=False,
            arrowprops=None if end is None else {
                "arrowstyle": "-", "color": line.get_color(), "linewidth": 0.8,
                "alpha": 0.6, "shrinkA": 1, "shrinkB": 3,
            },
        )  # fmt: skip
        if emphasis is not None:
            text.set(**emphasis(line.get_label()))


def _end(axes: Any, line: Any) -> tuple[float, float] | None:
    """Return the last point of a curve, moved to the edge of its panel from outside."""
    x, y = (np.asarray(values, float) for values in line.get_data())
    (known,) = np.nonzero(np.isfinite(x) & np.isfinite(y))
    if not known.size:
        return None
    # A line to a point far outside would leave the layout no room for the panels.
    low, high = sorted(axes.get_ylim())
    return float(x[known[-1]]), float(np.clip(y[known[-1]], low, high))


def _fraction(axes: Any, end: tuple[float, float] | None) -> float:
    """Return the height of a point as a share of its panel's."""
    if end is None:
        return 0.0
    y = axes.transAxes.inverted().transform(axes.transData.transform(end))[1]
    return float(min(max(y, 0.0), 1.0)) if math.isfinite(y) else 0.0


def _spread(heights: Sequence[float], room: float) -> list[float]:
    """Move the heights apart, by no more than is needed, inside of 0 to `room`."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    # Groups of neighbours that touch: their numbers, and the middle of the group.
    groups: list[tuple[list[int], float]] = []
    for i in order:
        groups.append(([i], heights[i]))
        while True:
            members, middle = groups[-1]
            half = _PITCH * len(members) / 2
            groups[-1] = members, min(max(middle, half), room - half)
            if len(groups) < 2 or not _touch(*groups[-2:]):
                break
            upper, lower = groups.pop()[0], groups.pop()[0]
            members = [*lower, *upper]
            groups.append((members, float(np.mean([heights[k] for k in members]))))
    result = [0.0] * len(heights)
    for members, middle in groups:
        for number, i in enumerate(members):
            result[i] = middle + _PITCH * (number - (len(members) - 1) / 2)
    return result


def _touch(lower: tuple[list[int], float], upper: tuple[list[int], float]) -> bool:
    apart = _PITCH * (len(lower[0]) + len(upper[0])) / 2
    return upper[1] - lower[1] < apart - 1e-9
