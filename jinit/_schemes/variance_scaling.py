"""Scales from fans: JAX's `variance_scaling` and its presets."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
from jax.typing import DTypeLike

from .._core import checks, numbers
from .._core.dtypes import canonical_dtype, is_complex
from .._initializer.base import Initializer, LayoutAndFans, RandomInitializer
from .._initializer.entry import Entry
from .._initializer.maker import maker
from .._scale.fans import MODES, fan, jax_fans, layout_if_disjoint, torch_axes
from ..random._law import Law

Axes = int | tuple[int, ...]
DISTRIBUTIONS = ("truncated_normal", "normal", "uniform")

# The standard deviation of N(0, 1) cut at +-2, to JAX's last bit.
_JAX_TRUNCATED_STD = 0.87962566103423978
# JAX's for the complex normal law whose modulus is cut at 2: sqrt(1 - 5 e^-4). It lacks
# the division by the mass 1 - e^-4, so JAX's law is 0.9 % too wide; kept for its
# values.
_JAX_TRUNCATED_MODULUS_STD = 0.95311164380491208

UNIT_LAWS = {
    "normal": Law("normal"),
    "uniform": Law("uniform", -1.0, 1.0),
    "truncated_normal": Law("truncated_normal", -2.0, 2.0),
}

_PRESETS = {
    "glorot_uniform": (1.0, "fan_avg", "uniform"),
    "glorot_normal": (1.0, "fan_avg", "truncated_normal"),
    "lecun_uniform": (1.0, "fan_in", "uniform"),
    "lecun_normal": (1.0, "fan_in", "truncated_normal"),
    "he_uniform": (2.0, "fan_in", "uniform"),
    "he_normal": (2.0, "fan_in", "truncated_normal"),
}


@dataclasses.dataclass(frozen=True, repr=False)
class VarianceScaling(RandomInitializer):
    """Variance scale / n, with JAX's fans, JAX's axes and JAX's order of rounding."""

    scale: float
    mode: str
    distribution: str
    in_axis: Axes = -2
    out_axis: Axes = -1
    batch_axis: Axes = ()
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "variance_scaling"

    def __post_init__(self) -> None:
        self._set(
            scale=checks.number("scale", self.scale, minimum=0.0),
            mode=checks.choice("mode", self.mode, MODES),
            distribution=checks.choice(
                "distribution", self.distribution, DISTRIBUTIONS
            ),
            in_axis=checks.canonical_axes("in_axis", self.in_axis),
            out_axis=checks.canonical_axes("out_axis", self.out_axis),
            batch_axis=checks.canonical_axes("batch_axis", self.batch_axis),
            dtype=canonical_dtype(self.dtype),
        )

    def _std(self, shape: checks.Shape) -> float | None:
        n = self._fan(shape)
        return None if numbers.is_zero(n) else numbers.sqrt(self.scale / n)

    def _fan(self, shape: checks.Shape) -> float:
        fans = jax_fans(shape, self.in_axis, self.out_axis, self.batch_axis)
        return fan(self.mode, *fans)

    def _layout_and_fans(self, shape: checks.Shape) -> LayoutAndFans:
        axes = self.in_axis, self.out_axis, self.batch_axis
        # Axes that overlap may leave a fraction of a window.
        fan_in, fan_out = (
            int(n) if n.is_integer() else n for n in jax_fans(shape, *axes)
        )
        return layout_if_disjoint(shape, *axes), (fan_in, fan_out)

    def _in_torch_layout(self) -> Initializer:
        axes = torch_axes(self.in_axis, self.out_axis, self.batch_axis)
        return dataclasses.replace(self, **axes)

    def _law(self, shape: checks.Shape, dtype: np.dtype) -> tuple[Law, Any]:
        n = self._fan(shape)
        # JAX rounds the variance, then its root: the bits of float32 hang on the order.
        real = np.float64 if dtype in (np.float64, np.complex128) else np.float32
        variance = 0.0 if numbers.is_zero(n) else self.scale / n
        variance = numbers.cast(variance, np.dtype(real))
        if self.distribution == "uniform" and not is_complex(dtype):
            scale = numbers.sqrt(real(3) * variance)
        elif self.distribution == "truncated_normal":
            scale = numbers.sqrt(variance) / real(
                _JAX_TRUNCATED_MODULUS_STD if is_complex(dtype) else _JAX_TRUNCATED_STD
            )
        else:
            scale = numbers.sqrt(variance)
        return UNIT_LAWS[self.distribution], scale

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        name, settings = super()._spelling()
        if self._is_traced:
            return name, settings
        own = (self.scale, self.mode, self.distribution)
        for preset, law in _PRESETS.items():
            if own == law:
                name = preset
                settings = {k: v for k, v in settings.items() if k not in _LAW_FIELDS}
        return name, settings


_LAW_FIELDS = ("scale", "mode", "distribution")


