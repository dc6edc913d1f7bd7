"""The figure of a coordinate check: sizes over the width, with lines of known slope."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._core import figures
from .._core.results import Finding, Row

# (slope, its name, the dashes of the line)
_GUIDES = ((0.0, "slope 0", "-"), (0.5, "slope 1/2", "--"), (1.0, "slope 1", ":"))
_GREY = "#888888"
# A legend with more layers would be longer than the panels.
_NAMED = 18


def figure_of(
    widths: Sequence[int],
    panels: Sequence[tuple[str, Sequence[Row], str]],
    findings: Sequence[Finding],
    healthy: str,
) -> Any:
    """Return the figure of some sizes over the width, a line for each layer.

    Args:
      widths: the widths.
      panels: for each panel its title, its rows, and the key of the size in them. The
        rows have the key `is_sick`.
      findings: the findings, of which the title has the first.
      healthy: the title where there is no finding.
    """
    order = np.argsort(widths)
    sizes = np.asarray(widths, float)[order]
    figure, axes = figures.side_by_side(len(panels), 2 if len(panels) > 2 else 1)
    paths = list(dict.fromkeys(row["path"] for _, rows, _ in panels for row in rows))
    sick = {row["path"] for _, rows, _ in panels for row in rows if row["is_sick"]}
    named = _named(paths, sick)
    lines: dict[str, Any] = {}
    for one, (name, rows, key) in zip(axes, panels, strict=True):
        for row in rows:
            values = np.asarray(row[key], float)[order]
            style = _style(row["path"], named, paths, row["is_sick"])
            # A logarithmic axis has no place for 0.
            shown = np.where((values > 0) & np.isfinite(values), values, np.nan)
            (line,) = one.plot(sizes, shown, **style)
            if row["path"] in named and (row["is_sick"] or row["path"] not in lines):
                lines[row["path"]] = line
        one.set_xscale("log", base=2)
        one.set_xticks(sizes, [f"{width:g}" for width in sizes])
        one.set(yscale="log", xlabel="width (log)", ylabel="rms (log)", title=name)
    _share_range(axes)
    guides = [_guides(one, sizes) for one in axes][-1]
    # The last panel of the first row, so that the names begin at the top.
    corner = axes[(len(panels) + 1) // 2 - 1] if len(panels) > 2 else axes[-1]
    _legend(corner, lines, [x for x in named if x in lines], sick, guides, len(paths))
    figures.title(figure, figures.headline(findings, healthy))
    return figure


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


def _style(
    path: str, named: Sequence[str], paths: Sequence[str], is_sick: bool
) -> dict[str, Any]:
    """Return the style of a line; a healthy layer that has no name is thin and grey."""
    if path not in named and not is_sick:
        return {"color": _GREY, "linewidth": 0.6, "alpha": 0.6, "zorder": 1}
    number = named.index(path) if path in named else list(paths).index(path)
    return figures.style_of(number, is_sick=is_sick)


def _share_range(panels: Sequence[Any]) -> None:
    """Give all panels one range, so that heights and slopes can be compared."""
    ends = [one.get_ylim() for one in panels]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    # A flat line looks wild on an axis that its noise fills.
    middle, half = (low * high) ** 0.5, max((high / low) ** 0.5, 10.0)
    for one in panels:
        one.set_ylim(middle / half, middle * half)


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


def _legend(
    axes: Any,
    lines: dict[str, Any],
    named: Sequence[str],
    sick: set[str],
    guides: Sequence[Any],
    count: int,
) -> None:
    """Put the names beside the last panel, those of sick layers in their colour."""
    names = map(figures.short, named)
    pairs = zip(names, named, strict=True)
    labels = [f"{name} (not flat)" if path in sick else name for name, path in pairs]
    handles = [lines[path] for path in named]
    if count > len(named):
        grey = axes.plot([], [], color=_GREY, linewidth=0.6)
        handles += grey
        labels.append(f"{count - len(named)} more layers")
    handles += guides
    labels += [line.get_label() for line in guides]
    legend = axes.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(1.005, 1), fontsize=8,
        frameon=False,
    )  # fmt: skip
    for text, path in zip(legend.get_texts(), named, strict=False):
        if path in sick:
            text.set(color=figures.SICK, fontweight="bold")
