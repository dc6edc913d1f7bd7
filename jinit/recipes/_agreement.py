"""The distance of a parameter from a law is measured in standard errors.

Each bound is computed from the number of entries and of tests, so that the recipe that
drew a model is rejected for one key in ten thousand.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .._probe.audit.audited import Audited
from .._probe.audit.measured import special_of
from ._expected import Expected, Fixed, Independent, Piece, Sampled, gain_of, pieces

_FAILURES = 1e-4
# The kurtosis of a draw is nearly normal if it has at least this many entries.
_FEWEST = 256
# Rows of so many equal entries are copies, also in 16 bits.
_FEWEST_COPIED = 12
# At most this many entries of a sample are sorted, which bounds the time.
_ENTRIES = 1 << 16


# Norms start at 1 and biases at 0 in nearly all models.
_USUAL = {("constant", (0.0,)), ("constant", (1.0,))}


class Numbers(NamedTuple):
    """Numbers describe the entries of a piece."""

    size: int
    mean: float
    variance: float
    kurtosis: float
    low: float
    high: float
    is_narrow: bool
    # The structure of entries that cannot be independent draws, such as "sparse".
    special: str | None
    gain: float | None


class Difference(NamedTuple):
    """A Difference says how far a piece is from its law, in standard errors.

    `errors` has a number for each test of the piece, and `of_std` that of the std with
    its sign. `score` is the logarithm of the likelihood, up to a constant of the piece.
    `is_telling` is False for the laws 0 and 1, which nearly all recipes have.
    """

    path: str
    size: int
    rms: float
    law_rms: float
    is_random: bool
    is_telling: bool
    errors: tuple[float, ...]
    of_std: float
    score: float

    @property
    def largest(self) -> float:
        """Return the largest number of standard errors."""
        return max(map(abs, self.errors), default=0.0)


def limit(tests: int) -> float:
    """Return the bound of the largest error of many tests if all laws are right."""
    return statistics.NormalDist().inv_cdf(1 - _FAILURES / 2 / max(1, tests))


class Arrays:
    """Arrays hold the arrays of a network, and the numbers of their pieces.

    The numbers are kept, since many recipes are compared with one network.
    """

    def __init__(self, everything: dict[str, Audited]) -> None:
        self.everything = everything
        self._numbers: dict[tuple[str, int | None, int], Numbers] = {}
        self._with_copies = _with_copies(everything.values())

    def differences(self, path: str, init: object) -> list[Difference]:
        """Compare each piece of a parameter with the law that an initializer gives."""
        one = self.everything[path]
        dtype = one.array.dtype
        return [
            self._difference(one, piece)
            for piece in pieces(init, one.array.shape, dtype)
        ]

    def _difference(self, one: Audited, piece: Piece) -> Difference:
        array = one.array
        if piece.axis is not None:
            array = array.take(piece.number, axis=piece.axis)
        key = one.path, piece.axis, piece.number
        if key not in self._numbers:
            self._numbers[key] = _numbers(array)
        numbers = self._numbers[key]
        errors, score = _compared(one, array, numbers, piece.expected)
        # No two rows of independent draws are equal.
        if isinstance(piece.expected, Independent) and one.path in self._with_copies:
            errors, score = (math.inf,), -math.inf
        return Difference(
            one.path,
            numbers.size,
            math.sqrt(numbers.variance + numbers.mean**2),
            piece.expected.rms,
            not isinstance(piece.expected, Fixed),
            piece.expected.identity not in _USUAL,
            errors,
            errors[0] if isinstance(piece.expected, Independent) else 0.0,
            score,
        )


def _numbers(array: np.ndarray) -> Numbers:
    x = np.abs(array) if np.iscomplexobj(array) else array
    x = x.astype(np.float64).ravel()
    if not x.size or not np.all(np.isfinite(x)):
        nothing = math.nan, math.nan, math.nan, math.nan, math.nan
        return Numbers(x.size, *nothing, False, None, None)
    mean = float(x.mean())
    squares = (x - mean) ** 2
    variance = float(squares.mean())
    kurtosis = float((squares**2).mean()) / variance**2 if variance else 0.0
    is_narrow = array.dtype.itemsize < 4
    return Numbers(
        x.size, mean, variance, kurtosis, float(x.min()), float(x.max()), is_narrow,
        special_of(np.asarray(array)), gain_of(array),
    )  # fmt: skip


def _compared(
    one: Audited, array: np.ndarray, numbers: Numbers, law: Expected
) -> tuple[tuple[float, ...], float]:
    """Return the standard errors of a piece's tests, the std's first, and its score."""
    if not numbers.size:
        return (0.0,), 0.0
    if math.isnan(numbers.mean):
        # No recipe has a law whose draws are infinite or NaN.
        return (math.inf,), -math.inf
    if isinstance(law, Fixed):
        error = 0.0 if _equals(array, law.values) else math.inf
        return (error,), -error
    if isinstance(law, Sampled):
        error = _unlike(array, numbers, law)
        is_finite = math.isfinite(error)
        return (error,), law.log_likelihood(array) if is_finite else -math.inf
    # A continuous law draws neither equal entries nor orthogonal columns.
    is_equal = numbers.size > 1 and numbers.low == numbers.high
    if is_equal or _is_special(one) or _has_zeros(array):
        return (math.inf,), -math.inf
    errors = _of_moments(numbers, law)
    if not all(map(math.isfinite, errors)):
        return errors, -math.inf
    return errors, law.log_likelihood(numbers.size, numbers.mean, numbers.variance)


def _is_special(one: Audited) -> bool:
    """Tell whether an array cannot be a draw of independent entries."""
    special = one.measured.special or ""
    columns = one.array.size // max(1, *one.array.shape) if one.array.shape else 1
    # Two or three columns of independent entries may be orthogonal by chance.
    return bool(special) and (columns >= 4 or not special.startswith("orthogonal"))


def _has_zeros(array: np.ndarray) -> bool:
    """Tell whether more entries are exactly 0 than a continuous law draws."""
    if array.dtype.itemsize < 4:
        # Draws in 16 bits are 0 now and then, but not in a whole row or column.
        axes = range(array.ndim)
        return any(
            array.size // array.shape[axis] >= _FEWEST_COPIED
            and not np.all(np.any(array, axis=tuple(i for i in axes if i != axis)))
            for axis in axes
        )
    # JAX draws one of 2^23 numbers, of which one or two become 0.
    return int(np.sum(array == 0)) > 2 + array.size * 2.0**-20


def _with_copies(everything: Iterable[Audited]) -> frozenset[str]:
    """Return the paths of arrays that have a row of another one, or one row twice."""
    first: dict[bytes, str] = {}
    copies: set[str] = set()
    for one in everything:
        array = one.array
        if not array.ndim or array.shape[-1] < _FEWEST_COPIED or not array.size:
            continue
        # The first entries tell rows apart, and cost little for a large table.
        rows = array.reshape(-1, array.shape[-1])[:, :_FEWEST_COPIED]
        for row in rows:
            key = row.tobytes()
            if key in first:
                copies |= {first[key], one.path}
            first.setdefault(key, one.path)
    return frozenset(copies)


def _equals(array: np.ndarray, values: np.ndarray) -> bool:
    digits = 1e-2 if array.dtype.itemsize < 4 else 1e-5
    size = float(np.max(np.abs(values)))
    wide = array.astype(np.result_type(array.dtype, np.float32))
    return bool(np.allclose(wide, values, rtol=digits, atol=digits * size))


def _of_moments(numbers: Numbers, law: Independent) -> tuple[float, ...]:
    """Return the standard errors of std, mean and kurtosis; infinity out of bounds."""
    mean, std, kurtosis, spread = law.moments
    low, high = law.bounds
    # Entries are rounded (in 16 bits to 1 part in 256), and so are scales.
    rounding = 5e-3 if numbers.is_narrow else 3e-4
    slack = 4 * rounding * max(abs(low), abs(high))
    if numbers.low < low - slack or numbers.high > high + slack:
        return (math.inf,)
    # JAX's draws in 16 bits have a mean of 0.02 standard deviations.
    shift = math.hypot(numbers.size**-0.5, 0.03 if numbers.is_narrow else rounding)
    # The cube root of a sum of squares is nearly normal, even if the squares are few
    # (Wilson and Hilferty). `freedom` is chosen so that the sum has the variance's
    # error.
    freedom = 2 / ((kurtosis - 1) / numbers.size + 4 * rounding**2)
    squares = (numbers.variance + (numbers.mean - mean) ** 2) / std**2
    cube = 2 / (9 * freedom)
    errors = [
        (squares ** (1 / 3) - (1 - cube)) / math.sqrt(cube),
        (numbers.mean - mean) / std / shift,
    ]
    if numbers.size >= _FEWEST:
        error = math.hypot(math.sqrt(spread / numbers.size), 10 * rounding)
        errors.append((numbers.kurtosis - kurtosis) / error)
    return tuple(errors)


def _unlike(array: np.ndarray, numbers: Numbers, law: Sampled) -> float:
    """Return how unlike the draws of a law an array is, in standard errors."""
    if numbers.special != law.special:
        return math.inf
    # Two draws of a law with orthogonal columns have only their gain in common.
    if (numbers.gain is None) != (law.gain is None):
        return math.inf
    if numbers.gain is not None and law.gain is not None:
        return 0.0 if abs(numbers.gain / law.gain - 1) < 1e-2 else math.inf
    fixed = law.is_fixed
    if np.any(fixed) and not _equals(array[fixed], law.draws[0][fixed]):
        return math.inf
    return _of_quantiles(np.real(array[~fixed]), np.real(law.draws[:, ~fixed]))


def _of_quantiles(x: np.ndarray, draws: np.ndarray) -> float:
    """Return the standard errors of Kolmogorov and Smirnov's distance of two samples.

    P(distance > d) is about 2 exp(-2 d^2 n m / (n + m)). A normal number that is so
    improbable has the number of standard errors that is returned.
    """
    x, draws = (
        np.sort(np.ravel(part)[:: max(1, part.size // _ENTRIES)].astype(np.float64))
        for part in (x, draws)
    )
    if not x.size:
        return 0.0
    both = np.concatenate([x, draws])
    shares = [np.searchsorted(part, both, "right") / part.size for part in (x, draws)]
    distance = float(np.max(np.abs(shares[0] - shares[1])))
    rate = x.size * draws.size / (x.size + draws.size)
    probability = min(1.0, 2 * math.exp(-2 * rate * distance**2))
    if probability < 1e-300:
        return math.inf
    if probability < 1e-12:  # beyond the digits of 1 - probability
        return math.sqrt(-2 * math.log(probability))
    return statistics.NormalDist().inv_cdf(1 - probability / 2)


def pooled(differences: Sequence[Difference]) -> float:
    """Return the standard errors of the stds of several pieces together."""
    sizes = sum(one.size for one in differences)
    total = sum(one.of_std * math.sqrt(one.size) for one in differences)
    return total / math.sqrt(sizes) if sizes and math.isfinite(total) else 0.0
