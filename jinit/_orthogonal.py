"""Orthogonal matrices, uniform over all of them (Haar), and kernels made of them."""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from . import _checks
from ._compiled import Sharding, compiled
from ._entry import Entry
from ._haar import haar
from ._initializer import Initializer, canonical_dtype
from ._rounding import is_narrow, round_once

Method = Literal["householder", "qr"]
_METHODS = ("householder", "qr")


@dataclasses.dataclass(frozen=True, repr=False)
class Orthogonal(Initializer):
    """scale times a matrix with orthonormal rows or columns, whichever are fewer."""

    scale: float = 1.0
    column_axis: int = -1
    dtype: np.dtype | None = None
    method: Method = "householder"

    _name: ClassVar[str] = "orthogonal"

    def __post_init__(self) -> None:
        self._set(
            scale=_checks.real("scale", self.scale),
            column_axis=_checks.canonical_axes("column_axis", self.column_axis),
            dtype=canonical_dtype(self.dtype),
            method=_checks.choice("method", self.method, _METHODS),
        )

    def std(self, shape: _checks.Shape) -> float | None:
        shape = _checks.shape(shape)
        rows, columns = self._matrix(shape)
        # A unit vector of n entries has mean square 1 / n.
        longer = max(rows, columns)
        return abs(self.scale) / math.sqrt(longer) if longer else None

    def _matrix(self, shape: _checks.Shape) -> tuple[int, int]:
        if len(shape) < 2:
            raise ValueError(
                f"`shape` is {shape}, which has {len(shape)} axes; an orthogonal "
                "matrix needs at least two: rows, and columns along `column_axis`."
            )
        (axis,) = _checks.axes("column_axis", self.column_axis, len(shape), shape)
        return math.prod(shape[:axis] + shape[axis + 1 :]), shape[axis]

    def _draw(
        self,
        key: jax.Array,
        shape: _checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        _checks.key(key)
        self._matrix(shape)
        return _orthogonal(
            key,
            factor * self.scale,
            shape=shape,
            dtype=_checks.dtype(self.dtype if dtype is None else dtype, np.inexact),
            axis=self.column_axis % len(shape),
            method=self.method,
            out_sharding=out_sharding,
        )


@dataclasses.dataclass(frozen=True, repr=False)
class DeltaOrthogonal(Orthogonal):
    """A convolution kernel whose centre tap is orthogonal, and the rest zero."""

    _name: ClassVar[str] = "delta_orthogonal"

    def std(self, shape: _checks.Shape) -> None:
        return None

    def _draw(
        self,
        key: jax.Array,
        shape: _checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        _checks.key(key)
        if len(shape) not in (3, 4, 5):
            raise ValueError(
                f"`shape` is {shape}; a delta-orthogonal kernel has one to three "
                "window axes, then inputs and outputs: 3, 4 or 5 axes in all."
            )
        if shape[-1] < shape[-2]:
            raise ValueError(
                f"`shape` is {shape}: {shape[-2]} inputs and {shape[-1]} outputs; a "
                "delta-orthogonal kernel keeps the norm, and needs at least as many "
                "outputs as inputs."
            )
        (axis,) = _checks.axes("column_axis", self.column_axis, 2, shape[-2:])
        return _delta_orthogonal(
            key,
            factor * self.scale,
            shape=shape,
            dtype=_checks.dtype(self.dtype if dtype is None else dtype, np.inexact),
            axis=axis,
            method=self.method,
            out_sharding=out_sharding,
        )


@compiled
def _orthogonal(
    key: jax.Array,
    scale: jax.Array,
    *,
    shape: _checks.Shape,
    dtype: np.dtype,
    axis: int,
    method: Method,
) -> jax.Array:
    wide = np.dtype(np.float32) if is_narrow(dtype) else dtype
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    others = shape[:axis] + shape[axis + 1 :]
    matrix = _draw_matrix(key, math.prod(others), shape[axis], wide, method)
    matrix = jnp.moveaxis(matrix.reshape(*others, shape[axis]), -1, axis)
    matrix = jnp.asarray(scale, wide) * matrix
    return round_once(matrix, dtype) if is_narrow(dtype) else matrix


@compiled
def _delta_orthogonal(
    key: jax.Array,
    scale: jax.Array,
    *,
    shape: _checks.Shape,
    dtype: np.dtype,
    axis: int,
    method: Method,
) -> jax.Array:
    tap = _orthogonal(
        key, scale, shape=shape[-2:], dtype=dtype, axis=axis, method=method
    )
    centre = tuple((size - 1) // 2 for size in shape[:-2])
    return jnp.zeros(shape, tap.dtype).at[centre].set(tap)


def _draw_matrix(
    key: jax.Array, rows: int, columns: int, dtype: np.dtype, method: Method
) -> jax.Array:
    # The reflections of LAPACK say nothing of phases; unitary matrices come from QR.
    if method == "qr" or jnp.issubdtype(dtype, np.complexfloating):
        return jax.random.orthogonal(key, rows, (), dtype, columns)
    return haar(key, rows, columns, dtype)


def orthogonal(
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    method: Method = "householder",
) -> Initializer:
    """Draw a matrix with orthonormal rows or columns, whichever are fewer, times scale.

    W'W = scale^2 or WW' = scale^2; uniform over all such matrices. The shape is read as
    a matrix with columns along `column_axis` and rows along all other axes.

    Args:
      scale: what every singular value is.
      column_axis: the axis of the columns.
      dtype: the type of the result where the call names none; 16 and 8 bits are
        computed in float32 and rounded once.
      method: "householder" draws the reflections of a QR factorization, and multiplies
        them in blocks of matrix products; "qr" factorizes, and gives the values of
        `jax.nn.initializers.orthogonal`.

    Raises:
      ValueError: for an unknown method, or, when called, fewer than two axes.

    Example:
      >>> import jax, jinit
      >>> q = jinit.orthogonal()(jax.random.key(0), (64, 16))
      >>> bool(abs(q.T @ q - jax.numpy.eye(16)).max() < 1e-5)
      True

    References:
      Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of
      learning in deep linear neural networks", 2013. Stewart, "The efficient generation
      of random orthogonal matrices", 1980. Mezzadri, "How to generate random matrices
      from the classical compact groups", 2006.
    """
    return Orthogonal(scale, column_axis, canonical_dtype(dtype), method)


def delta_orthogonal(
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    method: Method = "householder",
) -> Initializer:
    """Draw a convolution kernel that keeps the norm: orthogonal at its centre, else 0.

    Args:
      scale: what every singular value is.
      column_axis: the axis of the columns in the centre tap, (inputs, outputs).
      dtype: the type of the result where the call names none.
      method: as for `orthogonal`.

    Raises:
      ValueError: for an unknown method, or, when called, for other than 3 to 5 axes or
        fewer outputs than inputs.

    Example:
      >>> import jax, jinit
      >>> kernel = jinit.delta_orthogonal()(jax.random.key(0), (3, 3, 8, 16))
      >>> round(float((kernel ** 2).sum()), 4)
      8.0

    References:
      Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington, "Dynamical isometry and a
      mean field theory of CNNs", 2018.
    """
    return DeltaOrthogonal(scale, column_axis, canonical_dtype(dtype), method)


_SAXE = "Saxe, McClelland and Ganguli 2013"

ENTRIES = (
    Entry(
        "orthogonal",
        orthogonal,
        "Haar",
        "W'W = scale^2 or WW' = scale^2",
        "deep linear and tanh networks, recurrent kernels",
        _SAXE,
        "on a reshaped convolution it keeps no norm: use `delta_orthogonal`",
    ),
    Entry(
        "delta_orthogonal",
        delta_orthogonal,
        "Haar at the centre tap, else 0",
        "W_centre W_centre' = scale^2",
        "deep convolutions without normalization",
        "Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington 2018",
        "needs n_out >= n_in",
    ),
)
