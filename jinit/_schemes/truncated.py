"""The truncated normal law has a scale that the user names, for any shape."""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core import checks
from .._core.dtypes import canonical_dtype
from .._core.numbers import at_least, is_traced, is_zero
from .._initializer.base import Initializer, RandomInitializer
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from ..random import _law as laws
from ..random import _tail

StdIs = Literal["before", "after"]
Bounds = Literal["relative", "absolute"]

# An interval that lies further out holds one value, as far as floats can tell.
_FARTHEST = 1e6


@dataclasses.dataclass(frozen=True, repr=False)
class TruncatedNormal(RandomInitializer):
    """TruncatedNormal draws from N(mean, sigma^2), restricted to an interval."""

    stddev: float = 1e-2
    dtype: np.dtype | None = None
    lower: float = -2.0
    upper: float = 2.0
    mean: float = 0.0
    std_is: StdIs = "before"
    bounds: Bounds = "relative"

    _name: ClassVar[str] = "truncated_normal"
    _any_layout: ClassVar[bool] = True
    _kind: ClassVar[type[Any]] = np.floating

    def __post_init__(self) -> None:
        self._set(
            stddev=checks.number("stddev", self.stddev, minimum=0.0),
            dtype=canonical_dtype(self.dtype),
            lower=checks.number("lower", self.lower, finite=False),
            upper=checks.number("upper", self.upper, finite=False),
            mean=checks.number("mean", self.mean),
            std_is=checks.choice("std_is", self.std_is, ("before", "after")),
            bounds=checks.choice("bounds", self.bounds, ("relative", "absolute")),
        )
        numbers = self.stddev, self.lower, self.upper, self.mean
        if self._is_search and is_traced(*numbers):
            raise TypeError(
                "`std_is` is 'after' and `bounds` is 'absolute', for which sigma is "
                "found by a search; pass `stddev`, `lower`, `upper` and `mean` as "
                "Python numbers, not as traced ones."
            )
        if not is_traced(self.lower, self.upper) and self.lower >= self.upper:
            raise ValueError(
                f"`lower` is {self.lower} and `upper` is {self.upper}; `lower` must be "
                "less."
            )
        # A wrong setting must raise in the maker, not in the first call.
        ends = self._ends()
        if not is_traced(*ends):
            self._check_nearest(*ends)

    @property
    def _is_search(self) -> bool:
        return self.std_is == "after" and self.bounds == "absolute"

    def _std(self, shape: checks.Shape) -> float:
        std: float = self._sigma() * truncated_std(*self._ends())
        return std

    def _sigma(self) -> float:
        """Return the standard deviation before the truncation."""
        if self.std_is == "before" or is_zero(self.stddev):
            return self.stddev
        if not self._is_search:
            sigma: float = self.stddev / truncated_std(self.lower, self.upper)
            return sigma
        return _sigma_of(self.stddev, self.lower - self.mean, self.upper - self.mean)

    def _ends(self) -> tuple[float, float]:
        """Return the bounds of z in mean + sigma z."""
        if self.bounds == "relative":
            return self.lower, self.upper
        low, high = self.lower - self.mean, self.upper - self.mean
        if is_zero(self.stddev):
            # Nothing can be divided by a sigma of 0. The least positive float tells as
            # well whether the mean lies inside of the interval.
            return low / math.ulp(0.0), high / math.ulp(0.0)
        sigma = self._sigma()
        if is_traced(sigma):
            # A traced sigma may turn out to be 0 when the program runs.
            sigma = at_least(float(np.finfo(np.float32).tiny), sigma)
        return low / sigma, high / sigma

    def _check_nearest(self, low: float, high: float) -> None:
        if max(low, -high) > _FARTHEST:
            raise ValueError(
                f"`mean` is {self.mean}, `stddev` {self.stddev}, and the interval "
                f"({self.lower}, {self.upper}) lies {max(low, -high):.3g} standard "
                "deviations away: all of its values are its nearer end. Use "
                "jinit.constant, or a larger stddev."
            )

    def _law(self, shape: checks.Shape, dtype: np.dtype) -> tuple[laws.Law, Any]:
        sigma = self._sigma()
        if is_zero(sigma):
            # A uniform law on [1, 1), times the mean, gives the mean everywhere.
            return laws.Law("uniform", 1.0, 1.0), self.mean
        if is_zero(self.mean) and self.bounds == "relative":
            # The scale is an operand, so that one program serves every stddev.
            return laws.Law("truncated_normal", self.lower, self.upper), sigma
        return laws.Law("truncated_normal", *self._ends(), self.mean, sigma), 1.0


