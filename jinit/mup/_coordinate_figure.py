"""The figure of a coordinate check: sizes over the width, with lines of known slope."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._core import figures
from .._core.results import Finding, Row

# (slope, its name, the dashes of the line)
_GUIDES = ((0.0, "slope 0", "-"), (0.5, "slope 1/2", "--"), (1.0, "slope 1", ":"))
_GREY = "#888888"
# A legend with more layers, or longer names, would be larger than the panels.
_NAMED, _LONGEST = 18, 44


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
    figure, axes = figures.side_by_side(len(panels), math.ceil(len(panels) / columns))
    layers = _Layers.of(panels)
    for one, panel in zip(axes, panels, strict=True):
        _draw(one, panel, widths, layers)
    _share_range(axes)
    guides = [_guides(one, np.sort(widths)) for one in axes][-1]
    # The names stand beside the first row of panels, and begin at its top.
    _legend(axes[columns - 1], layers, guides)
    figures.title(figure, figures.headline(findings, healthy))
    return figure


class _Layers(NamedTuple):
    """A figure has all layers, those that its legend names, and the sick ones.

    `lines` and `labels` are filled while the figure is drawn.
    """

    paths: Sequence[str]
    named: Sequence[str]
    sick: set[str]
    lines: dict[str, Any]
    labels: dict[str, str]

    @classmethod
    def of(cls, panels: Sequence[Panel]) -> "_Layers":
        rows = [row for panel in panels for row in panel.rows]
        paths = list(dict.fromkeys(row["path"] for row in rows))
        sick = {row["path"] for row in rows if row["is_sick"]}
        labels = {
            path: figures.short(path, _LONGEST) + " (not flat)" * (path in sick)
            for path in paths
        }
        return cls(paths, _named(paths, sick), sick, {}, labels)

    def style(self, path: str, is_sick: bool) -> dict[str, Any]:
        """Return the style of a line; a healthy one without a name is thin and grey."""
        if path not in self.named and not is_sick:
            return {"color": _GREY, "linewidth": 0.6, "alpha": 0.6, "zorder": 1}
        names = self.named if path in self.named else self.paths
        return figures.style_of(names.index(path), is_sick=is_sick)


def _draw(axes: Any, panel: Panel, widths: Sequence[int], layers: _Layers) -> None:
    """Draw the lines of one panel, and remember one line of each layer."""
    order = np.argsort(widths)
    sizes = np.asarray(widths, float)[order]
    for row in panel.rows:
        path, is_sick = row["path"], row["is_sick"]
        values = np.asarray(row[panel.key], float)[order]
        # A logarithmic axis has no place for 0.
        shown = np.where((values > 0) & np.isfinite(values), values, np.nan)
        (line,) = axes.plot(sizes, shown, **layers.style(path, is_sick))
        if is_sick or path not in layers.lines:
            layers.lines[path] = line
        if panel.key == "effective" and round(row["effective_expected"], 1):
            slope = f"{row['effective_expected']:.2g}"
            layers.labels[path] += f" (slope {slope} expected)"
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{width:g}" for width in sizes])
    axes.set(yscale="log", xlabel="width (log)", ylabel="rms (log)", title=panel.title)


def _named(paths: Sequence[str], sick: set[str]) -> list[str]:
    """Return the layers that the legend names: each sick one first, then a spread."""
    if len(paths) <= _NAMED:
        return list(paths)
    chosen = [path for path in paths if path in sick][:_NAMED]
    healthy = [path for path in paths if path not in sick]
    room = min(_NAMED - len(chosen), len(healthy))
    places = np.unique(np.linspace(0, len(healthy) - 1, max(room, 1)).astype(int))
    spread = [healthy[i] for i in places] if room else []
    return sorted([*chosen, *spread], key=list(paths).index)


def _share_range(panels: Sequence[Any]) -> None:
    """Give all panels one range, so that heights and slopes can be compared."""
    lines = [line.get_ydata() for one in panels for line in one.get_lines()]
    values = np.concatenate([np.asarray(x, float) for x in lines] or [np.ones(1)])
    usual = values[np.isfinite(values)]
    # A training that diverged at every width has nothing to draw.
    low, high = np.log10([usual.min(), usual.max()]) if usual.size else (0.0, 0.0)
    # A flat line looks wild on an axis that its noise fills.
    middle, half = (low + high) / 2, max(0.55 * (high - low), 1.0)
    for one in panels:
        one.set_ylim(10 ** (middle - half), 10 ** (middle + half))


def _guides(axes: Any, widths: np.ndarray) -> list[Any]:
    """Draw thin lines of known slope, from one point at the left."""
    low, high = axes.get_ylim()
    # Two thirds of the way down, so that the steepest line does not leave the panel at
    # once.
    start = low ** (2 / 3) * high ** (1 / 3)
    axes.set_autoscale_on(False)
    lines = []
    for slope, name, dashes in _GUIDES:
        values = start * (widths / widths[0]) ** slope
        lines += axes.plot(
            widths, values, dashes, color=_GREY, linewidth=0.8, zorder=0, label=name
        )
    return lines


def _legend(axes: Any, layers: _Layers, guides: Sequence[Any]) -> None:
    """Put the names beside a panel, those of sick layers in their colour."""
    labels = [layers.labels[path] for path in layers.named]
    handles = [layers.lines[path] for path in layers.named]
    rest = len(layers.paths) - len(layers.named)
    if rest:
        handles += axes.plot([], [], color=_GREY, linewidth=0.6)
        labels.append(f"{rest} more layers")
    handles += guides
    labels += [line.get_label() for line in guides]
    legend = axes.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(1.005, 1), fontsize=8,
        frameon=False,
    )  # fmt: skip
    for text, path in zip(legend.get_texts(), layers.named, strict=False):
        if path in layers.sick:
            text.set(color=figures.SICK, fontweight="bold")
