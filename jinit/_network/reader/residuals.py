"""A residual sum adds a branch to the value that the branch has begun from.

One summand is a value v behind operations on single entries that are linear (a factor,
a dropout, a cast, another residual sum), or behind one product alone (a projection
shortcut). The other summand is the branch: it descends from v, through a product with a
parameter at least. The search is for the last such v.
"""

import math

from .uses import Addition, Log
from .values import Data


def added(log: Log, one: Data, other: Data) -> bool:
    """Note the branches of a residual sum; tell whether the sum is one."""
    for side, (shortcut, branch) in enumerate(((one, other), (other, one))):
        start = _start(log, shortcut, branch)
        if start is not None:
            _note(log, start, shortcut, branch, side)
            return True
    return False


def subtracted(log: Log, one: Data, other: Data) -> bool:
    """Note a branch that is subtracted; tell whether it is one.

    The difference of an input and what the network makes of it is a loss.
    """
    start = _start(log, one, other)
    # The stream of a network has come through a first layer or an embedding.
    if start is None or not log.bases[start].layers:
        return False
    _note(log, start, one, other, 0)
    return True


def _start(log: Log, shortcut: Data, branch: Data) -> int | None:
    """Return the number of the value from which a branch begins, or None."""
    common = shortcut.stream & branch.ancestors
    if common:
        # The last such value: the stream is an ancestor of itself in earlier blocks.
        number = common.bit_length() - 1
        if _inside(log, branch.layers, number):
            return number
    return _projection(log, shortcut, branch)


def _inside(log: Log, layers: int, number: int) -> int:
    """Return the layers that descend from the value where a branch begins.

    Others make what the branch is conditioned on, such as a time or an encoder.
    """
    inside = 0
    for use in log.members(layers & ~log.bases[number].layers):
        if use.data is not None and use.data.ancestors >> number & 1:
            inside |= use.bit
    return inside


def _projection(log: Log, shortcut: Data, branch: Data) -> int | None:
    """Return the start of a branch beside a shortcut that is one product.

    Each last product of the branch must read a value that an earlier product on the
    branch has made and that is no linear function of it, or a recurrent cell, whose
    parts are summed, and an adapter beside its matrix would be branches, too.
    """
    # W x + U h in a recurrent cell has two products that read two values.
    projections = log.members(shortcut.last)
    if len(projections) != 1 or shortcut.meeting or projections[0].data is None:
        return None
    read = projections[0].data
    common = read.stream & branch.ancestors
    ends = log.members(branch.last & ~shortcut.last)
    if not common or not ends or shortcut.layers & ~read.layers & ~shortcut.last:
        return None
    number = common.bit_length() - 1
    start = log.bases[number]
    for end in ends:
        data = end.data
        if data is None or not data.layers & ~start.layers & ~shortcut.last:
            return None
        if not (data.ancestors >> number & 1) or _is_linear(data):
            return None
    return number


def _is_linear(data: Data) -> bool:
    """Tell whether only products and sums lie behind a value: an adapter's middle."""
    bends = data.scalar is not None and data.scalar.bends
    return not (bends or data.attention or data.gated or data.meeting)


def _note(log: Log, number: int, shortcut: Data, branch: Data, side: int) -> None:
    start = log.bases[number]
    inside = _inside(log, branch.layers, number)
    # A loop over time adds to other values at each step, and not to the stream.
    loops = tuple(loop for loop in log.loops if shortcut.ancestors & loop.carries)
    count = math.prod(loop.length for loop in loops)
    sum_ = log.additions[-1].sum + 1 if log.additions else 0
    place = tuple(log.place)
    # Rows that are scattered into the stream have another shape than the stream.
    is_plain = place[-1].primitive.name in ("add", "add_any", "sub")
    known = place, side if is_plain else None
    for term in _branches(branch, inside):
        layers = term.layers & inside
        ends = term.last & layers
        log.additions.append(
            Addition(sum_, layers, ends, start.sources, count, *known, loops)
        )


def _branches(branch: Data, inside: int) -> list[Data]:
    """Split a sum of parallel branches, such as attention beside an MLP.

    Summands that share a product are one branch: a matrix beside its adapter.
    """
    # A bias or a table among the summands is no branch.
    terms = [t for t in _summands(branch) if t.layers & inside]
    groups: list[Data] = []
    for term in terms:
        shared = [g for g in groups if g.layers & term.layers & inside]
        for group in shared:
            groups.remove(group)
            term = term.copy(
                layers=term.layers | group.layers, last=term.last | group.last
            )
        groups.append(term)
    return groups or [branch]


def _summands(data: Data) -> list[Data]:
    """Return the terms of a sum of sums, which may be as long as a Python list."""
    terms, left = [], [data]
    while left:
        term = left.pop()
        left += reversed(term.terms)
        if not term.terms:
            terms.append(term)
    return terms
