"""The normal and the uniform law have a scale that the user names, for any shape."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
from jax.typing import DTypeLike

from .._core import checks
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer, RandomInitializer
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from ..random import _law as laws


@dataclasses.dataclass(frozen=True, repr=False)
class Normal(RandomInitializer):
    """Normal draws entries with the law N(0, stddev^2)."""

    stddev: float = 1e-2
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "normal"
    _any_layout: ClassVar[bool] = True

    def __post_init__(self) -> None:
        stddev = checks.number("stddev", self.stddev, minimum=0.0)
        self._set(stddev=stddev, dtype=canonical_dtype(self.dtype))

    def _std(self, shape: checks.Shape) -> float:
        return self.stddev

    def _law(self, shape: checks.Shape, dtype: np.dtype) -> tuple[laws.Law, Any]:
        # The scale is an operand of the program, so one program serves every stddev.
        return laws.Law("normal"), self.stddev


@dataclasses.dataclass(frozen=True, repr=False)
class Uniform(RandomInitializer):
    """Uniform draws from U[0, scale), as `jax.nn.initializers.uniform` does."""

    scale: float = 1e-2
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "uniform"
    _any_layout: ClassVar[bool] = True
    # JAX has no uniform law for complex numbers.
    _kind: ClassVar[type[Any]] = np.floating

    def __post_init__(self) -> None:
        # Like JAX's, the scale may be negative: then the interval lies below 0.
        scale = checks.number("scale", self.scale)
        self._set(scale=scale, dtype=canonical_dtype(self.dtype))

    def _std(self, shape: checks.Shape) -> float:
        return abs(self.scale) / math.sqrt(12)

    def _law(self, shape: checks.Shape, dtype: np.dtype) -> tuple[laws.Law, Any]:
        return laws.Law("uniform", 0.0, 1.0), self.scale


@scheme(
    law="normal",
    formula="std = stddev",
    use="embeddings, weights with a known std",
    pitfall="does not depend on the shape",
)
@maker
def normal(stddev: float = 1e-2, dtype: DTypeLike | None = None) -> Initializer:
    """Draw from N(0, stddev^2), whatever the shape is.

    Args:
      stddev: the standard deviation, zero or more.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if `stddev` is negative or not finite.

    Example:
      >>> import jinit
      >>> jinit.normal(0.02).std((512, 512))
      0.02
    """
    return Normal(stddev, canonical_dtype(dtype))


@scheme(
    law="uniform on [0, scale)",
    formula="std = scale / sqrt(12)",
    use="positive parameters",
    pitfall="not for weights: the mean is scale / 2",
)
@maker
def uniform(scale: float = 1e-2, dtype: DTypeLike | None = None) -> Initializer:
    """Draw from U[0, scale), whatever the shape is.

    std = scale / sqrt(12). The mean is scale / 2, so the law suits parameters that must
    be positive, and not weights.

    Args:
      scale: the upper end of the interval, which may be negative.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if `scale` is not finite.

    Example:
      >>> import jax, jinit
      >>> bool(jinit.uniform(3.0)(jax.random.key(0), (100,)).min() >= 0)
      True
    """
    return Uniform(scale, canonical_dtype(dtype))
