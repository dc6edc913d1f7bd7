"""Embedding tables are drawn by the width of their rows."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core import checks
from .._core.dtypes import canonical_dtype
from .._initializer.base import DrawSpec, Initializer
from .._initializer.maker import maker
from .._initializer.parts import Composed, part
from .variance_scaling import variance_scaling

# Flax's own default, by overlapping axes: the fan is the last axis.
_FLAX_EMBEDDING = variance_scaling(1.0, "fan_in", "normal", out_axis=0)


@dataclasses.dataclass(frozen=True, repr=False)
class Embedding(Composed):
    """N(0, 1 / d), d the last axis; a row of zeros for padding."""

    padding_row: int | None = None
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "embedding"

    def __post_init__(self) -> None:
        if self.padding_row is not None:
            row = checks.integer("padding_row", self.padding_row)
            self._set(padding_row=row)
        self._set(dtype=canonical_dtype(self.dtype))

    def _std(self, shape: checks.Shape) -> float | None:
        self._check(shape)
        return None if self.padding_row is not None else _FLAX_EMBEDDING.std(shape)

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) < 2:
            raise ValueError(
                f"`shape` is {shape}, which has {len(shape)} axes; an embedding has "
                "two, (rows, features), and more before them for several tables."
            )
        row = self.padding_row
        if row is not None and shape[-2] and not -shape[-2] <= row < shape[-2]:
            raise ValueError(
                f"`padding_row` is {row}, and a table of shape {shape} has "
                f"{shape[-2]} rows; take one from {-shape[-2]} to {shape[-2] - 1}."
            )

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        table = part(_FLAX_EMBEDDING, key, spec)
        if self.padding_row is None or not table.size:
            return table
        rows = table.shape[-2]
        is_padding = np.arange(rows) == self.padding_row % rows
        return jnp.where(is_padding[:, None], jnp.zeros_like(table), table)


@maker
def embedding(
    padding_row: int | None = None, *, dtype: DTypeLike | None = None
) -> Initializer:
    """Draw an embedding table, (rows, d), from N(0, 1 / d).

    The values are those of Flax's default, `nn.linear.default_embed_init`. The fan of a
    row is d: the rows do not add up, so their number must not count. Rows have norm 1;
    models that want entries of size 1 multiply by sqrt(d), as `sqrt(d) * embedding()`.

    Args:
      padding_row: the index of a row of zeros, for a padding token.
      dtype: the type of the result where the call names none.

    Raises:
      TypeError: for a `padding_row` that is no integer.
      ValueError: when called, for fewer than two axes, or a row that is not there.

    Example:
      >>> import jax, jinit
      >>> jinit.embedding().std((50_000, 400))
      0.05
      >>> table = jinit.embedding(padding_row=0)(jax.random.key(0), (10, 4))
      >>> table[0].tolist()
      [0.0, 0.0, 0.0, 0.0]

    References:
      Raffel et al., "Exploring the limits of transfer learning with a unified
      text-to-text transformer", 2019, whose code has this law for its layers.
    """
    return Embedding(padding_row, canonical_dtype(dtype))
