"""Means of an activation over one and over two correlated Gaussian variables.

m(q) = E f(sqrt(q) z)^2 and the dual map k(q, c) = E f(u) f(v), (u, v) normal with
variances q and correlation c; and the same of f'.
"""

import math
from collections.abc import Callable

import numpy as np

from ._quadrature import Unresolved, normal_mean
from ._scalar import Scalar

Function = Callable[[np.ndarray], np.ndarray]

_REACH = 12.0
_NODES = 16
# Agreement of two refinements, relative to the mean square.
_TOLERANCE = 1e-9
_PANELS = (8, 16, 32, 64)


def moment(s: Scalar, g: Function, q: float, power: int = 2) -> float:
    """E g(sqrt(q) z)^power."""
    if q == 0 and g is s.f:
        return float(g(np.zeros(1))[0] ** power)
    root = _root_of(q)
    return normal_mean(lambda z: g(root * z) ** power, _kinks(s, root), s.precision)


def _root_of(q: float) -> float:
    """sqrt(q); at 0 the limit from above, since f' may have a jump there."""
    return math.sqrt(max(q, 1e-20))


def _kinks(s: Scalar, root: float) -> list[float]:
    """Where f(root z) has kinks, within reach."""
    return [k / root for k in s.kinks if abs(k / root) < _REACH]


def slope(s: Scalar, q: float) -> float:
    """d/dq E f(sqrt(q) z)^2 = E[f f' z] / sqrt(q)."""
    root = _root_of(q)
    return normal_mean(
        lambda z: s.f(root * z) * s.df(root * z) * z / root,
        _kinks(s, root),
        s.precision,
    )


def dual(s: Scalar, g: Function, q: float, c: float) -> float:
    """E g(u) g(v) at variance q and correlation c.

    v = c u + sqrt(1 - c^2) w: for each u the mean over w, on panels between the kinks
    that u leaves; then the mean over u. Both are refined until two refinements agree.
    """
    root = _root_of(q)
    if abs(c) == 1:
        kinks = sorted({*_kinks(s, root), *(c * k for k in _kinks(s, root))})
        return normal_mean(lambda z: g(root * z) * g(c * root * z), kinks, s.precision)
    last = math.inf
    for panels in _PANELS:
        found = _product(s, g, root, c, panels)
        if abs(found - last) <= max(_TOLERANCE, 16 * s.precision) * max(
            1e-300, moment(s, g, q)
        ):
            return found
        last = found
    raise Unresolved("is too wild: the means over two variables do not settle.")


def _product(s: Scalar, g: Function, root: float, c: float, panels: int) -> float:
    outer = _edges(np.array([[k / root for k in s.kinks]]), panels)
    z, weights = _rule(outer)
    z, weights = z[0], weights[0]
    spread = math.sqrt((1 - c) * (1 + c))
    # Where v meets a kink, for each u.
    kinks = (np.array([s.kinks]) / root - c * z[:, None]) / spread
    w, inner = _rule(_edges(kinks, panels))
    v = root * (c * z[:, None] + spread * w)
    means = np.sum(inner * g(v.ravel()).reshape(v.shape), axis=1)
    return float(np.sum(weights * g(root * z) * means))


def _edges(kinks: np.ndarray, panels: int) -> np.ndarray:
    """Panel ends for each row: equal panels, split at that row's kinks."""
    equal = np.linspace(-_REACH, _REACH, panels + 1)
    rows = np.broadcast_to(equal, (len(kinks), panels + 1))
    return np.sort(np.concatenate([rows, np.clip(kinks, -_REACH, _REACH)], axis=1))


def _rule(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes, and weights with the normal density, of each row's panels."""
    x, weights = np.polynomial.legendre.leggauss(_NODES)
    half = np.diff(edges)[..., None] / 2
    z = edges[:, :-1, None] + half * (1 + x)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return z.reshape(len(z), -1), (half * weights * density).reshape(len(z), -1)
