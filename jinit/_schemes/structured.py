"""Structured kernels pass their input on, or give each unit only a few inputs."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .. import random
from .._core import checks, numbers, papers
from .._core.dtypes import canonical_dtype
from .._initializer.around import in_flax_order
from .._initializer.base import Initializer
from .._initializer.formula import FormulaInitializer, flat_index, index
from .._initializer.kernel_axes import KernelAxes
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from .._scale.fans import Axes, check_layout, fans


@dataclasses.dataclass(frozen=True, repr=False)
class Identity(FormulaInitializer):
    """An Identity is `gain` where input and output have one index, and else 0."""

    gain: float = 1.0
    layout: str | None = None
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "identity"
    _random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_layout(self.layout)
        if "k" in (self.layout or ""):
            raise ValueError(
                f"`layout` is {self.layout!r}, with a window; an identity has inputs, "
                "outputs and batch axes only. For a convolution use jinit.dirac."
            )
        gain = checks.number("gain", self.gain)
        self._set(gain=gain, dtype=canonical_dtype(self.dtype))

    def _in_torch_layout(self) -> Initializer:
        return super()._in_torch_layout() if self.layout is None else self

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        if self.layout is not None:
            return self
        return dataclasses.replace(self, layout=axes.known_layout())

    def _check(self, shape: checks.Shape) -> None:
        self._axes(shape)

    def _axes(self, shape: checks.Shape) -> tuple[tuple[int, ...], ...]:
        if self.layout is None and len(shape) not in (2, 3):
            raise ValueError(
                f"`shape` is {shape}, which has {len(shape)} axes; an identity has "
                "two, inputs and outputs, and a stack of them three. For axes that are "
                "split give a layout, such as identity(layout='ioo'); for a "
                "convolution use jinit.dirac."
            )
        # Three axes without a layout are a stack, as scanned layers have it.
        layout = self.layout or ("io" if len(shape) == 2 else "bio")
        # This raises for a layout of another length.
        fans(shape, layout)
        inputs, outputs = (
            tuple(i for i, name in enumerate(layout) if name == letter)
            for letter in "io"
        )
        return inputs, outputs

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        row, column = (flat_index(shape, axes) for axes in self._axes(shape))
        return (row == column).astype(dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Dirac(FormulaInitializer):
    """A Dirac is a convolution kernel that passes its input on."""

    gain: float = 1.0
    groups: int = 1
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "dirac"
    _random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._set(
            gain=checks.number("gain", self.gain),
            groups=checks.positive("groups", self.groups),
            dtype=canonical_dtype(self.dtype),
        )

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        groups = axes.groups if self.groups == 1 else self.groups
        return in_flax_order(dataclasses.replace(self, groups=groups), axes)

    def _check(self, shape: checks.Shape) -> None:
        check_window(self._name, shape)
        if shape[-1] % self.groups:
            raise ValueError(
                f"`groups` is {self.groups}, which does not divide the {shape[-1]} "
                f"outputs of shape {shape}."
            )

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        # Flax's input axis of a grouped kernel has the inputs of one group only, so the
        # outputs are counted within their group as well.
        output = index(shape, -1) % np.uint32(shape[-1] // self.groups)
        return (at_centre(shape) & (index(shape, -2) == output)).astype(dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Sparse(FormulaInitializer):
    """A Sparse has ceil(sparsity n) zeros among the n weights of each unit.

    The other weights are N(0, std^2).
    """

    sparsity: float
    stddev: float = 0.01
    axis: Axes = 0
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "sparse"
    _operands: ClassVar[tuple[str, ...]] = ("stddev", "dtype")

    def __post_init__(self) -> None:
        sparsity = checks.number("sparsity", self.sparsity, minimum=0.0)
        if not numbers.is_traced(sparsity) and sparsity > 1:
            raise ValueError(
                f"`sparsity` is {sparsity}; it is the share of zeros, from 0 to 1."
            )
        self._set(
            sparsity=sparsity,
            stddev=checks.number("std", self.stddev, minimum=0.0),
            axis=checks.canonical_axes("axis", self.axis),
            dtype=canonical_dtype(self.dtype),
        )

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        if self.axis != 0:
            return self
        layout = axes.known_layout()
        inputs = tuple(i for i, letter in enumerate(layout) if letter in "ik")
        return dataclasses.replace(self, axis=inputs)

    def _std(self, shape: checks.Shape) -> float | None:
        self._check(shape)
        n = self._length(shape)
        return self.stddev * numbers.sqrt(1 - self._zeros(n) / n) if n else None

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        name, settings = super()._spelling()
        return name, {"std" if k == "stddev" else k: v for k, v in settings.items()}

    def _scale(self) -> float:
        return self.stddev

    def _zeros(self, n: int) -> Any:
        if numbers.is_traced(self.sparsity):
            return jnp.ceil(self.sparsity * n - 1e-6 * n)
        # 0.07 * 100 is 7.000000000000001 in floats, whose ceiling would be 8.
        return math.ceil(self.sparsity * n - 1e-9 * n)

    def _length(self, shape: checks.Shape) -> int:
        return math.prod(shape[i] for i in self._indices(shape))

    def _indices(self, shape: checks.Shape) -> tuple[int, ...]:
        return checks.axes("axis", self.axis, len(shape), shape)

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) < 2:
            raise ValueError(
                f"`shape` is {shape}, which has {len(shape)} axes; a sparse kernel "
                "needs two or more: the inputs of a unit, and the units."
            )
        n = self._length(shape)
        if numbers.is_traced(self.sparsity):
            return
        # The first axis of a 2-D convolution has mostly 3 entries: ceil(0.7 * 3) = 3
        # would kill each unit, which was to keep three tenths of its inputs.
        if n and self._zeros(n) == n and self.sparsity < 1:
            raise ValueError(
                f"`shape` is {shape}, with {n} entries along `axis` {self.axis!r}, of "
                f"which a sparsity of {self.sparsity} leaves none: every unit would be "
                f"dead. Take a sparsity of at most {(n - 1) / n:.6g}, or name all axes "
                "of a unit's inputs, such as axis=(0, 1, 2) for a 2-D convolution."
            )

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        # Two keys, since places that hang on the values would bend their law.
        values_key, places_key = jax.random.split(key)
        values = random.normal(values_key, shape, dtype)
        return jnp.where(self._kept(places_key, shape), values, 0)

    def _kept(self, key: Any, shape: checks.Shape) -> jax.Array:
        """Choose the entries of each unit that stay, uniformly at random."""
        axes = self._indices(shape)
        others = tuple(i for i in range(len(shape)) if i not in axes)
        n = self._length(shape)
        # Ranks give each unit the same number of weights. Coins would leave some units
        # with none, which never learn.
        words = random.bits(key, (math.prod(shape) // n, n), np.uint32)
        # The ranks of n random words are a random permutation.
        rank = jnp.argsort(jnp.argsort(words, axis=-1), axis=-1)
        order = others + axes
        kept = (rank >= self._zeros(n)).reshape(tuple(shape[i] for i in order))
        return jnp.transpose(kept, tuple(int(i) for i in np.argsort(order)))


def check_window(name: str, shape: checks.Shape, least: int = 3) -> None:
    """Raise unless `shape` is that of a kernel (window.., in, out) with a centre."""
    if not least <= len(shape) <= 5:
        raise ValueError(
            f"`shape` is {shape}, which has {len(shape)} axes; jinit.{name} takes "
            f"{least} to 5: up to three window axes, then inputs and outputs."
        )
    # In an even window JAX's `delta_orthogonal` takes the tap before the middle and
    # PyTorch's `dirac_` the one behind it, and it depends on the padding which of them
    # passes the input on.
    even = [size for size in shape[:-2] if size and size % 2 == 0]
    if even:
        odd = tuple(s + (s % 2 == 0) for s in shape[:-2])
        raise ValueError(
            f"`shape` is {shape}, whose window {shape[:-2]} has no centre: "
            f"{' and '.join(map(str, even))} is even. An odd window, such as {odd}, "
            "has one."
        )


def at_centre(shape: checks.Shape) -> jax.Array:
    """Return True for the entries in the middle of the window, else False."""
    middle = jnp.ones(shape, bool)
    for axis, size in enumerate(shape[:-2]):
        middle &= index(shape, axis) == size // 2
    return middle


@scheme(
    law="constant",
    formula="w_ij = gain for i = j, else 0",
    use="residual and recurrent layers that start as the identity",
    pitfall="a widening layer gets rows of zeros: see `zero_hadamard`",
    paper=papers.LE_2015,
)
@maker
def identity(
    gain: float = 1.0, *, layout: str | None = None, dtype: DTypeLike | None = None
) -> Initializer:
    """Fill a kernel with an identity: w_ij = gain for i = j, else 0.

    A kernel that is not square has rows or columns of zeros beyond the identity.

    Args:
      gain: the value on the diagonal.
      layout: one letter for each axis: i input, o output, b batch (a stack of
        identities). Several axes of one letter count as one flat index. The default is
        "io", or "bio" for three axes.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if `gain` is not finite; when called, if the layout does not fit the
        shape, or there is no layout and the shape does not have two or three axes.

    Example:
      >>> import jax, jinit
      >>> jinit.identity()(jax.random.key(0), (2, 3)).tolist()
      [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

    References:
      Le, Jaitly and Hinton, "A simple way to initialize recurrent networks of rectified
        linear units", arXiv 2015.
    """
    return Identity(gain, layout, canonical_dtype(dtype))


@scheme(
    law="constant",
    formula="identity at the centre tap",
    use="convolutions that start as the identity",
    pitfall="odd windows only",
    paper=papers.ZAGORUYKO_2017,
)
@maker
def dirac(
    gain: float = 1.0, groups: int = 1, *, dtype: DTypeLike | None = None
) -> Initializer:
    """Fill a convolution kernel so that the layer is gain times the identity.

    Shapes are those of Flax, (window.., inputs, outputs) with one to three window axes
    of odd length. In the middle of the window, w_ij = gain for i = j; all other entries
    are 0. Outputs beyond the inputs are zero, and inputs beyond the outputs are
    dropped. In a grouped kernel, i and j count the inputs and outputs of one group.

    Args:
      gain: the value on the diagonal of the centre tap.
      groups: the `feature_group_count` of the convolution.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if `groups` is less than 1; when called, if the shape does not have 3
        to 5 axes, its window is even, or `groups` does not divide the outputs.

    Example:
      >>> import jax, jinit
      >>> jinit.dirac()(jax.random.key(0), (3, 1, 1))[:, 0, 0].tolist()
      [0.0, 1.0, 0.0]

    References:
      Zagoruyko and Komodakis, "DiracNets: training very deep neural networks without
        skip-connections", arXiv 2017.
    """
    return Dirac(gain, groups, canonical_dtype(dtype))


@scheme(
    law="normal, with exact zeros",
    formula="N(0, std^2), ceil(sparsity n) of n inputs zero",
    use="wide layers trained by second-order methods",
    pitfall="for a convolution name all axes of the inputs",
    paper=papers.MARTENS_2010,
)
@maker
def sparse(
    sparsity: float,
    std: float = 0.01,
    axis: Axes = 0,
    *,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw from N(0, std^2), and set an exact number of each unit's weights to zero.

    Among the n entries along `axis`, ceil(sparsity n) are zero, chosen uniformly. By
    default `axis` has the inputs of a unit of an (inputs, outputs) kernel. Units with
    few inputs stay different however many inputs there are. Martens keeps 15 inputs,
    a sparsity of 1 - 15 / n.

    Args:
      sparsity: the share of zeros, from 0 to 1.
      std: the standard deviation of the weights that are not zero.
      axis: the axis, or axes, of the inputs of a unit: (0, 1, 2) for a 2-D convolution.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if `sparsity` lies outside [0, 1] or `std` is negative; when called,
        if the shape has fewer than two axes, or every weight would be zero.

    Example:
      >>> import jax, jinit
      >>> w = jinit.sparse(0.75)(jax.random.key(0), (8, 5))
      >>> (w == 0).sum(axis=0).tolist()
      [6, 6, 6, 6, 6]

    References:
      Martens, "Deep learning via Hessian-free optimization", ICML 2010.
    """
    return Sparse(sparsity, std, axis, canonical_dtype(dtype))
