"""`critical` makes the initializers of kernels and biases on the edge of chaos.

There gradients neither vanish nor explode with depth; see `jinit.theory`.
"""

import math
from typing import Unpack

from .._initializer.base import Initializer
from .._scale.gains import Activation
from ..theory import _critical
from .distributions import normal
from .fan_based import Lecun, lecun
from .fan_options import FanOptions, fan_maker


@fan_maker(Lecun, but=("gain",))
def critical(
    activation: Activation, q: float = 1.0, **options: Unpack[FanOptions]
) -> tuple[Initializer, Initializer]:
    """Make the initializers of kernels and biases on the edge of chaos, chi_1 = 1.

    Kernels are N(0, sigma_w2 / fan_in) and biases N(0, sigma_b2), where the two
    variances come from `jinit.theory.critical`. Signals keep their mean square q, and
    gradients neither vanish nor explode. If `theory.critical(activation, q).stable` is
    False, as for gelu and silu, small differences from q grow with depth.

    Args:
      activation: the name of an activation, or any function of a scalar.
      q: the mean square of the pre-activations.
      **options: the settings of the kernel's scheme, by keyword.

    Returns:
      (kernel, bias), two initializers.

    Raises:
      ValueError: if there is no such point, as for sigmoid; if an option is wrong, or
        is `gain`, which the point decides.

    Example:
      >>> import jinit
      >>> kernel, bias = jinit.critical("tanh")
      >>> round(kernel.std((100, 100)) ** 2 * 100, 4), round(bias.std((100,)) ** 2, 4)
      (2.1533, 0.151)

    References:
      Schoenholz, Gilmer, Ganguli and Sohl-Dickstein, "Deep information propagation",
        ICLR 2017.
    """
    if "gain" in options:
        raise ValueError(
            f"`gain` is {options['gain']!r}; the critical point decides the gain, "
            "which is sqrt(sigma_w2). Leave `gain` out."
        )
    # LeCun's law has the variance gain^2 / fan_in, so gain^2 is sigma_w2.
    point = _critical.critical_point(activation, q)
    options["gain"] = math.sqrt(point.sigma_w2)
    kernel = lecun(**options)
    return kernel, normal(math.sqrt(point.sigma_b2), options.get("dtype"))
