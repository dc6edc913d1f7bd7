"""Xavier, He, Kaiming and LeCun scale their draws by the fans of the shape.

Each scheme is one formula for the standard deviation. Unlike the makers with JAX's
names (`variance_scaling.py`), these compute it in Python floats and round once, take
layouts, groups, explicit fans and gains, and reject axes that overlap.
"""

import dataclasses
import math
from typing import Any, ClassVar, Unpack

import numpy as np
from jax.typing import DTypeLike

from .._core import checks, numbers, papers
from .._core.dtypes import canonical_dtype, is_complex
from .._initializer.base import Initializer, LayoutAndFans, RandomInitializer
from .._initializer.kernel_axes import KernelAxes
from .._initializer.scheme import scheme
from .._scale.fans import MODES, Fans, fan, fans, layout_if_disjoint, torch_axes
from .._scale.gains import Activation, canonical, gain, second_moment, slope_at_zero
from ..random import _law as laws
from .fan_options import (
    FanOptions,
    count_once,
    fan_maker,
    refuse_activation,
    settings_for_axes,
)
from .truncated import truncated_std
from .variance_scaling import UNIT_LAWS, Axes

_DISTRIBUTIONS = ("normal", "truncated_normal", "uniform")
_RULES = ("gain", "slope_at_zero")


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class FanScheme(RandomInitializer):
    """A FanScheme draws with a standard deviation of gain times a formula in fans."""

    distribution: str = "normal"
    layout: str | None = None
    in_axis: Axes = -2
    out_axis: Axes = -1
    batch_axis: Axes = ()
    groups: int = 1
    fan_in: int | None = None
    fan_out: int | None = None
    gain: float | Activation = 1.0
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        self._set(
            distribution=checks.choice(
                "distribution", self.distribution, _DISTRIBUTIONS
            ),
            in_axis=checks.canonical_axes("in_axis", self.in_axis),
            out_axis=checks.canonical_axes("out_axis", self.out_axis),
            batch_axis=checks.canonical_axes("batch_axis", self.batch_axis),
            fan_in=checks.count("fan_in", self.fan_in),
            fan_out=checks.count("fan_out", self.fan_out),
            dtype=canonical_dtype(self.dtype),
        )
        # An activation stays as it was given: its gain depends on the direction, and a
        # repr should name the activation and not a number of 17 digits.
        if not callable(self.gain) and not isinstance(self.gain, str | tuple):
            self._set(gain=checks.number("gain", self.gain, minimum=0.0))
        # A wrong activation must raise in the maker, not in the first call.
        self._gain()

    def _std(self, shape: checks.Shape) -> float | None:
        variance = self._variance(self._fans(shape))
        return None if variance is None else self._gain() * numbers.sqrt(variance)

    def _layout_and_fans(self, shape: checks.Shape) -> LayoutAndFans:
        # A fan that the formula does not use may be unknown; it is 0 then.
        fan_in, fan_out = (n or None for n in self._fans(shape))
        axes = self.in_axis, self.out_axis, self.batch_axis
        return self.layout or layout_if_disjoint(shape, *axes), (fan_in, fan_out)

    def _variance(self, fans: Fans) -> float | None:
        """Return the variance for a gain of 1, or None if a fan is zero."""
        raise NotImplementedError

    def _mode(self) -> str:
        return "fan_in"

    def _gain(self) -> Any:
        if isinstance(self.gain, float) or numbers.is_traced(self.gain):
            return self.gain
        return gain(self.gain, direction=direction(self._mode()))

    def _fans(self, shape: checks.Shape) -> Fans:
        """Return the fans that the user passed, or else those of the shape."""
        explicit = self.fan_in, self.fan_out
        if self._needs_no_axes():
            # The shape may have any axes: a bias has too few of them to count fans. A
            # fan that the formula does not use may stay unknown.
            return Fans(*(n or 0 for n in explicit))
        counted = fans(
            shape,
            self.layout,
            in_axis=self.in_axis,
            out_axis=self.out_axis,
            batch_axis=self.batch_axis,
            groups=self.groups,
        )
        pairs = zip(explicit, counted, strict=True)
        return Fans(*(n if m is None else m for m, n in pairs))

    def _needs_no_axes(self) -> bool:
        """Tell whether the settings have every fan that the formula uses."""
        explicit = self.fan_in, self.fan_out
        used = {"fan_in": explicit[:1], "fan_out": explicit[1:]}
        return None not in used.get(self._mode(), explicit)

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        named = self.in_axis, self.out_axis, self.batch_axis
        if self.layout or named != (-2, -1, ()) or self._needs_no_axes():
            return self
        return dataclasses.replace(self, **settings_for_axes(self, axes))

    def _in_torch_layout(self) -> Initializer:
        if self.layout is not None:
            return self
        axes = torch_axes(self.in_axis, self.out_axis, self.batch_axis)
        return dataclasses.replace(self, **axes)

    def _law(self, shape: checks.Shape, dtype: np.dtype) -> tuple[laws.Law, Any]:
        std = self._std(shape)
        # The std is None where a fan is 0: the array is empty, and any scale serves.
        std = 0.0 if std is None else std
        # The complex uniform law fills a disk and has std 1; the real one fills [-1, 1]
        # and has std 1 / sqrt(3).
        if self.distribution == "uniform" and not is_complex(dtype):
            std = std * math.sqrt(3)
        if self.distribution == "truncated_normal":
            std = std / (
                _MODULUS_STD if is_complex(dtype) else truncated_std(-2.0, 2.0)
            )
        return UNIT_LAWS[self.distribution], std


