"""`stacked` and `blocks` join independent draws: layers, or the blocks of a kernel."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core import checks, numbers
from .._core.programs import compiled
from ..random import _law as laws
from .base import DrawSpec, Initializer, LayoutAndFans, law_and_scale
from .foreign import in_torch_layout, is_initializer, positional, with_axes
from .kernel_axes import KernelAxes
from .maker import check_called, maker
from .parts import Composed, common_dtype, common_layout_and_fans, common_std, part
from .scheme import scheme


@dataclasses.dataclass(frozen=True, repr=False)
class Stacked(Composed):
    """A Stacked holds independent slices along an axis, each with its own fans."""

    init: Any
    axis: int = 0

    _name: ClassVar[str] = "stacked"

    def __post_init__(self) -> None:
        check_called("`init`", self.init)
        if not callable(self.init):
            raise TypeError(
                f"`init` is {self.init!r}; it must be an initializer, or a function of "
                "the index of a layer that returns one."
            )
        self._set(axis=checks.single_axis("axis", self.axis))

    def _std(self, shape: checks.Shape) -> float | None:
        self._check(shape)
        layer_shape = self._slice(shape)
        return common_std([(init, layer_shape) for init in self._layers(shape)])

    def _layout_and_fans(self, shape: checks.Shape) -> LayoutAndFans:
        one = self._slice(shape)
        layout, fans = common_layout_and_fans([(x, one) for x in self._layers(shape)])
        axis = self.axis % len(shape)
        # The layout of a slice lacks the axis of the layers, which counts independent
        # copies.
        return layout and layout[:axis] + "b" + layout[axis:], fans

    def _check(self, shape: checks.Shape) -> None:
        checks.axes("axis", self.axis, len(shape), shape)

    def _in_torch_layout(self) -> Initializer:
        raise ValueError(
            f"`init` is {self!r}, and PyTorch's layout (out, in, *window) has no axis "
            "of layers. Stack kernels of that layout instead: "
            "jinit.stacked(jinit.torch_layout(...))."
        )

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        layout = axes.layout
        if layout is not None:
            axis = self.axis % len(layout)
            # An axis of experts or layers adds nothing to the fans; others do.
            fans = axes.fans if layout[axis] == "b" else None
            axes = axes._replace(layout=layout[:axis] + layout[axis + 1 :], fans=fans)
        if _is_of_index(self.init):
            return Stacked(_OfIndex(self.init, axes), self.axis)
        return Stacked(with_axes(self.init, axes), self.axis)

    def _slice(self, shape: checks.Shape) -> checks.Shape:
        axis = self.axis % len(shape)
        return shape[:axis] + shape[axis + 1 :]

    def _layers(self, shape: checks.Shape) -> list[Any]:
        number = shape[self.axis]
        if _is_of_index(self.init):
            return [self._layer(index) for index in range(number)]
        return [self.init] * number

    def _layer(self, index: int) -> Any:
        layer = self.init(index)
        if not callable(layer):
            raise TypeError(
                f"`init` returns {layer!r} for layer {index}; it must return an "
                "initializer."
            )
        return layer

    def _dtype(self, dtype: DTypeLike | None, shape: checks.Shape) -> np.dtype:
        if dtype is not None:
            # The function of the index need not run for it.
            return common_dtype([], dtype)
        return common_dtype(self._layers(shape) or [self.init], None)

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        shape, layers = spec.shape, self._layers(spec.shape)
        one = spec._replace(shape=self._slice(shape))
        if not layers:
            if not _is_of_index(self.init):
                # A shape that a layer cannot have is an error all the same.
                jax.eval_shape(lambda k: part(self.init, k, one), key)
            return jnp.zeros(shape, spec.dtype)
        axis = self.axis % len(shape)
        # Draws of one law that differ in scale are one loop with a vector of scales.
        # Else a stack of 96 layers would be 96 draws to trace and compile.
        if same := _one_law([law_and_scale(init, one) for init in layers]):
            law, scales = same
            return draw_stack(key, scales, law=law, axis=axis, **spec.settings)
        if all(init == layers[0] for init in layers):
            # `fold_in` rather than `split`: layer i keeps its numbers when layers are
            # added.
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(len(layers)))
            slices = jax.vmap(lambda k: part(layers[0], k, one))(keys)
            return jnp.moveaxis(slices, 0, axis)
        parts = [
            part(init, jax.random.fold_in(key, index), one)
            for index, init in enumerate(layers)
        ]
        return jnp.stack(parts, axis)


@dataclasses.dataclass(frozen=True)
class _OfIndex:
    """An _OfIndex is a user's function of a layer's index, for a kernel's axes."""

    function: Callable[..., Any]
    axes: KernelAxes

    def __call__(self, index: int) -> Any:
        return with_axes(self.function(index), self.axes)


