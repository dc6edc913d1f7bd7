"""Unit scaling draws every tensor with unit variance."""

import math
from collections.abc import Sequence
from typing import Any

from .._scale.fans import fans
from . import _classify
from ._factors import Factors, Tensor, tensor_of
from ._growth import Classed
from ._parametrization import Parametrization


def unit_scaling(
    base_shapes: Any, shapes: Any, *, overrides: Any = (), delta_shapes: Any = None
) -> Parametrization:
    """u-muP, as far as it is initialization and Adam's learning rates.

    | tensor | std | multiplier | Adam's rate |
    | --- | --- | --- | --- |
    | input and hidden kernels | 1 / sqrt(n_in) | 1 | 1 / n_in |
    | embedding | 1 | 1 | 1 / sqrt(n_out) |
    | output | 1 | 1 / n_in | 1 |
    | vectors, scalars | as they are | 1 | 1 |

    u-muP draws all weights with std 1 and multiplies products by 1 / sqrt(n_in); here
    those multipliers are taken into the weights, which trains alike. All is absolute.
    Three axes are a stack of matrices, where the module's name does not say "conv".
    Its residual weights and scaled activations are the model's own affair.

    Args:
      base_shapes, shapes, overrides, delta_shapes: as for `infer`; the base tells the
        classes only.

    Raises:
      TypeError, ValueError: as `infer`; p.optimizer refuses what is not like Adam.

    Example:
      >>> import jax, jinit
      >>> def shapes(d):
      ...     return {"w": jax.ShapeDtypeStruct((d, d), "float32")}
      >>> p = jinit.mup.unit_scaling(shapes(64), shapes(256))
      >>> p.rows[0]["std"], p.rows[0]["lr"]
      (0.0625, 0.00390625)

    References:
      Blake et al., "u-muP: the unit-scaled maximal update parametrization", ICLR 2025.
    """
    tensors = _classify.infer(base_shapes, shapes, delta_shapes, overrides)
    return of_unit(tensors)


def of_unit(tensors: Sequence[Classed]) -> Parametrization:
    """Unit scaling's std and Adam rates, with the multipliers of weights taken in."""
    return Parametrization(tuple(map(_of_unit, tensors)), "adam", absolute=True)


def _of_unit(tensor: Classed) -> Tensor:
    none = {"sgd": math.nan, "muon": math.nan, "multiplier": 1.0, "epsilon": 1.0}
    if tensor.role in ("vector", "scalar"):
        return tensor_of(tensor, Factors(std=math.nan, adam=1.0, **none))
    n_in, n_out = fans(tensor.shape, tensor.layout)
    if tensor.role == "output":
        none["multiplier"] = 1 / n_in
        return tensor_of(tensor, Factors(std=1.0, adam=1.0, **none))
    if tensor.parts[-1:] == ("embedding",):
        return tensor_of(tensor, Factors(std=1.0, adam=n_out**-0.5, **none))
    return tensor_of(tensor, Factors(std=n_in**-0.5, adam=1 / n_in, **none))
