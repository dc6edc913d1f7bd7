"""Hyper-connections start as plain residual connections of several equal streams."""

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
class HyperAlpha(FormulaInitializer):
    """A HyperAlpha has columns that are one-hot, beside an identity of the streams."""

    layer: int = 0
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "hyper_alpha"
    _random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if checks.integer("layer", self.layer) < 0:
            raise ValueError(
                f"`layer` is {self.layer}; the branches of a network are counted from "
                "0."
            )
        self._set(dtype=canonical_dtype(self.dtype))

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) != 2 or shape[0] >= shape[1]:
            size = shape[0] if shape else 4
            raise ValueError(
                f"`shape` is {shape}; the static alpha of {size} streams is "
                f"({size}, {size + 1}): a column for the input of the branch, beside "
                "the square matrix of the streams. More columns in front are further "
                "inputs."
            )

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        streams, columns = shape
        row = index(shape, 0).astype(np.int32)
        # The first columns are inputs of the branch, and -1 and less here.
        stream = index(shape, 1).astype(np.int32) - (columns - streams)
        reads = (stream < 0) & (row == self.layer % streams)
        return (reads | (stream == row)).astype(dtype)


@scheme(
    name="hyper_alpha",
    law="constant",
    formula="(e_(l mod n), I_n)",
    use="the static alpha of hyper-connections",
    pitfall="beta starts at 1 and all dynamic kernels at 0",
    paper=papers.ZHU_2025,
)
@maker
def hyper_alpha(layer: int = 0, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill the static alpha of a hyper-connection: one stream is read, all are kept.

    Of the shape (n, 1 + n) for n streams the first column is the one-hot vector of
    stream l mod n, and the others are the identity. So the branch with index l reads
    one stream, and the streams go on unmixed. With beta = 1 and dynamic kernels of 0
    every stream is that of a pre-norm residual network.

    Args:
      layer: l, the index of the branch, from 0.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if `layer` is negative; when called, if the shape is not (n, m) with
        m > n.

    Example:
      >>> import jax, jinit
      >>> jinit.hyper_alpha(1)(jax.random.key(0), (2, 3)).tolist()
      [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]

    References:
      Zhu, Huang, Huang, Zeng, Mao, Wu, Min and Zhou, "Hyper-connections", ICLR 2025.
    """
    return HyperAlpha(layer, canonical_dtype(dtype))
