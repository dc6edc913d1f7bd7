"""Logarithmic axes that have places for 0 and infinity, and ticks that can be read."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# A logarithmic axis spans this factor or more.
_LEAST_SPAN = 100.0
# The names of the ticks of 0 and of infinity.
NAMES = ("exactly 0", "infinite")


class Places(NamedTuple):
    """The places of 0 and of infinity on a logarithmic axis, and whether it has them.

    A place lies half a decade, or a twentieth of the axis, beyond all other values,
    whose exponents are `ends`.
    """

    ends: tuple[float, float]
    has_zero: bool
    has_infinity: bool

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray | None]) -> "Places":
        """Return the places for these values."""
        flat = [np.asarray(x, np.float64).ravel() for x in arrays if x is not None]
        values = np.concatenate(flat or [np.zeros(0)])
        usual = values[np.isfinite(values) & (values > 0)]
        low, high = np.log10([usual.min(), usual.max()]) if usual.size else (0.0, 0.0)
        has = bool((values == 0).any()), bool(np.isinf(values).any())
        return cls((float(low), float(high)), *has)

    def beyond(self) -> tuple[float, float]:
        """Return the places of 0 and of infinity."""
        low, high = self.ends
        gap = 0.5 + 0.05 * (high - low)
        # The exponents of float64 end at -308 and 308.
        return 10 ** max(low - gap, -300.0), 10 ** min(high + gap, 300.0)

    def shown(self, values: np.ndarray) -> np.ndarray:
        """Return the values at which numbers are drawn."""
        zero, infinity = self.beyond()
        shown = np.where(values == 0, zero, values)
        return np.where(np.isinf(values), infinity, shown)

    def triangles(
        self, axes: Any, order: np.ndarray, values: np.ndarray, color: str
    ) -> None:
        """Draw hollow triangles that point to 0 and to infinity."""
        for is_there, place, marker in zip(
            (values == 0, np.isinf(values)), self.beyond(), "v^", strict=True
        ):
            if is_there.any():
                axes.plot(
                    order[is_there], np.full(is_there.sum(), place), marker,
                    color=color, markersize=7, markerfacecolor="none",
                )  # fmt: skip

    def mark(self, axes: Any) -> None:
        """Give 0 and infinity a tick and a dotted line."""
        axes.set_yscale("log")
        bottom, top = axes.get_ylim()
        if top < _LEAST_SPAN * bottom:
            # A healthy signal would look wild on an axis that it fills.
            middle, half = math.sqrt(bottom * top), math.sqrt(_LEAST_SPAN)
            axes.set_ylim(middle / half, middle * half)
        if not (self.has_zero or self.has_infinity):
            log_ticks(axes)
            return
        places = []
        has = self.has_zero, self.has_infinity
        for place, name, is_there in zip(self.beyond(), NAMES, has, strict=True):
            if is_there:
                places.append((place, name))
                axes.axhline(place, color="gray", linestyle=":", linewidth=0.8)
        # No other tick may stand at the height of these, or beyond.
        ends = self.ends[0] - 0.2, self.ends[1] + 0.2
        log_ticks(axes, (10 ** ends[0], 10 ** ends[1]), places)


def log_ticks(
    axes: Any,
    ends: tuple[float, float] | None = None,
    more: Sequence[tuple[float, str]] = (),
) -> None:
    """Set ticks of a logarithmic y axis, whose labels are short numbers.

    Args:
      axes: the panel.
      ends: the range of the ticks, by default that of the axis.
      more: further ticks, (place, label).
    """
    from matplotlib.ticker import MaxNLocator

    low, high = ends or axes.get_ylim()
    lowest = math.ceil(math.log10(low) - 1e-9)
    highest = math.floor(math.log10(high) + 1e-9)
    decades = range(lowest, highest + 1, max(1, (highest - lowest) // 6))
    if len(decades) > 1:
        ticks = {10.0**k: _power(k, decades) for k in decades}
    else:
        near = [m * 10.0**k for k in range(lowest - 1, highest + 2) for m in (1, 2, 5)]
        if sum(low <= x <= high for x in near) < 3:
            near = list(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
        ticks = {x: f"{x:g}" for x in near if low <= x <= high}
    ticks |= dict(more)
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()


def _power(exponent: int, all_of_them: Sequence[int]) -> str:
    """Return a power of ten as a plain number, if all of the axis are short so."""
    if all_of_them[0] >= -2 and all_of_them[-1] <= 3:
        return f"{10.0**exponent:g}"
    return f"$10^{{{exponent}}}$"
