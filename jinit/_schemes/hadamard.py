"""`hadamard` is an orthogonal matrix without randomness; ZerO fills kernels with it."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from .._core import checks, papers
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer
from .._initializer.formula import FormulaInitializer, index
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from .structured import at_centre, check_window


@dataclasses.dataclass(frozen=True, repr=False)
class Hadamard(FormulaInitializer):
    """A Hadamard is gain H / sqrt(n), which is gain times an orthogonal matrix."""

    gain: float = 1.0
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "hadamard"
    _random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        gain = checks.number("gain", self.gain)
        self._set(gain=gain, dtype=canonical_dtype(self.dtype))

    def _check(self, shape: checks.Shape) -> None:
        # n & (n - 1) drops the lowest bit of n: only 0 and powers of two give 0.
        if len(shape) != 2 or shape[0] != shape[1] or shape[0] & (shape[0] - 1):
            raise ValueError(
                f"`shape` is {shape}; a Hadamard matrix has two axes of one length, a "
                f"power of two, such as {_near_powers(shape)}. For other sizes "
                "jinit.zero_hadamard takes a part of one."
            )

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        return _hadamard_entries(shape, shape[0], dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class ZeroHadamard(Hadamard):
    """A ZeroHadamard is a partial identity, or a part of H / sqrt(p) if it widens."""

    _name: ClassVar[str] = "zero_hadamard"

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) != 2:
            check_window(self._name, shape, least=2)

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        inputs, outputs = shape[-2:]
        # Zhao et al. (2022): H only where the layer widens. There a partial identity
        # would hold the updates to rank n_in.
        if outputs <= inputs:
            matrix = (index(shape, -2) == index(shape, -1)).astype(dtype)
        else:
            # H exists for powers of two. Cut to fewer columns, its rows have the norm
            # sqrt(n_out / p), and are orthogonal no longer.
            matrix = _hadamard_entries(shape, _power_above(outputs), dtype)
        return jnp.where(at_centre(shape), matrix, 0) if len(shape) > 2 else matrix


# Every entry by itself, so the matrix needs no recursion and may lie on any mesh.
def _hadamard_entries(shape: checks.Shape, order: int, dtype: np.dtype) -> jax.Array:
    """Return H_ij / sqrt(order), with H_ij = (-1)^(number of ones in i & j).

    Each entry follows from its indices, so that a part of a matrix needs no more memory
    than the part.
    """
    ones = lax.population_count(index(shape, -2) & index(shape, -1))
    unit = 1 / math.sqrt(order)
    return jnp.where(ones % 2 == 0, unit, -unit).astype(dtype)


def _power_above(n: int) -> int:
    """Return the least power of two that is n or more."""
    return 1 << max(n - 1, 0).bit_length()


def _near_powers(shape: checks.Shape) -> str:
    above = _power_above(max((*shape, 1)))
    below = max(above // 2, 1)
    return " or ".join(f"({n}, {n})" for n in dict.fromkeys((below, above)))


@scheme(
    law="constant",
    formula="w = gain H / sqrt(n)",
    use="an orthogonal matrix without randomness",
    pitfall="(n, n) with n a power of two",
    paper=papers.SYLVESTER_1867,
)
@maker
def hadamard(gain: float = 1.0, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill a square kernel with a Hadamard matrix: w = gain H / sqrt(n).

    The matrix is gain times an orthogonal one, symmetric, and all entries have one
    size. H is Sylvester's: H_1 = [[1]], H_2n = [[H_n, H_n], [H_n, -H_n]].

    Args:
      gain: the value of all singular values.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the shape is not (n, n) with n a power of two.

    Example:
      >>> import jax, jinit
      >>> jinit.hadamard(2.0)(jax.random.key(0), (4, 4))[3].tolist()
      [1.0, -1.0, -1.0, 1.0]

    References:
      Sylvester, "Thoughts on inverse orthogonal matrices, simultaneous
        sign-successions, and tessellated pavements in two or more colours, with
        applications to Newton's rule, ornamental tile-work, and the theory of numbers",
        Philosophical Magazine 1867.
    """
    return Hadamard(gain, canonical_dtype(dtype))


@scheme(
    law="constant",
    formula="partial identity, or rows of H / sqrt(p)",
    use="residual networks without randomness",
    pitfall="orthonormal only where the larger side is a power of two",
    paper=papers.ZHAO_2022,
)
@maker
def zero_hadamard(gain: float = 1.0, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill a kernel as ZerO does: an identity, or rows of H where the layer widens.

    For n_out <= n_in the matrix is gain times a partial identity. For n_out > n_in it
    has the first n_in rows and n_out columns of gain H / sqrt(p), where p is the least
    power of two with p >= n_out. If a layer that widens were a partial identity, its
    updates would keep rank n_in; with H they do not. In a convolution the matrix stands
    at the centre of the window, and all other entries are 0. The last layer of a
    residual branch should be `jinit.zeros`.

    Args:
      gain: the factor of the matrix.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the shape does not have 2 to 5 axes, or its window is
        even.

    Example:
      >>> import jax, jinit
      >>> w = jinit.zero_hadamard()(jax.random.key(0), (2, 4))
      >>> (w @ w.T).tolist()  # orthonormal, since 4 is a power of two
      [[1.0, 0.0], [0.0, 1.0]]

    References:
      Zhao, Schäfer and Anandkumar, "ZerO initialization: initializing neural networks
        with only zeros and ones", TMLR 2022.
    """
    return ZeroHadamard(gain, canonical_dtype(dtype))
