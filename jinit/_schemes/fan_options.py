"""The schemes that count fans share ten keyword settings, and the checks of these.

A maker says `**options: Unpack[FanOptions]` and is decorated with `fan_maker`, which
writes the settings into its signature and its docstring.
"""

import functools
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

from jax.typing import DTypeLike

from .._core import checks
from .._initializer.base import spell
from .._initializer.kernel_axes import KernelAxes
from .._initializer.maker import maker, spelled
from .._scale.fans import check_layout_or_axes
from .._scale.gains import Activation, canonical
from .variance_scaling import Axes

F = TypeVar("F", bound=Callable[..., Any])


class FanOptions(TypedDict, total=False):
    """FanOptions are the keyword settings of every scheme that counts fans."""

    distribution: str
    layout: str | None
    in_axis: Axes
    out_axis: Axes
    batch_axis: Axes
    groups: int
    fan_in: int | None
    fan_out: int | None
    gain: float | Activation
    dtype: DTypeLike | None


# The docstring of each option, for the makers that take them as `**options`.
OPTIONS = {
    "distribution": 'distribution: "normal", "uniform", or "truncated_normal" '
    "(truncated at two\n  standard deviations and widened to the std above).",
    "layout": "layout: one letter for each axis: i input, o output, k window, b batch.",
    "in_axis": "in_axis: the axis or axes of the inputs, instead of a layout.",
    "out_axis": "out_axis: the axis or axes of the outputs.",
    "batch_axis": "batch_axis: the axis or axes that count independent copies.",
    "groups": "groups: the number of groups of a grouped convolution.",
    "fan_in": "fan_in: the fan_in itself, if the shape does not show it.",
    "fan_out": "fan_out: the fan_out itself, if the shape does not show it.",
    "gain": "gain: a factor of the std, or an activation whose gain is that factor.",
    "dtype": "dtype: the dtype of the array, unless the call gives another.",
}


def fan_maker(record: type[Any], *, but: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Make a function the maker of a scheme that counts fans, with checked options.

    Args:
      record: the dataclass that the options become.
      but: options that the function itself decides.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def make(*args: Any, **settings: Any) -> Any:
            return function(*args, **_checked(settings))

        # The maker stands outside, so its errors list the options of the spelled
        # signature.
        return maker(spelled(record, OPTIONS, but=but)(make))  # type: ignore[return-value]

    return decorate


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Check the settings that can be wrong for every shape, and return all settings."""
    if "groups" in settings:
        groups = checks.positive("groups", settings["groups"])
        settings = {**settings, "groups": groups}
    # A partial function equals only itself. As a name with a slope it compares, hashes
    # and has a configuration.
    if "gain" in settings:
        settings = {**settings, "gain": canonical(settings["gain"])}
    # Without one of these the defaults stand, which need no check.
    if not settings.keys().isdisjoint(("layout", "in_axis", "out_axis", "batch_axis")):
        check_layout_or_axes(
            settings.get("layout"),
            settings.get("in_axis", -2),
            settings.get("out_axis", -1),
            settings.get("batch_axis", ()),
        )
    return settings


def settings_for_axes(scheme: Any, axes: KernelAxes) -> dict[str, Any]:
    """Return the settings by which a scheme counts the fans of a kernel.

    Fans that the user passed stay.
    """
    groups = axes.groups if scheme.groups == 1 else scheme.groups
    if axes.fans is None:
        return {"layout": axes.known_layout(), "groups": groups}
    fan_in, fan_out = axes.fans
    # With both fans a kernel may have any shape, also a flat one without a layout.
    return {
        "layout": axes.layout,
        "groups": groups,
        "fan_in": fan_in if scheme.fan_in is None else scheme.fan_in,
        "fan_out": fan_out if scheme.fan_out is None else scheme.fan_out,
    }


def refuse_activation(name: str, options: FanOptions, advice: str) -> None:
    """Raise if `gain` is an activation and the formula already contains a gain."""
    gain = options.get("gain")
    is_activation = callable(gain) or isinstance(gain, str | tuple)
    if is_activation and gain not in ("linear", "identity"):
        raise ValueError(
            f"`gain` is {spell(gain)}, and the formula of jinit.{name} has the gain of "
            f"an activation in it, so two gains would count. {advice}"
        )


def count_once(activation: Any) -> str:
    """Return the advice for an activation whose gain a formula already contains."""
    named = spell(activation)
    return (
        f"Leave `gain` out, or call jinit.kaiming({named}) or "
        f"jinit.lecun(gain={named}), which count it once."
    )
