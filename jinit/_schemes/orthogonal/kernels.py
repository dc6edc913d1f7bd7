"""Orthogonal matrices, uniform over all of them (Haar), and kernels made of them."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ..._core import checks
from ..._core.dtypes import canonical_dtype, wide_dtype
from ..._core.programs import compiled
from ..._initializer.base import DrawSpec, Initializer
from ..._initializer.entry import Entry
from ..._initializer.maker import maker
from ..._scale.fans import check_layout
from .matrices import (
    METHODS,
    Method,
    as_matrices,
    back_to_shape,
    draw_stack,
    layout_of_column,
    mesh_of,
)


@dataclasses.dataclass(frozen=True, repr=False)
class Orthogonal(Initializer):
    """scale times a matrix with orthonormal rows or columns, whichever are fewer."""

    scale: float = 1.0
    column_axis: int = -1
    dtype: np.dtype | None = None
    method: Method = "householder"
    layout: str | None = None

    _name: ClassVar[str] = "orthogonal"

    def __post_init__(self) -> None:
        check_layout(self.layout)
        self._set(
            scale=checks.number("scale", self.scale),
            column_axis=checks.single_axis("column_axis", self.column_axis),
            dtype=canonical_dtype(self.dtype),
            method=checks.choice("method", self.method, METHODS),
        )
        if self.layout is not None and self.column_axis != -1:
            raise ValueError(
                f"`layout` is {self.layout!r}, and `column_axis` is "
                f"{self.column_axis}; give one or the other."
            )

    def _std(self, shape: checks.Shape) -> float | None:
        reading = as_matrices(shape, self._layout(shape))
        # A unit vector of n entries has mean square 1 / n.
        longer = max(reading.rows, reading.columns)
        return abs(self._scale(shape)) / math.sqrt(longer) if longer else None

    def _in_torch_layout(self) -> Initializer:
        is_default = self.layout is None and self.column_axis == -1
        return dataclasses.replace(self, column_axis=0) if is_default else self

    def _layout(self, shape: checks.Shape) -> str:
        if self.layout is not None:
            return self.layout
        return layout_of_column(shape, self.column_axis)

    def _scale(self, shape: checks.Shape) -> float:
        return self.scale

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        layout = self._layout(spec.shape)
        as_matrices(spec.shape, layout)
        return _orthogonal(
            key,
            spec.factor * self._scale(spec.shape),
            layout=layout,
            method=self.method,
            mesh=mesh_of(self.method, spec.sharding),
            **spec.settings,
        )


@dataclasses.dataclass(frozen=True, repr=False)
class ScaledOrthogonal(Orthogonal):
    """An orthogonal matrix times sqrt(n_out / n_in)."""

    _name: ClassVar[str] = "scaled_orthogonal"

    def _scale(self, shape: checks.Shape) -> float:
        reading = as_matrices(shape, self._layout(shape))
        ratio = reading.columns / reading.rows if reading.rows else 0.0
        return self.scale * math.sqrt(ratio)


@dataclasses.dataclass(frozen=True, repr=False)
class DeltaOrthogonal(Initializer):
    """A convolution kernel whose centre tap is orthogonal, and the rest zero."""

    scale: float = 1.0
    column_axis: int = -1
    dtype: np.dtype | None = None
    method: Method = "householder"

    _name: ClassVar[str] = "delta_orthogonal"

    def __post_init__(self) -> None:
        # The centre tap is an orthogonal matrix, and has its settings.
        tap = Orthogonal(self.scale, self.column_axis, self.dtype, self.method)
        self._set(scale=tap.scale, column_axis=tap.column_axis, dtype=tap.dtype)

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) not in (3, 4, 5):
            raise ValueError(
                f"`shape` is {shape}; a delta-orthogonal kernel has one to three "
                "window axes, then inputs and outputs: 3, 4 or 5 axes in all."
            )

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        return _delta_orthogonal(
            key,
            spec.factor * self.scale,
            layout=layout_of_column(spec.shape[-2:], self.column_axis),
            method=self.method,
            mesh=mesh_of(self.method, spec.sharding),
            **spec.settings,
        )


@compiled
def _orthogonal(
    key: jax.Array,
    scale: jax.Array,
    *,
    shape: checks.Shape,
    dtype: np.dtype,
    layout: str,
    method: Method,
    mesh: Any,
) -> jax.Array:
    return _kernel(key, scale, shape, dtype, layout, method, mesh)


@compiled
def _delta_orthogonal(
    key: jax.Array,
    scale: jax.Array,
    *,
    shape: checks.Shape,
    dtype: np.dtype,
    layout: str,
    method: Method,
    mesh: Any,
) -> jax.Array:
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    tap = _kernel(key, scale, shape[-2:], dtype, layout, method, mesh)
    centre = tuple((size - 1) // 2 for size in shape[:-2])
    return jnp.zeros(shape, tap.dtype).at[centre].set(tap)


def _kernel(
    key: jax.Array,
    scale: jax.Array,
    shape: checks.Shape,
    dtype: np.dtype,
    layout: str,
    method: Method,
    mesh: Any,
) -> jax.Array:
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    reading = as_matrices(shape, layout)
    stack = draw_stack(key, reading, wide_dtype(dtype), method, mesh)
    return back_to_shape(stack, reading, scale, dtype)


@maker
def orthogonal(
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    method: Method = "householder",
    layout: str | None = None,
) -> Initializer:
    """Draw a matrix with orthonormal rows or columns, whichever are fewer, times scale.

    W'W = scale^2 or WW' = scale^2; uniform over all such matrices (Haar). The shape is
    read as a matrix with columns along `column_axis` and rows along all other axes.
    Complex matrices are unitary: ' conjugates too.

    With `out_sharding` every method gives the values that it gives without. Only
    "polar" shares the work, though: reflections come one after the other, so each
    device computes the whole matrix and keeps its part. That suits matrices that fit a
    device. "polar" cuts every matrix over the devices, and none holds the whole (but at
    the end, where the sharding leaves an axis of the mesh out, XLA may gather it); it
    takes up to 80 times the operations. Its values agree on every mesh up to rounding,
    which the inverse of the least singular value of the Gaussian matrix amplifies: in
    float32 to 1e-6 for a matrix twice as long as wide, and for square ones of n rows
    to about n 1e-7 typically, and seldom to much more. It is orthogonal to rounding
    always. For that reason, and its cost, it is not what `out_sharding` chooses by
    itself: a model has the same weights on one device and on a mesh.

    Args:
      scale: what every singular value is.
      column_axis: the axis of the columns.
      dtype: the type of the result where the call names none; 16 and 8 bits are
        computed in float32 and rounded once.
      method: "householder" draws the reflections of a QR factorization, and multiplies
        them in blocks of matrix products; "qr" factorizes, and gives the values of
        `jax.nn.initializers.orthogonal`; "polar" takes the polar factor of a Gaussian
        matrix, by matrix products alone, and runs sharded.
      layout: instead of `column_axis`, one letter per axis: the o axes together are the
        columns, the i and k axes the rows, and each index of the b axes has a matrix of
        its own, independent of all others.

    Raises:
      ValueError: for an unknown method or letter, a layout beside a `column_axis`, or,
        when called, a shape with fewer than two axes or that the layout does not fit.

    Example:
      >>> import jax, jinit
      >>> q = jinit.orthogonal()(jax.random.key(0), (64, 16))
      >>> bool(abs(q.T @ q - jax.numpy.eye(16)).max() < 1e-5)
      True
      >>> heads = jinit.orthogonal(layout="ioo")(jax.random.key(0), (32, 4, 8))
      >>> q = heads.reshape(32, 32)
      >>> bool(abs(q.T @ q - jax.numpy.eye(32)).max() < 1e-5)
      True

    References:
      Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of
      learning in deep linear neural networks", 2013. Stewart, "The efficient generation
      of random orthogonal matrices", 1980. Mezzadri, "How to generate random matrices
      from the classical compact groups", 2006. Chen and Chow, "A stable scaling of
      Newton-Schulz for improving the sign function computation of a Hermitian matrix",
      2014.
    """
    return Orthogonal(scale, column_axis, canonical_dtype(dtype), method, layout)


@maker
def scaled_orthogonal(
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    method: Method = "householder",
    layout: str | None = None,
) -> Initializer:
    """Draw an orthogonal matrix whose norm fits its shape: scale sqrt(n_out / n_in).

    Every singular value is scale sqrt(n_out / n_in). That is the spectral condition: a
    layer then takes inputs with entries of size 1 to outputs with entries of size at
    most `scale`, whatever the widths, which Muon's updates keep. n_out are the columns,
    n_in the rows, window included. `orthogonal` has sqrt(n_out / n_in) less, and agrees
    for square matrices.

    Args:
      scale: what multiplies sqrt(n_out / n_in).
      column_axis, dtype, method, layout: as for `orthogonal`; the columns are outputs.

    Raises:
      ValueError: as `orthogonal`.

    Example:
      >>> import jax, jinit
      >>> w = jinit.scaled_orthogonal()(jax.random.key(0), (64, 256))
      >>> round(float(jax.numpy.linalg.norm(w, 2)), 4)
      2.0

    References:
      Yang, Simon and Bernstein, "A spectral condition for feature learning", 2023.
      Bernstein and Newhouse, "Modular duality in deep learning", 2024.
    """
    return ScaledOrthogonal(scale, column_axis, canonical_dtype(dtype), method, layout)


@maker
def delta_orthogonal(
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    method: Method = "householder",
) -> Initializer:
    """Draw a convolution kernel that keeps the norm: orthogonal at its centre, else 0.

    With at least as many outputs as inputs a convolution (stride 1, circular padding)
    keeps the norm of every signal, times scale. With fewer outputs no map can; the
    centre tap is then the closest to that, a matrix with orthonormal columns: all its
    singular values are scale, so it keeps the norm of what it does not drop, and the
    gradient's norm on the way back. (`jax.nn.initializers` raises there.)

    Args:
      scale: what every singular value is.
      column_axis: the axis of the columns in the centre tap, (inputs, outputs).
      dtype: the type of the result where the call names none.
      method: as for `orthogonal`.

    Raises:
      ValueError: for an unknown method, or, when called, for other than 3 to 5 axes.

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
        "with fewer outputs than inputs only a part of the signal keeps its norm",
    ),
    Entry(
        "scaled_orthogonal",
        scaled_orthogonal,
        "Haar",
        "singular values scale sqrt(n_out / n_in)",
        "Muon, the spectral condition",
        "Yang, Simon and Bernstein 2023",
        "n_in counts the window of a convolution",
    ),
)
