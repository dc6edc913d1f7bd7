"""The figures of a report, of a comparison and of an audit."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._core import figures
from .._core.figures import Line
from .._core.results import Finding, Row
from . import drift

_SIZES = {"rms": "rms of the output\n(log)", "grad_rms": "rms of the gradient\n(log)"}
_SHARES = {
    "dead": "dead units",
    "saturation": "entries at the largest value",
    "cosine": "cosine of two inputs",
}
# The band of ratios that are usual, and the number of verdicts that a title has.
_BAND = 0.5, 2.0
_VERDICTS = 3


def of_report(
    rows: Sequence[Row], verdict: Sequence[Finding], parameters: Sequence[Row] = ()
) -> Any:
    """Draw sizes, gradients and shares by layer; mark the layers of findings."""
    paths = [row["path"] for row in rows]
    marks = figures.marks_of(verdict, paths)
    figure, panels = figures.figure_of(3, len(rows))
    for axes, (name, label) in zip(panels, _SIZES.items(), strict=False):
        figures.curves(axes, [Line(name, _column(rows, name))], log=True)
        axes.set_ylabel(label)
    lines = [Line(label, _column(rows, name)) for name, label in _SHARES.items()]
    figures.curves(panels[2], lines)
    panels[2].set(ylabel="share of the layer,\nor cosine", ylim=(-1.05, 1.05))
    _finish(figure, panels, paths, marks)
    is_drift = bool(verdict) and verdict[0].category in drift.CATEGORIES
    first = drift.sentence(rows, parameters, verdict[0].category) if is_drift else ""
    figures.title(figure, figures.headline(verdict, _healthy(rows), first))
    figures.label_ends(panels[2])
    return figure


def _healthy(rows: Sequence[Row]) -> str:
    sizes = _column(rows, "rms")
    if not sizes.size:
        return "No finding, and no layer was measured"
    return (
        f"No finding: the rms of the output is {sizes.min():.2g} to {sizes.max():.2g} "
        f"in all {len(rows)} rows"
    )


def _finish(
    figure: Any, panels: Sequence[Any], paths: Sequence[str], marks: Mapping[int, str]
) -> None:
    """Name the layers, and mark the sick ones in every panel."""
    figures.name_layers(panels[-1], paths, list(marks))
    for number, axes in enumerate(panels):
        # The text stands in the first panel alone.
        figures.mark(axes, marks if number == 0 else dict.fromkeys(marks, ""))
    panels[-1].set_xlabel(figures.ORDER)
    figure.align_ylabels()


def _column(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], np.float64)


def of_comparison(
    reports: Mapping[str, Sequence[Sequence[Row]]],
    verdicts: Mapping[str, Sequence[Sequence[Finding]]],
    words: Mapping[str, str],
) -> Any:
    """Draw the sizes of outputs and gradients by layer, a line for each scheme.

    Args:
      reports: the rows of each seed, by scheme.
      verdicts: the findings of each seed, by scheme.
      words: the verdict on each scheme, in words.
    """
    paths = [row["path"] for row in next(iter(reports.values()))[0]]
    figure, panels = figures.figure_of(2, len(paths))
    sick = {name: _sick(seeds, paths) for name, seeds in verdicts.items()}
    for axes, (name, label) in zip(panels, _SIZES.items(), strict=True):
        lines = [_median(scheme, rows, name) for scheme, rows in reports.items()]
        figures.curves(axes, lines, log=True)
        axes.set_ylabel(label)
    marks: dict[int, str] = {}
    for scheme, (place, category) in ((s, m) for s, m in sick.items() if m):
        text = f"{scheme}: {figures.readable(category)}"
        marks[place] = f"{marks[place]}\n{text}" if place in marks else text
    _finish(figure, panels, paths, marks)
    seeds = max(map(len, reports.values()))
    if seeds > 1:
        bands = f"lines: medians of {seeds} seeds; bands: the least to the largest"
        panels[-1].set_xlabel(f"{figures.ORDER}\n({bands})")
    figures.title(figure, _schemes_in_words(words))
    figures.label_ends(*panels)
    return figure


def _median(scheme: str, seeds: Sequence[Sequence[Row]], name: str) -> Line:
    """Return the median over the seeds, with a band from the least to the largest."""
    values = np.array([_column(rows, name) for rows in seeds])
    if len(values) == 1:
        return Line(scheme, values[0])
    return Line(scheme, np.median(values, 0), values.min(0), values.max(0))


def _sick(
    seeds: Sequence[Sequence[Finding]], paths: Sequence[str]
) -> tuple[int, str] | None:
    """Return the layer, and the category, that the first finding names most often."""
    firsts = [findings[0] for findings in seeds if findings]
    places = [(figures.place_of(one.path, paths), one.category) for one in firsts]
    known = [(place, name) for place, name in places if place is not None]
    return collections.Counter(known).most_common(1)[0][0] if known else None


def _schemes_in_words(words: Mapping[str, str]) -> str:
    """Say which schemes share which verdict, the healthy ones first."""
    schemes: dict[str, list[str]] = {}
    for name, verdict in words.items():
        schemes.setdefault(verdict, []).append(name)
    sick = [verdict for verdict in schemes if verdict != "healthy"]
    order = [*(["healthy"] if "healthy" in schemes else []), *sick[:_VERDICTS]]
    parts = [f"{verdict}: {', '.join(schemes[verdict])}" for verdict in order]
    if rest := sum(len(schemes[verdict]) for verdict in sick[_VERDICTS:]):
        parts.append(f"{rest} more with findings")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:]


def of_audit(rows: Sequence[Row], findings: Sequence[Finding]) -> Any:
    """Draw each parameter's std over the std that keeps the signal."""
    drawn = [row for row in rows if _is_drawn(row["ratio"])]
    paths = [row["path"] for row in drawn]
    ratios = np.array([row["ratio"] for row in drawn], np.float64)
    marks = figures.marks_of(findings, paths)
    figure, (axes,) = figures.figure_of(1, len(drawn))
    figure.set_figheight(5)
    if drawn:
        figures.points(axes, ratios, list(marks))
    axes.axhspan(*_BAND, color=figures.PALETTE[1], alpha=0.12, linewidth=0)
    axes.axhline(1, color=figures.GREY, linewidth=1)
    axes.set_ylabel("std of the parameter,\nover the std that keeps the signal (log)")
    figures.name_layers(axes, paths, list(marks))
    figures.mark(axes, marks)
    axes.set_xlabel("parameter, in the order of first use")
    _name_band(axes)
    inside = sum(_BAND[0] <= ratio <= _BAND[1] for ratio in ratios)
    healthy = (
        f"No finding in {len(rows)} parameters: {inside} of {len(drawn)} kernels have "
        "1/2 to 2 times the std that keeps the signal"
    )
    figures.title(figure, figures.headline(findings, healthy))
    return figure


def _name_band(axes: Any) -> None:
    """Say beside the panel what its band and its line are."""
    for height, text in ((_BAND[1], "2 times"), (1, "keeps the signal"), (0.5, "half")):
        axes.annotate(
            text, (1, height), (4, 0), ("axes fraction", "data"), "offset points",
            va="center", fontsize=8, color=figures.PALETTE[1], annotation_clip=False,
        )  # fmt: skip


def _is_drawn(ratio: float | None) -> bool:
    return ratio is not None and not math.isnan(ratio)
