"""`critical_point` finds the variances at which deep networks train: chi_1 = 1."""

from typing import Any, NamedTuple

from .._core import checks
from .._scale.gains import Activation
from .._scale.quadrature import Unresolved
from ._dual import moment, slope
from ._maps import require_slopes, resolved, scalar_of
from ._scalar import Scalar

# A function whose slope has a mean square below this counts as flat.
_FLAT = 1e-18


class CriticalPoint(NamedTuple):
    """A CriticalPoint lies on the edge of chaos; q stays there if it is stable."""

    sigma_w2: float
    sigma_b2: float
    stable: bool
    q: float
    slope: float


def critical_point(
    activation: Activation, q: float | None = None, *, sigma_b2: float | None = None
) -> CriticalPoint:
    """Return the point on the edge of chaos, chi_1 = 1, with a given q* or sigma_b2.

    sigma_w2 = 1 / E f'(sqrt(q) z)^2 and sigma_b2 = q - sigma_w2 E f(sqrt(q) z)^2.
    `stable` says whether q returns there when it is moved, or at least stays, V'(q) <=
    1: gelu and silu leave it, tanh and selu return, relu stays anywhere.

    Args:
      activation: a name, or any function of a scalar.
      q: the fixed point; 1 by default.
      sigma_b2: the variance of the bias, instead of q.

    Returns:
      A record with `sigma_w2`, `sigma_b2`, `stable`, `q` and `slope`.

    Raises:
      ValueError: if both q and sigma_b2 are passed, a number is out of range, or no
        such point exists: the bias would need a negative variance, or f has jumps or
        slope 0.

    Example:
      >>> from jinit import theory
      >>> point = theory.critical_point("tanh", sigma_b2=0.05)
      >>> round(point.sigma_w2, 6), round(point.q, 6), point.stable
      (1.760955, 0.570048, True)
      >>> theory.critical_point("gelu").stable
      False

    References:
      Schoenholz, Gilmer, Ganguli and Sohl-Dickstein, "Deep information propagation",
        ICLR 2017.
      Hayou, Doucet and Rousseau, "On the impact of the activation function on deep
        neural networks training", ICML 2019.
    """
    s = scalar_of(activation)
    resolved(activation, lambda: require_slopes(s))
    if q is not None and sigma_b2 is not None:
        raise ValueError(
            f"`q` is {q} and `sigma_b2` is {sigma_b2}; give one: it decides the other."
        )
    if sigma_b2 is None:
        at = checks.real("q", 1.0 if q is None else q, positive=True)
        return resolved(activation, lambda: _critical_at(s, activation, at))
    variance = checks.real("sigma_b2", sigma_b2, minimum=0.0)
    return resolved(activation, lambda: _critical_of_bias(s, activation, variance))


def _bias_at(s: Scalar, q: float) -> tuple[float, float]:
    """Return sigma_w2 and sigma_b2 with which chi_1 = 1 at q."""
    squared = moment(s, s.df, q)
    if squared < _FLAT:
        raise Unresolved(
            f"has slope 0 where inputs of mean square {q:.4g} are: no sigma_w2 makes "
            "chi_1 = 1. Take another q, or another activation."
        )
    # chi_1 = sigma_w2 E f'^2 = 1 gives sigma_w2, and q = V(q) then gives sigma_b2.
    return 1 / squared, q - moment(s, s.f, q) / squared


def _point(s: Scalar, sigma_w2: float, sigma_b2: float, q: float) -> CriticalPoint:
    # At q = 0 without a bias the point is the limit of the edge, and V'(0) = chi_1 = 1.
    # relu, whose rate is 1 everywhere, must count as stable in spite of rounding.
    rate = sigma_w2 * slope(s, q) if q > 0 else 1.0
    return CriticalPoint(sigma_w2, sigma_b2, rate <= 1 + 1e-6, q, rate)


def _critical_at(s: Scalar, activation: Any, q: float) -> CriticalPoint:
    sigma_w2, sigma_b2 = _bias_at(s, q)
    if sigma_b2 < -1e-10 * q:
        raise ValueError(
            f"{activation!r} has no critical point at q={q}: with chi_1 = 1 its bias "
            f"would need the variance {sigma_b2:.4g}. Take another q, or another "
            "activation."
        )
    # A variance that is 0 up to rounding is 0.
    return _point(s, sigma_w2, sigma_b2 if sigma_b2 > 1e-10 * q else 0.0, q)


def _critical_of_bias(s: Scalar, activation: Any, sigma_b2: float) -> CriticalPoint:
    """Return the point with the smallest q whose critical bias has the variance."""
    if sigma_b2 == 0 and (point := _without_bias(s, activation)) is not None:
        return point

    # SciPy takes 0.3 s to load, and most of jinit does not need it.
    from scipy.optimize import brentq

    def gap(q: float) -> float:
        return sigma_b2 - _bias_at(s, q)[1]

    # Where f is flat there is no critical bias, nor a crossing.
    # The critical bias need not grow with q, so the steps from below find the first
    # crossing, and brentq refines it.
    powers = [10 ** (k / 4) for k in range(-24, 17)]
    powers = [q for q in powers if moment(s, s.df, q) >= _FLAT]
    gaps = [gap(q) for q in powers]
    for k, low in enumerate(powers[:-1]):
        if gaps[k] > 0 >= gaps[k + 1]:
            q = brentq(gap, low, powers[k + 1], xtol=1e-13 * low)
            return _point(s, _bias_at(s, q)[0], sigma_b2, q)
    raise ValueError(
        f"{activation!r} has no critical point with sigma_b2={sigma_b2}: for no q from "
        "1e-6 to 1e4 is chi_1 = 1 there. Take another sigma_b2, or give q."
    )


def _without_bias(s: Scalar, activation: Any) -> CriticalPoint | None:
    """Return the point without a bias: at q = 1 if q is free, as for relu, else at 0.

    It is None where no such point exists.
    """
    if moment(s, s.df, 1.0) >= _FLAT and abs(_bias_at(s, 1.0)[1]) < 1e-10:
        return _critical_at(s, activation, 1.0)
    at_zero = moment(s, s.df, 0.0)
    if moment(s, s.f, 0.0) == 0 and at_zero > _FLAT:
        return _point(s, 1 / at_zero, 0.0, 0.0)
    return None
