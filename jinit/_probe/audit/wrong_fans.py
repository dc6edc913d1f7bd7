"""Fans over the wrong axes are claimed where nothing else explains the draws."""

import math
from collections.abc import Collection, Mapping, Sequence

from ..._core.results import Finding
from .audited import Audited, Everything
from .experts import wrong_experts
from .law import Law
from .wrong_laws import MEMBERS, TORCH, VARIANCES

# A mistake of one law must stand on draws that tell a std to 6 % at three standard
# errors, in all tensors that share it; fewer agree with too many formulas by chance.
_SURE = 0.06
# A std that is off by less than this does no harm.
_MATTERS = 1.2


def wrong_fans(everything: Everything) -> dict[str, Law]:
    """Return the laws over wrong axes, by parameter, where they are certain.

    A mistake is made in all tensors of one kind, so tensors that agree speak for each
    other; one of them must have no other explanation.
    """
    suspects: dict[tuple[object, ...], list[tuple[Audited, Law]]] = {}
    experts = wrong_experts(everything)
    for one in everything.values():
        for law in one.judged.mistakes if one.is_kernel else ():
            # What all experts show is no other mistake in one of them.
            if one.path not in experts or law.mistake == MEMBERS:
                suspects.setdefault(law.form, []).append((one, law))
    factors = _unexplained(everything)
    certain: dict[str, Law] = {}
    # The form that explains most goes first.
    for group in sorted(suspects.values(), key=len, reverse=True):
        rest = [(one, law) for one, law in group if one.path not in certain]
        is_certain = _is_certain(rest, experts)
        if is_certain and not all(_is_factor(x, factors) for x, _ in rest):
            certain |= {one.path: law for one, law in rest if _differs(one, law)}
    return certain


def findings(everything: Everything, certain: Mapping[str, Law]) -> list[Finding]:
    """Return a finding for each parameter with a law over wrong axes."""
    return [_of_fans(everything[path], law) for path, law in certain.items()]


def _is_certain(group: Sequence[tuple[Audited, Law]], experts: Collection[str]) -> bool:
    """Tell whether several draws with one mistake are enough to claim it."""
    if not any(one.judged.is_certain or one.path in experts for one, _ in group):
        return False
    # The errors of several tensors that agree are those of one large tensor.
    error = 1 / math.sqrt(sum(one.measured.error**-2 for one, _ in group))
    stds = {round(law.std, 9) for _, law in group}
    # JAX's initializers count all axes but the last unless they are told otherwise.
    is_default = any(law.form[1] in (-1, "groups") for _, law in group)
    return 3 * error <= (_SURE if is_default or len(stds) > 1 else _SURE / 2)


def _unexplained(everything: Everything) -> list[Audited]:
    """Return the kernels whose std neither a usual law nor a mistake gives.

    These are those of muP, for example.
    """
    drawn = [x for x in everything.values() if x.is_kernel and x.measured.family]
    return [
        one
        for one in drawn
        if one.parameter.fans and not (one.judged.is_usual or one.judged.mistakes)
    ]


def _is_factor(one: Audited, others: Sequence[Audited]) -> bool:
    """Tell whether a kernel has the factor of others that make no such mistake."""
    return any(
        abs(_times_lecun(one) / _times_lecun(other) - 1)
        < 3 * math.hypot(one.measured.error, other.measured.error)
        for other in others
    )


def _times_lecun(one: Audited) -> float:
    assert one.parameter.fans is not None
    return one.measured.std * math.sqrt(max(1, one.parameter.fans.fan_in))


def _differs(one: Audited, law: Law) -> bool:
    fans = one.parameter.fans
    assert fans is not None
    # He's law over all axes of a stack of two may equal LeCun's, without a mistake.
    base = _std_of(str(law.form[0]), max(1, fans.fan_in), fans.fan_out)
    return max(law.std / base, base / law.std) >= _MATTERS


def _of_fans(one: Audited, law: Law) -> Finding:
    p = one.parameter
    assert p.fans is not None and law.mistake is not None
    axes = [n for n, letter in enumerate(p.layout or "") if letter in "ik"]
    name = str(law.form[0])
    right = _std_of(name, p.fans.fan_in, p.fans.fan_out)
    factor = one.measured.std / right
    size = (
        f"{1 / factor:.3g} times too small"
        if factor < 1
        else f"{factor:.3g} times too large"
    )
    why = _why(one, law)
    groups = f", groups={p.groups}" if p.groups > 1 else ""
    return Finding(
        law.mistake,
        p.path,
        one.measured.std,
        f"{p.path or 'the array'} {p.shape}: its std {one.measured.std:.4g} is that of "
        f"{law.text}; the product contracts {_axes(axes)} alone: fan_in "
        f"{p.fans.fan_in}, std {right:.4g}. {why}, so it starts {size}: draw it with "
        f"jinit.{_maker(name, p.layout, groups)}, or by jinit.plan(net, rules), "
        "which reads the layout.",
    )


def _maker(name: str, layout: str | None, groups: str) -> str:
    if name == TORCH:
        name, groups = "lecun", f"{groups}, distribution='uniform', gain=3 ** -0.5"
    return f"{name}(layout={layout!r}{groups})"


def _std_of(name: str, fan_in: int, fan_out: int) -> float:
    if name == "xavier":
        return math.sqrt(2 / (fan_in + fan_out))
    return math.sqrt(VARIANCES[name] / fan_in)


def _why(one: Audited, law: Law) -> str:
    if law.mistake == "groups counted as inputs":
        return f"The inputs of all {one.parameter.groups} groups are counted"
    letters = [(n, x) for n, x in enumerate(one.parameter.layout or "")]
    extra = [n for n, x in letters if n in law.axes and x == "b"]
    if law.mistake == MEMBERS:
        return f"The members along {_axes(extra)} are counted as inputs"
    wrong = [n for n, x in letters if n in law.axes and x not in "ik"]
    missing = [n for n, x in letters if n not in law.axes and x in "ik"]
    parts = []
    if wrong:
        kinds = {"o": "outputs", "b": "members"}
        names = dict.fromkeys(kinds[dict(letters)[n]] for n in wrong)
        kinds_text = " and ".join(names)
        parts.append(f"the {kinds_text} along {_axes(wrong)} are counted as inputs")
    if missing:
        parts.append(f"the inputs along {_axes(missing)} are not")
    text = " and ".join(parts)
    return text[:1].upper() + text[1:]


def _axes(axes: Sequence[int]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {tuple(axes)}"
