"""An embedding table is scaled by the width of its rows, not by their number."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core import checks, papers
from .._core.dtypes import canonical_dtype
from .._initializer.base import DrawSpec, Initializer
from .._initializer.maker import maker
from .._initializer.parts import Composed, part
from .._initializer.scheme import scheme
from .variance_scaling import variance_scaling

# Flax makes the last axis the fan by axes that overlap.
# With inputs and outputs both on axis 0 the window is rows d / rows^2 = d / rows, so
# that fan_in = rows d / rows = d.
_FLAX_EMBEDDING = variance_scaling(1.0, "fan_in", "normal", out_axis=0)


@dataclasses.dataclass(frozen=True, repr=False)
class Embedding(Composed):
    """An Embedding has rows from N(0, 1 / d) for rows of length d; one may be zero."""

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
        # A row of zeros has another std than the rest.
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
        # All rows are drawn, so that the others do not depend on which of them is
        # padding.
        is_padding = np.arange(rows) == self.padding_row % rows
        return jnp.where(is_padding[:, None], jnp.zeros_like(table), table)


@scheme(
    law="normal",
    formula="std = 1 / sqrt(d)",
    use="embedding tables",
    pitfall="rows have norm 1, entries 1 / sqrt(d)",
    paper=papers.RAFFEL_2020,
)
@maker
def embedding(
    padding_row: int | None = None, *, dtype: DTypeLike | None = None
) -> Initializer:
    """Draw an embedding table, (rows, d), from N(0, 1 / d).

    The values are those of Flax's default, `nn.linear.default_embed_init`. A lookup
    takes one row and never sums over rows, so their number does not enter the scale.
    Rows have a norm of about 1; for entries of size 1 use `sqrt(d) * embedding()`.

    Args:
      padding_row: the index of the row that is zero, for a padding token, or None.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      TypeError: if `padding_row` is not an integer.
      ValueError: when called, if the shape has fewer than two axes, or no such row.

    Example:
      >>> import jax, jinit
      >>> jinit.embedding().std((50_000, 400))
      0.05
      >>> table = jinit.embedding(padding_row=0)(jax.random.key(0), (10, 4))
      >>> table[0].tolist()
      [0.0, 0.0, 0.0, 0.0]

    References:
      Raffel et al., "Exploring the limits of transfer learning with a unified
        text-to-text transformer", JMLR 2020. The code of T5 has this law for its
        layers.
    """
    return Embedding(padding_row, canonical_dtype(dtype))
