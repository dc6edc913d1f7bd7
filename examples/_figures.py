"""The style of the examples' figures, and what several of them draw.

Pages and READMEs are read on white and on black. So a figure has no background, its
texts are in a grey that is seen on both, and its colours are those of Okabe and Ito,
which people who are colour-blind can tell apart.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# This grey has a contrast of 4 to 1 on white and on the dark theme alike.
INK = "#7d8590"
# The blue is lighter than that of Okabe and Ito, for dark pages.
COLORS = ("#3187C4", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#D55E00")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw figures without a background, in ink that is seen on any."""
    inks = (
        "text.color",
        "axes.edgecolor",
        "axes.labelcolor",
        "xtick.color",
        "ytick.color",
    )
    settings: Any = {
        **dict.fromkeys(inks, INK),
        "axes.facecolor": "none",
        "axes.prop_cycle": cycler(color=COLORS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.facecolor": "none",
        "figure.figsize": (7.6, 3.4),
        "figure.constrained_layout.use": True,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "savefig.facecolor": "none",
        "savefig.transparent": True,
    }
    with plt.rc_context(settings):
        yield


def name_ends(axes: Axes, apart: float = 0.07) -> None:
    """Write the name of each line of a panel beside its end.

    Args:
      axes: the panel; its limits must be final.
      apart: the least distance of two names, as a share of the panel's height.
    """
    lines = [line for line in axes.get_lines() if str(line.get_label())[:1] != "_"]
    ends = []
    for line in lines:
        x, y = (np.asarray(values, float) for values in line.get_data())
        last = np.flatnonzero(np.isfinite(x) & np.isfinite(y))[-1]
        ends.append((float(x[last]), float(y[last])))
    inside = axes.transAxes.inverted()
    heights = [inside.transform(axes.transData.transform(end))[1] for end in ends]
    below = -1.0
    for number in np.argsort(heights):
        below = max(heights[number], below + apart)
        line = lines[number]
        axes.annotate(
            str(line.get_label()), ends[number], (1.02, below), "data",
            "axes fraction", color=line.get_color(), va="center",
            annotation_clip=False,
        )  # fmt: skip


def diagnosis(runs: dict[str, Any]) -> Figure:
    """Draw the signal and the gradient by layer, and the loss by step, of each run.

    Args:
      runs: by name, the `report` of a probe, the `losses` and the `accuracy`.
    """
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(11, 3.4))
        for (name, run), color in zip(
            runs.items(), (COLORS[-1], COLORS[0]), strict=False
        ):
            rows = [row for row in run["report"].rows if "relu" not in row["path"]]
            layers = range(1, len(rows) + 1)
            for axes, column in zip(panels, ("rms", "grad_rms"), strict=False):
                values = [row[column] for row in rows]
                axes.semilogy(layers, values, ".-", color=color, label=name)
            panels[2].plot(run["losses"], color=color, linewidth=1, label=name)
        for axes, title, x in zip(
            panels,
            ("rms of the signal", "rms of the gradient", "loss of training"),
            ("layer", "layer", "step"),
            strict=True,
        ):
            axes.set_title(title)
            axes.set_xlabel(x)
            axes.grid()
        panels[2].set_ylim(bottom=0)
        panels[2].axhline(np.log(10), color=INK, linestyle=":", linewidth=1)
        panels[2].annotate(
            "guessing: ln 10",
            (0.5, np.log(10)),
            (0, -10),
            ("axes fraction", "data"),
            "offset points",
            fontsize=8,
        )
        name_ends(panels[2])
        figure.suptitle(_finding(runs))
    return figure


def _finding(runs: dict[str, Any]) -> str:
    return "; ".join(map(_sentence, runs, runs.values()))


def _sentence(name: str, run: dict[str, Any]) -> str:
    rows: Sequence[dict[str, Any]] = run["report"].rows
    factor = rows[-1]["rms"] / rows[0]["rms"]
    part = f"{float(f'{1 / max(factor, 1e-300):.1g}'):,.0f}"
    kept = f"1/{part} of the signal" if factor < 0.1 else "the signal"
    loss = np.mean(run["losses"][-20:])
    return f"{name} keeps {kept}, and the loss ends at {loss:.2f}"
