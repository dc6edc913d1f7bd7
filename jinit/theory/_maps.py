"""These functions follow mean squares and correlations of signals, layer by layer."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from .._core import checks
from .._scale.gains import Activation
from .._scale.quadrature import Unresolved
from ._dual import dual, gap, moment, rough_gap, slope
from ._scalar import Scalar, scalar

Result = TypeVar("Result")

_SMALLEST, _LARGEST = 1e-12, 1e12
# The relative error of V(q) - q by rounding, and that of a slope of 1.
_ROUNDING, _NEUTRAL = 1e-13, 1e-12
# How far from 1 a slope may be and still count as 1.
_LEVEL = 1e-9
_MOST_STEPS = 500


class FixedPoint(NamedTuple):
    """A FixedPoint has q = V(q), c = R(c), and chi_1 there."""

    q: float
    c: float
    chi1: float


class DepthScales(NamedTuple):
    """DepthScales count the layers in which q, and c, come nearer by a factor e."""

    xi_q: float
    xi_c: float


def variance_map(
    activation: Activation, sigma_w2: float, sigma_b2: float, q: float
) -> float:
    """Return V(q) = sigma_w2 E f(sqrt(q) z)^2 + sigma_b2, the next mean square.

    Args:
      activation: a name, or any function of a scalar, as for `jinit.gain`.
      sigma_w2: fan_in times the variance of the kernel.
      sigma_b2: the variance of the bias.
      q: the mean square of the pre-activations.

    Raises:
      ValueError: if a number is negative or not finite, or the activation cannot be
        integrated.

    Example:
      >>> from jinit import theory
      >>> round(theory.variance_map("relu", 2.0, 0.0, 1.0), 12)  # He's: it stays
      1.0

    References:
      Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli, "Exponential expressivity in
        deep neural networks through transient chaos", NeurIPS 2016.
    """
    s = scalar_of(activation)
    sigma_w2, sigma_b2 = sigmas(sigma_w2, sigma_b2)
    q = checks.real("q", q, minimum=0.0)
    # The length map of Poole et al. (2016).
    return resolved(activation, lambda: sigma_w2 * moment(s, s.f, q) + sigma_b2)


def correlation_map(
    activation: Activation, sigma_w2: float, sigma_b2: float, q: float, c: float
) -> float:
    """Return R(c), the next layer's correlation of two inputs with mean square q.

    Args:
      activation: as for `variance_map`.
      sigma_w2: as for `variance_map`.
      sigma_b2: as for `variance_map`.
      q: as for `variance_map`, but above 0, since signals that are 0 have no
        correlation.
      c: the correlation of the inputs, from -1 to 1.

    Raises:
      ValueError: for the same reasons as `variance_map`; if q is 0, or c lies outside
        [-1, 1]; if the next layer is 0, so that its correlation is not defined.

    Example:
      >>> import math
      >>> from jinit import theory
      >>> c = theory.correlation_map("relu", 2.0, 0.0, 1.0, 0.0)
      >>> abs(c - 1 / math.pi) < 1e-9
      True

    References:
      Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli, "Exponential expressivity in
        deep neural networks through transient chaos", NeurIPS 2016.
      Cho and Saul, "Kernel methods for deep learning", NeurIPS 2009. The closed form
        for relu.
      Williams, "Computing with infinite networks", NeurIPS 1996. The closed form for
        erf.
    """
    s = scalar_of(activation)
    sigma_w2, sigma_b2 = sigmas(sigma_w2, sigma_b2)
    q = checks.real("q", q, positive=True)
    c = checks.real("c", c)
    if not -1 <= c <= 1:
        raise ValueError(f"`c` is {c}; a correlation lies between -1 and 1.")
    return resolved(activation, lambda: _correlation(s, sigma_w2, sigma_b2, q, c))


def _correlation(
    s: Scalar, sigma_w2: float, sigma_b2: float, q: float, c: float
) -> float:
    variance = sigma_w2 * moment(s, s.f, q) + sigma_b2
    if variance == 0:
        raise ValueError(
            f"the next layer is 0 for sigma_w2={sigma_w2}, sigma_b2={sigma_b2} and "
            f"q={q}: its correlations are not defined."
        )
    # R(c) = (sigma_w2 E f(u) f(v) + sigma_b2) / V(q). In this form 1 - R(c) keeps its
    # digits for c near 1, where it decides between order and chaos.
    correlation = 1 - sigma_w2 * gap(s, s.f, q, 1 - c) / variance
    # Rounding must not leave the range of a correlation.
    return max(correlation, -1.0)


def fixed_point(
    activation: Activation, sigma_w2: float, sigma_b2: float, *, q: float = 1.0
) -> FixedPoint:
    """Return the mean square and the correlation to which deep layers converge.

    q is followed from where it starts, so the result is the fixed point that attracts
    it. Where every q is a fixed point, as for relu at sigma_w2 = 2, q stays. c is 1
    unless chi_1 > 1, in the chaotic phase, where all inputs come to c < 1. Signals that
    die out have q = 0, c = 1.

    Args:
      activation: as for `variance_map`.
      sigma_w2: as for `variance_map`.
      sigma_b2: as for `variance_map`.
      q: the mean square in the first layer.

    Returns:
      A record with `q`, `c` and `chi1`.

    Raises:
      ValueError: for the same reasons as `variance_map`; if q grows without bound, or
        the function has jumps, so that chi_1 is infinite.

    Example:
      >>> from jinit import theory
      >>> [round(x, 4) for x in theory.fixed_point("tanh", 1.3, 0.05)]
      [0.3153, 1.0, 0.8802]

    References:
      Schoenholz, Gilmer, Ganguli and Sohl-Dickstein, "Deep information propagation",
        ICLR 2017.
    """
    s = scalar_of(activation)
    sigma_w2, sigma_b2 = sigmas(sigma_w2, sigma_b2)
    start = checks.real("q", q, minimum=0.0)

    def point() -> FixedPoint:
        q, t, chi1 = _fixed(s, sigma_w2, sigma_b2, start)
        return FixedPoint(q, 1 - t, chi1)

    return resolved(activation, point)


def _fixed(
    s: Scalar, sigma_w2: float, sigma_b2: float, start: float
) -> tuple[float, float, float]:
    """Return q, 1 - c and chi_1 at the fixed point."""
    require_slopes(s)
    q = _fixed_q(s, sigma_w2, sigma_b2, start)
    # chi_1 = sigma_w2 E f'(sqrt(q*) z)^2, the slope of R at c = 1.
    chi1 = sigma_w2 * moment(s, s.df, q)
    return q, _fixed_t(s, sigma_w2, q, chi1), chi1


def _fixed_q(s: Scalar, sigma_w2: float, sigma_b2: float, start: float) -> float:
    """Follow q, with Newton's steps on q - V(q) where they keep to its direction.

    There are no cycles: q d/dq of a normal density is at least -1/2 of it, so V'(q*) >=
    -1/2 for any function.
    """
    q, place = start, f"for sigma_w2={sigma_w2}, sigma_b2={sigma_b2}"
    for _ in range(_MOST_STEPS):
        step = sigma_w2 * moment(s, s.f, q) + sigma_b2 - q
        rate = 1 - sigma_w2 * slope(s, q) if q > 0 else 1.0
        if abs(step) <= max(_ROUNDING, s.precision) * max(q, _SMALLEST):
            return q
        if q > _LARGEST or (step > 0 and abs(rate) < max(_NEUTRAL, s.precision)):
            raise ValueError(
                f"q grows without bound {place}: there is no fixed point that it comes "
                "to from where it starts. Take a smaller sigma_w2, or a smaller q."
            )
        # Plain iteration would need thousands of steps near the edge of chaos, where q
        # comes nearer as slowly as 1 / l. But a long step could reach another basin,
        # where V has several fixed points.
        step = step / rate if rate > 0 else step
        q += max(min(step, q + 1), -0.5 * q)
        if q < _SMALLEST:
            q = 0.0
    raise Unresolved(f"is too wild: {_MOST_STEPS} steps found no fixed point {place}.")


def _fixed_t(s: Scalar, sigma_w2: float, q: float, chi1: float) -> float:
    """Return 1 - c at the fixed point of R, for inputs that differ at the start.

    1 - R(c) = sigma_w2 gap(q, t) / q, which is chi_1 t for small t and falls behind t
    on the way to t = 1. As a function of r = sqrt(t), the logarithm of their ratio is
    near a line, or near a parabola, for functions with and without kinks.
    """
    if chi1 <= 1 + max(_LEVEL, s.precision) or q == 0:
        return 0.0

    def rise(r: float, mean: Any = rough_gap) -> float:
        return math.log(sigma_w2 * mean(s, s.f, q, r * r) / (q * r * r))

    # R(0) >= 0 everywhere, and is 0 for odd functions without bias.
    if rise(1.0) >= -1e-12:
        return 1.0
    r = _root_of_rise(rise, math.log(chi1), s.precision)
    if abs(rise(r, gap)) > max(1e-9, 4 * s.precision):
        raise Unresolved("is too wild: the means over two variables do not settle.")
    return r * r


def _root_of_rise(rise: Any, above: float, precision: float) -> float:
    """Return the r where `rise` is 0, given its limit above 0 for small r."""
    # SciPy takes 0.3 s to load, and most of jinit does not need it.
    from scipy.optimize import brentq

    # On a logarithmic scale, since the root may be near 0 or near 1.
    lowest, enough = math.log(1e-7), max(1e-10 * above, precision)

    def value(log_r: float) -> float:
        # Rounding would decide the first value, whose limit is known.
        height = above if log_r == lowest else rise(math.exp(log_r))
        # A step below the precision of f would follow its rounding.
        return 0.0 if abs(height) < enough else height

    return math.exp(brentq(value, lowest, 0.0, xtol=1e-13))


def depth_scales(
    activation: Activation, sigma_w2: float, sigma_b2: float, *, q: float = 1.0
) -> DepthScales:
    """Return how many layers deep a signal is felt: xi_q and xi_c.

    xi = -1 / log(slope), of V at q* and of R at c*: after xi layers what is left of a
    difference is 1 / e. Networks train up to about 6 xi_c layers. On the edge of chaos
    xi_c is infinite.

    Args:
      activation: as for `fixed_point`.
      sigma_w2: as for `fixed_point`.
      sigma_b2: as for `fixed_point`.
      q: as for `fixed_point`.

    Returns:
      A record with `xi_q` and `xi_c`, in layers; infinite where the slope is 1, or
      where a difference grows: q* is then a point that signals leave.

    Raises:
      ValueError: for the same reasons as `fixed_point`.

    Example:
      >>> from jinit import theory
      >>> round(theory.depth_scales("tanh", 1.3, 0.05).xi_c, 3)
      7.834

    References:
      Schoenholz, Gilmer, Ganguli and Sohl-Dickstein, "Deep information propagation",
        ICLR 2017.
    """
    s = scalar_of(activation)
    sigma_w2, sigma_b2 = sigmas(sigma_w2, sigma_b2)
    start = checks.real("q", q, minimum=0.0)

    def scales() -> DepthScales:
        q, t, _ = _fixed(s, sigma_w2, sigma_b2, start)
        # Price's theorem: d/dc E f(u) f(v) = q E f'(u) f'(v), and V(q*) = q* cancels
        # the q.
        slope_of_r = sigma_w2 * dual(s, s.df, q, t)
        slope_of_v = sigma_w2 * slope(s, q)
        level = max(_LEVEL, s.precision)
        return DepthScales(_scale(slope_of_v, level), _scale(slope_of_r, level))

    return resolved(activation, scales)


def _scale(slope: float, level: float) -> float:
    size = abs(slope)
    if size == 0:
        return 0.0
    return math.inf if size >= 1 - level else -1 / math.log(size)


def scalar_of(activation: Activation) -> Scalar:
    """Return an activation as a scalar function in float64."""
    return resolved(activation, lambda: scalar(activation))


def require_slopes(s: Scalar) -> None:
    """Raise for a function with jumps."""
    if s.jump is not None:
        raise Unresolved(
            f"jumps at {s.jump:.6g}: its chi_1 is infinite, and inputs however alike "
            "are torn apart. Take a function without jumps."
        )


def resolved(activation: Any, compute: Callable[[], Result]) -> Result:
    """Return what `compute` returns; name the activation if it is not integrable."""
    try:
        return compute()
    except Unresolved as error:
        raise ValueError(f"`activation` {activation!r} {error}") from None


def sigmas(sigma_w2: float, sigma_b2: float) -> tuple[float, float]:
    """Return the two variances, checked."""
    return (
        checks.real("sigma_w2", sigma_w2, minimum=0.0),
        checks.real("sigma_b2", sigma_b2, minimum=0.0),
    )
