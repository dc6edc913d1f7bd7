"""Networks that map a position to a value, as of an image, need their own schemes.

`siren` is for networks with a sine in every layer, and `fourier_features` for a first
layer of random frequencies.
"""

import dataclasses
import math
from typing import Any, ClassVar, Unpack

import numpy as np
from jax.typing import DTypeLike

from .._core import checks, papers
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer, RandomInitializer
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from .._scale.fans import Fans
from ..random import _law as laws
from .fan_based import FanScheme
from .fan_options import FanOptions, fan_maker, refuse_activation


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class Siren(FanScheme):
    """Siren has the limit sqrt(6 / fan_in) / w0, or 1 / fan_in in a first layer."""

    w0: float = 30.0
    first: bool = False
    distribution: str = "uniform"

    _name: ClassVar[str] = "siren"

    def __post_init__(self) -> None:
        self._set(w0=checks.number("w0", self.w0, positive=True))
        super().__post_init__()

    def _variance(self, fans: Fans) -> float | None:
        if fans.fan_in == 0:
            return None
        # U(+-a) has the variance a^2 / 3.
        if self.first:
            # The first layer reads coordinates, and w0 alone gives its sines their
            # frequency.
            return 1 / (3 * fans.fan_in**2)
        # The sine multiplies by w0, so w0 x W has the variance 2 E x^2 = 1 behind
        # sines.
        return 2 / (fans.fan_in * self.w0**2)


@dataclasses.dataclass(frozen=True, repr=False)
class FourierFeatures(RandomInitializer):
    """FourierFeatures have the law N(0, stddev^2), in radians N(0, (2 pi stddev)^2)."""

    stddev: float = 1.0
    dtype: np.dtype | None = None
    radians: bool = False

    _name: ClassVar[str] = "fourier_features"
    _any_layout: ClassVar[bool] = True

    def __post_init__(self) -> None:
        stddev = checks.number("stddev", self.stddev, positive=True)
        self._set(
            stddev=stddev,
            dtype=canonical_dtype(self.dtype),
            radians=checks.boolean("radians", self.radians),
        )

    def _std(self, shape: checks.Shape) -> float:
        # Frequencies count turns, and a Dense layer before a cosine counts radians.
        return 2 * math.pi * self.stddev if self.radians else self.stddev

    def _law(self, shape: checks.Shape, dtype: np.dtype) -> tuple[laws.Law, Any]:
        return laws.Law("normal"), self._std(shape)


@scheme(
    law="uniform",
    formula="limit = sqrt(6 / n_in) / w0; first layer 1 / n_in",
    use="networks of coordinates with sines",
    pitfall="`w0` must be that of the layer, and the first layer needs `first=True`",
    paper=papers.SITZMANN_2020,
)
@fan_maker(Siren)
def siren(
    w0: float = 30.0, *, first: bool = False, **options: Unpack[FanOptions]
) -> Initializer:
    """Draw the kernels of SIREN, whose layers are x -> sin(w0 (x W + b)).

    A hidden layer draws from U(+-sqrt(6 / n_in) / w0), std = sqrt(2 / n_in) / w0. The
    first layer, whose inputs are coordinates in [-1, 1], draws from U(+-1 / n_in),
    std = 1 / (sqrt(3) n_in).

    The sines of the first layer then have the arcsine law of variance 1/2, and the next
    pre-activations w0 x W are normal with variance 1. After a layer whose
    pre-activations have variance v the next ones have 1 - exp(-2 v), so the variances
    are 1, 0.865, 0.823, ..., and tend to 0.797.

    Args:
      w0: the frequency in the sine, the same number as in the layer.
      first: True for the first layer of the network.
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: if `w0` is not positive, or an option is wrong.

    Example:
      >>> import jinit
      >>> round(30 * jinit.siren().std((256, 256)), 4)
      0.0884
      >>> round(3**0.5 * jinit.siren(first=True).std((2, 256)), 4)
      0.5

    References:
      Sitzmann, Martel, Bergman, Lindell and Wetzstein, "Implicit neural representations
        with periodic activation functions", NeurIPS 2020. The variances of deeper
        layers follow from E sin^2(z) = (1 - exp(-2 v)) / 2 for z ~ N(0, v).
    """
    checks.boolean("first", first)
    # Only the formula of hidden layers contains the gain of the sine.
    if not first:
        refuse_activation("siren", options, "Leave `gain` out, or pass a number.")
    return Siren(w0=w0, first=first, **options)


@scheme(
    law="normal",
    formula="B with std = stddev, for cos(2 pi x B)",
    use="the fixed first layer of a network of coordinates",
    pitfall="tune `stddev`, which decides how fine a detail is learned",
    paper=papers.TANCIK_2020,
)
@maker
def fourier_features(
    stddev: float = 1.0, dtype: DTypeLike | None = None, *, radians: bool = False
) -> Initializer:
    """Draw the frequencies of random Fourier features from N(0, stddev^2).

    The features of x are [cos(2 pi x B), sin(2 pi x B)], where B is the draw, in turns
    per unit of the coordinates. The mean product of the features of two inputs at
    distance r is the kernel exp(-2 pi^2 stddev^2 r^2). B is not trained. A larger
    `stddev` lets a network learn finer detail, and more noise.

    Args:
      stddev: the standard deviation of the frequencies.
      dtype: the dtype of the array, unless the call gives another.
      radians: True to draw 2 pi B, for the features cos(x W) of a plain Dense layer.

    Raises:
      ValueError: if `stddev` is not positive.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> b = jinit.fourier_features(0.1)(jax.random.key(0), (2, 100_000))
      >>> phase = 2 * jnp.pi * (jnp.ones(2) @ b)  # two inputs sqrt(2) apart
      >>> kernel = jnp.exp(-2 * jnp.pi**2 * 0.1**2 * 2)
      >>> bool(abs(jnp.cos(phase).mean() - kernel) < 0.01)
      True

    References:
      Tancik et al., "Fourier features let networks learn high frequency functions in
        low dimensional domains", NeurIPS 2020.
      Rahimi and Recht, "Random features for large-scale kernel machines", NeurIPS 2007.
    """
    return FourierFeatures(stddev, canonical_dtype(dtype), radians)
