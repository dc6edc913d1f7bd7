"""The slope s of a size over the width is fitted: log size = s log width + c."""

from collections.abc import Sequence

import numpy as np


# The slope is one of logarithms, so the mean is geometric. A single seed that diverged
# would decide an arithmetic mean.
def average(values: np.ndarray) -> np.ndarray:
    """Return the geometric mean over the seeds; 0 if one of them is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.mean(np.log(values), axis=1)))


def slope(widths: Sequence[int], values: np.ndarray) -> float:
    """Return the slope of log size over log width, for sizes (widths, seeds).

    The slope is infinite if the size at one of the widths is, and 0 for sizes of 0.
    """
    means = average(values)
    if not np.all(np.isfinite(means)):
        return float("inf")
    known = means > 0
    if known.sum() < 2:
        return 0.0
    return float(
        np.polyfit(np.log(np.asarray(widths)[known]), np.log(means[known]), 1)[0]
    )


def slope_of(widths: Sequence[int], values: Sequence[float]) -> float:
    """Return the slope of sizes that have one value for each width."""
    return slope(widths, np.asarray(values, float)[:, None])


def error(widths: Sequence[int], values: np.ndarray) -> float:
    """Return the standard error of the slope, from the scatter of the seeds."""
    seeds = values.shape[1]
    if seeds < 2 or not np.all(np.isfinite(values) & (values > 0)):
        return 0.0
    # Least squares: the variance of a slope is that of a point over the sum of squares
    # of log width. All widths share one estimate of it, since four seeds give a poor
    # one.
    scatter = np.mean(np.var(np.log(values), axis=1, ddof=1)) / seeds
    spread = len(widths) * np.var(np.log(np.asarray(widths)))
    return float(np.sqrt(scatter / spread))


def lasting(widths: Sequence[int], values: np.ndarray, known: float) -> float:
    """Return the larger of a slope and of that among the wider half of the models.

    Narrow models are far from the limit of infinite width, so a size counts as
    shrinking only if it also shrinks among the wider half.
    """
    wide = np.argsort(widths)[-max(2, (len(widths) + 1) // 2) :]
    return max(known, slope([widths[i] for i in wide], values[wide]))
