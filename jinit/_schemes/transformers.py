"""These schemes are for transformers: scales by width and depth, routers, nGPT."""

import dataclasses
import math
from typing import Any, ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .. import random
from .._core import checks, papers
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer
from .._initializer.formula import FormulaInitializer
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from .._scale.depth import factor as depth_factor
from .._scale.fans import Axes, Fans
from .constant import Filling
from .fan_based import FanScheme
from .fan_options import FanOptions, fan_maker


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class WidthScheme(FanScheme):
    """A WidthScheme has a standard deviation that is a formula in the model's width."""

    width: int | None = None

    def __post_init__(self) -> None:
        self._set(width=checks.count("width", self.width))
        super().__post_init__()

    def _needs_no_axes(self) -> bool:
        return self.width is not None or super()._needs_no_axes()

    def _fans(self, shape: checks.Shape) -> Fans:
        if self.width is None:
            return super()._fans(shape)
        return Fans(self.width, self.width)


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class SmallInit(WidthScheme):
    """SmallInit draws with the variance 2 / (5 d) for a layer that reads d inputs."""

    _name: ClassVar[str] = "small_init"

    def _variance(self, fans: Fans) -> float | None:
        # Nguyen and Salazar (2019): Xavier's 2 / (n_in + n_out) for d -> 4 d.
        return 2 / (5 * fans.fan_in) if fans.fan_in else None


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class WangInit(WidthScheme):
    """WangInit draws with std 2 / (L sqrt(d)) for a layer that writes d outputs."""

    num_layers: int

    _name: ClassVar[str] = "wang_init"

    def __post_init__(self) -> None:
        # The depth rule raises for a wrong number of layers.
        depth_factor("wang", self.num_layers, width=1)
        super().__post_init__()

    def _mode(self) -> str:
        return "fan_out"

    def _variance(self, fans: Fans) -> float | None:
        if not fans.fan_out:
            return None
        # Black et al. (2022): std = 2 / (L sqrt(d)), whatever the fan_in.
        return depth_factor("wang", self.num_layers, width=fans.fan_out) ** 2


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class MoeRouter(FanScheme):
    """MoeRouter draws with the variance scale / fan_in, truncated at 2 sigma."""

    scale: float = 0.1
    distribution: str = "truncated_normal"

    _name: ClassVar[str] = "moe_router"

    def __post_init__(self) -> None:
        self._set(scale=checks.number("scale", self.scale, positive=True))
        super().__post_init__()

    def _variance(self, fans: Fans) -> float | None:
        # Fedus et al. (2022) reduce the default scale of 1 to 0.1. It is a factor of
        # the variance, so the std falls by sqrt(10).
        return self.scale / fans.fan_in if fans.fan_in else None


@dataclasses.dataclass(frozen=True, repr=False)
class LayerScale(Filling):
    """A LayerScale is one small number for all channels, by the network's depth."""

    depth: int
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "layer_scale"
    _kind: ClassVar[type[Any]] = np.inexact

    def __post_init__(self) -> None:
        # The depth rule would name this number `num_layers` in its error.
        if checks.count("depth", self.depth) is None:
            raise TypeError("`depth` is None; it must be an integer.")
        self._set(dtype=canonical_dtype(self.dtype))

    def _value(self) -> np.ndarray:
        return np.asarray(depth_factor("layer_scale", self.depth))


@dataclasses.dataclass(frozen=True, repr=False)
class Ngpt(FormulaInitializer):
    """Ngpt draws vectors along an axis, with norm 1 and uniform on the sphere."""

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
        # The normal law is the same in all directions, so its direction is uniform.
        x = random.normal(key, shape, dtype)
        # A zero vector has no direction; on an axis of length 1 a draw can be one. The
        # square of what replaces it must not underflow.
        x = jnp.where(x == 0, np.finfo(dtype).tiny ** 0.25, x)
        squares = jnp.abs(x) ** 2
        return x / jnp.sqrt(jnp.sum(squares, axis=self._axes(shape), keepdims=True))


@scheme(
    law="normal, uniform or truncated",
    formula="std = sqrt(2 / (5 d))",
    use="layers of transformers that read the stream, embeddings",
    pitfall="d is the width of the model: give `width` if the inputs are others",
    paper=papers.NGUYEN_2019,
)
@fan_maker(SmallInit)
def small_init(
    *, width: int | None = None, **options: Unpack[FanOptions]
) -> Initializer:
    """Draw with std = sqrt(2 / (5 d)), where d is the width of the model.

    This is Xavier's std for the layer from d to 4 d, used for all layers.

    Args:
      width: the width d; by default the number of inputs of the kernel.
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: if an option is wrong.

    Example:
      >>> import jinit
      >>> round(jinit.small_init().std((768, 3072)), 8)
      0.02282177

    References:
      Nguyen and Salazar, "Transformers without tears: improving the normalization of
        self-attention", IWSLT 2019.
    """
    return SmallInit(width=width, **options)


