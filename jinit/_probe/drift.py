"""A sentence says by which factor, and from which layer on, a signal drifts."""

import math
from collections.abc import Sequence

import numpy as np

from .._core.results import Row

CATEGORIES = ("signal grows", "signal shrinks")
# Factors that are as good as 2.
_TWO = 1.87, 2.14


def sentence(rows: Sequence[Row], parameters: Sequence[Row], category: str) -> str:
    """Return the factor of a drift in each layer, and the layer that it begins at.

    Args:
      rows: the rows of a report, in the order of execution.
      parameters: the rows of its parameters, which tell layers from activations.
      category: "signal grows" or "signal shrinks".

    Returns:
      The sentence, or "" where the layers do not show the drift.
    """
    layers = [row for row in _layers(rows, parameters) if 0 < row["rms"] < math.inf]
    if len(layers) < 3:
        return ""
    logs = np.log([row["rms"] for row in layers])
    start = _bend(logs)
    rate = (logs[-1] - logs[start]) / (len(logs) - 1 - start)
    if (rate > 0) != (category == CATEGORIES[0]):
        return ""
    where = f" from {layers[start + 1]['path']} on" if start else ""
    ends = f"rms {layers[start]['rms']:.2g} to {layers[-1]['rms']:.2g}"
    return f"The signal {_verb(rate)} in every layer{where} ({ends})"


def _verb(rate: float) -> str:
    factor = math.exp(abs(rate))
    if _TWO[0] <= factor <= _TWO[1]:
        return "doubles" if rate > 0 else "halves"
    return f"{'grows' if rate > 0 else 'shrinks'} by a factor of {factor:.2g}"


def _layers(rows: Sequence[Row], parameters: Sequence[Row]) -> list[Row]:
    """Return the rows that have a kernel, or all rows where fewer than three have."""
    kernels = [f"/{row['path']}" for row in parameters if len(row["shape"]) > 1]
    with_kernel = [
        row for row in rows if any(f"/{row['path']}/" in path for path in kernels)
    ]
    return with_kernel if len(with_kernel) > 2 else list(rows)


def _bend(logs: np.ndarray) -> int:
    """Return the last layer before a drift: a constant fits up to it, a line after it.

    A drift in all layers begins at layer 0.
    """

    def misfit(start: int) -> float:
        flat = logs[: start + 1]
        x = np.arange(len(logs) - start)
        # The line begins where the constant ends.
        rest = logs[start:] - flat.mean()
        slope = (x @ rest) / (x @ x)
        return float(
            np.sum((flat - flat.mean()) ** 2) + np.sum((rest - slope * x) ** 2)
        )

    best = min(range(len(logs) - 2), key=misfit)
    # The noise of one layer is no bend.
    return best if misfit(best) < 0.3 * misfit(0) else 0
