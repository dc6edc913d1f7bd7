"""Signal laws describe the entries of an activation as functions of Gaussian numbers.

In a network with random weights an array is described by the law of one entry. A layer
makes its outputs Gaussian. A function that is applied to each entry is evaluated at the
nodes of a quadrature, so any composition of functions is as exact as the quadrature.
Every Gaussian has its own source, and different sources are independent. A sum over
many entries may meet the same entries again, as the mean in a norm or the sum in a
softmax does. The sum is then replaced by its expectation, since its fluctuation is not
independent of the entries.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

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
_SOURCES = itertools.count()


class SignalLaw(NamedTuple):
    """A signal law holds the values of an entry at the nodes of its source.

    A constant has no source, and one value.
    """

    values: np.ndarray
    source: int | None
    # The sources of the terms, if the entry is a sum.
    summed: frozenset[int] = frozenset()

    @property
    def mean(self) -> float:
        """Return E x."""
        return float(self.average(lambda x: x))

    @property
    def square(self) -> float:
        """Return E x^2."""
        return float(self.average(lambda x: x**2))

    @property
    def variance(self) -> float:
        """Return E (x - E x)^2."""
        mean = self.mean
        return float(self.average(lambda x: (x - mean) ** 2))

    def average(self, function: Callable[[np.ndarray], np.ndarray]) -> Any:
        """Return E function(x)."""
        values = function(np.asarray(self.values, np.float64))
        return values[0] if self.source is None else WEIGHTS @ values

    def apart(self) -> "SignalLaw":
        """Return the same law from a new source, for other entries of the array."""
        return self if self.source is None else SignalLaw(self.values, next(_SOURCES))


def constant(value: Any) -> SignalLaw:
    """Return the law of a number that does not vary."""
    return SignalLaw(np.asarray(value).reshape(1), None)


def gaussian(mean: float, variance: float, dtype: Any = np.float32) -> SignalLaw:
    """Return the law N(mean, variance), from a new source."""
    values = mean + np.sqrt(variance) * NODES
    return SignalLaw(values.astype(dtype), next(_SOURCES))


def of_array(array: Any) -> SignalLaw:
    """Return the law of the entries of a known array, by their mean and variance."""
    array = np.asarray(array)
    if array.size == 0 or (array == array.flat[0]).all():
        return constant(array.flat[0] if array.size else np.zeros((), array.dtype))
    wide = array.astype(np.float64)
    return gaussian(float(wide.mean()), float(wide.var()), array.dtype)


def mixture(laws: Sequence[SignalLaw], shares: Sequence[float]) -> SignalLaw:
    """Return the law of an entry that comes from each law with a probability.

    Only its first two moments are exact.
    """
    if all(law.source is None and (law.values == laws[0].values).all() for law in laws):
        return laws[0]
    mean = sum(p * law.mean for p, law in zip(shares, laws, strict=True))
    square = sum(p * law.square for p, law in zip(shares, laws, strict=True))
    dtype = laws[0].values.dtype
    return gaussian(mean, max(square - mean**2, 0.0), dtype)


def pointwise(
    function: Callable[..., Any], laws: Sequence[SignalLaw]
) -> list[SignalLaw]:
    """Return the laws of functions of one entry of each law.

    They are exact for laws of one source, and have exact moments for two sources.
    `function` takes arrays of one shape and returns a list of them.

    Raises:
      NotImplementedError: if the laws have three sources or more.
    """
    laws = [_expected(law, laws) for law in laws]
    summed = frozenset().union(*(law.summed for law in laws))
    sources = sorted({law.source for law in laws if law.source is not None})
    if len(sources) > 2:
        raise NotImplementedError("the law of entries of three sources is not known")
    shape = (len(NODES),) * len(sources)
    grids = []
    for law in laws:
        values = law.values
        if law.source is not None and len(sources) == 2:
            values = np.expand_dims(values, 1 - sources.index(law.source))
        grids.append(np.broadcast_to(values, shape or (1,)))
    results = [np.asarray(x) for x in function(*grids)]
    if len(sources) < 2:
        return [SignalLaw(x, sources[0] if sources else None, summed) for x in results]
    weights = WEIGHTS[:, None] * WEIGHTS[None]
    return [_two_moments(x, weights) for x in results]


def _expected(law: SignalLaw, laws: Sequence[SignalLaw]) -> SignalLaw:
    """Return a law, or its mean if it is a sum that meets its own terms again."""
    for other in laws:
        if law.source is None or other.source in (None, law.source):
            continue
        # Two sums over the same terms, as mean and variance in a norm, depend on each
        # other as a sum depends on its terms.
        siblings = law.summed & other.summed and law.source not in other.summed
        if other.source in law.summed or siblings:
            return SignalLaw(np.array([law.mean], law.values.dtype), None, law.summed)
    return law


def _two_moments(values: np.ndarray, weights: np.ndarray) -> SignalLaw:
    wide = values.astype(np.float64)
    mean = float((weights * wide).sum())
    variance = float((weights * (wide - mean) ** 2).sum())
    return gaussian(mean, variance, values.dtype)


def total(law: SignalLaw, count: int) -> SignalLaw:
    """Return the law of the sum of `count` independent entries."""
    total = gaussian(count * law.mean, count * law.variance, law.values.dtype)
    return total._replace(summed=_summed(law))


def _summed(law: SignalLaw) -> frozenset[int]:
    return law.summed if law.source is None else law.summed | {law.source}


def largest(law: SignalLaw, count: int) -> SignalLaw:
    """Return the law of the largest of `count` independent entries.

    P(max <= x) = F(x)^count.
    """
    if law.source is None:
        return law
    # At the nodes the law is discrete: the weights of the largest entry are the
    # differences of F^count.
    order = np.argsort(law.values)
    below = np.cumsum(WEIGHTS[order]) ** count
    weights = np.diff(below, prepend=0.0)
    largest = _two_moments(law.values[order], weights / weights.sum())
    return largest._replace(summed=_summed(law))


def products(a: SignalLaw, b: SignalLaw, count: int) -> SignalLaw:
    """Return the law of the sum of `count` products of independent entries."""
    mean = a.mean * b.mean
    return gaussian(count * mean, count * max(a.square * b.square - mean**2, 0.0))
