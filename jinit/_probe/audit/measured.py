"""An array is measured: moments, the family of its law, and special values.

Everything is computed by NumPy in float64, so an audit compiles nothing for a new
shape.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

# Families of distributions with their kurtosis, E z^4 / (E z^2)^2. The truncated normal
# is cut at two standard deviations, as those of JAX, TensorFlow and Keras are. One that
# is cut at three or more cannot be told from a normal.
KURTOSIS = {"normal": 3.0, "truncated normal": 2.366, "uniform": 1.8}
# The std of a normal of std 1 that is cut at 2, and the probability inside.
CUT_STD, _CUT_MASS = 0.87962566, 0.95449974
# So many entries tell the family of a distribution; the std is that of all entries.
_SAMPLE = 1 << 18
_FEWEST = 24


class Measured(NamedTuple):
    """A Measured has the statistics of one array of real or complex numbers.

    `family` is a key of `KURTOSIS`, or None if the entries are not independent draws
    around 0. `error` is the relative standard error of `std` as an estimate of the
    law's. `special` names what needs no statistics: "zeros", "constant", ...
    """

    size: int
    mean: float
    std: float
    family: str | None
    error: float
    special: str | None
    # How many entries are NaN or infinite.
    not_finite: int
    # How many values the sample has, and how many independent draws of its law, rounded
    # to 16 bits, would have; None where that is not asked.
    distinct: tuple[int, int] | None


def measured(array: Any) -> Measured:
    """Measure one parameter."""
    x = np.asarray(array)
    bits = x.dtype.itemsize * 8
    is_complex = np.issubdtype(x.dtype, np.complexfloating)
    x = x.astype(np.complex128 if is_complex else np.float64)
    finite = np.isfinite(x)
    wrong = int(x.size - np.count_nonzero(finite))
    values = x[finite] if wrong else x.ravel()
    if not values.size:
        return Measured(x.size, math.nan, math.nan, None, math.inf, None, wrong, None)
    # The mean of a complex array is complex; its size is what a table can show.
    mean = np.mean(values)
    std = float(np.sqrt(np.mean(np.abs(values - mean) ** 2)))
    special = None if wrong else special_of(x)
    family, distinct = None, None
    if special is None and not (is_complex or wrong) and std > 0:
        sample = _sample(values)
        family = _family(sample, values.size, float(mean), std, bits)
        distinct = _distinct(sample, np.asarray(array).dtype, family, std)
    kurtosis = KURTOSIS.get(family or "", 3.0)
    # Var(sample std) = std^2 (kurtosis - 1) / (4 n). Numbers are rounded, too.
    error = math.hypot(math.sqrt((kurtosis - 1) / (4 * values.size)), 3e-4)
    if bits <= 16:
        error = math.hypot(error, 5e-3)
    size = float(np.real(mean)) if not is_complex else float(np.abs(mean))
    return Measured(x.size, size, std, family, error, special, wrong, distinct)


def _sample(values: np.ndarray) -> np.ndarray:
    return values[:: max(1, values.size // _SAMPLE)]


def special_of(x: np.ndarray) -> str | None:
    """Name an array that is no draw of a continuous law."""
    first = x.flat[0]
    if np.all(x == first):
        names = {0.0: "zeros", 1.0: "ones"}
        value = float(np.real(first))
        if np.imag(first):
            return f"constant({first:.4g})"
        return names.get(value, f"constant({value:.4g})")
    zeros = np.count_nonzero(x == 0)
    if zeros * 2 <= x.size:
        return None
    rest = x[x != 0]
    if x.ndim >= 2 and np.all(rest == rest[0]) and rest.size <= max(x.shape):
        return "identity" if rest[0] == 1 else f"identity * {np.real(rest[0]):.4g}"
    return "sparse"


def _family(x: np.ndarray, size: int, mean: float, std: float, bits: int) -> str | None:
    """Return the likeliest family of independent draws around 0, or None."""
    # Draws of JAX in 16 bits have a mean of 0.02 standard deviations.
    shift = 5 / math.sqrt(size) + (0.03 if bits <= 16 else 1e-4)
    if x.size < _FEWEST or abs(mean) > shift * std:
        return None
    largest = float(np.max(np.abs(x)))
    sigma = max(std / CUT_STD, largest / 2)
    # The logarithms of the likelihoods for one entry, each at its best scale.
    likelihoods = {
        "normal": -math.log(std) - 0.5 * math.log(2 * math.pi) - 0.5,
        "truncated normal": -math.log(sigma * _CUT_MASS)
        - 0.5 * math.log(2 * math.pi)
        - 0.5 * (std / sigma) ** 2,
        "uniform": -math.log(2 * largest),
    }
    family = max(likelihoods, key=lambda name: likelihoods[name])
    kurtosis = float(np.mean((x - mean) ** 4)) / float(np.mean((x - mean) ** 2)) ** 2
    # Mixtures, such as a stack whose layers have different stds, have heavy tails.
    is_like = abs(kurtosis - KURTOSIS[family]) < 6 * math.sqrt(24 / x.size)
    return family if is_like and _is_independent(x) else None


def _is_independent(x: np.ndarray) -> bool:
    """Tell whether neighbors are unrelated: tables of sines and grids are smooth.

    A series of n independent numbers has 2 (n - 2) / 3 turning points, with variance
    (16 n - 29) / 90.
    """
    steps = np.sign(np.diff(x[: 1 << 12]))
    turns = np.count_nonzero(steps[1:] * steps[:-1] < 0)
    # Equal neighbors, which 16 bits have, are left out.
    count = np.count_nonzero(steps[1:] * steps[:-1]) + 2
    spread = math.sqrt(max(1.0, (16 * count - 29) / 90))
    return bool(abs(turns - 2 * (count - 2) / 3) < 6 * spread)


def _distinct(
    x: np.ndarray, dtype: Any, family: str | None, std: float
) -> tuple[int, int] | None:
    """Count the distinct values, and those of an honest draw in 16 bits."""
    # Few draws are distinct in any case, and no one asks it of tables and grids.
    if family is None or x.size < 1024 or dtype.itemsize > 4:
        return None
    # What is kept in 32 bits may have been drawn in bfloat16.
    narrow = dtype if dtype.itemsize < 4 else jnp.bfloat16
    random = np.random.default_rng(0)
    if family == "uniform":
        unit = random.uniform(-(3**0.5), 3**0.5, x.size)
    else:
        unit = random.standard_normal(x.size)
        if family == "truncated normal":
            unit = np.clip(unit, -2, 2) / CUT_STD
    expected = (std * unit).astype(narrow)
    return len(np.unique(x)), len(np.unique(expected))


def ranks(array: Any) -> np.ndarray | None:
    """Return the order of an array's first entries, or None for an array without one.

    Two draws with one key have one order, whatever their scales, shapes and laws are.
    """
    x = np.ravel(np.asarray(array))[:64]
    if x.size < _FEWEST or np.iscomplexobj(x):
        return None
    x = x.astype(np.float64)
    # Orders of 20 different numbers agree by chance once in 10^18 pairs.
    if len(np.unique(x)) < 20 or not _is_independent(x):
        return None
    return np.argsort(x, kind="stable")


def orthogonal_gain(matrix: np.ndarray) -> float | None:
    """Return the gain of a matrix with orthogonal rows or columns, or None."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    columns = tall.astype(np.float64)[:, :16]
    if columns.shape[1] < 2:
        return None
    # Sixteen columns tell: independent draws have cosines of 1 / sqrt(rows).
    gram = columns.T @ columns
    gain = float(np.mean(np.diag(gram)))
    if not gain > 0:
        return None
    error = np.max(np.abs(gram / gain - np.eye(len(gram))))
    limit = min(0.02, 0.2 / math.sqrt(len(tall)))
    return math.sqrt(gain) if error < limit else None
