"""Mean-field theory predicts how signals pass through a deep network, in float64.

In a wide layer with kernel N(0, sigma_w2 / fan_in) and bias N(0, sigma_b2), an input
whose pre-activations have mean square q gives the next layer's

  V(q) = sigma_w2 E f(sqrt(q) z)^2 + sigma_b2,

and two inputs of that q with correlation c get

  R(c) = (sigma_w2 E f(u) f(v) + sigma_b2) / V(q),  (u, v) normal, variances q, cov q c.

chi_1 = sigma_w2 E f'(sqrt(q) z)^2 is the slope of R at c = 1 where q is fixed, and the
factor by which the mean square of a gradient grows per layer. chi_1 = 1 is the edge of
chaos: below it all inputs become alike and gradients vanish, above it alike inputs
become unlike and gradients explode.
"""

from .._core.names import publish
from ._critical import critical_point
from ._maps import correlation_map, depth_scales, fixed_point, variance_map
from ._phase_diagram import plot_phase_diagram
from ._spectra import finite_width, jacobian_spectrum

# The name that the point had before the initializers of jinit.critical took it.
critical = critical_point

__all__ = [
    "correlation_map",
    "critical",
    "critical_point",
    "depth_scales",
    "finite_width",
    "fixed_point",
    "jacobian_spectrum",
    "plot_phase_diagram",
    "variance_map",
]
__dir__ = __all__.copy  # for `dir`, which would show the imports too
publish(__name__, *map(globals().get, __all__))