@scheme(
    law="normal, uniform or truncated",
    formula="std = 2 / (L sqrt(d))",
    use="layers of transformers that end branches",
    pitfall="d is the width of the model: give `width` if the outputs are others",
    paper=papers.BLACK_2022,
)
@fan_maker(WangInit)
def wang_init(
    num_layers: int, *, width: int | None = None, **options: Unpack[FanOptions]
) -> Initializer:
    """Draw a layer that ends a residual branch with std = 2 / (L sqrt(d)).

    L is the number of layers, and d the width of the model. The output kernel of an
    attention, (heads, head_dim, d), needs `layout="iio"`.

    Args:
      num_layers: the number of layers L, of two branches each.
      width: the width d; by default the number of outputs of the kernel.
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      TypeError: if `num_layers` is not an integer.
      ValueError: if `num_layers` is less than 1, or an option is wrong.

    Example:
      >>> import jinit
      >>> round(jinit.wang_init(12).std((3072, 768)), 8)
      0.00601407

    References:
      Black et al., "GPT-NeoX-20B: an open-source autoregressive language model",
        BigScience Workshop 2022.
    """
    return WangInit(num_layers=num_layers, width=width, **options)


@scheme(
    law="normal, truncated at 2 sigma",
    formula="std = sqrt(0.1 / n_in)",
    use="routers and experts of mixtures",
    pitfall="`scale` multiplies the variance; stacked experts need a layout",
    paper=papers.FEDUS_2022,
)
@fan_maker(MoeRouter)
def moe_router(scale: float = 0.1, **options: Unpack[FanOptions]) -> Initializer:
    """Draw a router or experts of Switch transformers with std = sqrt(scale / n_in).

    The law is normal, truncated at two standard deviations. `scale` is a factor of the
    variance: 0.1 makes weights sqrt(10) times smaller. Keep routers in float32. Stacked
    experts, (experts, in, out), need `layout="bio"`.

    Args:
      scale: the factor of the variance.
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: if `scale` is not positive, or an option is wrong.

    Example:
      >>> import jinit
      >>> round(jinit.moe_router().std((1000, 8)), 6)
      0.01

    References:
      Fedus, Zoph and Shazeer, "Switch transformers: scaling to trillion parameter
        models with simple and efficient sparsity", JMLR 2022.
    """
    return MoeRouter(scale=scale, **options)


@scheme(
    law="constant",
    formula="0.1, 1e-5 or 1e-6, by depth",
    use="scales of branches in vision transformers",
    paper=papers.TOUVRON_2021,
)
@maker
def layer_scale(depth: int, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill the scales of a residual branch's channels, by the depth of the network.

    w = 0.1 up to a depth of 18, 1e-5 up to 24, and 1e-6 beyond.

    Args:
      depth: the number of layers of the network.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      TypeError: if `depth` is not an integer.
      ValueError: if `depth` is less than 1.

    Example:
      >>> import jax, jinit
      >>> float(jinit.layer_scale(depth=12)(jax.random.key(0), (4,))[0])
      0.10000000149011612

    References:
      Touvron, Cord, Sablayrolles, Synnaeve and Jégou, "Going deeper with image
        transformers", ICCV 2021.
    """
    return LayerScale(depth, canonical_dtype(dtype))


@scheme(
    law="uniform on the sphere",
    formula="norm 1 along `axis`, std = 1 / sqrt(d)",
    use="normalized transformers",
    pitfall="kernels that read the stream need `axis=-2`",
    paper=papers.LOSHCHILOV_2025,
)
@maker
def ngpt(axis: Axes = -1, *, dtype: DTypeLike | None = None) -> Initializer:
    """Draw vectors from the uniform law on the unit sphere, along an axis.

    Normal vectors are divided by their norms, and std = 1 / sqrt(d) for vectors of
    length d. nGPT keeps every vector along the width of the model at norm 1. In Flax
    the width is the last axis of embeddings, (tokens, d), and of layers that write to
    the stream, (in, d). It is axis -2 of layers that read the stream, (d, out).

    Args:
      axis: the axis, or axes, of a vector: the width of the model.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the shape does not have the axis.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> w = jinit.ngpt(axis=-2)(jax.random.key(0), (64, 8))
      >>> bool(jnp.allclose(jnp.linalg.norm(w, axis=0), 1, atol=1e-6))
      True

    References:
      Loshchilov, Hsieh, Sun and Ginsburg, "nGPT: normalized transformer with
        representation learning on the hypersphere", ICLR 2025.
    """
    return Ngpt(axis, canonical_dtype(dtype))
