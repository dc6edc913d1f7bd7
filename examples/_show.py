"""Turn records of the comparison into a table and a figure."""

import math
import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from examples import _figures

_COLUMNS = (
    "test acc. %",
    "final loss",
    "steps to 90 %",
    "|grad W1|",
    "last act. std",
    "last act. / input",
)


def table(records: list[dict[str, Any]], data: str) -> Table:
    """Return medians over seeds and the mean accuracy, a row per scheme and depth."""
    result = Table(
        title=f"Initialization schemes on {data}",
        caption="The last three columns are before training; W1 is the first kernel.",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("depth", "scheme"):
        result.add_column(name, no_wrap=True)
    for name in _COLUMNS:
        result.add_column(name, justify="right", no_wrap=True)
    for record, after in zip(records, [*records[1:], None], strict=True):
        result.add_row(*_row(record))
        if after and after["depth"] != record["depth"]:
            result.add_section()
    return result


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    accuracy = 100 * np.asarray(record["test_accuracy"])
    return (
        str(record["depth"]),
        record["scheme"],
        f"{accuracy.mean():.1f} ± {accuracy.std():.1f}",
        _number(record["final_loss"], ".3f"),
        _steps(record["steps_to_90"]),
        _number(record["first_gradient_norm"], ".1e"),
        _number(record["last_activation_std"], ".1e"),
        _power_of_two(record),
    )


def _number(values: list[float | None], form: str) -> str:
    known = [v for v in values if v is not None]
    return format(float(np.median(known)), form) if known else "diverged"


def _steps(values: list[int | None]) -> str:
    reached = [v for v in values if v is not None]
    if not reached:
        return "never"
    share = "" if len(reached) == len(values) else f" ({len(reached)}/{len(values)})"
    return f"{np.median(reached):.0f}{share}"


def _power_of_two(record: dict[str, Any]) -> str:
    """Return the last activations over the inputs, which have root mean square 1."""
    left = float(np.median(record["activation_rms"][-1]))
    return f"2^{math.log2(left):.1f}" if 0 < left < math.inf else f"{left:g}"


def findings(records: list[dict[str, Any]]) -> list[str]:
    """Describe the results of Xavier and He in sentences."""
    return [_finding(r) for r in records if r["scheme"] in ("xavier", "he")]


def _finding(record: dict[str, Any]) -> str:
    return (
        f"{record['scheme']}, {record['depth']} {record['activation']} layers: the "
        f"last activations are {_power_of_two(record)} of the input, and the loss is "
        f"{_number(record['final_loss'], '.3f')} where guessing gives ln 10 = "
        f"{math.log(10):.3f}: it {_state(record)}."
    )


def _state(record: dict[str, Any]) -> str:
    known = [v for v in record["final_loss"] if v is not None]
    if not known:
        return "diverged"
    return "stalled" if abs(np.median(known) - math.log(10)) < 0.02 else "trained"


def figure(records: list[dict[str, Any]], data: str, path: pathlib.Path) -> Figure:
    """Draw a row per depth: learning curves with bands, and signals before training."""
    depths = sorted({record["depth"] for record in records})
    names = _names(records)
    styles: dict[str, dict[str, Any]] = {
        scheme: {
            "color": _figures.COLORS[i % len(_figures.COLORS)],
            "linestyle": ("-", "--", "-.", ":")[i // len(_figures.COLORS) % 4],
        }
        for i, scheme in enumerate(names)
    }
    with _figures.style():
        fig, grid = plt.subplots(
            len(depths), 3, figsize=(15, 4.2 * len(depths)), squeeze=False
        )
        for row, depth in zip(grid, depths, strict=True):
            for record in (r for r in records if r["depth"] == depth):
                if record["scheme"] in names:
                    _draw(row, record, styles[record["scheme"]])
            _label(row, depth)
        handles = [Line2D([], [], label=names[s], **styles[s]) for s in names]
        fig.legend(handles=handles, loc="outside lower center", ncols=len(names))
        fig.suptitle(_trained(records, data), fontsize=14)
        fig.savefig(path, dpi=110)
    return fig


def _names(records: list[dict[str, Any]]) -> dict[str, str]:
    """Return the schemes that are drawn, with the names of all that give their curves.

    For relu, He and both rules of Kaiming are one curve.
    """
    curves: dict[str, str] = {}
    for record in records:
        drawn = ("depth", "test_accuracy_curve", "activation_rms", "gradient_rms")
        curve = repr([record[name] for name in drawn])
        curves[record["scheme"]] = curves.get(record["scheme"], "") + curve
    groups: dict[str, list[str]] = {}
    for scheme, curve in curves.items():
        groups.setdefault(curve, []).append(scheme)
    return {schemes[0]: " = ".join(schemes) for schemes in groups.values()}


def _trained(records: list[dict[str, Any]], data: str) -> str:
    """Say which schemes train the deepest network."""
    deepest = max(record["depth"] for record in records)
    deep = [record for record in records if record["depth"] == deepest]
    trained = [record["scheme"] for record in deep if _state(record) == "trained"]
    layers = f"{deepest} {deep[0]['activation']} layers on {data}"
    names = f": {', '.join(trained)}" if trained else ""
    return f"{len(trained)} of {len(deep)} schemes train {layers}{names}"


def _draw(row: np.ndarray, record: dict[str, Any], style: dict[str, Any]) -> None:
    """Draw one scheme: its learning curve, and its signals before training."""
    _band(row[0], record, style)
    layers = np.arange(1, record["depth"] + 1)
    fields = ("activation_rms", "gradient_rms")
    for axes, field in zip(row[1:], fields, strict=True):
        # Medians over seeds. A zero has no place on a log axis, and stands at its foot.
        values = np.median(np.asarray(record[field], np.float64), axis=1)
        is_zero = values == 0
        axes.plot(layers, np.where(is_zero, np.nan, values), **style)
        if is_zero.any():
            axes.plot(
                layers[is_zero], np.full(is_zero.sum(), 0.02), "v", clip_on=False,
                transform=axes.get_xaxis_transform(), color=style["color"],
            )  # fmt: skip
            if not axes.texts:
                axes.text(0.02, 0.05, "v: exactly 0", transform=axes.transAxes)


def _band(axes: Axes, record: dict[str, Any], style: dict[str, Any]) -> None:
    """Draw the mean over seeds, and the range from the worst to the best."""
    curves = 100 * np.asarray(record["test_accuracy_curve"])
    steps = record["curve_steps"]
    axes.plot(steps, curves.mean(axis=0), **style)
    low, high = curves.min(axis=0), curves.max(axis=0)
    axes.fill_between(steps, low, high, color=style["color"], alpha=0.15, lw=0)


def _label(row: np.ndarray, depth: int) -> None:
    titles = (
        f"depth {depth}: test accuracy, % (mean and range over seeds)",
        "activations at initialization (rms)",
        "gradients to pre-activations at initialization (rms)",
    )
    for axes, title, x in zip(row, titles, ("step", "layer", "layer"), strict=True):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(x)
        axes.grid(alpha=0.3)
    row[0].set_ylim(0, 101)
    for axes in row[1:]:
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
