"""The figures of a report, of a comparison and of an audit."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._core import figures
from .._core.figures import Line
from .._core.results import Finding, Row

_SIZES = {"rms": "rms of the output\n(log)", "grad_rms": "rms of the gradient\n(log)"}
_SHARES = {
    "dead": "dead units",
    "saturation": "entries at the largest value",
    "cosine": "cosine of two inputs",
}


def of_report(rows: Sequence[Row], verdict: Sequence[Finding]) -> Any:
    """Draw sizes, gradients and shares by layer; mark the layers of findings."""
    paths = [row["path"] for row in rows]
    marks = figures.marks_of(verdict, paths)
    figure, panels = figures.figure_of(3, len(rows))
    for axes, (name, label) in zip(panels, _SIZES.items(), strict=False):
        figures.curves(axes, [Line(name, _column(rows, name))], log=True)
        axes.set_ylabel(label)
    lines = [Line(label, _column(rows, name)) for name, label in _SHARES.items()]
    figures.curves(panels[2], lines)
    panels[2].set(ylabel="share of the layer,\ncosine", ylim=(-1.05, 1.05))
    figures.legend(panels[2])
    _finish(figure, panels, paths, marks)
    healthy = f"nothing is wrong in the {len(rows)} rows of this report"
    figures.title(figure, figures.headline(verdict, healthy))
    return figure


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
    figures.legend(panels[0])
    marks: dict[int, str] = {}
    for scheme, (place, category) in ((s, m) for s, m in sick.items() if m):
        text = f"{scheme}: {category}"
        marks[place] = f"{marks[place]}\n{text}" if place in marks else text
    _finish(figure, panels, paths, marks)
    figures.title(figure, _schemes_in_words(words))
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
    healthy = [name for name, verdict in words.items() if verdict == "healthy"]
    sick = [f"{name}: {text}" for name, text in words.items() if text != "healthy"]
    parts = [f"healthy: {', '.join(healthy)}"] if healthy else []
    shown = sick[:3]
    if len(sick) > len(shown):
        shown.append(f"and {len(sick) - len(shown)} more with findings")
    return "; ".join([*parts, *shown])


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
    axes.axhspan(0.5, 2, color=figures.PALETTE[1], alpha=0.08, linewidth=0)
    axes.axhline(1, color="gray", linewidth=1)
    axes.set_ylabel("std / the std that keeps the signal\n(log; band: 1/2 to 2)")
    figures.name_layers(axes, paths, list(marks))
    figures.mark(axes, marks)
    axes.set_xlabel("parameter, in the order of first use")
    healthy = f"nothing is wrong in {len(rows)} parameters"
    figures.title(figure, figures.headline(findings, healthy))
    return figure


def _is_drawn(ratio: float | None) -> bool:
    return ratio is not None and not math.isnan(ratio)
