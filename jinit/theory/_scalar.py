"""A `Scalar` is an activation as a function in float64: f, f', and their kinks."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from .._core.identity import remembered
from .._scale.activations import ACTIVATIONS, GATES
from .._scale.gains import Activation, sampled, split
from .._scale.quadrature import find_kinks

Function = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A Scalar has f and f' over float64 arrays, and their kinks."""

    f: Function
    df: Function
    kinks: tuple[float, ...]
    # The relative precision of what f returns.
    precision: float
    is_linear: bool = False

    @functools.cached_property
    def jump(self) -> float | None:
        """Return where f itself is not continuous, or None."""
        return next((k for k in self.kinks if _jumps(self, k)), None)


# At a kink the difference shrinks with the distance, to a quarter here; at a jump it
# stays.
def _jumps(s: Scalar, k: float) -> bool:
    """Tell whether f differs as much near k as a little farther off."""
    near, far = (float(np.ptp(s.f(k + np.array([-h, h])))) for h in (1e-7, 4e-7))
    return near > max(1e-8, 4 * s.precision, 0.75 * far)


@remembered(32)
def scalar(activation: Activation) -> Scalar:
    """Return the scalar function of an activation."""
    function, param = split(activation)
    if not isinstance(function, str):
        f, precision_of_f = sampled(function, "forward")
        df, precision_of_df = sampled(function, "backward")
        precision = max(precision_of_f, precision_of_df)
        # A kink of f' alone, as elu has at 0, slows the quadrature of f' as well.
        kinks = find_kinks(f, precision) + find_kinks(df, precision)
        return Scalar(f, df, tuple(sorted(set(kinks))), precision)
    if function in GATES:
        raise ValueError(
            f"`activation` is {function!r}, a gated unit of two inputs; mean-field "
            f"theory is for functions of one: take its {GATES[function]!r}."
        )
    named = ACTIVATIONS[function]
    param = named.param if param is None else param
    settings = () if param is None else (param,)
    return Scalar(
        lambda z: named.f(z, *settings),
        lambda z: named.df(z, *settings),
        named.kinks,
        0.0,
        function in ("linear", "identity"),
    )
