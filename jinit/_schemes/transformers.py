"""Scales of transformers: by width, by depth, for routers; weights on the sphere."""

import dataclasses
import math
from typing import Any, ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .. import random
from .._core import checks
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer
from .._initializer.entry import Entry
from .._initializer.formula import FormulaInitializer
from .._initializer.maker import maker
from .._scale.depth import factor as depth_factor
from .._scale.fans import Axes, Fans
from .constant import Filling
from .fan_based import FanScheme
from .fan_options import FanOptions, fan_maker


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class OfWidth(FanScheme):
    """A law whose standard deviation is a formula in the model's width."""

    width: int | None = None

    def __post_init__(self) -> None:
        self._set(width=checks.count("width", self.width))
        super().__post_init__()

    def _fans(self, shape: checks.Shape) -> Fans:
        if self.width is None:
            return super()._fans(shape)
        return Fans(self.width, self.width)


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class SmallInit(OfWidth):
    """Variance 2 / (5 d), d the width that is read."""

    _name: ClassVar[str] = "small_init"

    def _variance(self, fans: Fans) -> float | None:
        return 2 / (5 * fans.fan_in) if fans.fan_in else None


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class WangInit(OfWidth):
    """Std 2 / (L sqrt(d)), d the width that is written."""

    num_layers: int

    _name: ClassVar[str] = "wang_init"

    def __post_init__(self) -> None:
        # The depth rule checks its number.
        depth_factor("wang", self.num_layers, width=1)
        super().__post_init__()

    def _mode(self) -> str:
        return "fan_out"

    def _variance(self, fans: Fans) -> float | None:
        if not fans.fan_out:
            return None
        return depth_factor("wang", self.num_layers, width=fans.fan_out) ** 2


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class MoeRouter(FanScheme):
    """Variance scale / fan_in, cut at two standard deviations."""

    scale: float = 0.1
    distribution: str = "truncated_normal"

    _name: ClassVar[str] = "moe_router"

    def __post_init__(self) -> None:
        self._set(scale=checks.number("scale", self.scale, positive=True))
        super().__post_init__()

    def _variance(self, fans: Fans) -> float | None:
        return self.scale / fans.fan_in if fans.fan_in else None


@dataclasses.dataclass(frozen=True, repr=False)
class LayerScale(Filling):
    """One small number for each channel, by the depth of the network."""

    depth: int
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "layer_scale"
    _kind: ClassVar[type[Any]] = np.inexact

    def __post_init__(self) -> None:
        # The depth rule calls its number by another name.
        if checks.count("depth", self.depth) is None:
            raise TypeError("`depth` is None; it must be an integer.")
        self._set(dtype=canonical_dtype(self.dtype))

    def _value(self) -> np.ndarray:
        return np.asarray(depth_factor("layer_scale", self.depth))


@dataclasses.dataclass(frozen=True, repr=False)
class Ngpt(FormulaInitializer):
    """Vectors of norm 1 along an axis, uniform on the sphere."""

    axis: Axes = -1
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "ngpt"
    _operands: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        axis = checks.canonical_axes("axis", self.axis)
        self._set(axis=axis, dtype=canonical_dtype(self.dtype))

    def _std(self, shape: checks.Shape) -> float | None:
        length = math.prod(shape[i] for i in self._axes(shape))
        return 1 / math.sqrt(length) if length else None

    def _axes(self, shape: checks.Shape) -> tuple[int, ...]:
        return checks.axes("axis", self.axis, len(shape), shape)

    def _check(self, shape: checks.Shape) -> None:
        self._axes(shape)

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        x = random.normal(key, shape, dtype)
        # 0 has no direction; it can matter on an axis of length 1 only.
        x = jnp.where(x == 0, jnp.finfo(dtype).tiny ** 0.25, x)
        squares = jnp.abs(x) ** 2
        return x / jnp.sqrt(jnp.sum(squares, axis=self._axes(shape), keepdims=True))


@fan_maker(SmallInit)
def small_init(
    *, width: int | None = None, **options: Unpack[FanOptions]
) -> Initializer:
    """Draw from N(0, 2 / (5 d)): Xavier's law of the widest layer, d -> 4 d, for all.

    Args:
      width: d; by default the inputs of the kernel.
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: for options that do not fit.

    Example:
      >>> import jinit
      >>> round(jinit.small_init().std((768, 3072)), 8)
      0.02282177

    References:
      Nguyen and Salazar, "Transformers without tears: improving the normalization of
      self-attention", 2019.
    """
    return SmallInit(width=width, **options)


