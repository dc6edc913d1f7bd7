"""Check that a sample follows a law, in bounds by the size of the sample.

The mean of n independent draws has standard error std / sqrt(n), their variance
std^2 sqrt((kurtosis - 1) / n). A bound of five standard errors fails once in 1.7
million if the law is right; all keys are fixed, so a test that passes keeps passing.
"""

import jax
import numpy as np
from scipy import stats

SIGMAS = 5.0
# The Kolmogorov-Smirnov test rejects a right law at this rate.
FAILURE_RATE = 1e-6


def assert_moments(x, mean: float, std: float, kurtosis: float) -> None:
    """Check that mean and variance are within five standard errors."""
    x = np.asarray(x, np.float64).ravel()
    mean_error = abs(x.mean() - mean) / (std / np.sqrt(x.size))
    assert mean_error < SIGMAS, f"mean {x.mean()} is {mean_error:.1f} errors off {mean}"
    variance = np.mean((x - mean) ** 2)
    unit = std**2 * np.sqrt((kurtosis - 1) / x.size)
    error = abs(variance - std**2) / unit
    assert error < SIGMAS, f"std {variance**0.5} is {error:.1f} errors off {std}"


def assert_law(x, law) -> None:
    """Check the moments and the Kolmogorov-Smirnov distance to a frozen scipy law."""
    x = np.asarray(x, np.float64).ravel()
    mean, variance, _, excess = law.stats(moments="mvsk")
    assert_moments(x, float(mean), float(variance) ** 0.5, float(excess) + 3)
    result = stats.kstest(x, law.cdf)
    assert result.pvalue > FAILURE_RATE, f"KS distance {result.statistic}"


def normal(std: float):
    return stats.norm(scale=std)


def uniform(low: float, high: float):
    return stats.uniform(loc=low, scale=high - low)


def truncated(std: float, bound: float = 2.0):
    """Return a normal law, cut at `bound` standard deviations and rescaled to `std`."""
    unit = stats.truncnorm(-bound, bound)
    return stats.truncnorm(-bound, bound, scale=std / unit.std())


def drawn(init, shape, dtype=None, seed=0):
    """Return what an initializer draws, in float64."""
    return np.asarray(init(jax.random.key(seed), shape, dtype), np.float64)
