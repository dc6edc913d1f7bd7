"""Laws with a given scale, whatever the shape: normal, uniform, truncated normal."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
from jax.typing import DTypeLike

from . import _checks
from ._entry import Entry
from ._initializer import Initializer, RandomInitializer, canonical_dtype
from .random import Law


@dataclasses.dataclass(frozen=True, repr=False)
class Normal(RandomInitializer):
    """N(0, stddev^2)."""

    stddev: float = 1e-2
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        stddev = _checks.real("stddev", self.stddev, minimum=0.0)
        self._set(stddev=stddev, dtype=canonical_dtype(self.dtype))

    def std(self, shape: _checks.Shape) -> float:
        return self.stddev

    def _law(self, shape: _checks.Shape, dtype: np.dtype) -> tuple[Law, Any]:
        return Law("normal"), self.stddev


@dataclasses.dataclass(frozen=True, repr=False)
class Uniform(RandomInitializer):
    """U[0, scale)."""

    scale: float = 1e-2
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "uniform"
    _kind: ClassVar[type[Any]] = np.floating

    def __post_init__(self) -> None:
        scale = _checks.real("scale", self.scale)
        self._set(scale=scale, dtype=canonical_dtype(self.dtype))

    def std(self, shape: _checks.Shape) -> float:
        return abs(self.scale) / math.sqrt(12)

    def _law(self, shape: _checks.Shape, dtype: np.dtype) -> tuple[Law, Any]:
        return Law("uniform", 0.0, 1.0), self.scale


@dataclasses.dataclass(frozen=True, repr=False)
class TruncatedNormal(RandomInitializer):
    """stddev times the standard normal law restricted to (lower, upper)."""

    stddev: float = 1e-2
    dtype: np.dtype | None = None
    lower: float = -2.0
    upper: float = 2.0

    _name: ClassVar[str] = "truncated_normal"
    _kind: ClassVar[type[Any]] = np.floating

    def __post_init__(self) -> None:
        stddev = _checks.real("stddev", self.stddev, minimum=0.0)
        lower = _checks.real("lower", self.lower, finite=False)
        upper = _checks.real("upper", self.upper, finite=False)
        if not lower < upper:
            raise ValueError(
                f"`lower` is {lower} and `upper` is {upper}; `lower` must be less."
            )
        self._set(
            stddev=stddev, dtype=canonical_dtype(self.dtype), lower=lower, upper=upper
        )

    def std(self, shape: _checks.Shape) -> float:
        return self.stddev * truncated_std(self.lower, self.upper)

    def _law(self, shape: _checks.Shape, dtype: np.dtype) -> tuple[Law, Any]:
        return Law("truncated_normal", self.lower, self.upper), self.stddev


def truncated_std(a: float, b: float) -> float:
    """The standard deviation of N(0, 1) restricted to (a, b).

    With Z = Phi(b) - Phi(a), and phi the density:
    variance = 1 + (a phi(a) - b phi(b)) / Z - ((phi(a) - phi(b)) / Z)^2.
    """
    if a > 0:
        # The law is symmetric, and in the lower tail erfc has digits to lose.
        return truncated_std(-b, -a)
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


def normal(stddev: float = 1e-2, dtype: DTypeLike | None = None) -> Initializer:
    """Draw from N(0, stddev^2), whatever the shape.

    Args:
      stddev: the standard deviation, zero or more.
      dtype: the type of the result where the call names none.

    Raises:
      ValueError: for a `stddev` that is negative or not finite.

    Example:
      >>> import jinit
      >>> jinit.normal(0.02).std((512, 512))
      0.02
    """
    return Normal(stddev, canonical_dtype(dtype))


def uniform(scale: float = 1e-2, dtype: DTypeLike | None = None) -> Initializer:
    """Draw from U[0, scale): not centred, so not for weights; std = scale / sqrt(12).

    Args:
      scale: the upper end of the interval.
      dtype: the type of the result where the call names none.

    Raises:
      ValueError: for a `scale` that is not finite.

    Example:
      >>> import jax, jinit
      >>> bool(jinit.uniform(3.0)(jax.random.key(0), (100,)).min() >= 0)
      True
    """
    return Uniform(scale, canonical_dtype(dtype))


def truncated_normal(
    stddev: float = 1e-2,
    dtype: DTypeLike | None = None,
    lower: float = -2.0,
    upper: float = 2.0,
) -> Initializer:
    """Draw stddev z, where z is standard normal between `lower` and `upper`.

    `stddev` is the standard deviation before the truncation, as in JAX: after it, at
    the default bounds, it is 0.8796 stddev (`std` says it). `variance_scaling` corrects
    for that.

    Args:
      stddev: the standard deviation before the truncation, zero or more.
      dtype: the type of the result where the call names none.
      lower: the lower bound of z, in standard deviations.
      upper: the upper bound of z, in standard deviations.

    Raises:
      ValueError: for a `stddev` that is negative or not finite, or for lower >= upper.

    Example:
      >>> import jinit
      >>> round(jinit.truncated_normal(1.0).std((512, 512)), 4)
      0.8796
    """
    return TruncatedNormal(stddev, canonical_dtype(dtype), lower, upper)


ENTRIES = (
    Entry(
        "normal",
        normal,
        "normal",
        "std = stddev",
        "embeddings, a std that you know",
        "-",
        "knows nothing of the shape",
    ),
    Entry(
        "truncated_normal",
        truncated_normal,
        "truncated at `lower`, `upper`",
        "std = 0.8796 stddev at +-2",
        "a std that you know, without tails",
        "-",
        "stddev is the one before the truncation",
    ),
    Entry(
        "uniform",
        uniform,
        "uniform on [0, scale)",
        "std = scale / sqrt(12)",
        "positive parameters",
        "-",
        "not centred: not for weights",
    ),
)
