"""What an experiment hands back: the claim, the numbers, whether they bear it out."""

import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure


class Result(NamedTuple):
    """One paper's claim, and what was measured of it."""

    paper: str
    claim: str
    found: str  # the numbers, in words
    measured: dict[str, Any]
    checks: dict[str, bool]  # what the claim comes down to -> whether it holds here
    figure: Figure

    @property
    def reproduced(self) -> str:
        """yes, no or partly: as many checks as hold."""
        held = sum(map(bool, self.checks.values()))
        return "no" if not held else "yes" if held == len(self.checks) else "partly"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; None for what is not finite."""
        return {
            "paper": self.paper,
            "claim": self.claim,
            "found": self.found,
            "reproduced": self.reproduced,
            "checks": {name: bool(held) for name, held in self.checks.items()},
            "measured": plain(self.measured),
        }


def plain(value: Any) -> Any:
    """Arrays as lists; numbers that JSON does not know as None."""
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
    """A figure of panels side by side, with titles, labels and a grid."""
    # Not pyplot's, which keeps every figure of a process.
    figure = Figure(figsize=(5.2 * len(titles), 3.8), layout="constrained")
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    for ax, title, of_x, of_y in zip(axes, titles, x, y, strict=True):
        ax.set_title(title, fontsize=10)
        ax.set(xlabel=of_x, ylabel=of_y, yscale="log" if log else "linear")
        ax.grid(alpha=0.3)
    return figure, axes
