"""The best rate of each width, and how it moves, are fitted to the scores of a sweep.

Logarithms are to base 2: rates and widths are in octaves, where one octave is a factor
of two.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Scores that differ by less than this many standard errors are not told apart.
_APART = 2.0

# The error of a parabola through three scores, in steps of the grid: curves of losses
# are steeper at high rates. Measured on sweeps of a perceptron on digits (Adam and
# AdamW, by muP and without it, by both scores), each on the parts of a fine grid with
# steps of 1, 1.5 and 2 octaves: the minima of the parts differ by 0.03 to 0.14 steps
# (rms), and by up to 0.22 where the noise of the seeds adds to it.
_GRID = 0.1

# How far a single seed moves the minimum, in octaves, if no second seed shows it. In
# the same sweeps, and in those of a transformer, the standard deviation over seeds was
# 0.02 to 0.49, at a mean of 0.15.
_ALONE = 0.25


class Best(NamedTuple):
    """The best rate of one width, in octaves, with its standard error.

    `end` is "lowest" or "highest" if the least score is at that end of the grid, so
    that the minimum may lie beyond it, and "" if the grid holds it.
    """

    octave: float
    error: float
    end: str = ""


class Move(NamedTuple):
    """A move has the octaves by which the best rate rises per doubling of the width."""

    slope: float
    uncertainty: float


def fitted(
    widths: Sequence[int], rates: Sequence[float], scores: np.ndarray
) -> tuple[list[Best], Move]:
    """Return the best rate of each width and the move, from (widths, rates, seeds)."""
    x, octaves = np.log2(rates), np.log2(widths)
    noise = _noise(scores)
    fits = [_fit(x, one, noise) for one in scores]
    centres, shifts, grids = (np.array(part) for part in zip(*fits, strict=True))
    spread = _standard_error(shifts)
    errors = np.hypot(spread, grids)
    bests = [
        Best(float(centre), float(error), _end(one.mean(axis=1)))
        for centre, error, one in zip(centres, errors, scores, strict=True)
    ]
    return bests, _move(octaves, centres, errors)


def _noise(scores: np.ndarray) -> float:
    """Return the noise of a score: the change by a seed at one rate and not at others.

    A seed that is better at all rates moves no minimum, so its mean over the rates is
    taken out. Single runs that went wrong hardly change a median.
    """
    squares: list[float] = []
    for one in scores:
        least = int(np.argmin(one.mean(axis=1)))
        near = one[max(0, least - 2) : least + 3]
        near = near[np.isfinite(near).all(axis=1)]
        if near.shape[0] < 2 or near.shape[1] < 2:
            continue
        rest = near - near.mean(axis=0) - near.mean(axis=1, keepdims=True) + near.mean()
        count, seeds = near.shape
        rest *= np.sqrt(near.size / ((count - 1) * (seeds - 1)))
        squares += list(np.ravel(rest**2))
    # The median of the square of a standard normal number is 0.455.
    return float(np.sqrt(np.median(squares) / 0.455)) if squares else 0.0


def _fit(
    x: np.ndarray, scores: np.ndarray, noise: float
) -> tuple[float, np.ndarray, float]:
    """Return the minimum over the rates, its shift for each seed, and the grid's error.

    score = a + b x + c x^2 is least at -b / (2 c). It is fitted to the least score and
    its two neighbours. Where noise hides which score is the least, it is fitted to all
    candidates and the neighbours of the outermost ones.
    """
    means, seeds = scores.mean(axis=1), scores.shape[1]
    least = int(np.argmin(means))
    near = _window(means, least, _APART * noise * np.sqrt(2 / seeds))
    gap = float(np.max(np.diff(x[max(0, least - 1) : least + 2])))
    nothing = np.zeros(seeds)
    # Beside an end of the grid, or a rate that diverged, there are no three scores.
    if _end(means) or len(near) < 3:
        return float(x[least]), nothing, gap / 2
    # Around its mean the columns of the fit are of one size.
    centre = x[near].mean()
    fit = np.linalg.pinv(np.vander(x[near] - centre, 3))
    c, b, _ = fit @ means[near]
    if c <= 0:
        return float(x[least]), nothing, float(np.ptp(x[near])) / 2
    ends = x[near[0]] - centre, x[near[-1]] - centre
    vertex = np.clip(-b / (2 * c), *ends)
    # d(score)/dx of each seed at the vertex, over the curvature: how far it shifts.
    each = fit @ scores[near]
    shifts = -(2 * each[0] * vertex + each[1]) / (2 * c)
    return float(centre + vertex), shifts - shifts.mean(), _GRID * gap


def _window(means: np.ndarray, least: int, close: float) -> np.ndarray:
    """Return the indices of the scores to which a parabola is fitted."""
    first = last = least
    while first > 0 and means[first - 1] <= means[least] + close:
        first -= 1
    while last < len(means) - 1 and means[last + 1] <= means[least] + close:
        last += 1
    indices = np.arange(max(0, first - 1), min(len(means), last + 2))
    return np.asarray(indices[np.isfinite(means[indices])])


def _standard_error(shifts: np.ndarray) -> float:
    """Return the standard error of a best rate, from its shifts (widths, seeds).

    All widths share one estimate, since two seeds give a poor one. Student's factor
    widens it to what covers 68 % for so few.
    """
    from scipy import special

    widths, seeds = shifts.shape
    if seeds < 2:
        return _ALONE
    freedom = widths * (seeds - 1)
    variance = np.sum(shifts**2) / freedom
    return float(np.sqrt(variance / seeds) * special.stdtrit(freedom, 0.8413))


def _move(octaves: np.ndarray, centres: np.ndarray, errors: np.ndarray) -> Move:
    """Return the slope of the best rates over the widths, by least squares."""
    weights = octaves - octaves.mean()
    weights = weights / np.sum(weights**2)
    slope = float(weights @ centres)
    variance = np.sum((weights * errors) ** 2)
    if len(octaves) > 2:
        rest = centres - centres.mean() - slope * (octaves - octaves.mean())
        # Best rates that lie off a line by more than their errors have larger errors.
        scatter = np.sum(rest**2) / (len(octaves) - 2)
        variance = max(variance, scatter * np.sum(weights**2))
    return Move(slope, float(np.sqrt(variance)))


def _end(means: np.ndarray) -> str:
    least = int(np.argmin(means))
    return {0: "lowest", len(means) - 1: "highest"}.get(least, "")