@fan_maker(WangInit)
def wang_init(
    num_layers: int, *, width: int | None = None, **options: Unpack[FanOptions]
) -> Initializer:
    """Draw the layers that end residual branches: std = 2 / (L sqrt(d)).

    Args:
      num_layers: L, layers of two branches each.
      width: d; by default the outputs of the kernel, which the stream adds.
      **options: the settings of every scheme that counts fans, by keyword.
        For attention's (heads, head_dim, d) the layout is "iio".

    Raises:
      TypeError: for a number of layers that is no integer.
      ValueError: for fewer than one layer, or options that do not fit.

    Example:
      >>> import jinit
      >>> round(jinit.wang_init(12).std((3072, 768)), 8)
      0.00601407

    References:
      Black et al., "GPT-NeoX-20B: an open-source autoregressive language model", 2022.
    """
    return WangInit(num_layers=num_layers, width=width, **options)


@fan_maker(MoeRouter)
def moe_router(scale: float = 0.1, **options: Unpack[FanOptions]) -> Initializer:
    """Draw a router, or experts, as Switch transformers do: variance scale / n_in.

    A normal law cut at two standard deviations, std = sqrt(scale / n_in): the scale is
    that of the variance, and 0.1 makes weights sqrt(10) times smaller. Keep routers in
    float32. Experts that are stacked, (experts, in, out), want `layout="bio"`.

    Args:
      scale: what multiplies the variance.
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: for a scale that is not positive, or options that do not fit.

    Example:
      >>> import jinit
      >>> round(jinit.moe_router().std((1000, 8)), 6)
      0.01

    References:
      Fedus, Zoph and Shazeer, "Switch transformers: scaling to trillion parameter
      models with simple and efficient sparsity", 2021.
    """
    return MoeRouter(scale=scale, **options)


@maker
def layer_scale(depth: int, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill the scales of branches' channels: 0.1 to depth 18, 1e-5 to 24, then 1e-6.

    Args:
      depth: the layers of the network.
      dtype: the type of the result where the call names none.

    Raises:
      TypeError: for a depth that is no integer.
      ValueError: for a depth below 1.

    Example:
      >>> import jax, jinit
      >>> float(jinit.layer_scale(depth=12)(jax.random.key(0), (4,))[0])
      0.10000000149011612

    References:
      Touvron, Cord, Sablayrolles, Synnaeve and Jegou, "Going deeper with image
      transformers", 2021.
    """
    return LayerScale(depth, canonical_dtype(dtype))


@maker
def ngpt(axis: Axes = -1, *, dtype: DTypeLike | None = None) -> Initializer:
    """Draw vectors on the unit sphere: normal, divided by their norm along an axis.

    nGPT keeps every vector of the model's width at norm 1. In Flax that axis is the
    last one of embeddings, (tokens, d), and of layers that write to the stream,
    (in, d); it is -2 of layers that read it, (d, out). std = 1 / sqrt(d).

    Args:
      axis: the axis, or axes, of a vector: the model's width.
      dtype: the type of the result where the call names none.

    Raises:
      ValueError: when called, for an axis that is not there.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> w = jinit.ngpt(axis=-2)(jax.random.key(0), (64, 8))
      >>> bool(jnp.allclose(jnp.linalg.norm(w, axis=0), 1, atol=1e-6))
      True

    References:
      Loshchilov, Hsieh, Sun and Ginsburg, "nGPT: normalized transformer with
      representation learning on the hypersphere", 2024.
    """
    return Ngpt(axis, canonical_dtype(dtype))


ENTRIES = (
    Entry(
        "small_init",
        small_init,
        "normal, uniform or truncated",
        "std = sqrt(2 / (5 d))",
        "transformers: what reads the stream, embeddings",
        "Nguyen and Salazar 2019",
        "d is the width of the model: give it where the inputs are others",
    ),
    Entry(
        "wang_init",
        wang_init,
        "normal, uniform or truncated",
        "std = 2 / (L sqrt(d))",
        "transformers: the layers that end branches",
        "Black et al. 2022",
        "d is the width of the stream: the outputs",
    ),
    Entry(
        "moe_router",
        moe_router,
        "normal, cut at 2 sigma",
        "std = sqrt(0.1 / n_in)",
        "routers and experts of mixtures",
        "Fedus, Zoph and Shazeer 2021",
        "0.1 scales the variance; stacked experts need a layout",
    ),
    Entry(
        "layer_scale",
        layer_scale,
        "constant",
        "0.1, 1e-5 or 1e-6, by depth",
        "scales of branches in vision transformers",
        "Touvron, Cord, Sablayrolles, Synnaeve and Jegou 2021",
    ),
    Entry(
        "ngpt",
        ngpt,
        "uniform on the sphere",
        "norm 1 along `axis`, std = 1 / sqrt(d)",
        "normalized transformers",
        "Loshchilov, Hsieh, Sun and Ginsburg 2024",
        "the axis is the model's width: -2 of kernels that read it",
    ),
)
