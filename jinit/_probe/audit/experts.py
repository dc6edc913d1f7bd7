"""Experts speak for each other: one number of members is counted in all their kernels.

The root of the number of experts is near some formula of a single kernel by chance, as
near one over its fan_out or a round std. In kernels of other shapes it is another one.
"""

import re
from collections.abc import Sequence

from .audited import Audited, Everything
from .wrong_laws import MEMBERS

# Of honest draws 0.3 % lie beyond three standard errors, so that one of 20 may.
_RARE = 0.05


def wrong_experts(everything: Everything) -> set[str]:
    """Return the paths of experts that all count their members as inputs.

    The drawn kernels of as many experts have to show it, and no formula may explain all
    of them, as one law over fan_out or one std of a recipe would.
    """
    groups: dict[tuple[int, ...], list[Audited]] = {}
    for one in everything.values():
        drawn = one.is_kernel and one.measured.family is not None
        if drawn and "expert" in one.parameter.roles:
            groups.setdefault(_members(one), []).append(one)
    return {
        one.path
        for group in groups.values()
        for one in _that_agree(group)
        if not _share_an_excuse(group)
    }


def _that_agree(group: Sequence[Audited]) -> list[Audited]:
    """Return the kernels that show the mistake if nearly all of a group do."""
    several = [one for one in group if _shows_it(one)]
    is_most = len(group) - len(several) <= _RARE * len(group)
    return several if is_most else []


def _members(one: Audited) -> tuple[int, ...]:
    letters = zip(one.parameter.shape, one.parameter.layout or "", strict=False)
    return tuple(size for size, letter in letters if letter == "b")


def _shows_it(one: Audited) -> bool:
    return any(law.mistake == MEMBERS for law in one.judged.mistakes)


def _share_an_excuse(group: Sequence[Audited]) -> bool:
    """Tell whether one formula explains all kernels, whatever their fans are.

    Laws of the depth are left out, since one more factor fits the number of experts,
    but for Xavier's, which DeepNorm and T-Fixup scale.
    """
    kinds = [
        {
            (_without_fans(law.text), round(law.of_depth, 6))
            for law in one.judged.excuses
            if law.of_depth == 1 or law.text.startswith("xavier: ")
        }
        for one in group
    ]
    return bool(set.intersection(*kinds))


def _without_fans(text: str) -> str:
    return re.sub(r"(fan_\w+) \d+", r"\1", text.partition(", / ")[0])
