"""`scaled_uniform` draws from U(+-1 / sqrt(n_in)), the default of PyTorch's layers."""

import dataclasses
from typing import ClassVar, Unpack

from .._core import papers
from .._initializer.base import Initializer
from .._initializer.scheme import scheme
from .._scale.fans import Fans
from .fan_based import FanScheme
from .fan_options import FanOptions, fan_maker


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class ScaledUniform(FanScheme):
    """ScaledUniform draws from U(+-1 / sqrt(fan_in))."""

    distribution: str = "uniform"

    _name: ClassVar[str] = "scaled_uniform"

    def _variance(self, fans: Fans) -> float | None:
        # U(+-a) has the variance a^2 / 3.
        return 1 / (3 * fans.fan_in) if fans.fan_in else None


@scheme(
    law="uniform",
    formula="limit = 1 / sqrt(n_in)",
    use="PyTorch's default, also of its biases",
    pitfall="a bias needs `fan_in`; under relu the signal dies: variance / 6 a layer",
    paper=papers.LECUN_1998,
)
@fan_maker(ScaledUniform)
def scaled_uniform(**options: Unpack[FanOptions]) -> Initializer:
    """Draw from U(+-1 / sqrt(n_in)), PyTorch's default for kernels and for biases.

    std = 1 / sqrt(3 n_in). The law's name in PyTorch is
    `kaiming_uniform_(w, a=math.sqrt(5))`. A bias has the n_in of its kernel, which the
    shape of the bias does not show, so give it: `scaled_uniform(fan_in=256)`.

    Args:
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: if an option is wrong; when called, for a bias without `fan_in`.

    Example:
      >>> import jax, jinit
      >>> b = jinit.scaled_uniform(fan_in=256)(jax.random.key(0), (1000,))
      >>> bool(abs(b).max() <= 1 / 16)
      True

    References:
      LeCun, Bottou, Orr and Müller, "Efficient BackProp", Neural Networks: Tricks of
        the Trade 1998. There 1 / sqrt(n_in) is the standard deviation; here it is the
        limit.
    """
    return ScaledUniform(**options)
