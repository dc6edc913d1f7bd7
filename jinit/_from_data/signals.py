"""Signal laws describe the entries of an activation as functions of Gaussian numbers.

In a network with random weights an array is described by the law of one entry. A layer
makes its outputs Gaussian. A function that is applied to each entry is evaluated at the
nodes of a quadrature, so any composition of functions is as exact as the quadrature.
Every Gaussian has its own source, and different sources are independent.

A law is kept only while it is exact: nodes reach 8 standard deviations, so an
approximation by a Gaussian reaches values that cannot occur, such as a negative sum of
squares, whose root is NaN. Where entries meet that depend on each other (sums, norms,
softmax, attention) there is no law, and specimens take its place (specimens.py).
"""

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._network.jaxpr import is_key

# The quadrature has 32 panels of order 8 on [-8, 8]; less than 2e-15 lies outside.
_REACH, _PANELS, _ORDER = 8.0, 32, 8


def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of E f(z), z ~ N(0, 1).

    Two panels meet at 0, where relu and its relatives have their kink.
    """
    x, w = np.polynomial.legendre.leggauss(_ORDER)
    edges = np.linspace(-_REACH, _REACH, _PANELS + 1)
    half = (edges[1] - edges[0]) / 2
    nodes = ((edges[:-1] + half)[:, None] + half * x[None]).ravel()
    weights = np.tile(half * w, _PANELS) * np.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()


NODES, WEIGHTS = _quadrature()
# The probabilities below each node's own share, and above it.
_EDGES = np.concatenate([[0.0], np.cumsum(WEIGHTS)])
_SOURCES = itertools.count()
# From this spread of the sums of squares on, outputs are not taken for Gaussian. Below
# it, E y^2 f(y) is less than 3 % off for the usual activations.
_NARROW = 0.05
# So many entries of a known array are enough for the shape of its law.
_ENTRIES = 2**16


class Moments(NamedTuple):
    """Moments are the mean and the variance of an entry, and its mean square."""

    mean: float
    variance: float
    square: float


class SignalLaw(NamedTuple):
    """A signal law holds the values of an entry at the nodes of its source.

    A constant has no source, and one value.
    """

    values: np.ndarray
    source: int | None
    # The law depends on everything that depends on one of these roots. Laws of one
    # source depend on each other in a known way, laws of disjoint roots not at all.
    roots: frozenset[Hashable] = frozenset()

    def moments(self) -> Moments:
        """Return E x, E (x - E x)^2 and E x^2."""
        mean = self.average(lambda x: x)
        variance = self.average(lambda x: (x - mean) ** 2)
        return Moments(mean, variance, self.average(lambda x: x**2))

    def spread(self, terms: float) -> float:
        """Return the relative variance of a sum of squares of independent entries."""
        square = self.average(lambda x: x**2)
        return (self.average(lambda x: x**4) / square**2 - 1) / terms if square else 0.0

    def average(self, function: Callable[[np.ndarray], np.ndarray]) -> float:
        """Return E function(x)."""
        values = function(np.asarray(self.values, np.float64))
        return float(values[0] if self.source is None else WEIGHTS @ values)

    def apart(self) -> "SignalLaw":
        """Return the law of other entries of the same array."""
        return self if self.source is None else self._replace(source=next(_SOURCES))


def constant(value: Any) -> SignalLaw:
    """Return the law of a number that does not vary."""
    return SignalLaw(np.asarray(value).reshape(1), None)


def gaussian(mean: float, variance: float, dtype: Any = np.float32) -> SignalLaw:
    """Return the law N(mean, variance), from a new source and root."""
    return _new((mean + np.sqrt(variance) * NODES).astype(dtype), frozenset())


def output(
    square: float, spread: float, dtype: Any, roots: frozenset[Hashable]
) -> SignalLaw:
    """Return the law of a layer's outputs, whose weights have mean 0.

    An output is Gaussian where the inputs are given, with a variance that is their sum
    of squares. This sum differs between the rows of a batch, with a relative variance
    `spread`: 2 / 8 for 8 Gaussian features, where E y^8 is 3.3 times that of a Gaussian
    y. The sum is taken for a gamma variable, which it is for Gaussian features.

    Two outputs of one layer have the layer as their root, since they depend on each
    other as the layer's inputs do.
    """
    if spread < _NARROW:
        return _new((np.sqrt(square) * NODES).astype(dtype), roots)
    # SciPy's functions take long to load, and only narrow layers need them.
    from scipy import special

    shape = 1 / spread
    low, high = special.ndtr(np.minimum(NODES, 0)), special.ndtr(-np.maximum(NODES, 0))
    lower, upper = special.gammaincinv(shape, low), special.gammainccinv(shape, high)
    sums = np.where(NODES < 0, lower, upper) * spread
    values = np.sqrt(square * sums)[:, None] * NODES[None]
    weights = WEIGHTS[:, None] * WEIGHTS[None]
    return _one_source(
        values.ravel(), weights.ravel(), dtype, roots | {"narrow layers"}
    )


def _new(values: np.ndarray, roots: frozenset[Hashable]) -> SignalLaw:
    source = next(_SOURCES)
    return SignalLaw(values, source, roots or frozenset([source]))


def of_array(array: Any) -> SignalLaw | None:
    """Return the law of a known array's entries; None if they are not real numbers."""
    if hasattr(array, "dtype") and is_key(array):
        return None
    array = np.asarray(array)
    if array.dtype.kind == "c" or array.size == 0:
        return None
    flat = array.ravel()
    if (flat == flat[0]).all():
        return constant(flat[0])
    wide = flat[:: -(-flat.size // _ENTRIES)].astype(np.float64)
    moments = float(np.mean(flat, dtype=np.float64)), float(np.var(flat.astype(float)))
    values = _quantiles(wide, np.full(wide.size, 1 / wide.size), *moments)
    return _new(values.astype(array.dtype), frozenset())


def mixture(
    laws: Sequence[SignalLaw | None], shares: Sequence[float]
) -> SignalLaw | None:
    """Return the law of an entry that comes from each law with a probability."""
    whole = [law for law in laws if law is not None]
    if len(whole) < len(laws) or not laws:
        return None
    if all(
        law.source is None and (law.values == whole[0].values).all() for law in whole
    ):
        return whole[0]
    values = [np.asarray(law.values, np.float64) for law in whole]
    weights = [
        np.array([share]) if law.source is None else share * WEIGHTS
        for law, share in zip(whole, shares, strict=True)
    ]
    roots = frozenset().union(*(law.roots for law in whole))
    return _one_source(
        np.concatenate(values), np.concatenate(weights), whole[0].values.dtype, roots
    )


def pointwise(
    function: Callable[..., Any], laws: Sequence[SignalLaw]
) -> list[SignalLaw | None]:
    """Return the laws of functions of one entry of each law.

    `function` takes arrays of one shape and returns a list of them. A law is None for
    entries that depend on each other in an unknown way, for three sources or more, and
    where a value is not finite: a node may lie where no entry ever comes.
    """
    sources = sorted({law.source for law in laws if law.source is not None})
    roots = {law.source: law.roots for law in laws if law.source is not None}
    shape = (len(NODES),) * len(sources)
    is_known = len(sources) < 2 or _disjoint(*roots.values())
    grids = []
    for law in laws if is_known else ():
        values = law.values
        if law.source is not None and len(sources) == 2:
            values = np.expand_dims(values, 1 - sources.index(law.source))
        grids.append(np.broadcast_to(values, shape or (1,)))
    results = [np.asarray(x) for x in function(*grids)] if is_known else []
    merged = frozenset().union(*roots.values())
    return [_result(x, sources, merged) for x in results]


def _disjoint(*roots: frozenset[Hashable]) -> bool:
    return len(roots) == 2 and not roots[0] & roots[1]


def _result(
    values: np.ndarray, sources: Sequence[int], roots: frozenset[Hashable]
) -> SignalLaw | None:
    if values.dtype.kind == "c" or not np.isfinite(values.astype(np.float64)).all():
        return None
    if len(sources) < 2:
        return SignalLaw(values, sources[0] if sources else None, roots)
    weights = (WEIGHTS[:, None] * WEIGHTS[None]).ravel()
    wide = values.astype(np.float64).ravel()
    return _one_source(wide, weights, values.dtype, roots)


def _one_source(
    values: np.ndarray, weights: np.ndarray, dtype: Any, roots: frozenset[Hashable]
) -> SignalLaw:
    """Return the law of weighted values as a law of one new source."""
    mean = float(weights @ values)
    variance = float(weights @ (values - mean) ** 2)
    return _new(_quantiles(values, weights, mean, variance).astype(dtype), roots)


def _quantiles(
    values: np.ndarray, weights: np.ndarray, mean: float, variance: float
) -> np.ndarray:
    """Return the values at the nodes of a law of these moments and the same support.

    Each node gets the mean of the values in its share of the probability. The outer
    nodes have shares that rounding would swamp, and get the value at their edge.
    """
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    below = np.concatenate([[0.0], np.cumsum(weights)])
    sums = np.concatenate([[0.0], np.cumsum(weights * values)])
    inner = np.diff(np.interp(_EDGES, below, sums)) / WEIGHTS
    middle = np.minimum(_EDGES[:-1] + WEIGHTS / 2, 1.0)
    outer = values[np.searchsorted(below[1:-1], middle)]
    nodes = np.where(WEIGHTS > 1e-9, inner, outer)
    # What varies within a share is lost, some 1e-4 of the variance, and is restored.
    center = WEIGHTS @ nodes
    spread = WEIGHTS @ (nodes - center) ** 2
    scale = np.sqrt(variance / spread) if spread > 0 else 1.0
    restored: np.ndarray = mean + (nodes - center) * scale
    return np.asarray(restored.clip(values[0], values[-1]))
