"""Exponential gates of an xLSTM start with biases that differ from head to head."""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
from jax.typing import DTypeLike

from .._core import checks, papers
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer
from .._initializer.formula import FormulaInitializer, index
from .._initializer.maker import maker
from .._initializer.scheme import scheme


@dataclasses.dataclass(frozen=True, repr=False)
class LinspaceBias(FormulaInitializer):
    """A LinspaceBias rises in equal steps along its last axis."""

    start: float = 3.0
    end: float = 6.0
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "recurrent.linspace_bias"
    _random: ClassVar[bool] = False
    _operands: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        self._set(
            start=checks.number("start", self.start),
            end=checks.number("end", self.end),
            dtype=canonical_dtype(self.dtype),
        )

    def _check(self, shape: checks.Shape) -> None:
        if not shape:
            raise ValueError(
                "`shape` is (), which has no axes; the biases of a gate have one: one "
                "for each head or unit."
            )

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        # One entry alone is `start`, as in torch.linspace.
        steps = max(shape[-1] - 1, 1)
        share = index(shape, -1).astype(dtype) / steps
        rising: jax.Array = self.start + (self.end - self.start) * share
        return rising


@scheme(
    name="recurrent.linspace_bias",
    law="constant",
    formula="b_h = start + (end - start) h / (H - 1)",
    use="the forget gate of an mLSTM (xLSTM)",
    pitfall="the kernel of the gate starts at 0",
    paper=papers.BECK_2024,
)
@maker
def linspace_bias(
    start: float = 3.0, end: float = 6.0, *, dtype: DTypeLike | None = None
) -> Initializer:
    """Fill the biases of a forget gate with numbers that rise from `start` to `end`.

    b_h = start + (end - start) h / (H - 1) for head h of H, along the last axis. The
    share sigmoid(b_h) of the state that a step keeps is 0.953 at 3 and 0.9975 at 6: the
    heads of an mLSTM remember for 21 to 400 steps.

    Args:
      start: the bias of the first head.
      end: the bias of the last head.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the shape has no axes.

    Example:
      >>> import jax, jinit
      >>> jinit.recurrent.linspace_bias()(jax.random.key(0), (4,)).tolist()
      [3.0, 4.0, 5.0, 6.0]

    References:
      Beck et al., "xLSTM: extended long short-term memory", NeurIPS 2024.
    """
    return LinspaceBias(start, end, canonical_dtype(dtype))
