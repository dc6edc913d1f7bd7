"""Laws of activations: functions of independent Gaussian numbers, by their values.

An array of a network with random weights is described by the law of one entry. A layer
makes it Gaussian; what is computed entry by entry from it is the function's value at
the nodes of a quadrature, so that any composition of functions is as exact as the
quadrature. Laws of different sources are taken for independent. A sum over many entries
that meets the entries again, as the mean in a norm or the sum in a softmax, is taken
for its expectation: what it varies by is not independent of them.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

_REACH, _PANELS, _ORDER = 8.0, 32, 8


def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of E f(z), z ~ N(0, 1), on panels that meet at 0."""
    x, w = np.polynomial.legendre.leggauss(_ORDER)
    edges = np.linspace(-_REACH, _REACH, _PANELS + 1)
    half = (edges[1] - edges[0]) / 2
    nodes = ((edges[:-1] + half)[:, None] + half * x[None]).ravel()
    weights = np.tile(half * w, _PANELS) * np.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()


NODES, WEIGHTS = _quadrature()
_SOURCES = itertools.count()


class SignalLaw(NamedTuple):
    """The law of an entry: values at the nodes of a source, or one constant value."""

    values: np.ndarray
    source: int | None
    # The sources of what it was summed from.
    of: frozenset[int] = frozenset()

    @property
    def mean(self) -> float:
        return float(self.average(lambda x: x))

    @property
    def square(self) -> float:
        """E x^2."""
        return float(self.average(lambda x: x**2))

    @property
    def variance(self) -> float:
        mean = self.mean
        return float(self.average(lambda x: (x - mean) ** 2))

    def average(self, function: Callable[[np.ndarray], np.ndarray]) -> Any:
        """E function(x)."""
        found = function(np.asarray(self.values, np.float64))
        return found[0] if self.source is None else WEIGHTS @ found

    def apart(self) -> "SignalLaw":
        """The same law from a source of its own: other entries, so independent."""
        return self if self.source is None else SignalLaw(self.values, next(_SOURCES))


def constant(value: Any) -> SignalLaw:
    """A number that does not vary."""
    return SignalLaw(np.asarray(value).reshape(1), None)


def gaussian(mean: float, variance: float, dtype: Any = np.float32) -> SignalLaw:
    """N(mean, variance), from a source of its own."""
    values = mean + np.sqrt(variance) * NODES
    return SignalLaw(values.astype(dtype), next(_SOURCES))


def of_array(array: Any) -> SignalLaw:
    """The law of the entries of an array that is known: their mean and variance."""
    array = np.asarray(array)
    if array.size == 0 or (array == array.flat[0]).all():
        return constant(array.flat[0] if array.size else np.zeros((), array.dtype))
    wide = array.astype(np.float64)
    return gaussian(float(wide.mean()), float(wide.var()), array.dtype)


def mixture(laws: Sequence[SignalLaw], shares: Sequence[float]) -> SignalLaw:
    """An entry that comes from each law with a probability; its first two moments."""
    if all(law.source is None and (law.values == laws[0].values).all() for law in laws):
        return laws[0]
    mean = sum(p * law.mean for p, law in zip(shares, laws, strict=True))
    square = sum(p * law.square for p, law in zip(shares, laws, strict=True))
    dtype = laws[0].values.dtype
    return gaussian(mean, max(square - mean**2, 0.0), dtype)


def pointwise(
    function: Callable[..., Any], laws: Sequence[SignalLaw]
) -> list[SignalLaw]:
    """Functions of one entry of each: exact for one source, two moments for two.

    `function` takes arrays of one shape and gives a list of them.
    """
    laws = [_expected(law, laws) for law in laws]
    of = frozenset().union(*(law.of for law in laws))
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
    found = [np.asarray(x) for x in function(*grids)]
    if len(sources) < 2:
        return [SignalLaw(x, sources[0] if sources else None, of) for x in found]
    weights = WEIGHTS[:, None] * WEIGHTS[None]
    return [_two_moments(x, weights) for x in found]


def _expected(law: SignalLaw, laws: Sequence[SignalLaw]) -> SignalLaw:
    """A law, or its mean where it was summed from one that it meets again."""
    for other in laws:
        if law.source is None or other.source in (None, law.source):
            continue
        siblings = law.of & other.of and law.source not in other.of
        if other.source in law.of or siblings:
            return SignalLaw(np.array([law.mean], law.values.dtype), None, law.of)
    return law


def _two_moments(values: np.ndarray, weights: np.ndarray) -> SignalLaw:
    wide = values.astype(np.float64)
    mean = float((weights * wide).sum())
    variance = float((weights * (wide - mean) ** 2).sum())
    return gaussian(mean, variance, values.dtype)


def total(law: SignalLaw, count: int) -> SignalLaw:
    """The sum of independent entries."""
    found = gaussian(count * law.mean, count * law.variance, law.values.dtype)
    return found._replace(of=_summed(law))


def _summed(law: SignalLaw) -> frozenset[int]:
    return law.of if law.source is None else law.of | {law.source}


def largest(law: SignalLaw, count: int) -> SignalLaw:
    """The largest of independent entries, P(max <= x) = F(x)^count."""
    if law.source is None:
        return law
    order = np.argsort(law.values)
    below = np.cumsum(WEIGHTS[order]) ** count
    weights = np.diff(below, prepend=0.0)
    found = _two_moments(law.values[order], weights / weights.sum())
    return found._replace(of=_summed(law))


def products(a: SignalLaw, b: SignalLaw, count: int) -> SignalLaw:
    """The sum of products of independent entries."""
    mean = a.mean * b.mean
    return gaussian(count * mean, count * max(a.square * b.square - mean**2, 0.0))
