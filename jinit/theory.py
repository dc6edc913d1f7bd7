"""What mean-field theory predicts of a deep network, in float64.

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

from typing import Any

from . import _checks
from ._edge_of_chaos import critical
from ._gains import Activation
from ._mean_field import (
    correlation_map,
    depth_scales,
    fixed_point,
    resolved,
    scalar_of,
    variance_map,
)
from ._phase_figure import phase_figure
from ._spectra import finite_width, jacobian_spectrum

__all__ = [
    "correlation_map",
    "critical",
    "depth_scales",
    "finite_width",
    "fixed_point",
    "jacobian_spectrum",
    "plot_phase_diagram",
    "variance_map",
]
__dir__ = __all__.copy  # for `dir`, which would show the imports too


def plot_phase_diagram(activation: Activation, path: Any = None) -> Any:
    """Draw the ordered and the chaotic phase over sigma_w2 and sigma_b2, and the edge.

    Args:
      activation: a name, or any function of a scalar.
      path: where to write a picture; None for none.

    Returns:
      The matplotlib figure.

    Raises:
      ValueError: for an activation that cannot be integrated.

    Example:
      >>> from jinit import theory
      >>> theory.plot_phase_diagram("tanh").axes[0].get_xlabel()
      'sigma_w2'

    References:
      Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli, "Exponential expressivity in
      deep neural networks through transient chaos", 2016.
    """
    s = scalar_of(activation)
    name = (
        activation if isinstance(activation, str) else _checks.public_name(activation)
    )
    return resolved(activation, lambda: phase_figure(s, name, path))
