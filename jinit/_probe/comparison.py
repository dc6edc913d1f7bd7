"""A `Comparison`, the result of `compare`, holds a report for each scheme and seed."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._core.results import Result, Row, Table, saved
from .figures import of_comparison
from .report import Report

_HEAD = (
    "scheme", "seeds", "rms, first layer", "rms, last", "gradient, first", "last",
    "dead, most", "cosine, last", "verdict",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Comparison(Result):
    """A comparison has a report for each scheme and seed: `reports[scheme][seed]`.

    `print(comparison)` shows a line for each scheme: medians over its seeds, the
    categories of its findings, and in how many of the seeds each occurs. `notes` are
    sentences on what a probe cannot measure, such as which starts train well.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> make = lambda init: nn.Sequential([nn.Dense(8, kernel_init=init)] * 2)
      >>> result = jinit.compare(make, ["he", "lecun"], jnp.eye(8), jax.random.key(0))
      >>> list(result.reports), len(result.reports["he"])
      (['he', 'lecun'], 1)
    """

    reports: dict[str, tuple[Report, ...]]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[Row]:
        """Return one dict for each scheme: medians over its seeds, and its verdict.

        Keys: scheme, seeds, rms_first and rms_last (of the first and the last layer),
        grad_rms_first, grad_rms_last, dead (the most of any layer), cosine (of the last
        layer), verdict (in words).
        """
        return [_row(name, reports) for name, reports in self.reports.items()]

    def _table(self) -> Table:
        lines = [tuple(map(_cell, row.values())) for row in self.rows]
        return Table(_HEAD, lines, below=[f"- note: {note}" for note in self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: lists of reports by the name of the scheme."""
        return {
            name: [report.to_dict() for report in reports]
            for name, reports in self.reports.items()
        }

    def plot(self, path: Any = None) -> Any:
        """Draw the rms of outputs and of gradients by depth, a line for each scheme.

        Lines are medians over the seeds, bands reach from the least to the largest.
        Schemes whose lines are equal share one line. The layer that a scheme's first
        finding names is marked.

        Args:
          path: the file to write the figure to, or None to write no file.

        Returns:
          The matplotlib figure.
        """
        rows = {n: [r.rows for r in one] for n, one in self.reports.items()}
        verdicts = {n: [r.verdict for r in one] for n, one in self.reports.items()}
        words = {name: _verdict(one) for name, one in self.reports.items()}
        return saved(of_comparison(rows, verdicts, words), path)


def _values(reports: Sequence[Report], name: str) -> np.ndarray:
    """Return a statistic as an array of shape (seeds, layers)."""
    # All reports of a scheme are of one model, so they have the same layers.
    return np.array([[row[name] for row in report.rows] for report in reports])


def _row(name: str, reports: Sequence[Report]) -> Row:
    def median(statistic: str, pick: Callable[..., Any]) -> float:
        return float(np.median(pick(_values(reports, statistic), 1)))

    # Medians are taken, since one seed in which the signal explodes would rule a mean.
    return {
        "scheme": name,
        "seeds": len(reports),
        "rms_first": median("rms", _first),
        "rms_last": median("rms", _last),
        "grad_rms_first": median("grad_rms", _first),
        "grad_rms_last": median("grad_rms", _last),
        "dead": median("dead", np.max),
        "cosine": median("cosine", _last),
        "verdict": _verdict(reports),
    }


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _first(values: np.ndarray, _: int) -> np.ndarray:
    return values[:, 0]


def _last(values: np.ndarray, _: int) -> np.ndarray:
    return values[:, -1]


def _verdict(reports: Sequence[Report]) -> str:
    """Say which categories of findings there are, and in how many of the seeds."""
    counts = collections.Counter(
        category
        for report in reports
        for category in {finding.category for finding in report.verdict}
    )
    words = [f"{name} ({n}/{len(reports)})" for name, n in counts.most_common()]
    return ", ".join(words) or "healthy"