# The standard deviation of a complex normal variable with E|z|^2 = 1 whose modulus is
# truncated at 2.
_MODULUS_STD = math.sqrt((1 - 5 * math.exp(-4)) / (1 - math.exp(-4)))


def direction(mode: str) -> str:
    """Return the pass that keeps its scale: "backward" for the gradient of fan_out."""
    return "backward" if mode == "fan_out" else "forward"


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class Xavier(FanScheme):
    """Xavier draws with the variance 2 / (fan_in + fan_out)."""

    _name: ClassVar[str] = "xavier"

    def _mode(self) -> str:
        return "fan_avg"

    def _variance(self, fans: Fans) -> float | None:
        # Glorot and Bengio (2010), Eq. 12, the compromise between n_in Var w = 1 of
        # Eq. 10, for the signal, and n_out Var w = 1 of Eq. 11, for the gradient.
        return _over(2, sum(fans))


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class Lecun(FanScheme):
    """Lecun draws with the variance 1 / fan_in."""

    _name: ClassVar[str] = "lecun"

    def _variance(self, fans: Fans) -> float | None:
        # LeCun et al. (1998): sigma_w = m^(-1/2) for m inputs.
        return _over(1, fans.fan_in)


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class He(FanScheme):
    """He draws with the variance 2 / n, where `mode` chooses the fan n."""

    mode: str = "fan_in"

    _name: ClassVar[str] = "he"

    def __post_init__(self) -> None:
        checks.choice("mode", self.mode, MODES)
        super().__post_init__()

    def _mode(self) -> str:
        return self.mode

    def _variance(self, fans: Fans) -> float | None:
        # He et al. (2015), n Var w / 2 = 1: Eq. 10 with n = n_in, Eq. 14 with
        # n = n_out.
        return _over(2, fan(self.mode, *fans))


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class Kaiming(FanScheme):
    """Kaiming draws with the variance gain(f)^2 / n, or with 2 / (n + f'(0)).

    f is the activation, and the field `rule` chooses the formula.
    """

    activation: Activation = "relu"
    rule: str = "gain"
    mode: str = "fan_in"

    _name: ClassVar[str] = "kaiming"

    def __post_init__(self) -> None:
        checks.choice("rule", self.rule, _RULES)
        checks.choice("mode", self.mode, MODES)
        self._numerator_and_addend()
        super().__post_init__()

    def _mode(self) -> str:
        return self.mode

    def _variance(self, fans: Fans) -> float | None:
        numerator, addend = self._numerator_and_addend()
        return _over(numerator, fan(self.mode, *fans) + addend)

    def _numerator_and_addend(self) -> tuple[float, float]:
        if self.rule == "slope_at_zero":
            # This rule adds the slope to a count, where He's formula for leaky relu
            # has the factor 1 + slope^2. As an addend a slope vanishes beside n.
            return 2.0, slope_at_zero(self.activation)
        # This is gain^2 without the rounding of a root: for relu it is exactly 2, as in
        # He's formula.
        moment = second_moment(self.activation, direction=direction(self.mode))
        return 1 / moment, 0.0


def _over(numerator: float, n: float) -> float | None:
    # A traced or symbolic n has no value to compare with 0 yet.
    return None if numbers.is_known(n) and n <= 0 else numerator / n


@scheme(
    law="normal, uniform or truncated",
    formula="std = sqrt(2 / (n_in + n_out))",
    use="tanh, sigmoid, linear layers",
    pitfall="halves the variance in every relu layer",
    paper=papers.GLOROT_2010,
)
@fan_maker(Xavier)
def xavier(**options: Unpack[FanOptions]) -> Initializer:
    """Draw with std = gain sqrt(2 / (n_in + n_out)), for tanh, sigmoid, linear layers.

    The variance lies between 1 / n_in, which keeps the scale of the signal, and
    1 / n_out, which keeps that of the gradient. Before relu the signal loses half of
    its variance in every layer.

    Args:
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: if a distribution, layout or activation is unknown or the gain is
        negative; when called, if the axes do not fit the shape.

    Example:
      >>> import jinit
      >>> jinit.xavier().std((784, 16)) == (2 / 800) ** 0.5
      True
      >>> jinit.xavier(distribution="uniform", gain="tanh")
      jinit.xavier(distribution='uniform', gain='tanh')

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010.
    """
    return Xavier(**options)


