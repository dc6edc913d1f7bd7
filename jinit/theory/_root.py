"""The root of a decreasing function is found by bisection and secants."""

import math
from typing import Any

MOST_STEPS = 500


def root(
    f: Any,
    low: float,
    high: float,
    f_low: float | None = None,
    tolerance: float = 0.0,
) -> float:
    """Where f, positive at low > 0 and negative at high, is zero.

    Halved on a logarithmic scale while the two are far apart, then Anderson and
    Bjorck's rule: where one end stays, its value shrinks, so that it moves too.
    """
    f_low = f(low) if f_low is None else f_low
    f_high, last = f(high), 0.0
    for _ in range(200):
        if high > 16 * low:
            middle = math.sqrt(low * high)
        else:
            middle = high - f_high * (high - low) / (f_high - f_low)
        value = f(middle)
        if abs(value) < max(1e-13, tolerance) or high - low < 1e-13 * high:
            return middle
        if value < 0:
            f_low *= _shrink(value, f_high) if last < 0 else 1.0
            high, f_high = middle, value
        else:
            f_high *= _shrink(value, f_low) if last > 0 else 1.0
            low, f_low = middle, value
        last = value
    return middle


def _shrink(value: float, before: float) -> float:
    left = 1 - value / before
    return left if left > 0 else 0.5
