"""Right laws count the inputs or outputs of a product, or are constants of recipes."""

import math
from collections.abc import Iterator, Sequence

from ..._network.reader.records import Parameter
from .law import FAMILIES, Around, Law, gain_of
from .measured import CUT_STD

# The stds of published recipes: GPT-2's 0.02, DeepSeek's 0.006, PyTorch's embedding 1.
_CONSTANTS = (1.0, 0.1, 0.05, 0.02, 0.01, 0.006, 0.005, 0.001, 1e-4, 1e-5, 1e-6)
# Gains of `torch.nn.init.calculate_gain` that are not those of the integral.
_TORCH_GAINS = {"tanh": 5 / 3, "selu": 3 / 4}
# Laws that are used with fan_in alone.
_HAIKU = "truncated_normal(1 / sqrt(fan_in))"
_OF_INPUTS = {"torch's default", "small_init", _HAIKU}
_USUAL_NAMES = {"lecun", "he", "torch's default", _HAIKU}


def right_laws(parameter: Parameter, network: Around) -> list[Law]:
    """Return the laws that a parameter may have without a mistake."""
    laws = list(_constants())
    if "embedding" in parameter.roles:
        laws += _of_tables(parameter)
    if parameter.roles & {"embedding", "readout"} == {"embedding"}:
        return laws
    if parameter.layout is None or parameter.fans is None:
        fans = parameter.fans
        sizes = [] if fans is None else [fans.fan_in]
        laws += _of_fans(sizes, [] if fans is None else [fans.fan_out], parameter)
        return laws + list(_scaled_by_depth(laws, parameter, network))
    laws += _right(parameter)
    hidden = network.cells.get(parameter.fans.fan_out)
    if hidden is not None:
        text, std = f"torch's cell: {hidden} hidden units", (3 * hidden) ** -0.5
        laws.append(Law(text, std, families=("uniform",)))
    return laws + list(_scaled_by_depth(laws, parameter, network))


def _constants() -> Iterator[Law]:
    """Yield the laws whose std is a number of a recipe."""
    normals = ("normal", "truncated normal")
    for number in _CONSTANTS:
        yield Law(f"normal({number:g})", number, 1.0, normals)
        text = f"uniform(-{number:g}, {number:g})"
        yield Law(text, number / math.sqrt(3), 1.0, ("uniform",))
    for number in (1.0, 0.02, 0.01, 0.001):
        text = f"truncated_normal({number:g})"
        yield Law(text, number * CUT_STD, 1.0, ("truncated normal",))


def _of_tables(parameter: Parameter) -> Iterator[Law]:
    """Yield the laws of tables of entries that are looked up."""
    features = parameter.shape[-1]
    rows = max(1, math.prod(parameter.shape) // max(1, features))
    yield Law(f"lecun over the {features} features", features**-0.5)
    yield Law(f"lecun over the {rows} entries", rows**-0.5, 1.5)
    yield Law(
        f"xavier: {rows} entries, {features} features",
        math.sqrt(2 / (rows + features)),
        1.0,
    )


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
    if parameter.roles & {"query", "key", "value", "gate", "up"}:
        # PyTorch's and fairseq's attention: each kernel is drawn as a part of a fused
        # one, or by Xavier's law with gain 1 / sqrt(2), which is nearly the same.
        fused = [*fused, 2 * outputs, 3 * outputs]
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
    """Yield the laws of these fans; `fused` are the outputs of fused kernels."""
    inputs, outputs = _unique(inputs), _unique(outputs)
    for number, fan in enumerate(inputs):
        for name, variance, families in _gains(parameter):
            penalty = 0.0 if name in _USUAL_NAMES and number == 0 else 1.5
            yield Law(
                f"{name}: fan_in {fan}", math.sqrt(variance / fan), penalty, families
            )
    is_transposed = parameter.layout == "oi"
    for fan in outputs:
        for name, variance, families in _gains(parameter):
            if name in _OF_INPUTS:
                continue
            if parameter.groups > 1 and name == "lecun":
                # It would count the outputs of all groups; see `wrong_laws`.
                families = ()
            if is_transposed:
                # JAX's initializers take this axis for the inputs; see `wrong_laws`.
                # They cut their normals at 2. "fan_out" is usual for He's law alone.
                families = tuple(f for f in families if f != "truncated normal")
                families = () if name == "lecun" else families
            std = math.sqrt(variance / fan)
            yield Law(f"{name}: fan_out {fan}", std, 2.5, families)
    for number, fan in enumerate(inputs):
        for other, out in enumerate([*outputs, *fused]):
            std = math.sqrt(2 / (fan + out))
            penalty = 0.0 if number == other == 0 else 2.0
            yield Law(f"xavier: fan_in {fan}, fan_out {out}", std, penalty)
            factor = gain_of(parameter.activation) or 1.0
            torch = _TORCH_GAINS.get(parameter.activation, 1.0)
            for times in {factor, torch, math.sqrt(2)} - {1.0}:
                text = f"xavier, gain {times:.3g}: fan_in {fan}, fan_out {out}"
                yield Law(text, times * std, 3.0)


def _gains(parameter: Parameter) -> list[tuple[str, float, tuple[str, ...]]]:
    """Return names, fan * std^2, and families of the laws that count one fan."""
    every = FAMILIES
    names = [
        ("lecun", 1.0, every),
        ("he", 2.0, every),
        # U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), the default of PyTorch and Equinox.
        ("torch's default", 1 / 3, ("uniform",)),
        # Haiku's default, whose std is smaller by what the cut takes away.
        (_HAIKU, CUT_STD**2, ("truncated normal",)),
        ("small_init", 0.4, ("normal", "truncated normal")),
    ]
    torch = _TORCH_GAINS.get(parameter.activation)
    if torch is not None:
        name = f"kaiming({parameter.activation!r}), torch's gain"
        names.append((name, torch**2, every))
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
    laws: Sequence[Law], parameter: Parameter, network: Around
) -> Iterator[Law]:
    """Yield laws that are divided by a power of the depth.

    A stack's length is its depth, so 1 / sqrt(length) may be meant, at branch ends.
    """
    depth, lengths = network.depth, _lengths(parameter, network)
    is_end = "residual_output" in parameter.roles
    if is_end:
        depths = {depth, depth // 2, 2 * depth, *lengths, *(2 * x for x in lengths)}
        factors = {f"sqrt({d})": d**-0.5 for d in depths if d > 1}
        # Wang & Komatsuzaki divide by the depth itself, and nobody by twice the depth.
        factors |= {f"{d}": 1 / d for d in depths - {2 * depth} if d > 1}
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
                of_depth=factor,
            )


def _lengths(parameter: Parameter, network: Around) -> set[int]:
    """Return the lengths of a parameter's stack that may be meant by a depth.

    The number of experts is no depth, and more members than residual additions are no
    stack of blocks: the root of their number tells of members counted as inputs.
    """
    letters = zip(parameter.shape, parameter.layout or "", strict=False)
    sizes = {size for size, letter in letters if letter == "b"}
    if "expert" in parameter.roles:
        return sizes & network.lengths
    return {size for size in sizes if size <= network.depth}
