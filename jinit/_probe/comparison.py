"""What `compare` returns: the reports of schemes and seeds, a table, a figure."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._core.terminal import plain_table
from .report import Report

_HEAD = (
    "scheme", "seeds", "rms, first layer", "rms, last", "gradient, first", "last",
    "dead, most", "cosine, last", "verdict",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The reports of several schemes, one for each seed: `reports[scheme][seed]`.

    `print(comparison)` shows a line for each scheme, medians over its seeds, with what
    is wrong and in how many of them.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> make = lambda init: nn.Sequential([nn.Dense(8, kernel_init=init)] * 2)
      >>> found = jinit.compare(make, ["he", "lecun"], jnp.eye(8), jax.random.key(0))
      >>> list(found.reports), len(found.reports["he"])
      (['he', 'lecun'], 1)
    """

    reports: dict[str, tuple[Report, ...]]

    def __str__(self) -> str:
        lines = [_line(name, reports) for name, reports in self.reports.items()]
        return plain_table(_HEAD, lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: lists of reports by the name of the scheme."""
        return {
            name: [report.to_dict() for report in reports]
            for name, reports in self.reports.items()
        }

    def plot(self, path: Any = None) -> Any:
        """Draw the rms of outputs and of gradients by depth, a line for each scheme.

        Lines are medians over the seeds, bands reach from the least to the largest.

        Args:
          path: where to write a picture; None for none.

        Returns:
          The matplotlib figure.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        for axes, name in ((above, "rms"), (below, "grad_rms")):
            for scheme, reports in self.reports.items():
                _band(axes, scheme, _table(reports, name))
            axes.set(yscale="log", ylabel="rms" if name == "rms" else "gradient's rms")
            axes.grid(alpha=0.3)
        above.legend(fontsize=8)
        below.set_xlabel("layer, in the order of execution")
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure


def _table(reports: Sequence[Report], name: str) -> np.ndarray:
    """A statistic as (seeds, layers)."""
    return np.array([[row[name] for row in report.rows] for report in reports])


def _band(axes: Any, label: str, values: np.ndarray) -> None:
    layers = np.arange(values.shape[1])
    (line,) = axes.plot(layers, np.median(values, 0), marker=".", label=label)
    axes.fill_between(
        layers, values.min(0), values.max(0), alpha=0.2, color=line.get_color()
    )


def _line(name: str, reports: Sequence[Report]) -> tuple[str, ...]:
    def median(statistic: str, pick: Callable[..., Any]) -> str:
        return f"{np.median(pick(_table(reports, statistic), 1)):.3g}"

    return (
        name,
        str(len(reports)),
        median("rms", _first),
        median("rms", _last),
        median("grad_rms", _first),
        median("grad_rms", _last),
        median("dead", np.max),
        median("cosine", _last),
        _verdict(reports),
    )


def _first(values: np.ndarray, _: int) -> np.ndarray:
    return values[:, 0]


def _last(values: np.ndarray, _: int) -> np.ndarray:
    return values[:, -1]


def _verdict(reports: Sequence[Report]) -> str:
    """What is wrong, and in how many of the seeds."""
    kinds = collections.Counter(
        kind for report in reports for kind in {f.kind for f in report.verdict}
    )
    found = [f"{kind} ({n}/{len(reports)})" for kind, n in kinds.most_common()]
    return ", ".join(found) or "healthy"
