"""The likeliest law of a parameter is the known formula that gives the measured std.

A formula is judged within the error of the std of n draws, and by the family of the
draws. Formulas that are meant so (over the inputs of the product, or a constant) go
before those that count axes which the product does not contract.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .._network.reader.records import Parameter
from .._scale.gains import gain
from .measured import Measured

# The stds of published recipes: GPT-2's 0.02, DeepSeek's 0.006, PyTorch's embedding 1.
_CONSTANTS = (1.0, 0.1, 0.05, 0.02, 0.01, 0.006, 0.005, 0.001, 1e-4, 1e-5, 1e-6)
# Within so many standard errors a std is that of a law; an innocent law is left aside
# only where the std is farther from it than the second number.
WITHIN, BEYOND = 3.0, 4.5
# Up to this penalty a law is usual, and not found by chance among many.
_USUAL = 1.0
# Laws that are used with fan_in alone.
_OF_INPUTS = {"torch's default", "small_init"}


class Law(NamedTuple):
    """A formula with the std that it gives for one parameter."""

    text: str
    std: float
    # What must speak for it beside its number, in halves of squared standard errors.
    penalty: float = 0.0
    # The families of distributions that the formula goes with.
    families: tuple[str, ...] = ("normal", "truncated normal", "uniform")
    # For a formula over axes that the product does not contract: these axes, and what
    # went wrong. `form` names the formula and the place of its axes in all tensors.
    axes: tuple[int, ...] = ()
    mistake: str | None = None
    form: tuple[Any, ...] = ()


class Judged(NamedTuple):
    """The likeliest law of a parameter, and a mistake that alone explains its std."""

    text: str
    law: Law | None
    mistake: Law | None

    @property
    def is_usual(self) -> bool:
        """Tell whether the law is a usual one, or a mistake."""
        if self.law is None:
            return False
        return self.mistake is not None or self.law.penalty <= _USUAL


def right_std(parameter: Parameter) -> float | None:
    """Return the std that keeps the signal: gain(activation) / sqrt(fan_in).

    None where the parameter multiplies nothing, or reads something without a gain. A
    tied embedding is asked as a readout, which reads its features.
    """
    fans, factor = parameter.fans, gain_of(parameter.activation)
    is_lookup = "embedding" in parameter.roles
    needed = {"readout"} if is_lookup else {"matrix", "convolution"}
    if fans is None or factor is None or not parameter.roles & needed:
        return None
    return factor / math.sqrt(max(1, fans.fan_out if is_lookup else fans.fan_in))


def gain_of(activation: Any) -> float | None:
    """Return the gain of what a parameter reads, or None where it has none."""
    if activation is None:
        return 1.0
    try:
        return gain(activation)
    except (TypeError, ValueError):
        return None


def judged(parameter: Parameter, measured: Measured, depth: int) -> Judged:
    """Return the likeliest law of a measured parameter.

    Args:
      parameter: what it does.
      measured: its numbers.
      depth: the number of residual additions of its network.
    """
    if measured.special is not None:
        return Judged(measured.special, None, None)
    if measured.family is None:
        return Judged("-", None, None)
    laws = [
        law for law in _all_laws(parameter, depth) if measured.family in law.families
    ]
    likely = [law for law in laws if _distance(law, measured) <= WITHIN]
    plain = f"{measured.family} of std {measured.std:.3g}"
    if not likely:
        return Judged(plain, None, None)
    innocents = [law for law in likely if law.mistake is None]
    best = min(
        innocents or likely,
        key=lambda x: x.penalty + _distance(x, measured) ** 2 / 2,
    )
    innocent = any(
        law.mistake is None and _distance(law, measured) < BEYOND for law in laws
    )
    # A mistake that an innocent law explains as well is not named as the likeliest law.
    if best.mistake is not None and innocent:
        return Judged(plain, None, None)
    wrong = best if best.mistake is not None else None
    return Judged(f"{best.text} ({measured.family})", best, wrong)


def _distance(law: Law, measured: Measured) -> float:
    """Return how many standard errors lie between a law's std and the measured one."""
    return abs(measured.std / law.std - 1) / measured.error


