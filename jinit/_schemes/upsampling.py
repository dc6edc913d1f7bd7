"""Layers that enlarge images start as nearest-neighbour or linear interpolation."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core import checks, papers
from .._core.dtypes import canonical_dtype
from .._initializer.around import Around, in_flax_order
from .._initializer.base import DrawSpec, Initializer
from .._initializer.foreign import check_part
from .._initializer.formula import FormulaInitializer, index
from .._initializer.kernel_axes import KernelAxes
from .._initializer.maker import maker
from .._initializer.scheme import scheme

Order = Literal["minor", "major"]


@dataclasses.dataclass(frozen=True, repr=False)
class Icnr(Around):
    """An Icnr repeats each output kernel of another draw factor^d times."""

    init: Any
    factor: int
    order: Order = "minor"
    transposed: bool = False

    _name: ClassVar[str] = "icnr"

    def __post_init__(self) -> None:
        check_part("init", self.init)
        factor = checks.count("factor", self.factor)
        if factor is None:
            raise TypeError("`factor` is None; it must be an integer.")
        self._set(
            factor=factor,
            order=checks.choice("order", self.order, ("minor", "major")),
            transposed=checks.boolean("transposed", self.transposed),
        )

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        return in_flax_order(self, axes)

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) not in (3, 4, 5):
            raise ValueError(
                f"`shape` is {shape}; ICNR is for kernels of convolutions, one to "
                "three window axes, then inputs and outputs: 3, 4 or 5 axes in all."
            )
        if self.transposed:
            self._check_window(shape)
        elif shape[-1] % self._copies(shape):
            copies = self._copies(shape)
            raise ValueError(
                f"`shape` is {shape}, with {shape[-1]} outputs; a shuffle that "
                f"enlarges {len(shape) - 2} axes {self.factor} times makes one channel "
                f"of {copies}, so the outputs must be a multiple of {copies}, such as "
                f"{-(-shape[-1] // copies) * copies}."
            )

    def _check_window(self, shape: checks.Shape) -> None:
        window = shape[:-2]
        if any(size % self.factor for size in window):
            fits = tuple(-(-size // self.factor) * self.factor for size in window)
            raise ValueError(
                f"`shape` is {shape}, and its window {window} is not a multiple of "
                f"`factor` {self.factor}: each tap of a transposed convolution is "
                f"repeated that often. A window such as {fits} fits."
            )

    def _copies(self, shape: checks.Shape) -> int:
        copies: int = self.factor ** (len(shape) - 2)
        return copies

    def _inner(self, shape: checks.Shape) -> checks.Shape:
        if self.transposed:
            # The part has fewer taps, and so the fans of one phase of the enlarged
            # image: each output pixel sums only those taps that meet it.
            return tuple(size // self.factor for size in shape[:-2]) + shape[-2:]
        return (*shape[:-1], shape[-1] // self._copies(shape))

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        kernel = self._drawn(key, spec)
        if self.transposed:
            # Each tap becomes a block of factor^d equal taps.
            for axis in range(kernel.ndim - 2):
                kernel = jnp.repeat(kernel, self.factor, axis)
            return kernel
        copies = self._copies(spec.shape)
        # "minor" has the pixels of one channel beside each other, "major" the channels
        # of one pixel.
        if self.order == "minor":
            return jnp.repeat(kernel, copies, -1)
        return jnp.concatenate([kernel] * copies, -1)


@dataclasses.dataclass(frozen=True, repr=False)
class Bilinear(FormulaInitializer):
    """A Bilinear has a tent over the window for each channel; channels do not mix."""

    groups: int = 1
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "bilinear"
    _random: ClassVar[bool] = False
    _operands: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        groups = checks.positive("groups", self.groups)
        self._set(groups=groups, dtype=canonical_dtype(self.dtype))

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        return in_flax_order(
            dataclasses.replace(
                self, groups=axes.groups if self.groups == 1 else self.groups
            ),
            axes,
        )

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) not in (3, 4, 5):
            raise ValueError(
                f"`shape` is {shape}; a bilinear kernel has one to three window axes, "
                "then inputs and outputs: 3, 4 or 5 axes in all."
            )
        if shape[-2] * self.groups != shape[-1]:
            raise ValueError(
                f"`shape` is {shape}, with {shape[-2]} inputs and {shape[-1]} outputs "
                f"in {self.groups} groups; a bilinear kernel enlarges each channel by "
                f"itself: it needs {shape[-2] * self.groups} outputs, or "
                "groups = outputs for one input a group."
            )

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        # Outputs count within their group, as Flax's inputs of a grouped kernel do.
        output = index(shape, -1) % np.uint32(shape[-2])
        kernel = (output == index(shape, -2)).astype(dtype)
        for axis, size in enumerate(shape[:-2]):
            # Linear interpolation along several axes is a product of one-dimensional
            # ones.
            kernel = kernel * _tent(size, dtype)[index(shape, axis)]
        return kernel


# Long et al. (2015) have c = f - 1 in odd windows and f - 1/2 in even ones. Both are
# (size - 1) / 2.
def _tent(size: int, dtype: np.dtype) -> jax.Array:
    """Return 1 - |i - c| / f, with f = ceil(size / 2) and c in the middle."""
    f = (size + 1) // 2
    i = np.arange(size)
    return jnp.asarray(1 - abs(i - (size - 1) / 2) / f, dtype)


@scheme(
    law="the law of its part",
    formula="w repeated for each pixel of a block",
    use="convolutions before a pixel shuffle",
    pitfall="`order` must be that of the shuffle",
    paper=papers.AITKEN_2017,
)
@maker
def icnr(
    init: Any, factor: int, *, order: Order = "minor", transposed: bool = False
) -> Initializer:
    """Draw a kernel that enlarges images to constant blocks, without a checkerboard.

    A convolution makes factor^d C channels, and a pixel shuffle turns them into blocks
    of factor^d pixels, for d window axes. If the kernels of a block are equal, the
    block is constant. So `init` draws the kernels of C channels, and each is repeated
    factor^d times. In a transposed convolution of stride `factor` the blocks lie in the
    window: there each tap is repeated along the axes of the window.

    Args:
      init: an initializer from jinit, from JAX or your own for the part that is
        repeated, whose fans are those of that part.
      factor: the enlargement along each window axis.
      order: the order in which the shuffle reads channels: "minor" if channel c of
        pixel p is c factor^d + p (PyTorch's PixelShuffle), "major" if it is p C + c
        (TensorFlow's depth_to_space).
      transposed: True for a transposed convolution of stride `factor`.

    Raises:
      TypeError: if `init` is not an initializer, or `factor` is not an integer.
      ValueError: when called, if the shape does not have 3 to 5 axes, or its outputs
        (its window, if transposed) are not a multiple of the block.

    Example:
      >>> import jax, jinit
      >>> w = jinit.icnr(jinit.he(), 2)(jax.random.key(0), (3, 3, 8, 4))
      >>> bool((w == w[..., :1]).all())
      True

    References:
      Aitken, Ledig, Theis, Caballero, Wang and Shi, "Checkerboard artifact free
        sub-pixel convolution: a note on sub-pixel convolution, resize convolution and
        convolution resize", arXiv 2017.
    """
    return Icnr(init, factor, order, transposed)


@scheme(
    law="constant",
    formula="w = prod(1 - abs(i - c) / f)",
    use="transposed convolutions that enlarge f times",
    pitfall="as many outputs as inputs",
    paper=papers.LONG_2015,
)
@maker
def bilinear(groups: int = 1, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill the kernel of a transposed convolution so that it interpolates linearly.

    For each channel by itself, w = prod over window axes of (1 - |i - c| / f), with
    f = ceil(k / 2) and c = (k - 1) / 2 for a window of length k. With stride f the
    layer enlarges f times. The usual windows have k = 2 f or 2 f - 1.

    Args:
      groups: the number of groups of the convolution.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the shape does not have 3 to 5 axes, or does not have
        as many outputs as inputs.

    Example:
      >>> import jax, jinit
      >>> jinit.bilinear()(jax.random.key(0), (4, 1, 1)).ravel().tolist()
      [0.25, 0.75, 0.75, 0.25]

    References:
      Long, Shelhamer and Darrell, "Fully convolutional networks for semantic
        segmentation", CVPR 2015.
    """
    return Bilinear(groups, canonical_dtype(dtype))
