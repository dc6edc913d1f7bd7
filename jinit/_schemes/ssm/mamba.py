"""Mamba starts from a fixed state matrix and from biases that set its time steps."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ... import random
from ..._core import checks, papers
from ..._core.dtypes import canonical_dtype
from ..._core.numbers import is_traced, log
from ..._initializer.base import Initializer
from ..._initializer.formula import FormulaInitializer, index
from ..._initializer.maker import maker
from ..._initializer.scheme import scheme

# Well above the least normal number of float32, 1.2e-38.
_LEAST = 1e-30


@dataclasses.dataclass(frozen=True, repr=False)
class MambaALog(FormulaInitializer):
    """A MambaALog has log(1), ..., log(n) along its last axis."""

    dtype: np.dtype | None = None

    _name: ClassVar[str] = "ssm.mamba_a_log"
    _random: ClassVar[bool] = False
    _kind: ClassVar[type[Any]] = np.floating

    def __post_init__(self) -> None:
        self._set(dtype=canonical_dtype(self.dtype))

    def _check(self, shape: checks.Shape) -> None:
        if not shape:
            raise ValueError(
                "`shape` is (), which has no axes; A_log is (channels, n), its last "
                "axis that of the states."
            )

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        # A = -exp(A_log) cannot become positive in training, so the state stays stable.
        return jnp.log(index(shape, -1).astype(dtype) + 1)


@dataclasses.dataclass(frozen=True, repr=False)
class MambaDtBias(FormulaInitializer):
    """A MambaDtBias is softplus^-1(dt), where log dt is uniform."""

    dt_min: float = 1e-3
    dt_max: float = 0.1
    dt_floor: float = 1e-4
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "ssm.mamba_dt_bias"
    _kind: ClassVar[type[Any]] = np.floating
    _operands: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        self._set(
            dt_min=checks.number("dt_min", self.dt_min, positive=True),
            dt_max=checks.number("dt_max", self.dt_max, positive=True),
            dt_floor=checks.number("dt_floor", self.dt_floor, minimum=0.0),
            dtype=canonical_dtype(self.dtype),
        )
        numbers = self.dt_min, self.dt_max, self.dt_floor
        if is_traced(*numbers):
            return
        if not self.dt_min < self.dt_max:
            raise ValueError(
                f"`dt_min` is {self.dt_min} and `dt_max` is {self.dt_max}; `dt_min` "
                "must be less."
            )
        # `maximum` with the floor comes last, so one of the two bounds is enough.
        if max(self.dt_min, self.dt_floor) < _LEAST:
            raise ValueError(
                f"`dt_min` is {self.dt_min} and `dt_floor` is {self.dt_floor}; one of "
                f"them must be {_LEAST:g} or more: float32 would round a step to 0, "
                "whose bias is infinite."
            )

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        low, high = log(self.dt_min), log(self.dt_max)
        u = random.uniform(key, shape, dtype)
        # Log-uniform, as in the published code; the text of the paper has a uniform
        # law.
        dt = jnp.maximum(jnp.exp(low + (high - low) * u), self.dt_floor)
        # softplus^-1(dt) = log(exp(dt) - 1); this form keeps the digits of a small dt.
        # In float32 the plain formula gives -inf for dt = 1e-8.
        return dt + jnp.log(-jnp.expm1(-dt))


@scheme(
    name="ssm.mamba_a_log",
    law="constant",
    formula="log(1), ..., log(N)",
    use="selective state-space layers",
    pitfall="keep it in float32",
    paper=papers.GU_2024,
)
@maker
def mamba_a_log(*, dtype: DTypeLike | None = None) -> Initializer:
    """Fill the last axis with Mamba's A_log: log(1), ..., log(N).

    Each channel has A = -exp(A_log) = -1, ..., -N, as in S4D-Real. Keep A_log in
    float32: bfloat16 changes A by up to 1.6 %.

    Args:
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the shape has no axes.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> a = jnp.exp(jinit.ssm.mamba_a_log()(jax.random.key(0), (1, 4)))
      >>> bool(jnp.allclose(a, jnp.array([[1.0, 2.0, 3.0, 4.0]])))
      True

    References:
      Gu and Dao, "Mamba: linear-time sequence modeling with selective state spaces",
        COLM 2024.
    """
    return MambaALog(canonical_dtype(dtype))


@scheme(
    name="ssm.mamba_dt_bias",
    law="log-uniform steps",
    formula="b = dt + log(1 - exp(-dt))",
    use="selective state-space layers",
    pitfall="no weight decay on it",
    paper=papers.GU_2024,
)
@maker
def mamba_dt_bias(
    dt_min: float = 1e-3,
    dt_max: float = 0.1,
    dt_floor: float = 1e-4,
    *,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw the biases of Mamba's time steps, so that the steps dt are log-uniform.

    b = dt + log(1 - exp(-dt)), so softplus(b) = dt, for log dt ~ U(log dt_min,
    log dt_max). Steps below dt_floor are raised to it. All is computed in float32 or
    wider.

    Args:
      dt_min: the least step.
      dt_max: the largest step.
      dt_floor: the number to which smaller steps are raised.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if a step is not positive, or dt_min >= dt_max.

    Example:
      >>> import jax, jinit
      >>> b = jinit.ssm.mamba_dt_bias()(jax.random.key(0), (1000,))
      >>> dt = jax.nn.softplus(b)
      >>> bool((dt > 0.9e-3).all()), bool((dt < 0.101).all())
      (True, True)

    References:
      Gu and Dao, "Mamba: linear-time sequence modeling with selective state spaces",
        COLM 2024.
    """
    return MambaDtBias(dt_min, dt_max, dt_floor, canonical_dtype(dtype))