def _all_laws(parameter: Parameter, depth: int) -> list[Law]:
    laws = [Law(f"normal({std:g})", std, 1.0) for std in _CONSTANTS]
    if parameter.layout is None or parameter.fans is None:
        fans = parameter.fans
        sizes = [] if fans is None else [fans.fan_in]
        laws += _of_fans(sizes, [] if fans is None else [fans.fan_out], parameter)
        return laws + list(_scaled_by_depth(laws, parameter, depth))
    laws += _right(parameter)
    laws += list(_scaled_by_depth(laws, parameter, depth))
    return laws + list(_wrong(parameter))


def _sizes(parameter: Parameter) -> dict[str, int]:
    """Return the number of inputs, outputs, taps and members of a parameter."""
    sizes = dict.fromkeys("iokb", 1)
    for size, letter in zip(parameter.shape, parameter.layout or "", strict=True):
        sizes[letter] *= size
    return sizes


def _right(parameter: Parameter) -> Iterator[Law]:
    """Yield the laws that count the axes of the product as they are."""
    assert parameter.fans is not None
    sizes = _sizes(parameter)
    window, outputs = sizes["k"], sizes["o"]
    # A transposed convolution has a fan over its whole window, too. Groups may be left
    # out of fan_out, and the parts of a fused kernel counted one by one.
    inputs = [parameter.fans.fan_in, sizes["i"] * window, sizes["i"]]
    outs = [parameter.fans.fan_out, outputs * window, outputs]
    fused = [outputs // n for n in (2, 3, 4) if outputs % n == 0]
    if "embedding" in parameter.roles:
        inputs, outs = [outputs, *inputs], [*inputs, *outs]
    yield from _of_fans(inputs, outs, parameter, fused)
    # T5 draws queries with 1 / sqrt(d d_kv), in the place of a scale of the logits.
    if "query" in parameter.roles:
        for size, letter in zip(parameter.shape, parameter.layout or "", strict=True):
            if letter == "o":
                yield Law("T5's query", (sizes["i"] * size) ** -0.5, 1.0)


def _of_fans(
    inputs: Sequence[int],
    outputs: Sequence[int],
    parameter: Parameter,
    fused: Sequence[int] = (),
) -> Iterator[Law]:
    inputs, outputs = _unique(inputs), _unique(outputs)
    for number, fan in enumerate(inputs):
        for name, variance, families in _gains(parameter):
            penalty = 0.0 if name in ("lecun", "he") and number == 0 else 1.5
            yield Law(
                f"{name}: fan_in {fan}", math.sqrt(variance / fan), penalty, families
            )
    is_transposed = parameter.layout == "oi"
    for fan in outputs:
        for name, variance, families in _gains(parameter):
            if name in _OF_INPUTS:
                continue
            if is_transposed:
                # JAX's initializers take this axis for the inputs; see `_wrong`. They
                # cut their normals at 2, and "fan_out" is usual for He's law alone.
                families = tuple(f for f in families if f != "truncated normal")
                families = () if name == "lecun" else families
            law = math.sqrt(variance / fan)
            yield Law(f"{name}: fan_out {fan}", law, 2.5, families)
    for number, fan in enumerate(inputs):
        for other, out in enumerate([*outputs, *fused]):
            std = math.sqrt(2 / (fan + out))
            penalty = 0.0 if number == other == 0 else 2.0
            yield Law(f"xavier: fan_in {fan}, fan_out {out}", std, penalty)
            factor = gain_of(parameter.activation) or 1.0
            for times in {factor, 5 / 3, math.sqrt(2)} - {1.0}:
                text = f"xavier, gain {times:.3g}: fan_in {fan}, fan_out {out}"
                yield Law(text, times * std, 3.0)


def _gains(parameter: Parameter) -> list[tuple[str, float, tuple[str, ...]]]:
    """Return names, fan * std^2, and families of the laws that count one fan."""
    every = ("normal", "truncated normal", "uniform")
    names = [
        ("lecun", 1.0, every),
        ("he", 2.0, every),
        # U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), the default of PyTorch and Equinox.
        ("torch's default", 1 / 3, ("uniform",)),
        ("small_init", 0.4, ("normal", "truncated normal")),
        ("kaiming('tanh'), torch's gain", 25 / 9, every),
        ("kaiming('selu'), torch's gain", 9 / 16, every),
    ]
    factor = gain_of(parameter.activation)
    if factor is not None and parameter.activation is not None:
        names.append((f"kaiming({_spelled(parameter)})", factor**2, every))
    return names


def _spelled(parameter: Parameter) -> str:
    activation = parameter.activation
    return repr(activation) if isinstance(activation, str) else "its activation"


def _unique(sizes: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(size for size in sizes if size > 0))


def _scaled_by_depth(
    laws: Sequence[Law], parameter: Parameter, depth: int
) -> Iterator[Law]:
    """Yield laws that are divided by a power of the depth.

    A stack's length is its depth, so 1 / sqrt(length) may be meant, at branch ends.
    """
    letters = zip(parameter.shape, parameter.layout or "", strict=False)
    lengths = {size for size, letter in letters if letter == "b"}
    is_end = "residual_output" in parameter.roles
    if is_end:
        depths = {depth, depth // 2, 2 * depth, *lengths, *(2 * x for x in lengths)}
        factors = {f"sqrt({d})": d**-0.5 for d in depths if d > 1}
        # Wang & Komatsuzaki divide by the depth itself.
        factors |= {f"{d}": 1 / d for d in depths if d > 1}
    else:
        # DeepNorm and T-Fixup scale what writes and feeds a branch's end, too. Neither
        # scales queries and keys.
        if parameter.roles & {"query", "key", "router"} or depth < 2:
            return
        depths = {depth // 2, *(x for x in lengths if depth % x == 0)} - {0}
        factors = {f"({8 * d})^(1/4)": (8 * d) ** -0.25 for d in depths}
        factors |= {f"(1.5 {d}^(1/4))": 0.67 * d**-0.25 for d in depths}
        factors |= {f"({12 * d})^(1/4)": (12 * d) ** -0.25 for d in depths}
    for law in laws:
        for name, factor in factors.items():
            yield law._replace(
                text=f"{law.text}, / {name}",
                std=law.std * factor,
                penalty=law.penalty + 2.0,
            )


def _wrong(parameter: Parameter) -> Iterator[Law]:
    """Yield the laws of initializers that take other axes than the product's.

    The fan_in of an initializer is the size of a tensor over that of its output axis:
    the last axis by JAX's default, the first by PyTorch's, or another by `out_axis=`.
    """
    shape, layout = parameter.shape, parameter.layout
    assert layout is not None and parameter.fans is not None
    contracted = tuple(n for n, letter in enumerate(layout) if letter in "ik")
    if len(shape) < 2 or not {"i", "o"} <= set(layout):
        return
    members = [n for n, letter in enumerate(layout) if letter == "b"]
    done = {parameter.fans.fan_in, math.prod(shape[n] for n in contracted)}
    for out in range(len(shape)):
        for dropped in _subsets(members):
            axes = tuple(n for n in range(len(shape)) if n != out and n not in dropped)
            fan = math.prod(shape[n] for n in axes)
            if not axes or fan in done or out in dropped:
                continue
            mistake = _mistake(axes, contracted, layout)
            # A matrix (in, out) whose law counts its outputs is meant so: "fan_out".
            if len(shape) == 2 and layout == "io":
                continue
            for name, variance in (("lecun", 1.0), ("he", 2.0)):
                form = name, out - len(shape) if out else 0, len(dropped)
                yield Law(
                    f"{name} over axes {axes}: fan_in {_product(shape, axes)}",
                    math.sqrt(variance / fan),
                    6.0,
                    axes=axes,
                    mistake=mistake,
                    form=form,
                )
    if parameter.groups > 1:
        yield from _grouped(parameter, contracted)
    yield from _wrong_xavier(parameter, contracted)


def _grouped(parameter: Parameter, contracted: tuple[int, ...]) -> Iterator[Law]:
    """Yield the laws that count the inputs of all groups."""
    assert parameter.fans is not None
    fan, groups = parameter.fans.fan_in, parameter.groups
    for name, variance in (("lecun", 1.0), ("he", 2.0)):
        yield Law(
            f"{name} over all groups: fan_in {groups} x {fan} = {groups * fan}",
            math.sqrt(variance / (groups * fan)),
            6.0,
            axes=contracted,
            mistake="groups counted as inputs",
            form=(name, "groups"),
        )


def _wrong_xavier(parameter: Parameter, contracted: tuple[int, ...]) -> Iterator[Law]:
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
        return "members counted as inputs"
    return "fans over the wrong axes"


def _product(shape: Sequence[int], axes: Sequence[int]) -> str:
    sizes = [shape[n] for n in axes]
    text = " x ".join(map(str, sizes))
    return text if len(sizes) == 1 else f"{text} = {math.prod(sizes)}"
