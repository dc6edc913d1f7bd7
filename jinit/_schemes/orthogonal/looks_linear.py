"""Mirrored orthogonal kernels make a ReLU network that is linear when it starts."""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ..._core import checks, papers
from ..._core.dtypes import canonical_dtype, wide_dtype
from ..._core.programs import compiled
from ..._initializer.base import DrawSpec, Initializer
from ..._initializer.kernel_axes import KernelAxes
from ..._initializer.maker import maker
from ..._initializer.scheme import scheme
from ..._scale.fans import check_layout
from .matrices import (
    METHODS,
    MatrixView,
    Method,
    as_matrices,
    back_to_shape,
    draw_shared,
    draw_stack,
    mesh_of,
)

Part = Literal["hidden", "first", "last"]
# Whether the inputs are mirrored, and the outputs.
_MIRRORED = {"hidden": (True, True), "first": (False, True), "last": (True, False)}


@dataclasses.dataclass(frozen=True, repr=False)
class LooksLinear(Initializer):
    """A LooksLinear is [[W, -W], [-W, W]], [W, -W] or [W; -W] for an orthogonal W."""

    scale: float = 1.0
    dtype: np.dtype | None = None
    part: Part = "hidden"
    layout: str | None = None
    method: Method = "householder"

    _name: ClassVar[str] = "looks_linear"

    def __post_init__(self) -> None:
        check_layout(self.layout)
        self._set(
            scale=checks.number("scale", self.scale),
            dtype=canonical_dtype(self.dtype),
            part=checks.choice("part", self.part, tuple(_MIRRORED)),
            method=checks.choice("method", self.method, METHODS),
        )

    def _std(self, shape: checks.Shape) -> float | None:
        layout = self._layout(shape)
        block = self._block(shape, layout)
        longer = max(block.rows, block.columns)
        # In a window the taps beside the centre are 0, so there is no single std.
        if not longer or "k" in layout:
            return None
        # Mirroring repeats the entries of W with both signs, so it leaves their mean
        # square.
        return abs(self.scale) / math.sqrt(longer)

    def _in_torch_layout(self) -> Initializer:
        return super()._in_torch_layout() if self.layout is None else self

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        if self.layout is not None:
            return self
        return dataclasses.replace(self, layout=axes.known_layout())

    def _layout(self, shape: checks.Shape) -> str:
        if self.layout is not None:
            return self.layout
        if len(shape) < 2:
            raise ValueError(
                f"`shape` is {shape}, which has {len(shape)} axes; a looks-linear "
                "kernel needs at least two: window axes, if any, inputs and outputs."
            )
        return "k" * (len(shape) - 2) + "io"

    def _block(self, shape: checks.Shape, layout: str) -> MatrixView:
        """Return the view of W, which is half as long where the kernel is mirrored."""
        as_matrices(shape, layout)
        # The network is linear only tap by tap, so W is drawn for the centre alone.
        tap = as_matrices(*_tap(shape, layout))
        sizes = {"inputs": tap.rows, "outputs": tap.columns}
        mirrored = _MIRRORED[self.part]
        for (name, size), halves in zip(sizes.items(), mirrored, strict=True):
            if halves and size % 2:
                raise ValueError(
                    f"`shape` is {shape}: {size} {name}; a looks-linear kernel with "
                    f"part={self.part!r} holds every one twice, as itself and "
                    f"negated, so their number must be even, such as {size + 1}."
                )
        rows, columns = (
            size // 2 if halves else size
            for size, halves in zip(sizes.values(), mirrored, strict=True)
        )
        return tap._replace(rows=rows, columns=columns)

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        layout = self._layout(spec.shape)
        draw = functools.partial(
            _looks_linear,
            key,
            spec.factor * self.scale,
            layout=layout,
            block=self._block(spec.shape, layout),
            mirrored=_MIRRORED[self.part],
            method=self.method,
            mesh=mesh_of(self.method, spec.sharding),
        )
        return draw_shared(draw, self.method, spec.settings)


def _tap(shape: checks.Shape, layout: str) -> tuple[checks.Shape, str]:
    """Return a shape and its layout without the window axes."""
    sizes = tuple(d for d, name in zip(shape, layout, strict=True) if name != "k")
    return sizes, layout.replace("k", "")


@compiled
def _looks_linear(
    key: jax.Array,
    scale: jax.Array,
    *,
    shape: checks.Shape,
    dtype: np.dtype,
    layout: str,
    block: MatrixView,
    mirrored: tuple[bool, bool],
    method: Method,
    mesh: Any,
) -> jax.Array:
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    stack = draw_stack(key, block, wide_dtype(dtype), method, mesh)
    # Along the outputs [W, -W] makes the pair z, -z. Along the inputs [W; -W] reads it:
    # relu(z) W - relu(-z) W = z W, Balduzzi et al. (2017).
    for axis, halves in zip((-2, -1), mirrored, strict=True):
        if halves:
            stack = jnp.concatenate([stack, -stack], axis)
    tap = back_to_shape(stack, block, scale, dtype)
    centre = tuple(
        # The centre is that of `delta_orthogonal`.
        (size - 1) // 2 if letter == "k" else slice(None)
        for size, letter in zip(shape, layout, strict=True)
    )
    return jnp.zeros(shape, tap.dtype).at[centre].set(tap)


@scheme(
    law="Haar, mirrored",
    formula="[[W, -W], [-W, W]]; first [W, -W], last [W; -W]",
    use="deep relu networks without residuals or normalization",
    pitfall="even widths and zero biases; linear only at the start",
    paper=papers.BALDUZZI_2017,
)
@maker
def looks_linear(
    scale: float = 1.0,
    dtype: DTypeLike | None = None,
    *,
    part: Part = "hidden",
    layout: str | None = None,
    method: Method = "householder",
) -> Initializer:
    """Draw mirrored kernels, which make a ReLU network without biases linear.

    Units come in pairs that hold z and -z. Since relu(z) - relu(-z) = z, the next layer
    can recover z: y = x K with K = [[W, -W], [-W, W]] maps the pairs of z to the pairs
    of z W. A network that begins with K = [W, -W] and ends with K = [W; -W] is the
    product of its matrices W, so its gradients are those of a linear network at any
    depth. Each W is scale times a matrix with orthonormal rows or columns (Haar).
    Biases must be zero.

    CReLU makes the pairs itself. There the first layer is `orthogonal`, and every other
    layer has `part="last"`.

    Args:
      scale: the value of all singular values of W.
      dtype: the dtype of the array, unless the call gives another.
      part: "hidden" for a kernel mirrored in inputs and outputs, "first" for one
        mirrored in outputs only, "last" for one mirrored in inputs only.
      layout: one letter for each axis: i input, o output, k window, b independent
        copies. By default the last two axes are inputs and outputs, and all axes before
        are window, where only the centre is not zero, as in `delta_orthogonal`.
      method: one of the methods of `orthogonal`.

    Raises:
      ValueError: if the part, layout or method is unknown; when called, if the shape
        has fewer than two axes, or an odd number of mirrored inputs or outputs.

    Example:
      >>> import jax, jinit
      >>> k = jinit.looks_linear()(jax.random.key(0), (8, 8))
      >>> bool((k[:4, :4] == -k[4:, :4]).all()), bool((k[:4] == -k[4:]).all())
      (True, True)

    References:
      Balduzzi, Frean, Leary, Lewis, Ma and McWilliams, "The shattered gradients
        problem: if resnets are the answer, then what is the question?", ICML 2017.
    """
    return LooksLinear(scale, canonical_dtype(dtype), part, layout, method)