@dataclasses.dataclass(frozen=True, repr=False)
class Blocks(Composed):
    """A Blocks holds independent blocks along an axis, each with its own fans."""

    inits: tuple[Any, ...]
    axis: int = -1
    sizes: tuple[int, ...] | None = None

    _name: ClassVar[str] = "blocks"

    def __post_init__(self) -> None:
        self._set(
            inits=_several(self.inits), axis=checks.single_axis("axis", self.axis)
        )
        if self.sizes is None:
            return
        sizes = checks.shape(self.sizes)
        if len(sizes) != len(self.inits):
            raise ValueError(
                f"`sizes` is {sizes}, of {len(sizes)} blocks, and there are "
                f"{len(self.inits)} initializers; give one size for each."
            )
        self._set(sizes=sizes)

    def _std(self, shape: checks.Shape) -> float | None:
        self._check(shape)
        return common_std(list(zip(self.inits, self._shapes(shape), strict=True)))

    def _layout_and_fans(self, shape: checks.Shape) -> LayoutAndFans:
        shapes = self._shapes(shape)
        return common_layout_and_fans(list(zip(self.inits, shapes, strict=True)))

    def _check(self, shape: checks.Shape) -> None:
        checks.axes("axis", self.axis, len(shape), shape)
        length, number = shape[self.axis], len(self.inits)
        if self.sizes is None and length % number:
            raise ValueError(
                f"`shape` is {shape}, whose axis {self.axis} has length {length}; it "
                f"must be a multiple of {number}, the number of blocks, or give "
                "`sizes`."
            )
        if self.sizes is not None and sum(self.sizes) != length:
            raise ValueError(
                f"`shape` is {shape}, whose axis {self.axis} has length {length}, and "
                f"`sizes` {self.sizes} sum to {sum(self.sizes)}; they must agree."
            )

    def _in_torch_layout(self) -> Initializer:
        if self.axis < 0:
            raise ValueError(
                f"`init` is {self!r}, whose axis is counted from the end: Flax's "
                "outputs, but a window axis of PyTorch's (out, in, *window). Pass "
                "axis=0 for blocks of outputs and 1 for blocks of inputs."
            )
        inits = tuple(map(in_torch_layout, self.inits))
        return dataclasses.replace(self, inits=inits)

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        # The fans are those of a block, which its own shape shows.
        inner = axes._replace(fans=None)
        inits = tuple(with_axes(init, inner) for init in self.inits)
        return dataclasses.replace(self, inits=inits)

    def _shapes(self, shape: checks.Shape) -> list[checks.Shape]:
        axis, number = self.axis % len(shape), len(self.inits)
        sizes = self.sizes or (shape[axis] // number,) * number
        return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]

    def _dtype(self, dtype: DTypeLike | None, shape: checks.Shape) -> np.dtype:
        return common_dtype(self.inits, dtype)

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        shapes = self._shapes(spec.shape)
        parts = [
            part(init, jax.random.fold_in(key, index), spec._replace(shape=shape))
            for index, (init, shape) in enumerate(zip(self.inits, shapes, strict=True))
        ]
        return jnp.concatenate(parts, self.axis)


@compiled
def draw_stack(
    key: jax.Array,
    scales: jax.Array,
    *,
    law: laws.Law,
    shape: checks.Shape,
    dtype: np.dtype,
    axis: int,
) -> jax.Array:
    """Draw slices of one law, each with its scale, in one loop."""
    slice_shape = shape[:axis] + shape[axis + 1 :]
    # The draw multiplies in float32 and rounds once, so the scales of a 16-bit stack
    # stay float32. A complex dtype gives the dtype of its components.
    real = jnp.finfo(dtype).dtype if dtype.itemsize > 2 else np.dtype(np.float32)

    def one(index: jax.Array, scale: jax.Array) -> jax.Array:
        slice_key = jax.random.fold_in(key, index)
        return laws.scaled(slice_key, scale, law=law, shape=slice_shape, dtype=dtype)

    indices = jnp.arange(shape[axis], dtype=np.uint32)
    return jnp.moveaxis(jax.vmap(one)(indices, scales.astype(real)), 0, axis)


def _one_law(pairs: list[tuple[laws.Law, Any] | None]) -> tuple[laws.Law, Any] | None:
    """Return the law and the scales of slices that differ in nothing but scale."""
    known = [pair for pair in pairs if pair is not None and not pair[0].is_traced]
    # The law is a key of compiled programs, which must not hold a tracer; scales may.
    if len(known) < len(pairs) or len({law for law, _ in known}) != 1:
        return None
    scales = [scale for _, scale in known]
    # In float64, so that the program rounds them once.
    if not numbers.is_traced(*scales):
        return known[0][0], np.asarray(scales)
    return known[0][0], jnp.stack([jnp.asarray(scale, float) for scale in scales])


