"""`depth_scaled` draws scanned layers, each scaled by the factor of its index."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core import checks
from .base import DrawSpec, Initializer, LayoutAndFans, law_and_scale
from .foreign import check_part, with_axes
from .kernel_axes import KernelAxes
from .maker import maker
from .parts import Composed, common_dtype, common_layout_and_fans, part, std_of
from .scheme import scheme
from .stack import draw_stack


def depth_factor(index: int) -> float:
    """Return 1 / sqrt(2 (l + 1)) for the index l of a layer, from 0."""
    # Each layer has two branches. l + 1 layers add 2 (l + 1) of them to the stream.
    return 1.0 / math.sqrt(2 * (index + 1))


@dataclasses.dataclass(frozen=True, repr=False)
class DepthScaled(Composed):
    """A DepthScaled holds slices of one law, scaled by the indices of their layers."""

    init: Any
    axis: int | tuple[int, ...] = 0
    start: int = 0
    step: int | tuple[int, ...] = 1

    _name: ClassVar[str] = "depth_scaled"

    def __post_init__(self) -> None:
        check_part("init", self.init)
        axis = checks.canonical_axes("axis", self.axis)
        step = self.step
        if isinstance(step, tuple | list):
            step = tuple(checks.integer("step", one) for one in step)
        else:
            step = checks.integer("step", step)
        self._set(axis=axis, step=step, start=checks.integer("start", self.start))
        if isinstance(step, int) != isinstance(axis, int) or (
            len(self._steps) != len(self._axes)
        ):
            raise ValueError(
                f"`axis` is {axis} and `step` is {step}; give one step for each axis, "
                "as an integer or as sequences of equal length."
            )

    @property
    def _axes(self) -> tuple[int, ...]:
        return (self.axis,) if isinstance(self.axis, int) else self.axis

    @property
    def _steps(self) -> tuple[int, ...]:
        return (self.step,) if isinstance(self.step, int) else self.step

    def _std(self, shape: checks.Shape) -> float | None:
        factors = self._factors(shape)
        # Several layers have several stds.
        if factors.size != 1:
            return None
        std = std_of(self.init, self._slice(shape))
        return None if std is None else std * float(factors[0])

    def _layout_and_fans(self, shape: checks.Shape) -> LayoutAndFans:
        inner, fans = common_layout_and_fans([(self.init, self._slice(shape))])
        if inner is None:
            return None, fans
        letters, axes = iter(inner), self._places(shape)
        # The axes of the layers count independent copies.
        layout = ["b" if i in axes else next(letters) for i in range(len(shape))]
        return "".join(layout), fans

    def _check(self, shape: checks.Shape) -> None:
        self._factors(shape)

    def _in_torch_layout(self) -> Initializer:
        raise ValueError(
            f"`init` is {self!r}, and PyTorch's layout (out, in, *window) has no axis "
            "of layers. Put the layout inside: "
            "jinit.depth_scaled(jinit.torch_layout(...))."
        )

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        if axes.layout is not None:
            places = checks.axes("axis", self.axis, len(axes.layout), (0,))
            letters = {axes.layout[place] for place in places}
            inner = "".join(x for i, x in enumerate(axes.layout) if i not in places)
            # An axis of layers adds nothing to the fans; others do.
            fans = axes.fans if letters == {"b"} else None
            axes = axes._replace(layout=inner, fans=fans)
        return dataclasses.replace(self, init=with_axes(self.init, axes))

    def _dtype(self, dtype: DTypeLike | None, shape: checks.Shape) -> np.dtype:
        return common_dtype([self.init], dtype)

    def _places(self, shape: checks.Shape) -> tuple[int, ...]:
        return checks.axes("axis", self.axis, len(shape), shape)

    def _slice(self, shape: checks.Shape) -> checks.Shape:
        places = self._places(shape)
        return tuple(size for i, size in enumerate(shape) if i not in places)

    def _factors(self, shape: checks.Shape) -> np.ndarray:
        """Return the factor of each slice, in the order of the axes."""
        sizes = [shape[place] for place in self._places(shape)]
        steps = np.asarray(self._steps)
        indices = self.start + np.tensordot(steps, np.indices(sizes), 1).ravel()
        if (indices < 0).any():
            raise ValueError(
                f"`start` is {self.start} and `step` is {self.step}, so that a layer "
                f"of `shape` {shape} has the index {indices.min()}; indices begin at 0."
            )
        return np.asarray([depth_factor(int(index)) for index in indices])

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        shape, factors = spec.shape, self._factors(spec.shape)
        places, inner = self._places(shape), self._slice(spec.shape)
        sizes = tuple(shape[place] for place in places)
        drawn = self._slices(key, factors, spec._replace(shape=inner))
        return jnp.moveaxis(drawn.reshape(sizes + inner), range(len(sizes)), places)

    def _slices(self, key: jax.Array, factors: np.ndarray, one: DrawSpec) -> jax.Array:
        """Draw the slices along one axis in front; `one` is the spec of a slice."""
        known = law_and_scale(self.init, one)
        whole = (len(factors), *one.shape)
        # The law is a key of compiled programs, which must not hold a tracer.
        if known is not None and not known[0].is_traced and len(factors):
            law, scale = known
            settings = one._replace(shape=whole).settings
            return draw_stack(key, scale * factors, law=law, axis=0, **settings)
        if not len(factors):
            jax.eval_shape(lambda k: part(self.init, k, one), key)
            return jnp.zeros(whole, one.dtype)
        slices = [
            part(
                self.init,
                jax.random.fold_in(key, number),
                one._replace(factor=one.factor * float(factor)),
            )
            for number, factor in enumerate(factors)
        ]
        return jnp.stack(slices)


@scheme(
    law="the law of its part",
    formula="w[l] = init(fold_in(key, i)) / sqrt(2 (l + 1))",
    use="the ends of branches in scanned layers, scaled by the index of the layer",
    pitfall="`axis` counts the layers, and adds nothing to the fans",
)
@maker
def depth_scaled(
    init: Any,
    axis: int | tuple[int, ...] = 0,
    *,
    start: int = 0,
    step: int | tuple[int, ...] = 1,
) -> Initializer:
    """Draw scanned layers, the layer of index l times 1 / sqrt(2 (l + 1)).

    Slice number i belongs to layer l = start + i step. It is a draw of `init` for the
    slice's shape, with the key `jax.random.fold_in(key, i)`, so that its fans are those
    of one layer. A stack of stacks has several axes, with a step for each.

    Args:
      init: an initializer from jinit, from JAX or your own.
      axis: the axis that counts the layers, or several.
      start: the index of the first layer.
      step: by how much the index grows along the axis, or along each of several.

    Raises:
      TypeError: if `init` is not an initializer, or a number is not an integer.
      ValueError: if there is not one step for each axis; when called, if the shape does
        not have the axis, or a layer has an index below 0.

    Example:
      >>> import jax, jinit
      >>> init = jinit.depth_scaled(jinit.normal(0.02))
      >>> w = init(jax.random.key(0), (8, 256, 512))
      >>> [round(float(w[i].std()), 3) for i in (0, 1, 7)]
      [0.014, 0.01, 0.005]
    """
    if isinstance(axis, list):
        axis = tuple(axis)
    if isinstance(step, list):
        step = tuple(step)
    return DepthScaled(init, axis, start, step)
