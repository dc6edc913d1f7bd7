"""Wrong laws count axes that the product does not contract."""

import math
from collections.abc import Iterator, Sequence

from ..._network.reader.records import Parameter
from .law import FAMILIES, Law

TORCH = "torch's default"
MEMBERS = "members counted as inputs"
# fan_in * std^2 of the laws that count one fan.
VARIANCES = {"lecun": 1.0, "he": 2.0, TORCH: 1 / 3}


def wrong_laws(parameter: Parameter) -> list[Law]:
    """Return the laws of initializers that take other axes than the product's.

    The fan_in of an initializer is the size of a tensor over that of its output axis:
    the last axis by JAX's default, the first by PyTorch's, or another by `out_axis=`.
    """
    layout = parameter.layout
    if layout is None or parameter.fans is None or len(layout) < 2:
        return []
    if not {"i", "o"} <= set(layout):
        return []
    contracted = tuple(n for n, letter in enumerate(layout) if letter in "ik")
    return [
        *_over_axes(parameter, contracted),
        *_grouped(parameter, contracted),
        *_xavier(parameter, contracted),
    ]


def _over_axes(parameter: Parameter, contracted: tuple[int, ...]) -> Iterator[Law]:
    shape, layout = parameter.shape, parameter.layout
    assert layout is not None and parameter.fans is not None
    # A matrix (in, out) whose law counts its outputs is meant so: "fan_out".
    if layout == "io":
        return
    members = [n for n, letter in enumerate(layout) if letter == "b"]
    done = {parameter.fans.fan_in, math.prod(shape[n] for n in contracted)}
    # JAX's default comes first: where several axes fit, it is the likeliest.
    for out in (len(shape) - 1, *range(len(shape) - 1)):
        for dropped in _subsets(members):
            axes = tuple(n for n in range(len(shape)) if n != out and n not in dropped)
            fan = math.prod(shape[n] for n in axes)
            if not axes or fan in done or out in dropped:
                continue
            mistake = _mistake(axes, contracted, layout)
            for name, variance in VARIANCES.items():
                form = name, out - len(shape) if out else 0, len(dropped)
                yield Law(
                    f"{name} over axes {axes}: fan_in {_product(shape, axes)}",
                    math.sqrt(variance / fan),
                    6.0 if out == len(shape) - 1 else 8.0,
                    _families(name),
                    axes=axes,
                    mistake=mistake,
                    form=form,
                )


def _grouped(parameter: Parameter, contracted: tuple[int, ...]) -> Iterator[Law]:
    """Yield the laws that count the inputs of all groups."""
    assert parameter.fans is not None
    fan, groups = parameter.fans.fan_in, parameter.groups
    if groups == 1:
        return
    for name, variance in VARIANCES.items():
        yield Law(
            f"{name} over all groups: fan_in {groups} x {fan} = {groups * fan}",
            math.sqrt(variance / (groups * fan)),
            6.0,
            _families(name),
            axes=contracted,
            mistake="groups counted as inputs",
            form=(name, "groups"),
        )


def _xavier(parameter: Parameter, contracted: tuple[int, ...]) -> Iterator[Law]:
    """Yield Xavier's law over wrong pairs of axes; its sum hides a transposition."""
    shape, layout = parameter.shape, parameter.layout or ""
    if len(shape) < 3:
        return
    size, rank = math.prod(shape), len(shape)
    for into, out in ((rank - 2, rank - 1), (1, 0), (0, 1)):
        axes = tuple(n for n in range(rank) if n != out)
        if _mistake(axes, contracted, layout) is None:
            continue
        fan_in, fan_out = size // shape[out], size // shape[into]
        yield Law(
            f"xavier over axes {axes}: fan_in {_product(shape, axes)}, "
            f"fan_out {fan_out}",
            math.sqrt(2 / (fan_in + fan_out)),
            6.0,
            axes=axes,
            mistake=_mistake(axes, contracted, layout),
            form=("xavier", out - rank if out else 0, 0),
        )


def _families(name: str) -> tuple[str, ...]:
    return ("uniform",) if name == TORCH else FAMILIES


def _subsets(members: Sequence[int]) -> Iterator[tuple[int, ...]]:
    # Flax's scan and vmap draw each member alone, so its axes may be no part of a law.
    for mask in range(1 << min(len(members), 3)):
        yield tuple(n for i, n in enumerate(members) if mask >> i & 1)


def _mistake(
    axes: tuple[int, ...], contracted: tuple[int, ...], layout: str
) -> str | None:
    extra = {layout[n] for n in axes if n not in contracted}
    missing = set(contracted) - set(axes)
    if not (extra or missing):
        return None
    if extra == {"b"} and not missing:
        return MEMBERS
    return "fans over the wrong axes"


def _product(shape: Sequence[int], axes: Sequence[int]) -> str:
    sizes = [shape[n] for n in axes]
    text = " x ".join(map(str, sizes))
    return text if len(sizes) == 1 else f"{text} = {math.prod(sizes)}"