def _is_of_index(function: Callable[..., Any]) -> bool:
    """Tell whether a callable is a function of a layer's index, not an initializer."""
    if isinstance(function, Initializer):
        return False
    names = positional(function)
    # One parameter can only be an index; `is_initializer` raises for it in other
    # places.
    return (names is not None and len(names) == 1) or not is_initializer(function)


# A pair of initializers is a sequence of two; only a number makes it a repetition.
def _several(inits: Any) -> tuple[Any, ...]:
    """Return the initializers as a tuple; (init, n) means n times the same."""
    if isinstance(inits, tuple) and len(inits) == 2 and not callable(inits[1]):
        number = checks.count("n", inits[1]) or 1
        inits = (inits[0],) * number
    if isinstance(inits, Initializer) or not isinstance(inits, Sequence):
        raise TypeError(
            f"`inits` is {inits!r}; it must be a sequence of initializers, or (init, "
            "n) for n times the same."
        )
    if not inits or not all(map(callable, inits)):
        raise TypeError(
            f"`inits` is {inits!r}; it must hold at least one initializer, and nothing "
            "else."
        )
    for number, init in enumerate(inits):
        check_called(f"`inits[{number}]`", init)
    return tuple(inits)


@scheme(
    law="the laws of its parts",
    formula="w[i] = init_i(fold_in(key, i))",
    use="scanned layers, experts, ensembles; scales that depend on the layer",
    pitfall="the layers' axis is no fan: give the layout of one layer",
)
@maker
def stacked(init: Any, axis: int = 0) -> Initializer:
    """Draw each slice along an axis independently: scanned layers, experts, ensembles.

    Slice i is the draw of its own initializer for the slice's shape, with the key
    `jax.random.fold_in(key, i)`. So its fans are those of one layer, and its scale may
    depend on the layer.

    Args:
      init: an initializer from jinit, from JAX or your own; or a function of the index
        of a layer, from 0, that returns one.
      axis: the axis that counts the layers.

    Raises:
      TypeError: if `init` is neither, or the axis is not an integer.
      ValueError: when called, if the shape does not have the axis.

    Example:
      >>> import jax, jinit
      >>> init = jinit.stacked(lambda i: jinit.he() * (i + 1) ** -0.5)
      >>> w = init(jax.random.key(0), (24, 256, 512))
      >>> w.shape, bool(w[0].std() > 4 * w[-1].std())
      ((24, 256, 512), True)
      >>> jinit.stacked(jinit.he()).std((24, 512, 256))  # not 24 times too many inputs
      0.0625
    """
    return Stacked(init, axis)


@scheme(
    law="the laws of its parts",
    formula="w = [init_1 | init_2 | ...]",
    use="fused QKV kernels, gates, GLUs",
    pitfall="the fans are those of a block",
)
@maker
def blocks(
    inits: Any, axis: int = -1, *, sizes: Sequence[int] | None = None
) -> Initializer:
    """Draw blocks beside each other: fused QKV kernels, the gates of an LSTM, GLUs.

    Block i is the draw of its own initializer for the block's shape, with the key
    `jax.random.fold_in(key, i)`. So each has its own fans: the outputs of a QKV kernel
    are d, not 3 d.

    Args:
      inits: a sequence of initializers from jinit, from JAX or your own; or (init, n).
      axis: the axis along which the blocks lie.
      sizes: the lengths of the blocks; by default all equal.

    Raises:
      TypeError: if `inits` does not hold initializers.
      ValueError: if there is not one size for each block; when called, if the sizes do
        not fit the shape.

    Example:
      >>> import jax, jinit
      >>> qkv = jinit.blocks((jinit.xavier(), 3))
      >>> qkv.std((512, 3 * 512)) == jinit.xavier().std((512, 512))
      True
      >>> grouped = jinit.blocks([jinit.lecun()] * 3, sizes=(512, 128, 128))
      >>> grouped(jax.random.key(0), (512, 768)).shape
      (512, 768)
    """
    return Blocks(inits, axis, None if sizes is None else tuple(sizes))


@scheme(
    law="the laws of its parts",
    formula="w = [init_1 | init_2 | ...]",
    use="as `blocks`",
)
@maker
def concat(
    inits: Sequence[Any], axis: int = -1, *, sizes: Sequence[int] | None = None
) -> Initializer:
    """Draw arrays one after another along an axis: `blocks` by another name.

    Args:
      inits: a sequence of initializers.
      axis: the axis along which they lie.
      sizes: their lengths; by default all equal.

    Raises:
      TypeError: for the same reasons as `blocks`.
      ValueError: for the same reasons as `blocks`.

    Example:
      >>> import jax, jinit
      >>> init = jinit.concat([jinit.ones, jinit.zeros], axis=0, sizes=(1, 3))
      >>> init(jax.random.key(0), (4,)).tolist()
      [1.0, 0.0, 0.0, 0.0]
    """
    return blocks(tuple(inits), axis, sizes=sizes)
