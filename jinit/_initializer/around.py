"""The initializers of this file change another one's draw: axes, border or dtype."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core import checks, dtypes
from .base import DrawSpec, Initializer
from .foreign import check_part, in_torch_layout, with_axes
from .kernel_axes import KernelAxes
from .maker import maker
from .parts import Composed, common_dtype, part, std_of
from .scheme import scheme


class Around(Composed):
    """An Around lets another initializer draw with its key, and changes the draw."""

    init: Any

    def __post_init__(self) -> None:
        check_part("init", self.init)

    def _std(self, shape: checks.Shape) -> float | None:
        self._check(shape)
        return std_of(self._part, self._inner(shape))

    @property
    def _part(self) -> Any:
        """Return the initializer inside, with the settings that it draws with here."""
        return self.init

    def _inner(self, shape: checks.Shape) -> checks.Shape:
        """Return the shape that the other initializer draws."""
        return shape

    def _dtype(self, dtype: DTypeLike | None, shape: checks.Shape) -> np.dtype:
        return common_dtype([self.init], dtype)

    def _drawn(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        return part(self._part, key, spec._replace(shape=self._inner(spec.shape)))


@dataclasses.dataclass(frozen=True, repr=False)
class Transposed(Around):
    """A Transposed is the transpose of a draw."""

    init: Any
    axes: Any = None

    _name: ClassVar[str] = "transposed"
    _any_layout: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axes is None:
            return
        axes = checks.canonical_axes("axes", self.axes)
        axes = (axes,) if isinstance(axes, int) else axes
        if sorted(axes) != list(range(len(axes))):
            raise ValueError(
                f"`axes` is {self.axes!r}; it must be a permutation of 0 to n - 1, "
                "such as (1, 0)."
            )
        self._set(axes=axes)

    def _order(self, ndim: int) -> tuple[int, ...]:
        return tuple(reversed(range(ndim))) if self.axes is None else self.axes

    def _check(self, shape: checks.Shape) -> None:
        if self.axes is not None and len(self.axes) != len(shape):
            raise ValueError(
                f"`shape` is {shape}, of {len(shape)} axes, and `axes` {self.axes} "
                f"permutes {len(self.axes)}; they must agree."
            )

    def _inner(self, shape: checks.Shape) -> checks.Shape:
        order = self._order(len(shape))
        # Axis a of the draw becomes the axis at which `order` names a, so the shape of
        # the draw takes the inverse permutation.
        return tuple(shape[order.index(axis)] for axis in range(len(shape)))

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        # Every axis keeps its letter on the way from the draw to the result.
        letters = axes.layout and "".join(self._inner_letters(axes.layout))
        return Transposed(
            with_axes(self.init, axes._replace(layout=letters)), self.axes
        )

    def _inner_letters(self, layout: str) -> list[str]:
        order = self._order(len(layout))
        return [layout[order.index(axis)] for axis in range(len(layout))]

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        inner = self._drawn(key, spec)
        return jnp.transpose(inner, self._order(inner.ndim))


def in_flax_order(init: Initializer, axes: KernelAxes) -> Initializer:
    """Return a scheme that draws (*window, in, out) for a kernel in another order.

    Raises:
      ValueError: if the kernel does not have exactly one axis of inputs and of outputs.
    """
    layout = axes.known_layout()
    windows = [i for i, letter in enumerate(layout) if letter == "k"]
    if sorted(layout.replace("k", "")) != ["i", "o"]:
        raise ValueError(
            f"{init!r} draws a kernel (*window, in, out), and the layout here is "
            f"{layout!r}; use it within jinit.stacked or jinit.transposed."
        )
    places = [*windows, layout.index("i"), layout.index("o")]
    if places == sorted(places):
        return init
    # Axis a of the result is the axis of the draw whose place in `layout` is a.
    return Transposed(init, tuple(places.index(axis) for axis in range(len(layout))))


@dataclasses.dataclass(frozen=True, repr=False)
class TorchLayout(Around):
    """A TorchLayout is drawn as (out, in, *window), and returned as Flax has it."""

    init: Any

    _name: ClassVar[str] = "torch_layout"

    def __post_init__(self) -> None:
        super().__post_init__()
        # A layout that is unclear must be an error of the maker, not of the first call.
        self._part  # noqa: B018

    @functools.cached_property
    def _part(self) -> Any:
        return in_torch_layout(self.init)

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) < 2:
            raise ValueError(
                f"`shape` is {shape}, of {len(shape)} axes; a kernel has at least two, "
                "inputs and outputs."
            )

    def _inner(self, shape: checks.Shape) -> checks.Shape:
        *window, inputs, outputs = shape
        # PyTorch's convolution has (out, in, *window), Flax's (*window, in, out).
        return (outputs, inputs, *window)

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        return jnp.moveaxis(self._drawn(key, spec), (0, 1), (-1, -2))


@dataclasses.dataclass(frozen=True, repr=False)
class Padded(Around):
    """A Padded is a draw with zeros around it."""

    init: Any
    widths: tuple[tuple[int, int], ...]

    _name: ClassVar[str] = "padded"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(widths=_pairs(self.widths))

    # The zeros around the draw have another std than the draw.
    def _std(self, shape: checks.Shape) -> None:
        return None

    def _in_torch_layout(self) -> Initializer:
        return Padded(in_torch_layout(self.init), self.widths)

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        # The fans are those of the draw without the zeros.
        return Padded(with_axes(self.init, axes._replace(fans=None)), self.widths)

    # The zeros lie on axes of the shape that is asked for, whichever layout it has.
    def _pads(self, ndim: int) -> tuple[tuple[int, int], ...]:
        return self.widths * ndim if len(self.widths) == 1 else self.widths

    def _check(self, shape: checks.Shape) -> None:
        pads = self._pads(len(shape))
        if len(pads) != len(shape):
            raise ValueError(
                f"`shape` is {shape}, of {len(shape)} axes, and `widths` has a pair "
                f"for {len(pads)}; give one for each axis, or one for all."
            )
        if any(sum(pair) > size for pair, size in zip(pads, shape, strict=True)):
            raise ValueError(
                f"`shape` is {shape}, and `widths` {self.widths} asks for more zeros "
                "than an axis is long; give fewer."
            )

    def _inner(self, shape: checks.Shape) -> checks.Shape:
        pads = self._pads(len(shape))
        return tuple(n - sum(pair) for n, pair in zip(shape, pads, strict=True))

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        return jnp.pad(self._drawn(key, spec), self._pads(len(spec.shape)))


@dataclasses.dataclass(frozen=True, repr=False)
class WithDtype(Around):
    """A WithDtype is drawn in one dtype, and cast to the dtype of the call."""

    init: Any
    dtype: Any

    _name: ClassVar[str] = "with_dtype"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(dtype=dtypes.dtype_like(self.dtype))

    def _in_torch_layout(self) -> Initializer:
        return WithDtype(in_torch_layout(self.init), self.dtype)

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        return WithDtype(with_axes(self.init, axes), self.dtype)

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        # Only at the call, since float64 means float32 unless x64 is on, and x64 may
        # change after the maker's call. The factor multiplies before the cast, so a
        # scaled draw is rounded once.
        dtype = dtypes.dtype(self.dtype, np.inexact)
        return self._drawn(key, spec._replace(dtype=dtype)).astype(spec.dtype)


def _pairs(widths: Any) -> tuple[tuple[int, int], ...]:
    """Return widths as (before, after) for each axis, or as one pair for all."""
    try:
        array = np.asarray(widths)
    except ValueError:
        # NumPy refuses a ragged list with an error of its own. None, an array of
        # objects, leads to the error below.
        array = np.asarray(None)
    if array.dtype.kind not in "iu" or array.ndim > 2 or (array < 0).any():
        raise ValueError(
            f"`widths` is {widths!r}; it must be a number of zeros, a pair (before, "
            "after), or a pair for each axis, none of them negative."
        )
    if (array.ndim == 2 and array.shape[1] != 2) or (
        array.ndim == 1 and array.size != 2
    ):
        raise ValueError(
            f"`widths` is {widths!r}; each axis takes a pair of numbers, the zeros "
            "before and the zeros after."
        )
    # A number and a single pair give one row, which `_pads` repeats for every axis.
    pairs = np.broadcast_to(array, (*(array.shape[:-1] or (1,)), 2))
    return tuple((int(before), int(after)) for before, after in pairs)


@scheme(
    law="the law of its part",
    formula="w = init, with zeros around",
    use="widened layers, padded vocabularies",
    pitfall="the fans are those without the zeros",
)
@maker
def padded(init: Any, widths: Any) -> Initializer:
    """Draw an array with zeros around it.

    The draw has the shape without the zeros, and its fans.

    Args:
      init: an initializer from jinit, from JAX or your own.
      widths: zeros at the ends of the axes: a number, a pair (before, after), or a pair
        for each axis, as for `jnp.pad`.

    Raises:
      ValueError: if the widths are not such numbers; when called, if they do not fit
        the shape.

    Example:
      >>> import jax, jinit
      >>> w = jinit.padded(jinit.ones, 1)(jax.random.key(0), (4, 4))
      >>> w.tolist()[1], float(w.sum())
      ([0.0, 1.0, 1.0, 0.0], 4.0)
    """
    return Padded(init, widths)


@scheme(
    law="the law of its part",
    formula="w = init'",
    use="kernels kept as (out, in)",
)
@maker
def transposed(init: Any, axes: Sequence[int] | None = None) -> Initializer:
    """Draw for the permuted shape, and transpose: for kernels kept the other way round.

    Args:
      init: an initializer from jinit, from JAX or your own.
      axes: as for `jnp.transpose`, from the draw to the result; by default reversed.

    Raises:
      ValueError: if the axes are not a permutation; when called, if the shape has
        another number of axes.

    Example:
      >>> import jinit
      >>> jinit.transposed(jinit.lecun()).std((3, 100))  # (out, in)
      0.1
    """
    return Transposed(init, axes)


@scheme(
    law="the law of its part",
    formula="w = cast(init in dtype)",
    use="foreign initializers in 16 bits",
)
@maker
def with_dtype(init: Any, dtype: DTypeLike) -> Initializer:
    """Draw in one dtype, and cast to the dtype of the call.

    JAX's initializers draw from the few values of a 16-bit type.
    `with_dtype(jax.nn.initializers.normal(), "float32")` draws float32 and rounds.
    jinit's initializers do so by themselves.

    Args:
      init: an initializer from jinit, from JAX or your own.
      dtype: the dtype to draw in.

    Raises:
      TypeError: if `dtype` does not name a dtype.

    Example:
      >>> import jax, jinit
      >>> init = jinit.with_dtype(jax.nn.initializers.normal(1.0), "float32")
      >>> w = init(jax.random.key(0), (10_000,), "bfloat16")
      >>> w.dtype.name, len(set(w.tolist())) > 1000
      ('bfloat16', True)
    """
    return WithDtype(init, dtype)


@scheme(
    law="the law of its part",
    formula="w = init(out, in, *k), as (*k, in, out)",
    use="ports from PyTorch",
)
@maker
def torch_layout(init: Any) -> Initializer:
    """Draw a kernel as (out, in, *window), PyTorch's layout, and return Flax's.

    A model that is ported from PyTorch keeps the law, and the numbers, that the scheme
    has at PyTorch's shape. A scheme of jinit counts its fans in PyTorch's layout,
    unless its settings name the axes. A stack of layers is drawn by
    `stacked(torch_layout(init))`.

    Args:
      init: an initializer from jinit, or any other that draws (out, in, *window).

    Raises:
      ValueError: if the settings of `init` do not tell the inputs from the outputs in
        PyTorch's layout; when called, if the shape has fewer than two axes.

    Example:
      >>> import jax, jinit
      >>> conv = jinit.torch_layout(jinit.scaled_uniform())
      >>> w = conv(jax.random.key(0), (3, 3, 8, 32))  # PyTorch's (32, 8, 3, 3)
      >>> bool(abs(w).max() <= 1 / (3 * 3 * 8) ** 0.5)
      True
    """
    return TorchLayout(init)
