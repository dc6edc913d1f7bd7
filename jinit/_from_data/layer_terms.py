"""An output of a layer is a sum of terms, each a weight times an entry of the input."""

import math
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from .._network.equations import CONVOLUTION, PRODUCT
from .signal_rules import shape_of

# The operands that may be the weight of a layer. A weight stands on the right more
# often, and of two weights the right one is taken.
_PLACES: dict[Any, tuple[int, ...]] = {
    PRODUCT: (1, 0),
    CONVOLUTION: (1,),
    # JAX exports no objects for these two primitives, so their names identify them.
    "ragged_dot": (1,),
    "ragged_dot_general": (1,),
}


def weight_places(eqn: JaxprEqn) -> tuple[int, ...]:
    """Return which operands of an equation may be the weight of a layer."""
    return _PLACES.get(eqn.primitive) or _PLACES.get(eqn.primitive.name, ())


def terms(eqn: JaxprEqn) -> float:
    """Return how many terms an output of a layer has, without those on padding."""
    if eqn.primitive is CONVOLUTION:
        kernel = shape_of(eqn.invars[1])
        outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return float(math.prod(kernel) // outputs * _covered(eqn))
    shape = shape_of(eqn.invars[0])
    return float(math.prod(shape[axis] for axis in summed_axes(eqn, 0) or ()))


def summed_axes(eqn: JaxprEqn, place: int) -> tuple[int, ...] | None:
    """Return the summed axes of a product's operand, or None for a convolution."""
    if eqn.primitive is CONVOLUTION:
        return None
    numbers = eqn.params.get("dimension_numbers")
    if numbers is None:
        numbers = eqn.params["ragged_dot_dimension_numbers"].dot_dimension_numbers
    contracted, _ = numbers
    return tuple(contracted[place])


def _covered(eqn: JaxprEqn) -> float:
    """Return the mean share of a kernel that lies on entries, not on padding."""
    p = eqn.params
    numbers = p["dimension_numbers"]
    share = 1.0
    for i in range(len(p["window_strides"])):
        size = shape_of(eqn.invars[0])[numbers.lhs_spec[2 + i]]
        taps = shape_of(eqn.invars[1])[numbers.rhs_spec[2 + i]]
        outputs = shape_of(eqn.outvars[0])[numbers.out_spec[2 + i]]
        spread = p["lhs_dilation"][i]
        places = (
            np.arange(outputs)[:, None] * p["window_strides"][i]
            + np.arange(taps)[None] * p["rhs_dilation"][i]
            - p["padding"][i][0]
        )
        there = (places >= 0) & (places <= (size - 1) * spread) & (places % spread == 0)
        share *= float(there.mean()) if there.size else 0.0
    return share
