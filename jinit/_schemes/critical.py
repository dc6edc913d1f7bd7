"""The pair of initializers that starts a deep network on the edge of chaos."""

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
    """The kernel's and the bias's initializers on the edge of chaos: chi_1 = 1.

    The kernel is N(0, sigma_w2 / fan_in), the bias N(0, sigma_b2), with the point of
    `jinit.theory.critical`: signals of mean square q stay so, and gradients neither
    vanish nor explode. Where `theory.critical(activation, q).stable` is False, as for
    gelu and silu, q is kept on average only: small differences grow with depth.

    Args:
      activation: a name, or any function of a scalar.
      q: the mean square of the pre-activations.
      **options: the settings of the kernel's scheme, by keyword.

    Returns:
      (kernel, bias), two initializers.

    Raises:
      ValueError: where no such point exists, as for sigmoid; for options that do not
        fit, `gain` among them, which the point decides.

    Example:
      >>> import jinit
      >>> kernel, bias = jinit.critical("tanh")
      >>> round(kernel.std((100, 100)) ** 2 * 100, 4), round(bias.std((100,)) ** 2, 4)
      (2.1533, 0.151)

    References:
      Schoenholz, Gilmer, Ganguli and Sohl-Dickstein, "Deep information propagation",
      2017.
    """
    if "gain" in options:
        raise ValueError(
            f"`gain` is {options['gain']!r}; the critical point decides the gain, "
            "which is sqrt(sigma_w2)."
        )
    point = _critical.critical_point(activation, q)
    kernel = lecun(**options, gain=math.sqrt(point.sigma_w2))
    return kernel, normal(math.sqrt(point.sigma_b2), options.get("dtype"))
