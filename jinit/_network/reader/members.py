"""Axes along which a parameter holds independent copies: ensembles and experts.

The first layer of an ensemble reads one input for all members, so that the axis of the
members is free in its product, as an output is. It is a batch axis in all later ones,
and no layer sums over it. Where a router's weights are over an axis, a layer may sum
over it, too: the sum of the experts is in the same einsum.
"""

from .axes import Axis
from .uses import Log, Use


def find_members(log: Log) -> None:
    """Give the letter "b" to the axes that are members, and the roles of experts."""
    routed = {
        log.labels.root(label) for labels in log.routers.values() for label in labels
    }
    batched: set[int] = set()
    summed: set[int] = set()
    for use in log.uses:
        batched |= _roots(log, *use.batched.values())
        summed |= _roots(log, *use.contracted.values())
    # The heads of attention are a batch in its products, and summed by its output.
    members = (batched - summed) | routed
    for use in log.uses:
        # A router's outputs are the experts, which are members of the experts alone.
        if use.kind not in ("product", "convolution") or use.number in log.routers:
            continue
        _free(log, use, use.outputs, members)
        _free(log, use, use.contracted, routed)
        if routed & _roots(log, *use.batched.values()):
            use.roles.add("expert")


def _roots(log: Log, *axes: Axis) -> set[int]:
    return {log.labels.root(label) for axis in axes for label, _ in axis}


def _free(log: Log, use: Use, axes: dict[int, Axis], members: set[int]) -> None:
    """Turn the axes that are members into batch axes, but not the last that is left."""
    chosen = [n for n, axis in axes.items() if axis and _roots(log, axis) <= members]
    # An ensemble of units has no other output than its members.
    if len(chosen) == len(axes):
        return
    for name in chosen:
        use.letters[name] = "b"
        use.batched[name] = axes.pop(name)
