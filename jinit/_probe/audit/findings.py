"""A finding says how a parameter is drawn, how it should be drawn, and the cure."""

import math
from collections.abc import Iterator, Sequence

from ..._core.results import Finding
from ..._network.reader.records import Parameter
from .audited import Audited, Everything, readers
from .measured import ranks

# Draws in 16 bits by JAX have 128 values or 1,024, where rounded ones have thousands.
_FEW = 0.4
# From so many residual additions on, the size of branch ends matters.
_DEEP = 16
# A readout with a std so many times too large is worth a note.
_LARGE = 5.0

_ORDER = (
    "not finite", "fans over the wrong axes", "members counted as inputs",
    "groups counted as inputs", "wrong gain", "equal values", "constant",
    "few distinct values",
)  # fmt: skip


def findings(everything: Everything) -> list[Finding]:
    """Return a finding for each trouble, the most telling first."""
    several = [
        *_not_finite(everything),
        *_equal_values(everything),
        *_equal_members(everything),
        *_constant(everything),
        *_few_values(everything),
    ]
    return sorted(several, key=rank)


def rank(finding: Finding) -> int:
    """Return the place of a finding's category; others come last."""
    is_known = finding.category in _ORDER
    return _ORDER.index(finding.category) if is_known else len(_ORDER)


def _not_finite(everything: Everything) -> Iterator[Finding]:
    for path, one in everything.items():
        count, size = one.measured.not_finite, one.measured.size
        # A mask has 0 and -inf, and nothing else.
        if not count or set(one.array.ravel()[:256].tolist()) == {0.0, -math.inf}:
            continue
        is_narrow = one.array.dtype.itemsize < 4
        cure = (
            "A logarithm or a division of a draw in 16 bits meets 0: draw and compute "
            "in float32, and round the result."
            if is_narrow
            else "Look for a logarithm of 0, a division by 0, or a std that overflows."
        )
        yield Finding(
            "not finite",
            path,
            float(count),
            f"{path}: {count:,} of {size:,} entries ({count / size:.2g}) are NaN or "
            f"infinite in {one.array.dtype}; all should be finite. {cure}",
        )


def _equal_values(everything: Everything) -> Iterator[Finding]:
    """Report draws of one key: their orders are equal, whatever their scales are."""
    groups: dict[bytes, list[Audited]] = {}
    for one in everything.values():
        order = ranks(one.array) if one.measured.family is not None else None
        if order is not None:
            # The order of the first 24 entries, among themselves.
            few = order[order < 24]
            groups.setdefault(few.tobytes(), []).append(one)
    for group in groups.values():
        if len(group) < 2:
            continue
        paths = [one.path for one in group]
        others = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
        yield Finding(
            "equal values",
            paths[1],
            float(len(paths)),
            f"{len(paths)} parameters hold the same draws, up to their scales and "
            f"lengths: {paths[0]}, {paths[1]}{others}. One key was used for all, and "
            "independent draws never agree: split the key (jax.random.split), or draw "
            "by jinit.plan, which gives each path a key.",
        )


def _equal_members(everything: Everything) -> Iterator[Finding]:
    for path, one in everything.items():
        layout = one.parameter.layout or ""
        if one.measured.family is None or "b" not in layout:
            continue
        for axis, letter in enumerate(layout):
            first, last = (one.array.take(n, axis=axis) for n in (0, -1))
            if letter != "b" or one.array.shape[axis] < 2:
                continue
            if first.size > 1 and (first == last).all():
                count = one.array.shape[axis]
                yield Finding(
                    "equal values",
                    path,
                    float(count),
                    f"{path} {one.parameter.shape}: its {count} members along axis "
                    f"{axis} hold equal values, and stay equal while they get equal "
                    "gradients. Give each member a key: jax.vmap over "
                    "jax.random.split(key, members), or "
                    "split_rngs={'params': True} in Linen.",
                )


def _constant(everything: Everything) -> Iterator[Finding]:
    """Report kernels of one value, but not those that start at 0 on purpose."""
    for path, one in everything.items():
        special, fans = one.measured.special or "", one.parameter.fans
        if not one.is_kernel or fans is None or "embedding" in one.parameter.roles:
            continue
        if special == "zeros":
            why = _dead(one, everything)
        elif special == "ones" or special.startswith("constant"):
            # A window of equal taps is an average, and one output has no twin.
            is_average = one.parameter.layout is None or "k" in one.parameter.layout
            several = fans.fan_in > 1 and fans.fan_out > 1 and not is_average
            why = _TWINS if several else None
        else:
            why = None
        if why is not None:
            yield Finding(
                "constant",
                path,
                one.measured.mean,
                f"{path} {one.parameter.shape}: all entries are "
                f"{one.measured.mean:.4g}, where draws of std "
                f"{one.right_std or 1 / math.sqrt(fans.fan_in):.3g} keep the signal. "
                f"{why}",
            )


_TWINS = (
    "All its units compute the same and get equal gradients, so that they stay equal: "
    "draw it, as by jinit.lecun()."
)
# Their derivative at 0 is 0 in JAX, so that a zero before them passes no gradient.
_FLAT_AT_ZERO = {"relu", "relu6", "reglu"}
# Starting at 0, these open a path that other parameters keep alive.
_MAY_BE_ZERO = {
    "residual_output", "attention_output", "readout", "router", "query", "key",
    "expert", "recurrent", "scale", "gate", "up", "other",
}  # fmt: skip


