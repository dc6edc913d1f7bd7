"""A planned initializer says how each piece of a parameter is expected to be drawn.

A piece is a whole parameter, or one layer of a stacked one, whose laws may differ.
"""

import dataclasses
import functools
import math
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import numpy as np

from .._core.dtypes import real_dtype
from .._initializer import foreign
from .._initializer.base import DrawSpec, Initializer, is_random, law_and_scale
from .._initializer.stack import Stacked
from .._probe.audit.measured import orthogonal_gain, special_of
from ..random import _law as laws

# A law without a formula is compared with draws: at least two, at most `_DRAWS`, and
# about `_ENTRIES` entries in all. Its density is that of a histogram.
_ENTRIES, _DRAWS = 1 << 16, 1 << 12
_BINS = 32


class Moments(NamedTuple):
    """Moments hold the mean of a law, and its moments around the mean.

    `spread` is n times the variance of the kurtosis of n draws.
    """

    mean: float
    std: float
    kurtosis: float
    spread: float


@dataclasses.dataclass(frozen=True)
class Independent:
    """Independent entries are drawn from `scale` times a law."""

    law: laws.Law
    scale: float

    @property
    def moments(self) -> Moments:
        """Return the moments of the entries."""
        unit = _moments(self.law)
        return unit._replace(mean=unit.mean * self.scale, std=unit.std * self.scale)

    @property
    def rms(self) -> float:
        """Return the root of the mean of squares, which is the std for a mean of 0."""
        return math.hypot(self.moments.mean, self.moments.std)

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the lowest and the highest value that an entry can have."""
        law = self.law
        ends = [law.low, law.high]
        if law.name == "truncated_normal":
            ends = [law.mean + law.sigma * end for end in ends]
        low, high = sorted(end * self.scale for end in ends)
        return low, high

    @property
    def identity(self) -> Hashable:
        """Return a key that equal laws share, however their numbers were rounded."""
        law, scale = self.law, abs(self.scale)
        if law.name == "uniform":
            return law.name, *(f"{bound:.6g}" for bound in self.bounds)
        is_cut = law.name == "truncated_normal"
        mean, sigma = (law.mean, law.sigma) if is_cut else (0.0, 1.0)
        # No draw in float32 is as far as eight standard deviations from the mean.
        bounds = self.bounds if max(law.low, -law.high) > -8 else ()
        numbers = (mean * scale, sigma * scale, *bounds)
        return "normal", *(f"{number:.6g}" for number in numbers)

    def log_likelihood(self, size: int, mean: float, variance: float) -> float:
        """Return the logarithm of the density at entries with these moments."""
        law, scale = self.law, abs(self.scale)
        if law.name == "uniform":
            return -size * math.log((law.high - law.low) * scale)
        center, sigma, mass = 0.0, scale, 1.0
        if law.name == "truncated_normal":
            center, sigma = law.mean * self.scale, law.sigma * scale
            mass = (math.erf(law.high / 2**0.5) - math.erf(law.low / 2**0.5)) / 2
        squares = variance + (mean - center) ** 2
        constant = math.log(sigma * mass) + math.log(2 * math.pi) / 2
        return -size * (constant + squares / sigma**2 / 2)


@dataclasses.dataclass(frozen=True, eq=False)
class Fixed:
    """Fixed entries do not depend on the key: zeros, ones, tables of sines."""

    values: np.ndarray

    @property
    def rms(self) -> float:
        """Return the root of the mean of squares."""
        return _rms(self.values)

    @property
    def identity(self) -> Hashable:
        """Return a key that equal values share."""
        first = self.values.ravel()[:1]
        if np.all(self.values == first):
            return "constant", tuple(first.tolist())
        return "values", np.asarray(self.values, np.float32).tobytes()


@dataclasses.dataclass(frozen=True, eq=False)
class Sampled:
    """Sampled entries have a law without a formula, and are compared with draws."""

    init: Any
    shape: tuple[int, ...]
    draws: np.ndarray  # (draws, *shape)

    @property
    def rms(self) -> float:
        """Return the root of the mean of squares."""
        return _rms(self.draws)

    @property
    def identity(self) -> Hashable:
        """Return a key that equal initializers share."""
        # A user's initializer need not hash.
        is_hashable = isinstance(self.init, Hashable)
        return "sampled", self.init if is_hashable else id(self.init), self.shape

    @functools.cached_property
    def special(self) -> str | None:
        """Return the structure of a draw without independent entries, or None."""
        return special_of(self.draws[0])

    @functools.cached_property
    def gain(self) -> float | None:
        """Return the gain of a draw with orthogonal columns, or None."""
        return gain_of(self.draws[0])

    @functools.cached_property
    def is_fixed(self) -> np.ndarray:
        """Tell which entries are the same in all draws."""
        same: np.ndarray = np.all(self.draws == self.draws[:1], axis=0)
        return same

    @functools.cached_property
    def histogram(self) -> tuple[np.ndarray, np.ndarray]:
        """Return counts and edges of the bins of all draws."""
        return np.histogram(np.real(self.draws).ravel(), _BINS)

    def log_likelihood(self, array: np.ndarray) -> float:
        """Return the logarithm of the density at some entries, from a histogram."""
        if not array.size:
            return 0.0
        x = np.real(array).ravel()[:: max(1, array.size // _ENTRIES)].astype(float)
        counts, edges = self.histogram
        width = float(edges[1] - edges[0]) or 1.0
        place = np.floor((x - edges[0]) / width).astype(int)
        # The largest entry lies on the last edge, and belongs to the last bin.
        place = np.where(x == edges[-1], _BINS - 1, place)
        is_inside = (place >= 0) & (place < _BINS)
        inside = counts[np.clip(place, 0, _BINS - 1)]
        # Outside, and in an empty bin, there is less than one entry of all draws.
        number = np.where(is_inside, np.maximum(inside, 0.5), 0.5)
        density = number / self.draws.size / width
        return float(np.mean(np.log(density))) * array.size


Expected = Independent | Fixed | Sampled


def gain_of(array: np.ndarray) -> float | None:
    """Return the gain of an array with orthogonal columns, or None."""
    if array.ndim < 2 or not array.size:
        return None
    return orthogonal_gain(array.reshape(-1, array.shape[-1]))


def _rms(x: np.ndarray) -> float:
    return (
        float(np.sqrt(np.mean(np.square(np.abs(x), dtype=np.float64))))
        if x.size
        else 0.0
    )


class Piece(NamedTuple):
    """A Piece is a part of an array, by an axis and an index along it, with its law."""

    axis: int | None
    number: int
    expected: Expected


def pieces(init: Any, shape: tuple[int, ...], dtype: Any) -> list[Piece]:
    """Return the pieces of a parameter with their laws.

    A stack whose layers share a law is one piece, since more entries test it better.
    """
    whole = Piece(None, 0, expected(init, shape, dtype))
    if not isinstance(init, Stacked) or not isinstance(whole.expected, Sampled):
        return [whole]
    axis, inner = _layers_of(shape, init)
    each = [expected(one, inner, dtype) for one in init._layers(shape)]
    return [Piece(axis, number, one) for number, one in enumerate(each)]


def expected(init: Any, shape: tuple[int, ...], dtype: Any) -> Expected:
    """Return the law of an initializer for entries of one shape."""
    if isinstance(init, Hashable):
        return _expected(init, shape, np.dtype(dtype))
    return _expected.__wrapped__(init, shape, np.dtype(dtype))


def _layers_of(shape: tuple[int, ...], init: Stacked) -> tuple[int, tuple[int, ...]]:
    """Return the axis of the layers of a stack, and the shape of one layer."""
    axis = init.axis % len(shape)
    return axis, shape[:axis] + shape[axis + 1 :]


# Recipes share most of their laws, so most of them are asked for many times.
@functools.lru_cache(maxsize=1024)
def _expected(init: Any, shape: tuple[int, ...], dtype: np.dtype) -> Expected:
    is_complex = np.issubdtype(dtype, np.complexfloating)
    spec = DrawSpec(shape, dtype, None, 1.0)
    known = None if is_complex else law_and_scale(init, spec)
    if known is not None and isinstance(init, Initializer):
        return Independent(known[0], float(known[1]))
    if not is_random(init):
        return Fixed(_drawn(init, shape, dtype, 1)[0])
    common = _common(init, shape, dtype)
    if common is not None:
        return common
    count = max(2, min(_DRAWS, _ENTRIES // max(1, math.prod(shape))))
    return Sampled(init, shape, _drawn(init, shape, dtype, count))


def _common(init: Any, shape: tuple[int, ...], dtype: np.dtype) -> Independent | None:
    """Return the law of independent entries that all layers of a stack share."""
    if not isinstance(init, Stacked) or not math.prod(shape):
        return None
    _, inner = _layers_of(shape, init)
    layers = {expected(one, inner, dtype).identity: one for one in init._layers(shape)}
    if len(layers) > 1:
        return None
    (layer,) = layers.values()
    law = expected(layer, inner, dtype)
    return law if isinstance(law, Independent) else None


def _drawn(
    init: Any, shape: tuple[int, ...], dtype: np.dtype, count: int
) -> np.ndarray:
    """Return several draws; 16-bit draws become float32, which NumPy computes with."""

    def draw(key: jax.Array) -> Any:
        return foreign.call(init, key, shape, dtype)

    keys = jax.random.split(jax.random.key(0), count)
    drawn = np.asarray(jax.jit(jax.vmap(draw))(keys))
    is_complex = np.iscomplexobj(drawn)
    return drawn if is_complex else drawn.astype(real_dtype(drawn.dtype))


@functools.lru_cache(maxsize=256)
def _moments(law: laws.Law) -> Moments:
    """Integrate the moments of a law of scale 1."""
    if law.name == "normal":
        return Moments(0.0, 1.0, 3.0, 24.0)
    # No float32 normal draw is beyond six standard deviations.
    low, high = max(law.low, -12.0), min(law.high, 12.0)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    z = (low + high) / 2 + (high - low) / 2 * nodes
    x = z
    if law.name == "truncated_normal":
        weights = weights * np.exp(-(z**2) / 2)
        x = law.mean + law.sigma * z
    weights = weights / weights.sum()
    mean = float(weights @ x)
    std = float(np.sqrt(weights @ (x - mean) ** 2))
    u = (x - mean) / std
    kurtosis = float(weights @ u**4)
    # The kurtosis of n draws is a ratio of moments; to first order its error is the
    # mean of u^4 - 2 kurtosis u^2 + kurtosis.
    spread = float(weights @ (u**4 - 2 * kurtosis * u**2 + kurtosis) ** 2)
    return Moments(mean, std, kurtosis, spread)
