"""This file integrates functions with kinks or jumps over the standard normal law."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

_REACH = 12.0
_NODES = 16
_MOST_PANELS = 8192
_MOST_ROUNDS = 46


class Unresolved(ValueError):
    """An Unresolved function is not finite, or too wild for panels of any width."""


def normal_mean(
    g: Callable[[np.ndarray], np.ndarray],
    kinks: Sequence[float] = (),
    tolerance: float = 0.0,
) -> float:
    """Return E g(z) for z ~ N(0, 1), by Gauss-Legendre on panels.

    Every panel is integrated whole and in halves, and split where the two differ. So a
    kink or a jump costs a chain of ever smaller panels, and no smooth part pays for it.
    `kinks` that are known cost nothing, since panels begin there.
    """
    edges = np.union1d(np.arange(-_REACH, _REACH + 1), np.asarray(kinks, np.float64))
    left, right = edges[:-1], edges[1:]
    whole = panel_means(g, left, right)
    total, done = np.sum(np.abs(whole)), 0.0
    # exp(z^2 / 4) passes the sum of its panels, but its mean square is infinite.
    if abs(whole[0]) + abs(whole[-1]) > 1e-9 * total:
        raise Unresolved(
            "grows so fast that its mean square is decided beyond "
            f"|z| = {_REACH - 1:g}, or is infinite; no gain can tame it."
        )
    for _ in range(_MOST_ROUNDS):
        middle = (left + right) / 2
        halves = panel_means(g, np.append(left, middle), np.append(middle, right))
        first, second = np.split(halves, 2)
        allowed = max(1e-12, tolerance) * max(float(total), math.ulp(0.0))
        good = np.abs(whole - first - second) <= allowed
        done += float(np.sum((first + second)[good]))
        if good.all():
            return done
        left, right = (
            np.append(left[~good], middle[~good]),
            np.append(middle[~good], right[~good]),
        )
        whole = np.append(first[~good], second[~good])
        total = abs(done) + np.sum(np.abs(whole))
        if left.size > _MOST_PANELS:
            raise Unresolved(
                f"oscillates too fast: {left.size} panels did not resolve it. Give it "
                "a lower frequency, or a number as the gain."
            )
    if np.sum(np.abs(whole)) > 1e-6 * total:
        raise Unresolved(
            f"has an infinite mean, or nearly: near {left[0]:.6g} it is too steep."
        )
    return done + float(np.sum(whole))


def find_kinks(
    g: Callable[[np.ndarray], np.ndarray], tolerance: float = 0.0
) -> tuple[float, ...]:
    """Find where a function on [-12, 12] is not smooth, to about 1e-9.

    Panels are halved where the whole and its halves differ. At a kink or a jump they
    differ however narrow the panel is. `tolerance` is the relative precision of g.
    """
    # A kink at an edge of one set of panels lies inside a panel of the other.
    sets = [np.linspace(-_REACH, _REACH, n) for n in (26, 31)]
    first, second = (_kinks_between(g, e, max(1e-9, tolerance)) for e in sets)
    return tuple(sorted({*first, *second}))


def _kinks_between(
    g: Callable[[np.ndarray], np.ndarray], edges: np.ndarray, tolerance: float
) -> list[float]:
    left, right = edges[:-1], edges[1:]
    kinks: list[float] = []
    for _ in range(48):
        inner = left + (math.sqrt(2) - 1) * (right - left)
        whole = panel_means(g, left, right)
        parts = panel_means(g, left, inner) + panel_means(g, inner, right)
        rough = np.abs(whole - parts) > tolerance * (right - left)
        # A panel that was split down to here, and now seems smooth, holds a kink.
        stop = ~rough & (right - left < 1e-4)
        kinks += map(_rounded, (left + right)[stop] / 2, (right - left)[stop])
        left, right, inner = left[rough], right[rough], inner[rough]
        if left.size == 0 or left.size > _MOST_PANELS // 64:
            return kinks
        left, right = np.append(left, inner), np.append(inner, right)
    return [*kinks, *map(_rounded, (left + right) / 2, right - left)]


def _rounded(x: float, width: float) -> float:
    """Return a number of few digits, if x cannot be told from it."""
    near = round(float(x), 4)
    return near if abs(near - x) <= 2 * width else round(float(x), 9)


def panel_means(
    g: Callable[[np.ndarray], np.ndarray], left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Integrate g times the normal density over each panel."""
    x, weights = gauss_legendre()
    half = (right - left)[:, None] / 2
    z = left[:, None] + half * (1 + x[None])
    values = np.asarray(g(z.ravel()), np.float64).reshape(z.shape)
    if not np.isfinite(values).all():
        where = z[~np.isfinite(values)].flat[0]
        raise Unresolved(
            f"is not finite at {where:.6g}; it must be finite on [-12, 12]."
        )
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    integrals: np.ndarray = np.sum(values * density * weights, axis=1) * half[:, 0]
    return integrals


@functools.cache
def gauss_legendre() -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and the weights of the rule for one panel."""
    x, weights = np.polynomial.legendre.leggauss(_NODES)
    return x, weights
