"""State-space layers and linear recurrences forget at rates that their start decides.

The rate is the logarithm of A in Mamba-2 and Gated DeltaNet, and Lambda in an RG-LRU.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ... import random
from ..._core import checks, numbers, papers
from ..._core.dtypes import canonical_dtype
from ..._initializer.base import Initializer
from ..._initializer.formula import FormulaInitializer
from ..._initializer.maker import maker
from ..._initializer.scheme import scheme
from ..recurrent import std_of_log

Form = Literal["softplus", "sigmoid"]

# Above this bound the least of 2^23 draws is far above float32's least number.
_LEAST = 1e-30


@dataclasses.dataclass(frozen=True, repr=False)
class LogUniformA(FormulaInitializer):
    """A LogUniformA has log A, where A is uniform on [low, high]."""

    low: float = 1.0
    high: float = 16.0
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "ssm.a_log"
    _kind: ClassVar[type[Any]] = np.floating
    _operands: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        low = checks.number("low", self.low, minimum=0.0)
        high = checks.number("high", self.high, positive=True)
        if not numbers.is_traced(low, high) and not (low < high and high >= _LEAST):
            raise ValueError(
                f"`low` is {low} and `high` is {high}; A is uniform between them, so "
                f"`low` must be less than `high`, and `high` at least {_LEAST:g}."
            )
        self._set(low=low, high=high, dtype=canonical_dtype(self.dtype))

    def _std(self, shape: checks.Shape) -> float | None:
        # log U(0, high) is log(high) minus a standard exponential number.
        if not numbers.is_traced(self.low) and self.low == 0:
            return 1.0
        return std_of_log(self.high / self.low)

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        # bfloat16 would round a small A to 0, whose logarithm is infinite and whose
        # head never learns; `dtype` is float32 or wider, and the result is rounded.
        u = _inside(key, shape, dtype)
        return jnp.log(self.low + (self.high - self.low) * u)


@dataclasses.dataclass(frozen=True, repr=False)
class RgLruLambda(FormulaInitializer):
    """An RgLruLambda has Lambda, whose decay a^c is uniform in area on a ring."""

    low: float = 0.9
    high: float = 0.999
    c: float = 8.0
    form: Form = "softplus"
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "ssm.rg_lru_lambda"
    _kind: ClassVar[type[Any]] = np.floating
    _operands: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        low = checks.number("low", self.low, minimum=0.0)
        high = checks.number("high", self.high, minimum=0.0)
        if not numbers.is_traced(low, high) and not low < high <= 1:
            raise ValueError(
                f"`low` is {low} and `high` is {high}; a decay has "
                "0 <= low < high <= 1."
            )
        self._set(
            low=low,
            high=high,
            c=checks.number("c", self.c, positive=True),
            form=checks.choice("form", self.form, ("softplus", "sigmoid")),
            dtype=canonical_dtype(self.dtype),
        )

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        # The area within a radius grows with its square, so (a^c)^2 is uniform.
        inner, outer = self.low**2, self.high**2
        # q = 1 - a^(2c) keeps the digits of a decay near 1.
        q = (1 - outer) + (outer - inner) * _inside(key, shape, dtype)
        # With q = 1 the decay would be 0, and Lambda infinite.
        q = jnp.minimum(q, np.nextafter(dtype.type(1), dtype.type(0)))
        rate = -0.5 * jnp.log1p(-q) / self.c  # -log a
        # softplus(x) = rate, in the form that keeps the digits of a small rate.
        x = rate + jnp.log(-jnp.expm1(-rate))
        # sigmoid(-x) = exp(-softplus(x)), so the two forms differ in sign alone.
        return x if self.form == "softplus" else -x


# A draw of 0 would give the logarithm -inf.
def _inside(key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
    """Draw from the uniform law on (0, 1) without its ends: the middles of cells."""
    half = dtype.type(2.0 ** -(np.finfo(dtype).nmant + 1))
    middles: jax.Array = random.uniform(key, shape, dtype) + half
    return middles


@scheme(
    name="ssm.a_log",
    law="log of uniform",
    formula="log A, A ~ U(low, high)",
    use="the decay of a head in Mamba-2, Gated DeltaNet and KDA",
    pitfall="exclude it from weight decay; apply exp in float32",
    paper=papers.DAO_2024,
)
@maker
def a_log(
    low: float = 1.0, high: float = 16.0, *, dtype: DTypeLike | None = None
) -> Initializer:
    """Draw Mamba-2's A_log: the logarithm of A ~ U(low, high), finite in every dtype.

    A head with step dt keeps the share exp(-A dt) of its state. All is computed in
    float32 or wider and rounded once. If A itself were drawn in bfloat16 from U(0, 16),
    0.4 % of the heads would get log(0) and would be dead in every start.

    Mamba-2 and Kimi Delta Attention have U(1, 16), Gated DeltaNet U(0, 16).

    Args:
      low: the least A; even with low = 0 the logarithm is finite.
      high: the largest A.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: unless 0 <= low < high.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> heads = jinit.ssm.a_log(0.0)(jax.random.key(0), (10_000,), "bfloat16")
      >>> bool(jnp.isfinite(heads).all())
      True
      >>> round(jinit.ssm.a_log(0.0).std((8,)), 3)
      1.0

    References:
      Dao and Gu, "Transformers are SSMs: generalized models and efficient algorithms
        through structured state space duality", ICML 2024.
      Yang, Kautz and Hatamizadeh, "Gated delta networks: improving Mamba2 with delta
        rule", ICLR 2025.
    """
    return LogUniformA(low, high, canonical_dtype(dtype))


@scheme(
    name="ssm.rg_lru_lambda",
    law="uniform on a ring",
    formula="a = exp(-softplus(Lambda)), a^(2c) ~ U(low^2, high^2)",
    use="the decay of an RG-LRU (Griffin, RecurrentGemma)",
    pitfall="RecurrentGemma's code has a, not a^c, on the ring: c=1",
    paper=papers.DE_2024,
)
@maker
def rg_lru_lambda(
    low: float = 0.9,
    high: float = 0.999,
    *,
    c: float = 8.0,
    form: Form = "softplus",
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw Lambda of an RG-LRU, so that the decay a^c is uniform in area on a ring.

    An RG-LRU keeps the share a^(c r) of its state, where r is a gate in [0, 1]. With
    form="softplus" a = exp(-softplus(Lambda)), with form="sigmoid" a = sigmoid(Lambda).
    a^(2c) is uniform on [low^2, high^2]: a^c is the radius of a point that is uniform
    in area between two circles.

    RecurrentGemma's public code draws a itself on the ring, so that a^8 lies on
    [0.43, 0.992]. `c=1` gives its law.

    Args:
      low: the least a^c.
      high: the largest a^c, at most 1.
      c: the constant that multiplies the gate in the exponent.
      form: "softplus" or "sigmoid": the function that the model applies to Lambda.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: unless 0 <= low < high <= 1 and c > 0, or if `form` is unknown.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> x = jinit.ssm.rg_lru_lambda()(jax.random.key(0), (1000,))
      >>> decay = jnp.exp(-8 * jax.nn.softplus(x))
      >>> bool((decay > 0.899).all()), bool((decay < 0.9991).all())
      (True, True)

    References:
      De et al., "Griffin: mixing gated linear recurrences with local attention for
        efficient language models", arXiv 2024.
    """
    return RgLruLambda(low, high, c, form, canonical_dtype(dtype))
