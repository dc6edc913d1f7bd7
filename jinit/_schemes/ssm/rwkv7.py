"""RWKV-7 starts its vectors from fixed curves over the channels and the depth.

Law: RWKV_Tmix_x070 and RWKV_CMix_x070 in BlinkDL/RWKV-LM,
RWKV-v7/train_temp/src/model.py, commit 118e451.
"""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ..._core import checks, papers
from ..._core.dtypes import canonical_dtype
from ..._initializer.base import Initializer
from ..._initializer.formula import FormulaInitializer, flat_index
from ..._initializer.maker import maker
from ..._initializer.scheme import scheme

Mixed = Literal["r", "w", "k", "v", "a", "g", "channel"]
Vector = Literal["a0", "v0", "k_k", "k_a", "r_k"]

# The exponents of the time mixes in the first layer; they fall to 0 over the depth.
_POWERS = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}
# Vector -> (its mean, its slope over the channels, the factor of its zigzag).
_VECTORS = {
    "a0": (-0.19, 0.4, 0.3),
    "v0": (0.73, -0.4, 0.0),
    "k_k": (0.71, -0.1, 0.0),
    "k_a": (1.02, 0.0, 0.0),
    "r_k": (-0.04, 0.0, 0.0),
}


@dataclasses.dataclass(frozen=True, repr=False)
class _Curve(FormulaInitializer):
    """A _Curve is a fixed function of the channel, counted over all axes."""

    _random: ClassVar[bool] = False
    _kind: ClassVar[type[Any]] = np.floating

    def _check(self, shape: checks.Shape) -> None:
        if not shape:
            raise ValueError(
                "`shape` is (), which has no axes; the vectors of RWKV-7 have one "
                "entry for each channel."
            )

    def _channel(self, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        return flat_index(shape, tuple(range(len(shape)))).astype(dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class _InHeads(_Curve):
    """An _InHeads knows the size of a head, within which its zigzag rises."""

    head_size: int = 64

    def _set_heads(self) -> None:
        if checks.positive("head_size", self.head_size) < 2:
            raise ValueError(
                f"`head_size` is {self.head_size}; a head must have 2 channels or "
                "more, over which the curve can rise."
            )

    def _check(self, shape: checks.Shape) -> None:
        super()._check(shape)
        if math.prod(shape) % self.head_size:
            raise ValueError(
                f"`shape` is {shape}, with {math.prod(shape)} channels, and "
                f"`head_size` is {self.head_size}, which does not divide them. Pass "
                "the number of channels of a head as `head_size`."
            )

    def _slope(self, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        """Return a line from 0 at the first channel to 1 at the last."""
        return self._channel(shape, dtype) / (math.prod(shape) - 1)

    def _zigzag(self, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        """Return x |x| for x from -1 to 1 within each head."""
        middle = (self.head_size - 1) / 2
        x = (self._channel(shape, dtype) % self.head_size - middle) / middle
        return x * jnp.abs(x)


@dataclasses.dataclass(frozen=True, repr=False)
class Rwkv7Decay(_InHeads):
    """An Rwkv7Decay has w0 of one layer, whose decay is exp(-exp(w)) of a state."""

    layer: int = 0
    num_layers: int = 1
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "ssm.rwkv7_decay"
    # The layers of a model share one program, whose operand is the exponent.
    _operands: ClassVar[tuple[str, ...]] = ("layer", "num_layers", "dtype")

    def __post_init__(self) -> None:
        self._set_heads()
        _check_layer(self.layer, self.num_layers)
        self._set(dtype=canonical_dtype(self.dtype))

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        name, settings = super()._spelling()
        place = {"layer": self.layer, "num_layers": self.num_layers}
        return name, place | settings

    def _numbers(self) -> dict[str, float]:
        # The first and only layer of a model counts as the first of many.
        ratio = self.layer / max(self.num_layers - 1, 1)
        return {"power": 1 + ratio**0.3}

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        power: jax.Array = vars(self)["power"]
        rising = -6 + 6 * self._slope(shape, dtype) ** power
        return rising + 0.5 + 2.5 * self._zigzag(shape, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Rwkv7Mix(_Curve):
    """An Rwkv7Mix says how much of the token before each channel of a layer reads."""

    part: Mixed = "r"
    layer: int = 0
    num_layers: int = 1
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "ssm.rwkv7_mix"
    _operands: ClassVar[tuple[str, ...]] = ("part", "layer", "num_layers", "dtype")

    def __post_init__(self) -> None:
        checks.choice("part", self.part, (*_POWERS, "channel"))
        _check_layer(self.layer, self.num_layers)
        self._set(dtype=canonical_dtype(self.dtype))

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        name, settings = super()._spelling()
        place = {"layer": self.layer, "num_layers": self.num_layers}
        return name, {"part": self.part} | place | settings

    def _numbers(self) -> dict[str, float]:
        remaining = 1 - self.layer / self.num_layers
        if self.part == "channel":
            return {"power": remaining**4}
        return {"power": _POWERS[self.part] * remaining}

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        power: jax.Array = vars(self)["power"]
        share: jax.Array = self._channel(shape, dtype) / math.prod(shape)
        return 1 - share**power


@dataclasses.dataclass(frozen=True, repr=False)
class Rwkv7Vector(_InHeads):
    """An Rwkv7Vector is a vector of RWKV-7 that is equal in all layers."""

    part: Vector = "a0"
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "ssm.rwkv7_vector"

    def __post_init__(self) -> None:
        checks.choice("part", self.part, tuple(_VECTORS))
        self._set_heads()
        self._set(dtype=canonical_dtype(self.dtype))

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        name, settings = super()._spelling()
        return name, {"part": self.part} | settings

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        mean, slope, zigzag = _VECTORS[self.part]
        line = slope * (self._slope(shape, dtype) - 0.5)
        return mean + line + zigzag * self._zigzag(shape, dtype)


def _check_layer(layer: Any, num_layers: Any) -> None:
    number = checks.positive("num_layers", num_layers)
    if not 0 <= checks.integer("layer", layer) < number:
        raise ValueError(
            f"`layer` is {layer} and `num_layers` is {number}; layers are counted from "
            f"0 to {number - 1}."
        )


@scheme(
    name="ssm.rwkv7_decay",
    law="constant",
    formula="w0 = -6 + 6 (n / (d - 1))^(1 + (l / (L - 1))^0.3) + 0.5 + 2.5 z",
    use="the decays of RWKV-7",
    pitfall="it depends on the index of the layer",
    paper=papers.PENG_2025,
)
@maker
def rwkv7_decay(
    layer: int,
    num_layers: int,
    *,
    head_size: int = 64,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Fill RWKV-7's decay w0, which rises over the channels and zigzags in each head.

    w0 = -6 + 6 (n / (d - 1))^(1 + r^0.3) + 0.5 + 2.5 z for channel n of d, with
    r = l / (L - 1), and z = x |x| for x from -1 to 1 over the channels of a head. A
    channel with a greater w0 forgets faster. Channels are counted over all axes of the
    shape.

    Args:
      layer: l, the index of the layer, from 0.
      num_layers: L, the number of layers.
      head_size: the number of channels of a head, which divides d.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: unless 0 <= layer < num_layers and head_size >= 2; when called, if
        `head_size` does not divide the number of channels.

    Example:
      >>> import jax, jinit
      >>> w0 = jinit.ssm.rwkv7_decay(0, 12, head_size=4)(jax.random.key(0), (8,))
      >>> [round(float(x), 2) for x in w0]
      [-8.0, -4.92, -3.51, -0.43, -4.57, -1.49, -0.08, 3.0]

    References:
      Peng et al., "RWKV-7 'Goose' with expressive dynamic state evolution", arXiv 2025.
    """
    return Rwkv7Decay(head_size, layer, num_layers, canonical_dtype(dtype))


@scheme(
    name="ssm.rwkv7_mix",
    law="constant",
    formula="1 - (n / d)^(p (1 - l / L)); channel mix: 1 - (n / d)^((1 - l / L)^4)",
    use="the token mixes of RWKV-7",
    pitfall="it depends on the index of the layer",
    paper=papers.PENG_2025,
)
@maker
def rwkv7_mix(
    part: Mixed,
    layer: int,
    num_layers: int,
    *,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Fill a mix of RWKV-7: the share of the token before that each channel reads.

    The mix is 1 - (n / d)^(p (1 - l / L)) for channel n of d in layer l of L, with
    p = 0.2 for r and g, 0.7 for k and v, 0.9 for w and a. The mix of the feed-forward
    network, part="channel", is 1 - (n / d)^((1 - l / L)^4).

    Args:
      part: "r", "w", "k", "v", "a" or "g" for a mix of the time mixing, or "channel".
      layer: l, the index of the layer, from 0.
      num_layers: L, the number of layers.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if `part` is unknown, or unless 0 <= layer < num_layers.

    Example:
      >>> import jax, jinit
      >>> x_k = jinit.ssm.rwkv7_mix("k", 0, 12)(jax.random.key(0), (4,))
      >>> [round(float(x), 3) for x in x_k]
      [1.0, 0.621, 0.384, 0.182]

    References:
      Peng et al., "RWKV-7 'Goose' with expressive dynamic state evolution", arXiv 2025.
    """
    return Rwkv7Mix(part, layer, num_layers, canonical_dtype(dtype))


@scheme(
    name="ssm.rwkv7_vector",
    law="constant",
    formula="mean + slope (n / (d - 1) - 1/2) + zigzag z",
    use="the vectors a0, v0, k_k, k_a and r_k of RWKV-7",
    pitfall="a0 needs the size of a head",
    paper=papers.PENG_2025,
)
@maker
def rwkv7_vector(
    part: Vector, *, head_size: int = 64, dtype: DTypeLike | None = None
) -> Initializer:
    """Fill one of RWKV-7's vectors that are equal in all layers.

    With y = n / (d - 1) - 1/2 for channel n of d, and z = x |x| for x from -1 to 1 over
    the channels of a head:
    a0 = -0.19 + 0.4 y + 0.3 z, v0 = 0.73 - 0.4 y, k_k = 0.71 - 0.1 y, k_a = 1.02,
    r_k = -0.04.

    Args:
      part: "a0", "v0", "k_k", "k_a" or "r_k".
      head_size: the number of channels of a head, which divides d.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if `part` is unknown or head_size < 2; when called, if `head_size`
        does not divide the number of channels.

    Example:
      >>> import jax, jinit
      >>> v0 = jinit.ssm.rwkv7_vector("v0", head_size=2)(jax.random.key(0), (4,))
      >>> [round(float(x), 2) for x in v0]
      [0.93, 0.8, 0.66, 0.53]

    References:
      Peng et al., "RWKV-7 'Goose' with expressive dynamic state evolution", arXiv 2025.
    """
    return Rwkv7Vector(head_size, part, canonical_dtype(dtype))
