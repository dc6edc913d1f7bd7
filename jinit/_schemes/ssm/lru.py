"""Eigenvalues of linear recurrent units, on a ring in the unit disk."""

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
    """|lambda|^2 uniform on [r_min^2, r_max^2], the phase on [0, max_phase]."""

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
        # All parts split the key alike, so that one key gives one ring.
        radius_key, phase_key = jax.random.split(key)
        if self.part == "theta":
            return jnp.log(self.max_phase * _inside(phase_key, shape, dtype))
        inner, outer = self.r_min**2, self.r_max**2
        # 1 - |lambda|^2, which near the unit circle is the number that has digits.
        q = (1 - outer) + (outer - inner) * _inside(radius_key, shape, dtype)
        q = jnp.minimum(q, np.nextafter(dtype.type(1), dtype.type(0)))
        if self.part == "gamma":
            return jnp.sqrt(q)
        return jnp.log(-0.5 * jnp.log1p(-q))


def _inside(key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
    """Uniform on (0, 1), both ends excluded: the middles of equal cells."""
    half = dtype.type(2.0 ** -(jnp.finfo(dtype).nmant + 1))
    return random.uniform(key, shape, dtype) + half


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
    pitfall="one key for all three parts, or gamma is of another ring",
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
    """Draw a linear recurrent unit's eigenvalues on a ring: nu, theta and gamma.

    lambda = exp(-exp(nu) + i exp(theta)): |lambda|^2 is uniform on [r_min^2, r_max^2],
    the phase on [0, max_phase]. gamma = sqrt(1 - |lambda|^2) scales the input so that
    white noise gives a state of variance 1. Given one and the same key, the three
    describe one ring. (Models that train log gamma take the logarithm.)

    Args:
      r_min: the inner radius.
      r_max: the outer radius, at most 1.
      max_phase: the largest phase, in radians; a small one remembers slow signals.
      part: "nu", "theta" or "gamma" for that one alone.
      dtype: the type of the result where the call names none.

    Returns:
      Three initializers (nu, theta, gamma), or the one that `part` names.

    Raises:
      ValueError: for radii that are no ring in the unit disk, or a phase of more than a
        full turn.

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

    def of(part: RingPart) -> Initializer:
        return LruRing(r_min, r_max, max_phase, part, canonical_dtype(dtype))

    return (of("nu"), of("theta"), of("gamma")) if part is None else of(part)