@maker
def variance_scaling(
    scale: float,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw with variance scale / n, n a fan of the shape.

    n = fan_in, fan_out, (fan_in + fan_out) / 2 ("fan_avg"), or
    sqrt(fan_in fan_out) ("fan_geo_avg"); the law is N(0, scale / n) ("normal"),
    U(+-sqrt(3 scale / n)) ("uniform"), or a normal law cut at two standard deviations
    and widened to that variance ("truncated_normal").

    Axes that are neither input, output nor batch are the window of a convolution. They
    may overlap, as in JAX (`out_axis=0` beside `in_axis=0` is the embedding idiom of
    Flax and T5X); `jinit.fans` and the short names reject that.

    Args:
      scale: zero or more.
      mode: one of "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      distribution: one of "truncated_normal", "normal", "uniform".
      in_axis: the axis or axes of the inputs.
      out_axis: the axis or axes of the outputs.
      batch_axis: the axis or axes that count independent copies.
      dtype: the type of the result where the call names none.

    Raises:
      ValueError: for an unknown mode or distribution, a negative scale, or, when
        called, a shape of fewer than two axes with the default `in_axis`.

    Example:
      >>> import jinit
      >>> jinit.variance_scaling(2.0, "fan_in", "normal").std((512, 256))
      0.0625

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
      neural networks", 2010. He, Zhang, Ren and Sun, "Delving deep into rectifiers",
      2015.
    """
    return VarianceScaling(
        scale, mode, distribution, in_axis, out_axis, batch_axis, canonical_dtype(dtype)
    )


@maker
def glorot_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw from U(+-sqrt(6 / (fan_in + fan_out))), for tanh and linear layers.

    `variance_scaling(1.0, "fan_avg", "uniform")`; its arguments and errors.

    Example:
      >>> import jinit
      >>> jinit.glorot_uniform().std((300, 100)) == (2 / 400) ** 0.5
      True

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
      neural networks", 2010.
    """
    return _preset("glorot_uniform", in_axis, out_axis, batch_axis, dtype)


@maker
def glorot_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw normal, cut at 2 sigma, with variance 2 / (fan_in + fan_out).

    `variance_scaling(1.0, "fan_avg", "truncated_normal")`; its arguments and errors.

    Example:
      >>> import jinit
      >>> jinit.glorot_normal().std((300, 100)) == (2 / 400) ** 0.5
      True

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
      neural networks", 2010.
    """
    return _preset("glorot_normal", in_axis, out_axis, batch_axis, dtype)


@maker
def lecun_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw from U(+-sqrt(3 / fan_in)).

    `variance_scaling(1.0, "fan_in", "uniform")`; its arguments and errors.

    Example:
      >>> import jinit
      >>> jinit.lecun_uniform().std((100, 7))
      0.1

    References:
      LeCun, Bottou, Orr and Mueller, "Efficient BackProp", 1998.
    """
    return _preset("lecun_uniform", in_axis, out_axis, batch_axis, dtype)


@maker
def lecun_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw normal, cut at 2 sigma, with variance 1 / fan_in: selu; Flax's default.

    `variance_scaling(1.0, "fan_in", "truncated_normal")`; its arguments and errors.

    Example:
      >>> import jinit
      >>> jinit.lecun_normal().std((100, 7))
      0.1

    References:
      LeCun, Bottou, Orr and Mueller, "Efficient BackProp", 1998. Klambauer,
      Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", 2017.
    """
    return _preset("lecun_normal", in_axis, out_axis, batch_axis, dtype)


@maker
def he_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw from U(+-sqrt(6 / fan_in)), for relu.

    `variance_scaling(2.0, "fan_in", "uniform")`; its arguments and errors.

    Example:
      >>> import jinit
      >>> jinit.he_uniform().std((512, 256))
      0.0625

    References:
      He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015.
    """
    return _preset("he_uniform", in_axis, out_axis, batch_axis, dtype)


@maker
def he_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw normal, cut at 2 sigma, with variance 2 / fan_in: for relu.

    `variance_scaling(2.0, "fan_in", "truncated_normal")`; its arguments and errors.

    Example:
      >>> import jinit
      >>> jinit.he_normal().std((512, 256))
      0.0625

    References:
      He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015.
    """
    return _preset("he_normal", in_axis, out_axis, batch_axis, dtype)


def _preset(
    name: str,
    in_axis: Axes,
    out_axis: Axes,
    batch_axis: Axes,
    dtype: DTypeLike | None,
) -> Initializer:
    axes = in_axis, out_axis, batch_axis
    return VarianceScaling(*_PRESETS[name], *axes, canonical_dtype(dtype))


xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal


_GLOROT = "Glorot and Bengio 2010"
_HE = "He, Zhang, Ren and Sun 2015"
_LECUN = "LeCun, Bottou, Orr and Mueller 1998"
_SELU = "Klambauer, Unterthiner, Mayr and Hochreiter 2017"

ENTRIES = (
    Entry(
        "variance_scaling",
        variance_scaling,
        "normal, uniform or truncated",
        "std = sqrt(scale / n)",
        "what the presets below are made of",
        _HE,
        "overlapping axes pass, as in JAX",
    ),
    Entry(
        "glorot_uniform",
        glorot_uniform,
        "uniform",
        "limit = sqrt(6 / (n_in + n_out))",
        "as `xavier`",
        _GLOROT,
    ),
    Entry(
        "glorot_normal",
        glorot_normal,
        "truncated at 2 sigma",
        "std = sqrt(2 / (n_in + n_out))",
        "as `xavier`",
        _GLOROT,
    ),
    Entry(
        "lecun_uniform",
        lecun_uniform,
        "uniform",
        "limit = sqrt(3 / n_in)",
        "as `lecun`",
        _LECUN,
    ),
    Entry(
        "lecun_normal",
        lecun_normal,
        "truncated at 2 sigma",
        "std = sqrt(1 / n_in)",
        "selu; Flax's default kernel",
        _SELU,
    ),
    Entry(
        "he_uniform",
        he_uniform,
        "uniform",
        "limit = sqrt(6 / n_in)",
        "as `he`",
        _HE,
    ),
    Entry(
        "he_normal",
        he_normal,
        "truncated at 2 sigma",
        "std = sqrt(2 / n_in)",
        "as `he`",
        _HE,
    ),
)
