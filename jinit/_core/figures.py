"""All figures have one style: named layers, marks for sick layers, one palette.

The colours are those of Okabe and Ito, which people who are colour-blind can tell
apart; curves differ by markers and dashes, too. Each colour is seen on white and on
black, and texts have the ink of Matplotlib's style, so that a dark style works, too.
Matplotlib takes long to load, and only figures need it, so it is imported where a
figure is made.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .figure_axes import NAMES, Places, log_ticks
from .figure_labels import label_ends, readable
from .figure_titles import headline, statement, title
from .results import Finding

__all__ = [
    "GREY", "NAMES", "ORDER", "PALETTE", "SICK", "Line", "boxed", "curves",
    "dots", "figure_of", "headline", "label_ends", "legend", "log_ticks", "mark",
    "marks_of", "name_layers", "place_of", "points", "readable", "short",
    "side_by_side", "statement", "style_of", "title",
]  # fmt: skip

SICK = "#D55E00"
# The blue is lighter than that of Okabe and Ito, and there is no black, for dark pages.
PALETTE = ("#3187C4", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Lines that only guide the eye.
GREY = "#808890"
_MARKERS, _DASHES = "osD^P", ("-", "--", "-.", ":")
ORDER = "layer, in the order of execution"
# The size of a tick's label in points, and the inches that each label takes.
_SIZE, _PITCH = 7, 0.125
_LONGEST = 30
# A figure has texts at this many marks at most, so that they do not overlap.
_TEXTS = 6


class Line(NamedTuple):
    """A line of a figure: a value for each layer, and perhaps a band around it."""

    label: str
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def figure_of(panels: int, layers: int) -> tuple[Any, list[Any]]:
    """Return a figure wide enough for the names of its layers, and its panels.

    The panels lie below each other, and share the axis of the layers.
    """
    from matplotlib.figure import Figure

    width = min(max(8.0, 3.5 + 1.1 * _PITCH * layers), 18.0)
    height = 1.9 + 2.1 * panels
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    for one in axes:
        one.grid(alpha=0.25)
    return figure, list(axes)


def side_by_side(
    panels: int, rows: int = 1, width: float = 4.5
) -> tuple[Any, list[Any]]:
    """Return a figure of panels beside each other, without names of layers.

    With several rows the panels fill one row after the other. A panel, with the names
    beside it, is `width` inches wide.
    """
    from matplotlib.figure import Figure

    columns = math.ceil(panels / rows)
    size = width * columns + 2, 4.5 * rows
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for one in axes:
        one.grid(alpha=0.25)
    return figure, axes


def style_of(number: int, *, is_sick: bool = False) -> dict[str, Any]:
    """Return the color, the marker and the dashes of a line; sick lines stand out."""
    return {
        "color": SICK if is_sick else PALETTE[number % len(PALETTE)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _DASHES[number // len(PALETTE) % len(_DASHES)],
        "linewidth": 2.0 if is_sick else 1.2,
        "markersize": 4,
    }


def curves(axes: Any, lines: Sequence[Line], *, log: bool = False) -> None:
    """Draw lines over the layers; lines that are equal are drawn as one.

    On a logarithmic axis a 0 is drawn below all other values, and an infinite value
    above them, each at a separate tick and as a hollow triangle. A value that is NaN
    leaves a gap.
    """
    groups = _merged(lines)
    places = Places.of([x for line in lines for x in line[1:]]) if log else None
    for members in groups:
        # A line has the style of its number, so that it looks the same in all panels.
        line, style = lines[members[0]], style_of(members[0])
        label = " = ".join(lines[member].label for member in members)
        values, low, high = (
            x if places is None or x is None else places.shown(x)
            for x in (line.values, line.low, line.high)
        )
        order = np.arange(len(line.values))
        if len(order) > 40:
            style["markersize"] = 2.5
        axes.plot(
            order,
            values,
            **style,
            label=label,
        )
        if places is not None:
            places.triangles(axes, order, line.values, style["color"])
        if low is not None:
            axes.fill_between(
                order, low, high, alpha=0.2, color=style["color"], linewidth=0
            )
    if places is not None:
        places.mark(axes)


def _merged(lines: Sequence[Line]) -> list[list[int]]:
    """Return the numbers of the lines, with lines that are equal in one group."""
    groups: list[list[int]] = []
    for number, line in enumerate(lines):
        for group in groups:
            if _is_equal(lines[group[0]], line):
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def _is_equal(one: Line, other: Line) -> bool:
    if len(one.values) != len(other.values):
        return False
    return all(
        a is b or (a is not None and b is not None and np.allclose(a, b, 1e-3, 0, True))
        for a, b in zip(one[1:], other[1:], strict=True)
    )


def points(axes: Any, values: np.ndarray, sick: Sequence[int]) -> None:
    """Draw a point for each value on a logarithmic axis, sick ones as large crosses."""
    places = Places.of([values])
    order = np.arange(len(values))
    is_sick = np.isin(order, list(sick))
    shown = places.shown(values)
    for chosen, color, marker, size in (
        (~is_sick, PALETTE[0], "o", 4),
        (is_sick, SICK, "X", 7),
    ):
        axes.plot(
            order[chosen], shown[chosen], marker, color=color, markersize=size,
            linestyle="none",
        )  # fmt: skip
        places.triangles(axes, order[chosen], values[chosen], color)
    places.mark(axes)


def dots(
    axes: Any, columns: Mapping[str, np.ndarray], limits: Sequence[float] = ()
) -> None:
    """Draw values of things without an order: marks on a stem, joined by no line.

    Args:
      axes: the panel; its y axis becomes logarithmic.
      columns: the values of each series, by its name.
      limits: further values that the axis reaches to.
    """
    places = Places.of([*columns.values(), np.asarray(limits)])
    shown = [places.shown(values) for values in columns.values()]
    order = np.arange(len(shown[0]))
    if len(shown) > 1 and order.size:
        ends = (pick(shown, axis=0) for pick in (np.fmin.reduce, np.fmax.reduce))
        axes.vlines(order, *ends, color=GREY, alpha=0.4, linewidth=1)
    for number, (label, values) in enumerate(columns.items()):
        style = style_of(number) | {"linestyle": "none", "markersize": 5}
        axes.plot(order, shown[number], label=label, **style)
        places.triangles(axes, order, values, style["color"])
    for limit in limits:
        axes.update_datalim([(0, limit)])
    axes.autoscale_view()
    places.mark(axes)


def legend(axes: Any) -> None:
    """Put a legend beside a panel of marks, which have no ends to write names at."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1), fontsize=8, frameon=False)


