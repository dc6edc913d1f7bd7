"""Linear recurrent units (LRU) have eigenvalues on a ring in the unit disk."""

import dataclasses
import math
from typing import Any, ClassVar, Literal, overload

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

RingPart = Literal["nu", "theta", "gamma"]


@dataclasses.dataclass(frozen=True, repr=False)
class LruRing(FormulaInitializer):
    """An LruRing is one parameter of eigenvalues that are uniform on a ring."""

    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi
    part: RingPart = "nu"
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "ssm.lru_ring"
    _kind: ClassVar[type[Any]] = np.floating
    _operands: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        r_min = checks.number("r_min", self.r_min, minimum=0.0)
        r_max = checks.number("r_max", self.r_max, minimum=0.0)
        if not numbers.is_traced(r_min, r_max) and not r_min < r_max <= 1:
            raise ValueError(
                f"`r_min` is {r_min} and `r_max` is {r_max}; a stable ring has "
                "0 <= r_min < r_max <= 1."
            )
        phase = checks.number("max_phase", self.max_phase, positive=True)
        if not numbers.is_traced(phase) and phase > 2 * math.pi:
            raise ValueError(
                f"`max_phase` is {phase}; it must be at most 2 pi, a full turn."
            )
        self._set(
            r_min=r_min,
            r_max=r_max,
            max_phase=phase,
            part=checks.choice("part", self.part, ("nu", "theta", "gamma")),
            dtype=canonical_dtype(self.dtype),
        )

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        name, settings = super()._spelling()
        return name, settings | {"part": self.part}

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        # All parts split the key in the same way, so that one key gives one ring.
        radius_key, phase_key = jax.random.split(key)
        if self.part == "theta":
            return jnp.log(self.max_phase * _inside(phase_key, shape, dtype))
        # The area of a ring grows with the square of its radius, so |lambda|^2 is
        # uniform.
        inner, outer = self.r_min**2, self.r_max**2
        # q = 1 - |lambda|^2 keeps its digits near the unit circle, |lambda| does not.
        q = (1 - outer) + (outer - inner) * _inside(radius_key, shape, dtype)
        # With q = 1 lambda would be 0, and nu infinite.
        q = jnp.minimum(q, np.nextafter(dtype.type(1), dtype.type(0)))
        if self.part == "gamma":
            return jnp.sqrt(q)
        # nu = log(-log |lambda|), and log |lambda| = log(1 - q) / 2.
        return jnp.log(-0.5 * jnp.log1p(-q))


# A draw of 0 would give the logarithm -inf.
def _inside(key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
    """Draw from the uniform law on (0, 1) without its ends: the middles of cells."""
    half = dtype.type(2.0 ** -(np.finfo(dtype).nmant + 1))
    middles: jax.Array = random.uniform(key, shape, dtype) + half
    return middles


Ring = tuple[Initializer, Initializer, Initializer]


@overload
def lru_ring(
    r_min: float = ..., r_max: float = ..., max_phase: float = ...,
    *, part: None = ..., dtype: DTypeLike | None = ...,
) -> Ring: ...  # fmt: skip


@overload
def lru_ring(
    r_min: float = ..., r_max: float = ..., max_phase: float = ...,
    *, part: RingPart, dtype: DTypeLike | None = ...,
) -> Initializer: ...  # fmt: skip


@scheme(
    name="ssm.lru_ring",
    law="uniform on a ring",
    formula="lambda = exp(-exp(nu) + i exp(theta)), gamma = sqrt(1 - abs(lambda)^2)",
    use="linear recurrent units",
    pitfall="draw all three with one key, or gamma belongs to another ring",
    paper=papers.ORVIETO_2023,
)
@maker
def lru_ring(
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    *,
    part: RingPart | None = None,
    dtype: DTypeLike | None = None,
) -> Ring | Initializer:
    """Draw the parameters nu, theta and gamma of a linear recurrent unit on a ring.

    lambda = exp(-exp(nu) + i exp(theta)), where |lambda|^2 is uniform on
    [r_min^2, r_max^2] and the phase on [0, max_phase]. gamma = sqrt(1 - |lambda|^2)
    scales the input so that white noise gives a state of variance 1. The three arrays
    describe one ring only if they are drawn with the same key. Models that train
    log(gamma) take the logarithm of the draw.

    Args:
      r_min: the inner radius.
      r_max: the outer radius, at most 1.
      max_phase: the largest phase in radians; with a small one units keep slow signals.
      part: "nu", "theta" or "gamma" for that initializer alone, or None for all.
      dtype: the dtype of the array, unless the call gives another.

    Returns:
      Three initializers (nu, theta, gamma), or the one that `part` names.

    Raises:
      ValueError: unless 0 <= r_min < r_max <= 1 and 0 < max_phase <= 2 pi.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> key = jax.random.key(0)
      >>> nu, theta, gamma = (
      ...     init(key, (8,)) for init in jinit.ssm.lru_ring(r_min=0.9, r_max=0.99)
      ... )
      >>> radius = jnp.exp(-jnp.exp(nu))
      >>> bool((radius > 0.9).all()), bool((radius < 0.99).all())
      (True, True)
      >>> bool(jnp.allclose(gamma**2 + radius**2, 1, atol=1e-5))
      True

    References:
      Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu and De, "Resurrecting recurrent
        neural networks for long sequences", ICML 2023.
    """

    def ring(part: RingPart) -> Initializer:
        return LruRing(r_min, r_max, max_phase, part, canonical_dtype(dtype))

    return (ring("nu"), ring("theta"), ring("gamma")) if part is None else ring(part)
