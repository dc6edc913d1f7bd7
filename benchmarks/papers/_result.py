"""An experiment returns its claim, its numbers and its checks as a `Result`."""

import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure


class Result(NamedTuple):
    """A result holds one paper's claim and the measurements that test it."""

    paper: str
    claim: str
    outcome: str  # the numbers, in words
    measured: dict[str, Any]
    checks: dict[str, bool]  # tells whether each check holds
    figure: Figure

    @property
    def reproduced(self) -> str:
        """Return "yes", "no" or "partly": all, none or some of the checks hold."""
        held = sum(map(bool, self.checks.values()))
        return "no" if not held else "yes" if held == len(self.checks) else "partly"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for numbers that are not finite."""
        return {
            "paper": self.paper,
            "claim": self.claim,
            "found": self.outcome,
            "reproduced": self.reproduced,
            "checks": {name: bool(held) for name, held in self.checks.items()},
            "measured": plain(self.measured),
        }


def plain(value: Any) -> Any:
    """Return arrays as lists, and numbers that JSON does not know as None."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def panels(
    titles: list[str], x: list[str], y: list[str], *, log: bool = False
) -> tuple[Figure, Any]:
    """Return a figure of panels side by side, with titles, labels and a grid."""
    # pyplot would keep every figure of the process in memory.
    figure = Figure(figsize=(5.2 * len(titles), 3.8), layout="constrained")
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    for ax, title, x_label, y_label in zip(axes, titles, x, y, strict=True):
        ax.set_title(title, fontsize=10)
        ax.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
        ax.grid(alpha=0.3)
    return figure, axes
