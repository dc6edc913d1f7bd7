"""JAX's `variance_scaling` takes the scale of a draw from the fans of its shape.

It follows JAX in everything that decides a bit of float32: how fans are counted, in
which order numbers are rounded, and the constants that widen truncated laws. The names
for its usual settings are in `variance_presets.py`.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np
from jax.typing import DTypeLike

from .._core import checks, numbers, papers
from .._core.dtypes import canonical_dtype, is_complex
from .._initializer.base import Initializer, LayoutAndFans, RandomInitializer
from .._initializer.kernel_axes import KernelAxes
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from .._scale.fans import MODES, fan, jax_fans, layout_if_disjoint, torch_axes
from ..random import _law as laws

Axes = int | tuple[int, ...]
DISTRIBUTIONS = ("truncated_normal", "normal", "uniform")

# The standard deviation of N(0, 1) truncated at +-2, with the digits that JAX has.
_JAX_TRUNCATED_STD = 0.87962566103423978
# JAX's constant for the complex normal law whose modulus is truncated at 2 is
# sqrt(1 - 5 e^-4). It lacks the division by the mass 1 - e^-4, so the law is 0.9 % too
# wide. It stays, since these makers have the values of JAX.
_JAX_TRUNCATED_MODULUS_STD = 0.95311164380491208

UNIT_LAWS = {
    "normal": laws.Law("normal"),
    "uniform": laws.Law("uniform", -1.0, 1.0),
    "truncated_normal": laws.Law("truncated_normal", -2.0, 2.0),
}

PRESETS = {
    "glorot_uniform": (1.0, "fan_avg", "uniform"),
    "glorot_normal": (1.0, "fan_avg", "truncated_normal"),
    "lecun_uniform": (1.0, "fan_in", "uniform"),
    "lecun_normal": (1.0, "fan_in", "truncated_normal"),
    "he_uniform": (2.0, "fan_in", "uniform"),
    "he_normal": (2.0, "fan_in", "truncated_normal"),
}


@dataclasses.dataclass(frozen=True, repr=False)
class VarianceScaling(RandomInitializer):
    """VarianceScaling draws with the variance scale / n, rounded in JAX's order."""

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
        # JAX's count and not `fans`: it allows overlaps, and its divisions decide the
        # last bit.
        fans = jax_fans(shape, self.in_axis, self.out_axis, self.batch_axis)
        return fan(self.mode, *fans)

    def _layout_and_fans(self, shape: checks.Shape) -> LayoutAndFans:
        axes = self.in_axis, self.out_axis, self.batch_axis
        # Axes that overlap may leave a fraction of a window.
        fan_in, fan_out = (
            int(n) if n.is_integer() else n for n in jax_fans(shape, *axes)
        )
        return layout_if_disjoint(shape, *axes), (fan_in, fan_out)

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        if (self.in_axis, self.out_axis, self.batch_axis) != (-2, -1, ()):
            return self
        if axes.fans is not None or (axes.groups > 1 and self.mode != "fan_in"):
            return self._with_fans()._with_axes(axes)
        layout = axes.known_layout()
        if layout.lstrip("k") == "io":
            return self
        inputs, outputs, copies = (
            tuple(i for i, name in enumerate(layout) if name == letter)
            for letter in "iob"
        )
        return dataclasses.replace(
            self, in_axis=inputs, out_axis=outputs, batch_axis=copies
        )

    def _with_fans(self) -> Initializer:
        """Return the law as a scheme that takes fans; JAX knows neither groups."""
        from .fan_based import He

        # scale / n = gain^2 2 / n. The bits are not JAX's, which counts other fans.
        gain = numbers.sqrt(self.scale / 2)
        return He(
            mode=self.mode,
            gain=gain,
            distribution=self.distribution,
            dtype=self.dtype,
        )

    def _in_torch_layout(self) -> Initializer:
        axes = torch_axes(self.in_axis, self.out_axis, self.batch_axis)
        return dataclasses.replace(self, **axes)

    def _law(self, shape: checks.Shape, dtype: np.dtype) -> tuple[laws.Law, Any]:
        n = self._fan(shape)
        # JAX rounds the variance and then its root. Another order of the two changes
        # the last bit of values in float32.
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
        """Return the shortest call: a preset's name where one has these settings."""
        name, settings = super()._spelling()
        if self._is_traced:
            return name, settings
        # he_normal() and variance_scaling(2.0, "fan_in", "truncated_normal") are one
        # value, which must not print in two ways.
        for preset, law in PRESETS.items():
            if law == (self.scale, self.mode, self.distribution):
                name = preset
                settings = {k: v for k, v in settings.items() if k not in _LAW_FIELDS}
        return name, settings


_LAW_FIELDS = ("scale", "mode", "distribution")


@scheme(
    law="normal, uniform or truncated",
    formula="std = sqrt(scale / n)",
    use="any scale over any fan, as in the presets",
    pitfall="overlapping axes pass, as in JAX",
    paper=(papers.GLOROT_2010, papers.HE_2015),
)
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
    """Draw with variance scale / n, where n is a fan of the shape.

    `mode` chooses n: fan_in, fan_out, (fan_in + fan_out) / 2 ("fan_avg") or
    sqrt(fan_in fan_out) ("fan_geo_avg"). `distribution` chooses the law: "normal" is
    N(0, scale / n), "uniform" is U(+-sqrt(3 scale / n)), and "truncated_normal" is a
    normal law truncated at two standard deviations and widened to that variance.

    Axes that are neither input, output nor batch are the window of a convolution.
    Inputs and outputs may overlap, as in JAX: Flax and T5X draw embeddings with
    `out_axis=0` beside `in_axis=0`. `jinit.fans` and the short names reject overlaps.

    Args:
      scale: the numerator of the variance, zero or more.
      mode: "fan_in", "fan_out", "fan_avg" or "fan_geo_avg".
      distribution: "truncated_normal", "normal" or "uniform".
      in_axis: the axis or axes of the inputs.
      out_axis: the axis or axes of the outputs.
      batch_axis: the axis or axes that count independent copies.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if `mode` or `distribution` is unknown or `scale` is negative; when
        called, if the shape has fewer than two axes and `in_axis` is the default.

    Example:
      >>> import jinit
      >>> jinit.variance_scaling(2.0, "fan_in", "normal").std((512, 256))
      0.0625

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010.
      He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015.
    """
    return VarianceScaling(
        scale, mode, distribution, in_axis, out_axis, batch_axis, canonical_dtype(dtype)
    )