def _dead(one: Audited, everything: Everything) -> str | None:
    """Say why a kernel of zeros does not train, or None where it does."""
    after = readers(everything, one.path)
    alone = [x for x in after if x.parameter.inputs == (one.path,)]
    if not after or len(alone) < len(after):
        return None
    if all(x.measured.special == "zeros" for x in after):
        names = ", ".join(x.path for x in after[:2])
        return (
            f"Its readers ({names}) are 0 as well, so that neither ever gets a "
            "gradient: leave only the last one at 0, and draw this one, as by "
            "jinit.lecun()."
        )
    if one.parameter.roles & _MAY_BE_ZERO:
        return None
    if all(x.parameter.activation in _FLAT_AT_ZERO for x in after):
        return (
            "The relu behind it is flat at 0, so that it never gets a gradient: draw "
            "it, as by jinit.he()."
        )
    if all(_is_low_rank(one.parameter, x.parameter) for x in after):
        return None
    return (
        "The layers that read it get equal numbers for every input: draw it, as by "
        "jinit.lecun(), and leave zeros to the ends of residual branches."
    )


def _is_low_rank(first: Parameter, second: Parameter) -> bool:
    """Tell whether two kernels are a pair of low rank, which may have one factor of 0.

    The first factors of RWKV-7's pairs are 0, and the second ones pass the gradient.
    """
    if first.fans is None or second.fans is None:
        return False
    rank = first.fans.fan_out
    return rank < min(first.fans.fan_in, second.fans.fan_out)


def _few_values(everything: Everything) -> Iterator[Finding]:
    """Report draws in 16 bits, once for all parameters that are kept in one dtype."""
    groups: dict[str, list[Audited]] = {}
    for one in everything.values():
        distinct = one.measured.distinct
        if distinct is not None and distinct[0] < _FEW * distinct[1]:
            groups.setdefault(str(one.array.dtype), []).append(one)
    for dtype, group in groups.items():
        yield _of_16_bits(dtype, group)


def _of_16_bits(dtype: str, group: Sequence[Audited]) -> Finding:
    first, pairs = group[0].path, [one.measured.distinct or (0, 0) for one in group]
    shifts = [one.measured.mean / one.measured.std for one in group]
    who, mean, names = f"{first} ({dtype}): its", f"a mean of {shifts[0]:.2g}", ""
    if len(group) > 1:
        who = f"{len(group)} parameters ({dtype}): their"
        mean = f"means of up to {max(map(abs, shifts)):.2g}"
        names = f" They are {', '.join(one.path for one in group)}."
    few, many = ([pair[n] for pair in pairs] for n in (0, 1))
    return Finding(
        "few distinct values",
        first,
        float(min(few)),
        f"{who} draws have {_range(few)} distinct values, where rounded draws have "
        f"about {_range(many)}, and {mean} standard deviations. They were drawn in 16 "
        "bits: draw in float32 and round once, as jinit's initializers do."
        f"{names}",
    )


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def notes(everything: Everything, depth: int) -> list[Finding]:
    """Return remarks that are worth knowing, but are no faults."""
    return [*_large_heads(everything), *_unscaled_ends(everything, depth)]


def _large_heads(everything: Everything) -> Iterator[Finding]:
    for path, one in everything.items():
        ratio = one.ratio or 0.0
        if "readout" in one.parameter.roles and ratio > _LARGE:
            yield Finding(
                "large readout",
                path,
                ratio,
                f"{path} has std {one.measured.std:.3g}, which is {ratio:.3g} times "
                "the one that keeps the size of what it reads. If its outputs are "
                "logits that no factor scales, the first loss is far above guessing: "
                "pass `loss=` to see it.",
            )


def _unscaled_ends(everything: Everything, depth: int) -> Iterator[Finding]:
    ends = [
        one
        for one in everything.values()
        if "residual_output" in one.parameter.roles
        and not _is_normalized(one, everything)
    ]
    drawn = [x for x in ends if x.ratio is not None and x.measured.family is not None]
    large = [x for x in drawn if x.ratio is not None and x.ratio > 0.5]
    if depth < _DEEP or not drawn or len(large) < len(drawn):
        return
    factor = 1 / math.sqrt(depth)
    yield Finding(
        "branch ends without depth scaling",
        large[0].path,
        float(depth),
        f"{len(large)} kernels that end residual branches, such as "
        f"{large[0].path}, have a std of {large[0].ratio:.2g} times the one that "
        f"keeps the signal, so that {depth} additions add up to "
        f"{math.sqrt(depth):.2g} times one branch. GPT-2 multiplies them by 1 / "
        f"sqrt({depth}) = {factor:.3g}: jinit.residual_scale('gpt2', "
        f"{max(1, depth // 2)}). Networks with a norm behind each sum need none.",
    )


def _is_normalized(one: Audited, everything: Everything) -> bool:
    """Tell whether a norm reads a kernel's output alone, so that its size is lost."""
    return any(
        "scale" in other.parameter.roles and other.parameter.inputs == (one.path,)
        for other in everything.values()
    )
