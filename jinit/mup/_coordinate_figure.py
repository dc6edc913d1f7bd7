"""The figure of a coordinate check: sizes over the width, with lines of known slope."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._core import figures
from .._core.figure_axes import Places
from .._core.results import Finding, Row

# (slope, its name, the dashes of the line)
_GUIDES = ((0.0, "slope 0", "-"), (0.5, "slope 1/2", "--"), (1.0, "slope 1", ":"))
# A figure of more layers names the sick ones alone, and so many of them.
_NAMED, _LONGEST = 10, 26
_SICK = " (not flat)"
# A panel is at most so many times as high as wide, and decades of both axes are equal
# up to this range of sizes.
_SLIM, _MOST_DECADES = 2.0, 5.0
# Inches of a panel and the names beside it.
_WIDTH = 3.4


class Panel(NamedTuple):
    """A panel draws one size of some rows, which have the key `is_sick` as well."""

    title: str
    rows: Sequence[Row]
    key: str


def figure_of(
    widths: Sequence[int],
    panels: Sequence[Panel],
    findings: Sequence[Finding],
    healthy: str,
) -> Any:
    """Return the figure of some sizes over the width, a line for each layer.

    Args:
      widths: the widths.
      panels: the panels.
      findings: the findings, of which the title has the first.
      healthy: the title if there is no finding.
    """
    columns = len(panels) if len(panels) < 3 else math.ceil(len(panels) / 2)
    figure, axes = figures.side_by_side(
        len(panels), math.ceil(len(panels) / columns), _WIDTH
    )
    layers = _Layers.of(panels)
    values = [np.asarray(row[one.key], float) for one in panels for row in one.rows]
    places = Places.of(values)
    limits = _range(places.shown(np.concatenate(values or [np.ones(1)])))
    for one, panel in zip(axes, panels, strict=True):
        _draw(one, panel, widths, layers, places)
        is_equal = _scale(one, np.sort(widths), limits)
        places.mark(one)
        _guides(one, np.sort(widths), is_equal)
    figures.title(figure, figures.headline(findings, healthy))
    figures.label_ends(*axes, emphasis=_emphasis)
    return figure


class _Layers(NamedTuple):
    """A figure has all layers, those that it names, and the names of all."""

    paths: Sequence[str]
    named: Sequence[str]
    labels: dict[str, str]

    @classmethod
    def of(cls, panels: Sequence[Panel]) -> "_Layers":
        rows = [row for panel in panels for row in panel.rows]
        paths = list(dict.fromkeys(row["path"] for row in rows))
        sick = {row["path"] for row in rows if row["is_sick"]}
        named = paths
        if len(paths) > _NAMED:
            named = [path for path in paths if path in sick][:_NAMED]
        labels = {
            path: figures.short(path, _LONGEST) + _SICK * (path in sick)
            for path in paths
        }
        return cls(paths, named, labels)

    def style(self, path: str, is_sick: bool) -> dict[str, Any]:
        """Return the style of a line; a healthy one without a name is thin and grey."""
        if path not in self.named and not is_sick:
            return {"color": figures.GREY, "linewidth": 0.6, "alpha": 0.6, "zorder": 1}
        names = self.named if path in self.named else self.paths
        return figures.style_of(names.index(path), is_sick=is_sick)


def _emphasis(label: str) -> dict[str, Any]:
    if _SICK not in label:
        return {}
    return {"color": figures.SICK, "fontweight": "bold"}


def _draw(
    axes: Any,
    panel: Panel,
    widths: Sequence[int],
    layers: _Layers,
    places: Places,
) -> None:
    """Draw the lines of one panel."""
    order = np.argsort(widths)
    sizes = np.asarray(widths, float)[order]
    rest = [row["path"] for row in panel.rows if row["path"] not in layers.named]
    for row in panel.rows:
        path = row["path"]
        values = np.asarray(row[panel.key], float)[order]
        style = layers.style(path, row["is_sick"])
        label: str | None = _label(row, panel.key, layers.labels)
        if path in rest:
            # One of the lines without a name stands for all of them.
            label = f"{len(rest)} more layers" if path == rest[0] else None
        axes.plot(sizes, places.shown(values), label=label, **style)
        places.triangles(axes, sizes, values, style["color"])
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{width:g}" for width in sizes])
    axes.minorticks_off()
    axes.set(yscale="log", xlabel="width (log)", ylabel="rms (log)", title=panel.title)


def _label(row: Row, key: str, labels: dict[str, str]) -> str:
    label = labels[row["path"]]
    if key == "effective" and round(row["effective_expected"], 1):
        return f"{label}, slope {row['effective_expected']:.2g} expected"
    return label


def _range(values: np.ndarray) -> tuple[float, float]:
    """Return the exponents of the range of all panels, so that heights compare."""
    usual = values[np.isfinite(values)]
    # A training that diverged at every width has nothing to draw.
    low, high = np.log10([usual.min(), usual.max()]) if usual.size else (0.0, 0.0)
    # A flat line looks wild on an axis that its noise fills.
    middle, half = (low + high) / 2, max(0.55 * (high - low), 1.0)
    return float(middle - half), float(middle + half)


def _scale(axes: Any, widths: np.ndarray, limits: tuple[float, float]) -> bool:
    """Set the limits; tell whether decades of both axes are equal, so 1 is 45 degrees.

    Sizes that span very many decades would make the panel a needle.
    """
    low, high = limits
    axes.set_ylim(10**low, 10**high)
    first, last = np.log10([widths[0], widths[-1]])
    is_equal = high - low <= _MOST_DECADES
    least = (high - low) / _SLIM if is_equal else 0.0
    pad = max(0.05 * (last - first), (least - (last - first)) / 2, 0.02)
    axes.set_xlim(10 ** (first - pad), 10 ** (last + pad))
    axes.set_box_aspect((high - low) / (last - first + 2 * pad) if is_equal else 1.2)
    # The names stand in the room at its right.
    axes.set_anchor("W")
    return is_equal


def _guides(axes: Any, widths: np.ndarray, is_equal: bool) -> None:
    """Draw thin lines of known slope, from one point at the left, with their names."""
    low, high = axes.get_ylim()
    # Two thirds of the way down, so that the steepest line does not leave the panel at
    # once.
    start = low ** (2 / 3) * high ** (1 / 3)
    axes.set_autoscale_on(False)
    ends = np.array([widths[0], axes.get_xlim()[1]])
    for slope, name, dashes in _GUIDES:
        values = start * (ends / ends[0]) ** slope
        axes.plot(ends, values, dashes, color=figures.GREY, linewidth=0.8, zorder=0)
        angle = math.degrees(math.atan(slope)) if is_equal else 0.0
        axes.annotate(
            name, (ends[1], values[1]), (-2, -2 if slope else 2), "data",
            "offset points", rotation=angle, rotation_mode="anchor", ha="right",
            va="top" if slope else "bottom", fontsize=7, color=figures.GREY, zorder=1,
        )  # fmt: skip
