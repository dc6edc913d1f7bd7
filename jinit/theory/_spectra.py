"""These functions describe the Jacobian's spectrum, and effects of finite width."""

import math
from typing import Literal, NamedTuple

from .._core import checks
from .._scale.gains import Activation
from ._dual import moment
from ._maps import fixed_point, resolved, scalar_of

Weights = Literal["gaussian", "orthogonal"]


class JacobianSpectrum(NamedTuple):
    """A JacobianSpectrum describes the squared singular values of several layers."""

    mean: float
    variance: float
    max: float | None


class FiniteWidth(NamedTuple):
    """FiniteWidth describes M, the growth of a signal's mean square over L layers."""

    second_moment: float
    mean_log: float


def jacobian_spectrum(
    activation: Activation,
    sigma_w2: float,
    sigma_b2: float,
    depth: int,
    weights: Weights = "gaussian",
    *,
    q: float = 1.0,
) -> JacobianSpectrum:
    """Return mean, variance and maximum of the Jacobian's squared singular values.

    With mu_k = E f'^2k at q* and chi = sigma_w2 mu_1: mean chi^L, variance chi^2L L
    (mu_2 / mu_1^2 - 1 - s), s = -1 for Gaussian and 0 for orthogonal kernels. On the
    edge of chaos the mean is 1; a variance that does not grow with depth (dynamical
    isometry) needs orthogonal kernels, and f' near constant at q*.

    Args:
      activation: as for `fixed_point`.
      sigma_w2: as for `fixed_point`.
      sigma_b2: as for `fixed_point`.
      depth: L, the number of layers.
      weights: "gaussian", or "orthogonal" for kernels sqrt(sigma_w2) Q.
      q: as for `fixed_point`.

    Returns:
      A record with `mean`, `variance` and `max`; infinite beyond the range of float64;
      `max` is None where it is not known in closed form: it is for linear networks.

    Raises:
      ValueError: for the same reasons as `fixed_point`; if `weights` is unknown, or the
        depth is below 1.

    Example:
      >>> from jinit import theory
      >>> theory.jacobian_spectrum("relu", 2.0, 0.0, 10)
      JacobianSpectrum(mean=1.0, variance=20.0, max=None)
      >>> theory.jacobian_spectrum("linear", 1.0, 0.0, 10, "orthogonal").variance
      0.0

    References:
      Pennington, Schoenholz and Ganguli, "Resurrecting the sigmoid in deep learning
        through dynamical isometry: theory and practice", NeurIPS 2017.
    """
    checks.choice("weights", weights, ("gaussian", "orthogonal"))
    layers = _layers("depth", depth)
    point = fixed_point(activation, sigma_w2, sigma_b2, q=q)
    s = scalar_of(activation)

    def spectrum() -> JacobianSpectrum:
        # mu_k is the mean of f'^(2 k).
        first, second = (moment(s, s.df, point.q, power) for power in (2, 4))
        if first == 0:
            return JacobianSpectrum(0.0, 0.0, 0.0)
        mean = power(point.chi1, layers)
        # Pennington et al. (2017): variance = L (mu_2 / mu_1^2 - 1 - s_1) on the edge,
        # where s_1 is -1 for Gaussian kernels and 0 for orthogonal ones.
        spread = second / first**2 - (1 if weights == "orthogonal" else 0)
        # A spread that is 0 up to rounding, of either sign, is 0.
        spread = 0.0 if spread < 1e-14 else spread
        variance = power(mean, 2) * layers * spread if spread else 0.0
        most = None
        if s.is_linear:
            # (L + 1)^(L + 1) / L^L, whose powers overflow from 143 layers on.
            grown = (layers + 1) * (1 + 1 / layers) ** layers
            most = mean * (grown if weights == "gaussian" else 1.0)
        return JacobianSpectrum(mean, variance, most)

    return resolved(activation, spectrum)


def finite_width(width: int, depth: int) -> FiniteWidth:
    """Return how the signal of a relu network with He's kernels fluctuates.

    M, the mean square after L layers of n units over that of the input, has mean 1 at
    any width, E M^2 = (1 + 5 / n)^L, and E log M = -5 L / (2 n) to first order: most
    networks shrink the signal, and a few blow it up.

    Args:
      width: n, of all layers.
      depth: L.

    Returns:
      A record with `second_moment`, infinite beyond the range of float64, and
      `mean_log`.

    Raises:
      TypeError: if a number is not an integer.
      ValueError: if a number is below 1.

    Example:
      >>> from jinit import theory
      >>> theory.finite_width(500, 100)
      FiniteWidth(second_moment=2.704813829421..., mean_log=-0.5)

    References:
      Hanin and Rolnick, "How to start training: the effect of initialization and
        architecture", NeurIPS 2018.
    """
    n, layers = _layers("width", width), _layers("depth", depth)
    # h = 2 relu(z)^2 has E h = 1 and E h^2 = 4 E relu(z)^4 = 6, so its variance is 5,
    # and the mean of n units has the second moment 1 + 5 / n in each layer.
    return FiniteWidth(power(1 + 5 / n, layers), -5 * layers / (2 * n))


def power(x: float, exponent: int) -> float:
    """Return x^exponent, which is infinite beyond the range of float64."""
    try:
        return x**exponent
    except OverflowError:
        return math.inf


def _layers(argument: str, value: int) -> int:
    count = checks.count(argument, value)
    if count is None:
        raise TypeError(f"`{argument}` is None; it must be an integer, 1 or more.")
    return count