def name_layers(axes: Any, paths: Sequence[str], sick: Sequence[int] = ()) -> None:
    """Name the layers below an axis, as many as do not overlap, and each sick one."""
    figure = axes.get_figure()
    room = int((figure.get_figwidth() - 2.5) / _PITCH)
    shown = _spread(len(paths), room, sorted(set(sick)))
    axes.set_xticks(shown, [short(paths[i]) for i in shown], rotation=90)
    axes.tick_params(axis="x", labelsize=_SIZE)
    for place, label in zip(shown, axes.get_xticklabels(), strict=True):
        if place in sick:
            label.set(color=SICK, fontweight="bold")
    axes.set_xlim(-0.6, len(paths) - 0.4)


def _spread(count: int, room: int, wanted: Sequence[int]) -> list[int]:
    """Choose places for labels: the wanted ones first, then others far from them."""
    apart = max(1, math.ceil(count / max(1, room)))
    chosen: list[int] = []
    for place in (*wanted, 0, count - 1, *range(0, count, apart)):
        if 0 <= place < count and all(abs(place - one) >= apart for one in chosen):
            chosen.append(place)
    return sorted(chosen)


def short(path: str, longest: int = _LONGEST) -> str:
    """Return a path that fits beside an axis: its beginning and its end."""
    if len(path) <= longest:
        return path
    half = longest // 2 - 1
    return f"{path[: half - 2]}...{path[-half:]}"


def mark(axes: Any, marks: Mapping[int, str]) -> None:
    """Mark layers by a band in the colour of sick ones, and a text at its top."""
    if any(marks.values()):
        _make_room(axes)
    level, last = 0, -math.inf
    # A text of this size takes a tenth of the axis, and the next one goes below it.
    low, high = axes.get_xlim()
    for number, (place, text) in enumerate(sorted(marks.items())):
        axes.axvspan(place - 0.5, place + 0.5, color=SICK, alpha=0.18, linewidth=0)
        if number >= _TEXTS or not text:
            continue
        level = (level + 1) % 3 if place - last < 0.25 * (high - low) else 0
        last = place
        side = "right" if place > (low + high) / 2 else "left"
        axes.annotate(
            text, (place, 1), (0, -4 - 11 * level), ("data", "axes fraction"),
            "offset points", ha=side, va="top", fontsize=8, color=SICK,
            fontweight="bold", zorder=5, bbox=boxed(axes),
        )  # fmt: skip


def boxed(axes: Any) -> dict[str, Any] | None:
    """Return the box of a text that stands over curves: the colour of its panel.

    A panel without a colour has no box, since one of alpha alone would be black.
    """
    color = axes.get_facecolor()
    if not color[3]:
        return None
    return {"facecolor": color, "alpha": 0.75, "linewidth": 0, "pad": 1}


def _make_room(axes: Any) -> None:
    """Lengthen an axis at its top, so that texts there hide no curve."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        ends = math.log10(low), math.log10(high)
        axes.set_ylim(low, 10 ** min(ends[1] + 0.22 * (ends[1] - ends[0]), 305.0))
    else:
        axes.set_ylim(low, high + 0.22 * (high - low))


def marks_of(findings: Sequence[Finding], paths: Sequence[str]) -> dict[int, str]:
    """Return the number of each sick row, with the categories of its findings."""
    marks: dict[int, list[str]] = {}
    for finding in findings:
        place = place_of(finding.path, paths)
        if place is not None:
            marks.setdefault(place, []).append(readable(finding.category))
    return {place: ", ".join(dict.fromkeys(names)) for place, names in marks.items()}


def place_of(path: str, paths: Sequence[str]) -> int | None:
    """Return the number of the row of a layer, or of its first step or part.

    A finding may name a weight, whose layer has the name of the module.
    """
    for name, ends in ((path, "[#/"), (path.rpartition("/")[0], "[#")):
        for number, one in enumerate(paths):
            is_part = one.startswith(name) and one[len(name) : len(name) + 1] in ends
            if name and (one == name or is_part):
                return number
    return None