@scheme(
    law="normal, uniform or truncated",
    formula="std = sqrt(1 / n_in)",
    use="selu, linear layers, a first layer",
    paper=papers.LECUN_1998,
)
@fan_maker(Lecun)
def lecun(**options: Unpack[FanOptions]) -> Initializer:
    """Draw with std = gain sqrt(1 / n_in), for selu, linear layers and first layers.

    A layer without an activation, or one that sees data, keeps the variance of its
    inputs.

    Args:
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: for the same reasons as `xavier`.

    Example:
      >>> import jinit
      >>> jinit.lecun().std((100, 16))
      0.1

    References:
      LeCun, Bottou, Orr and Müller, "Efficient BackProp", Neural Networks: Tricks of
        the Trade 1998.
    """
    return Lecun(**options)


@scheme(
    law="normal, uniform or truncated",
    formula="std = sqrt(2 / n_in)",
    use="relu, leaky relu",
    pitfall="doubles the variance of the input in a first layer",
    paper=papers.HE_2015,
)
@fan_maker(He)
def he(*, mode: str = "fan_in", **options: Unpack[FanOptions]) -> Initializer:
    """Draw with std = gain sqrt(2 / n_in), for relu and its relatives.

    Args:
      mode: the fan in the formula: "fan_in" keeps the scale of the signal, "fan_out"
        that of the gradient, "fan_avg" and "fan_geo_avg" lie between the two.
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: if `mode` is unknown, or `gain` is an activation, since the formula
        already has the gain of relu; and for the same reasons as `xavier`.

    Example:
      >>> import jinit
      >>> jinit.he().std((512, 256))
      0.0625
      >>> jinit.he(layout="oikk").std((32, 8, 2, 2))  # a convolution in PyTorch
      0.25

    References:
      He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015.
    """
    refuse_activation("he", options, count_once(options.get("gain")))
    return He(mode=mode, **options)


@scheme(
    law="normal, uniform or truncated",
    formula="std = gain(f) / sqrt(n), or sqrt(2 / (n + f'(0)))",
    use="any activation, such as gelu, silu or your own",
    pitfall="the second rule, by the slope at zero, hardly changes He's std",
    paper=papers.HE_2015,
)
@fan_maker(Kaiming)
def kaiming(
    activation: Activation = "relu",
    *,
    rule: str = "gain",
    mode: str = "fan_in",
    **options: Unpack[FanOptions],
) -> Initializer:
    """Draw with std = gain(f) / sqrt(n), the right scale behind any activation f.

    With rule="gain", gain(f) = 1 / sqrt(E f(z)^2) for z ~ N(0, 1). For "fan_out" the
    gain is that of the derivative f', which keeps the scale of the gradient.

    With rule="slope_at_zero", std = sqrt(2 / (n + f'(0))), a formula that also goes by
    Kaiming's name. For relu, whose f'(0) is 0 in JAX, both rules agree exactly. For any
    other f the second rule gives nearly He's std, since one slope is small beside n
    inputs: the two rules differ by a factor of about gain(f) / sqrt(2). No paper
    supports the second rule.

    The first layer of a network sees data and no activations: use `lecun()` there.

    Args:
      activation: a name such as "gelu", a name with its parameter such as
        ("leaky_relu", 0.2), or any function of a scalar.
      rule: "gain" or "slope_at_zero".
      mode: "fan_in", "fan_out", "fan_avg" or "fan_geo_avg".
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: if the activation, rule or mode is unknown, the activation has no
        gain, or `gain` is a second activation; and for the same reasons as `xavier`.

    Example:
      >>> import jax, jinit
      >>> round(jinit.kaiming(jax.nn.silu).std((100, 16)), 6)
      0.167653
      >>> jinit.kaiming("relu").std((512, 256)) == jinit.he().std((512, 256))
      True
      >>> jinit.to_config(jinit.kaiming(("leaky_relu", 0.2)))
      {'name': 'kaiming', 'activation': ['leaky_relu', 0.2]}

    References:
      He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015.
    """
    activation = canonical(activation)
    if rule != "gain" or activation not in ("linear", "identity"):
        refuse_activation("kaiming", options, count_once(options.get("gain")))
    return Kaiming(activation=activation, rule=rule, mode=mode, **options)
