"""This file integrates an activation over one or two Gaussian variables.

The integrals are m(q) = E g(sqrt(q) z)^2, and the dual map k(q, c) = E g(u) g(v), where
(u, v) is normal with variances q and correlation c = 1 - t. The dual map is computed as
m(q) - gap(q, t) with

  gap(q, t) = E (g(u) - g(v))^2 / 2,

since the gap keeps its relative precision where t is small, where 1 - R(c) depends on
it.
"""

import math
from collections.abc import Callable

import numpy as np

from .._scale.quadrature import Unresolved, gauss_legendre, normal_mean, panel_means
from ._scalar import Scalar

Function = Callable[[np.ndarray], np.ndarray]

_REACH = 12.0
# Panels of this width resolve the normal density to 1e-14.
_WIDTH = 3.0
# Agreement of two refinements, relative to the gap.
_TOLERANCE = 1e-9
_MOST_PANELS = 1024
_MOST_VALUES = 1 << 15


def moment(s: Scalar, g: Function, q: float, power: int = 2) -> float:
    """Return E g(sqrt(q) z)^power."""
    if q == 0 and g is s.f:
        return float(g(np.zeros(1))[0] ** power)
    root = _root_of(q)
    return normal_mean(lambda z: g(root * z) ** power, _kinks(s, root), s.precision)


def _root_of(q: float) -> float:
    """Return sqrt(q); at 0 the limit from above, since f' may have a jump there."""
    return math.sqrt(max(q, 1e-20))


def _kinks(s: Scalar, root: float) -> list[float]:
    """Return where f(root z) has kinks, within reach."""
    return [k / root for k in s.kinks if abs(k / root) < _REACH]


# Schoenholz et al. (2017) write this slope as E f'^2 + E f f''. By Stein's identity it
# is E[f f' z] / sqrt(q), which needs no f'', and holds at kinks.
def slope(s: Scalar, q: float) -> float:
    """Return d/dq E f(sqrt(q) z)^2 = E[f f' z] / sqrt(q)."""
    root = _root_of(q)
    return normal_mean(
        lambda z: s.f(root * z) * s.df(root * z) * z / root,
        _kinks(s, root),
        s.precision,
    )


def dual(s: Scalar, g: Function, q: float, t: float) -> float:
    """Return E g(u) g(v) at variance q and correlation 1 - t."""
    return moment(s, g, q) - gap(s, g, q, t)


def gap(s: Scalar, g: Function, q: float, t: float) -> float:
    """Return E (g(u) - g(v))^2 / 2 at variance q and correlation 1 - t."""
    if t == 0:
        return 0.0
    last = rough_gap(s, g, q, t)
    for parts in (2, 4, 8):
        finer = rough_gap(s, g, q, t, parts)
        least = 1e-15 * moment(s, g, q)
        allowed = max(_TOLERANCE, 16 * s.precision) * abs(finer)
        if abs(finer - last) <= max(allowed, least):
            return finer
        last = finer
    raise Unresolved("is too wild: the means over two variables do not settle.")


def rough_gap(s: Scalar, g: Function, q: float, t: float, parts: int = 1) -> float:
    """Return `gap` by one refinement, with v = c u + sqrt(1 - c^2) w.

    The panels of w begin where v enters another panel of a mesh on which g is smooth.
    The panels of u begin where u, or the middle of v, does so. They are finer near
    kinks, where the mean over w turns within the spread of v.
    """
    root, c = _root_of(q), 1 - t
    # sqrt(1 - c^2), of which 1 - c * c would lose all digits for c near 1.
    spread = math.sqrt(t * (2 - t))
    kinks = np.array(_kinks(s, root))
    # t = 2 is the correlation -1, where v = -u and one variable is left.
    if spread == 0:
        edges = [*kinks, *-kinks]
        return normal_mean(lambda x: (g(root * x) - g(-root * x)) ** 2 / 2, edges)
    mesh = _mesh(lambda z: g(root * z), kinks, s.precision)

    def mean(x: np.ndarray) -> np.ndarray:
        w, weights = _rule((mesh - c * x[:, None]) / spread, parts)
        v = root * (c * x[:, None] + spread * w)
        other = g(v.ravel()).reshape(v.shape)
        gaps = weights * (g(root * x)[:, None] - other) ** 2
        means: np.ndarray = np.sum(gaps, axis=1) / 2
        return means

    # `_rule` adds 9 marks of equal steps to those of the mesh.
    rows = max(1, _MOST_VALUES // ((mesh.size + 9) * gauss_legendre()[0].size * parts))
    return normal_mean(
        lambda x: np.concatenate(
            [mean(x[k : k + rows]) for k in range(0, x.size, rows)]
        ),
        _outer_edges(mesh, kinks, c, spread).tolist(),
        # The outer mean must see no error of the inner one, or it would split for ever.
        max(_TOLERANCE / 100, s.precision),
    )


def _outer_edges(
    mesh: np.ndarray, kinks: np.ndarray, c: float, spread: float
) -> np.ndarray:
    # The spread of v is wide here, and smooths the mean over w.
    if abs(c) < 0.5:
        return mesh
    steps = spread * 4.0 ** np.arange(-1, 1 + math.ceil(max(0, -math.log2(spread)) / 2))
    near = (kinks[:, None] / c + np.concatenate([-steps, steps])).ravel()
    edges = np.concatenate([mesh, mesh / c, near])
    return np.unique(edges[abs(edges) < _REACH])


def _mesh(g: Function, kinks: np.ndarray, precision: float) -> np.ndarray:
    """Return the ends of panels on which g and g^2 are smooth under the density."""
    edges = np.union1d(np.arange(-_REACH, _REACH + 1, _WIDTH), kinks)
    while edges.size <= _MOST_PANELS:
        left, right = edges[:-1], edges[1:]
        middle = (left + right) / 2
        rough = np.zeros(left.size, bool)
        for h in (g, lambda z: g(z) ** 2):
            whole = panel_means(h, left, right)
            halves = panel_means(h, left, middle) + panel_means(h, middle, right)
            rough |= abs(whole - halves) > max(1e-12, precision) * np.sum(abs(whole))
        rough &= right - left > 1e-10
        if not rough.any():
            return edges
        edges = np.union1d(edges, middle[rough])
    raise Unresolved("oscillates too fast for the means over two variables.")


def _rule(marks: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes, and weights with the normal density, between each row's marks."""
    equal = np.arange(-_REACH, _REACH + 1, _WIDTH)
    rows = np.broadcast_to(equal, (len(marks), equal.size))
    marks = np.clip(marks, -_REACH, _REACH)
    edges = np.sort(np.concatenate([rows, marks], axis=1))
    x, weights = gauss_legendre()
    half = np.diff(edges)[..., None, None] / (2 * parts)
    z = edges[:, :-1, None, None] + half * (1 + 2 * np.arange(parts)[:, None] + x)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return z.reshape(len(z), -1), (half * weights * density).reshape(len(z), -1)
