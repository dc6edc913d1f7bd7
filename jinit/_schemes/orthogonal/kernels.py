"""Orthogonal kernels keep norms: a whole kernel, or the centre tap of a convolution."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ..._core import checks, papers
from ..._core.dtypes import canonical_dtype, wide_dtype
from ..._core.programs import compiled
from ..._initializer.around import in_flax_order
from ..._initializer.base import DrawSpec, Initializer
from ..._initializer.kernel_axes import KernelAxes
from ..._initializer.maker import maker
from ..._initializer.scheme import scheme
from ..._scale.fans import check_layout
from .matrices import (
    METHODS,
    Method,
    as_matrices,
    back_to_shape,
    draw_shared,
    draw_stack,
    layout_of_column,
    mesh_of,
)


@dataclasses.dataclass(frozen=True, repr=False)
class Orthogonal(Initializer):
    """An Orthogonal is scale times a matrix with orthonormal rows or columns."""

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
        view = as_matrices(shape, self._layout(shape))
        # A unit vector of n entries has mean square 1 / n.
        longer = max(view.rows, view.columns)
        return abs(self._scale(shape)) / math.sqrt(longer) if longer else None

    def _in_torch_layout(self) -> Initializer:
        # PyTorch has the outputs, which are the columns, on axis 0.
        is_default = self.layout is None and self.column_axis == -1
        return dataclasses.replace(self, column_axis=0) if is_default else self

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        if self.layout is not None or self.column_axis != -1:
            return self
        return dataclasses.replace(self, layout=axes.known_layout())

    def _layout(self, shape: checks.Shape) -> str:
        if self.layout is not None:
            return self.layout
        return layout_of_column(shape, self.column_axis)

    def _scale(self, shape: checks.Shape) -> float:
        return self.scale

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        layout = self._layout(spec.shape)
        # A shape that does not fit must raise before anything is compiled.
        as_matrices(spec.shape, layout)
        draw = functools.partial(
            _orthogonal,
            key,
            spec.factor * self._scale(spec.shape),
            layout=layout,
            method=self.method,
            mesh=mesh_of(self.method, spec.sharding),
        )
        return draw_shared(draw, self.method, spec.settings)


@dataclasses.dataclass(frozen=True, repr=False)
class ScaledOrthogonal(Orthogonal):
    """A ScaledOrthogonal is scale sqrt(n_out / n_in) times an orthogonal matrix."""

    _name: ClassVar[str] = "scaled_orthogonal"

    def _scale(self, shape: checks.Shape) -> float:
        view = as_matrices(shape, self._layout(shape))
        # Yang, Simon and Bernstein (2023), Condition 1: |W|_2 is of order
        # sqrt(n_out / n_in).
        ratio = view.columns / view.rows if view.rows else 0.0
        return self.scale * math.sqrt(ratio)


@dataclasses.dataclass(frozen=True, repr=False)
class DeltaOrthogonal(Initializer):
    """A DeltaOrthogonal has an orthogonal centre tap, and zeros in all other taps."""

    scale: float = 1.0
    column_axis: int = -1
    dtype: np.dtype | None = None
    method: Method = "householder"

    _name: ClassVar[str] = "delta_orthogonal"

    def __post_init__(self) -> None:
        # The centre tap is an orthogonal matrix, which checks the settings.
        tap = Orthogonal(self.scale, self.column_axis, self.dtype, self.method)
        self._set(scale=tap.scale, column_axis=tap.column_axis, dtype=tap.dtype)

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        return self if self.column_axis != -1 else in_flax_order(self, axes)

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) not in (3, 4, 5):
            raise ValueError(
                f"`shape` is {shape}; a delta-orthogonal kernel has one to three "
                "window axes, then inputs and outputs: 3, 4 or 5 axes in all."
            )

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        draw = functools.partial(
            _delta_orthogonal,
            key,
            spec.factor * self.scale,
            # The column axis counts within the tap, as in JAX.
            layout=layout_of_column(spec.shape[-2:], self.column_axis),
            method=self.method,
            mesh=mesh_of(self.method, spec.sharding),
        )
        return draw_shared(draw, self.method, spec.settings)


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
    # Xiao et al. (2018): every pixel is mapped by one orthogonal matrix, so the whole
    # map is orthogonal. A tap beside the centre would add another pixel to it.
    tap = _kernel(key, scale, shape[-2:], dtype, layout, method, mesh)
    # As in JAX; in an even window this is the tap before the middle.
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
    view = as_matrices(shape, layout)
    # LAPACK has no 16-bit types, for which JAX's `orthogonal` raises. The matrix is
    # drawn in float32 and rounded once, together with its scale.
    stack = draw_stack(key, view, wide_dtype(dtype), method, mesh)
    return back_to_shape(stack, view, scale, dtype)


@scheme(
    law="Haar",
    formula="W'W = scale^2 or WW' = scale^2",
    use="deep linear and tanh networks, recurrent kernels",
    pitfall="on a reshaped convolution it keeps no norm: use `delta_orthogonal`",
    paper=papers.SAXE_2014,
)
@maker
def orthogonal(
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    method: Method = "householder",
    layout: str | None = None,
) -> Initializer:
    """Draw scale times a matrix with orthonormal rows or columns, whichever are fewer.

    W'W = scale^2 or WW' = scale^2, and the law is uniform over all such matrices
    (Haar). The shape is read as a matrix with columns along `column_axis` and rows
    along all other axes. Complex matrices are unitary: ' conjugates too.

    With `out_sharding` every method gives the values that it gives without. Only
    "polar" shares the work. Reflections come one after the other, so with the other
    methods each device computes the whole matrix and keeps its part, which suits
    matrices that fit a device. "polar" spreads every matrix over the devices, and no
    device ever holds the whole. It takes up to 80 times the operations.

    The values of "polar" agree on all meshes up to rounding errors, which the inverse
    of the least singular value of the Gaussian matrix amplifies. In float32 they are
    1e-6 for a matrix twice as long as wide, about n 1e-7 for typical square matrices of
    n rows, and seldom much more. The matrix is always orthogonal to rounding. Since its
    values depend on the mesh and it costs more, `out_sharding` never chooses "polar" by
    itself: a model has the same weights on one device and on a mesh.

    Args:
      scale: the value of all singular values.
      column_axis: the axis of the columns.
      dtype: the dtype of the array, unless the call gives another; dtypes of 16 and 8
        bits are computed in float32 and rounded once.
      method: "householder" draws the reflections of a QR factorization and multiplies
        them in blocks; "qr" factorizes a Gaussian matrix, and gives the values of
        `jax.nn.initializers.orthogonal`; "polar" computes the polar factor of a
        Gaussian matrix by matrix products alone, spread over devices.
      layout: one letter for each axis, instead of `column_axis`: the o axes together
        are the columns, the i and k axes the rows, and each index of the b axes has an
        independent matrix.

    Raises:
      ValueError: if the method or a letter is unknown, or there are both a layout and a
        `column_axis`; when called, if the shape has fewer than two axes, or the layout
        does not fit it.

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
        learning in deep linear neural networks", ICLR 2014.
      Stewart, "The efficient generation of random orthogonal matrices with an
        application to condition estimators", SIAM Journal on Numerical Analysis 1980.
      Mezzadri, "How to generate random matrices from the classical compact groups",
        Notices of the AMS 2007.
      Chen and Chow, "A stable scaling of Newton-Schulz for improving the sign function
        computation of a Hermitian matrix", Argonne National Laboratory 2014.
    """
    return Orthogonal(scale, column_axis, canonical_dtype(dtype), method, layout)


@scheme(
    law="Haar",
    formula="singular values scale sqrt(n_out / n_in)",
    use="Muon, the spectral condition",
    pitfall="n_in counts the window of a convolution",
    paper=papers.YANG_2023,
)
@maker
def scaled_orthogonal(
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    method: Method = "householder",
    layout: str | None = None,
) -> Initializer:
    """Draw a matrix whose singular values are all scale sqrt(n_out / n_in).

    n_out is the number of columns, and n_in that of rows, window included. This is the
    spectral condition: a layer maps inputs with entries of size 1 to outputs with
    entries of size at most `scale`, whatever the widths, and the updates of Muon keep
    it so. A square matrix has the law of `orthogonal`.

    Args:
      scale: the factor of sqrt(n_out / n_in).
      column_axis: the axis of the columns, which are the outputs.
      dtype: the dtype of the array, unless the call gives another.
      method: one of the methods of `orthogonal`.
      layout: one letter for each axis, as for `orthogonal`.

    Raises:
      ValueError: for the same reasons as `orthogonal`.

    Example:
      >>> import jax, jinit
      >>> w = jinit.scaled_orthogonal()(jax.random.key(0), (64, 256))
      >>> round(float(jax.numpy.linalg.norm(w, 2)), 4)
      2.0

    References:
      Yang, Simon and Bernstein, "A spectral condition for feature learning", arXiv
        2023.
      Bernstein and Newhouse, "Modular duality in deep learning", ICML 2025.
    """
    return ScaledOrthogonal(scale, column_axis, canonical_dtype(dtype), method, layout)


@scheme(
    law="Haar at the centre tap, else 0",
    formula="W_centre W_centre' = scale^2",
    use="deep convolutions without normalization",
    pitfall="with fewer outputs than inputs only a part of the signal keeps its norm",
    paper=papers.XIAO_2018,
)
@maker
def delta_orthogonal(
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    method: Method = "householder",
) -> Initializer:
    """Draw a convolution kernel that is orthogonal at its centre tap, and 0 elsewhere.

    With at least as many outputs as inputs, a convolution with stride 1 and circular
    padding multiplies the norm of every signal by scale. With fewer outputs no map can
    do that. The centre tap is then the closest map, with orthonormal columns: it keeps
    the norm of the part that it does not drop, and the norm of every gradient on the
    way back. `jax.nn.initializers.delta_orthogonal` raises in that case.

    Args:
      scale: the value of all singular values.
      column_axis: the axis of the columns in the centre tap, (inputs, outputs).
      dtype: the dtype of the array, unless the call gives another.
      method: one of the methods of `orthogonal`.

    Raises:
      ValueError: if the method is unknown; when called, if the shape does not have 3 to
        5 axes.

    Example:
      >>> import jax, jinit
      >>> kernel = jinit.delta_orthogonal()(jax.random.key(0), (3, 3, 8, 16))
      >>> round(float((kernel ** 2).sum()), 4)
      8.0

    References:
      Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington, "Dynamical isometry and a
        mean field theory of CNNs: how to train 10,000-layer vanilla convolutional
        neural networks", ICML 2018.
    """
    return DeltaOrthogonal(scale, column_axis, canonical_dtype(dtype), method)