def truncated_std(a: Any, b: Any) -> Any:
    """Return the standard deviation of N(0, 1) restricted to (a, b).

    With Z = Phi(b) - Phi(a), and phi the density:
    variance = 1 + (a phi(a) - b phi(b)) / Z - ((phi(a) - phi(b)) / Z)^2.
    """
    if is_traced(a, b):
        return _std_of_operands(a, b)
    if (a > 0 and b > 0) or a + b > 0:
        # The law is symmetric, and the difference of erfc below keeps its digits only
        # where erfc is small, in the lower tail.
        return truncated_std(-b, -a)
    if b < -1 or b - a < 1:
        return _tail.std(-b, -a)
    mass = (math.erfc(-b / math.sqrt(2)) - math.erfc(-a / math.sqrt(2))) / 2
    density_a, density_b = (
        math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (a, b)
    )
    mean = (density_a - density_b) / mass
    # At an infinite bound x phi(x) is 0, not infinity times 0.
    edge_a, edge_b = (
        x * density if math.isfinite(x) else 0.0
        for x, density in ((a, density_a), (b, density_b))
    )
    return math.sqrt(1 + (edge_a - edge_b) / mass - mean * mean)


# A density of exp(-40) times the largest does not change a sum in float64.
_DECAYED = 40.0


def _std_of_operands(a: Any, b: Any) -> jax.Array:
    """Return `truncated_std` of traced bounds, by quadrature around the mode.

    In one tail the closed form is a difference of nearly equal numbers. The case
    distinctions of `truncated_std` avoid this, but need to know the bounds.
    """
    mode = jnp.clip(0.0, a, b)
    # At mode + reach, z^2 / 2 is larger by _DECAYED than at the mode.
    far = jnp.abs(mode)
    reach = 2 * _DECAYED / (far + jnp.sqrt(far**2 + 2 * _DECAYED))
    low, high = jnp.maximum(a, mode - reach), jnp.minimum(b, mode + reach)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    z = low + (high - low) * jnp.asarray((1 + nodes) / 2, low.dtype)
    density = jnp.asarray(weights, low.dtype) * jnp.exp((mode - z) * (mode + z) / 2)
    mass = jnp.sum(density)
    mean = jnp.sum(density * z) / mass
    return jnp.sqrt(jnp.sum(density * (z - mean) ** 2) / mass)


@functools.lru_cache(maxsize=1024)
def _sigma_of(std: float, low: float, high: float) -> float:
    """Return the sigma with which N(0, sigma^2) has `std` between two fixed bounds."""

    def std_of(sigma: float) -> float:
        std: float = sigma * truncated_std(low / sigma, high / sigma)
        return std

    # As sigma grows the law becomes uniform, whose std is the most that is possible.
    most = (high - low) / math.sqrt(12)
    if std > 0.999 * most:
        raise ValueError(
            f"`stddev` is {std} after the truncation, and an interval of width "
            f"{high - low:.6g} allows less than {0.999 * most:.6g}; widen the bounds."
        )
    # Truncation only narrows a law, so sigma is at least std.
    least, largest = std, 2 * std
    while std_of(largest) < std:
        least, largest = largest, 2 * largest
    for _ in range(200):
        middle = (least + largest) / 2
        if middle in (least, largest):
            break
        least, largest = (middle, largest) if std_of(middle) < std else (least, middle)
    return largest


@scheme(
    law="normal, truncated at `lower` and `upper`",
    formula="std = 0.8796 stddev at +-2",
    use="weights with a known std, without tails",
    pitfall='`stddev` is that before the truncation, unless `std_is` is "after"',
)
@maker
def truncated_normal(
    stddev: float = 1e-2,
    dtype: DTypeLike | None = None,
    lower: float = -2.0,
    upper: float = 2.0,
    *,
    mean: float = 0.0,
    std_is: StdIs = "before",
    bounds: Bounds = "relative",
) -> Initializer:
    """Draw from N(mean, sigma^2), restricted to an interval.

    The defaults are those of `jax.nn.initializers.truncated_normal`: sigma is `stddev`,
    the bounds count standard deviations, and std = 0.8796 stddev after the truncation,
    as the method `std` says. PyTorch's `trunc_normal_(w, 0.0, std, -2.0, 2.0)` has
    `bounds="absolute"`: with a std of 0.02 its bounds are +-100 sigma, which truncate
    nothing.

    If the interval lies far out on one side, beyond 3 sigma (7 in float64), JAX draws
    only a few distinct values or a single one. There jinit inverts the tail itself, and
    its values follow the law.

    Args:
      stddev: a standard deviation, zero or more.
      dtype: the dtype of the array, unless the call gives another.
      lower: the lower bound, never reached; it may be infinite.
      upper: the upper bound, never reached; it may be infinite.
      mean: the mean before the truncation.
      std_is: "before" if `stddev` is the standard deviation before the truncation,
        sigma; "after" if it is that of the values.
      bounds: "relative" for an interval from mean + lower sigma to mean + upper sigma,
        "absolute" for one from lower to upper.

    Raises:
      ValueError: if `stddev` is negative or not finite, or, after the truncation,
        larger than the interval allows; if lower >= upper; if the interval lies more
        than 10^6 sigma away from the mean.

    Example:
      >>> import jinit
      >>> round(jinit.truncated_normal(1.0).std((512, 512)), 4)
      0.8796
      >>> round(jinit.truncated_normal(1.0, std_is="after").std((512, 512)), 4)
      1.0
    """
    return TruncatedNormal(
        stddev, canonical_dtype(dtype), lower, upper, mean, std_is, bounds
    )
