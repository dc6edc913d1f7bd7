"""Softmax weights are either those of attention or those of a router.

Attention multiplies two values of data, takes a softmax, and contracts a third over the
axis that the softmax is normalized over. That axis is the keys'. The order of the
operands says nothing, since einsum swaps them. A router's logits come from a matrix,
and its softmax (or its top_k) runs over the matrix's outputs; what it weighs are
experts.

Axes are compared by their labels before any classes of labels: queries and keys often
come from one value, so that their axes have one class in the end.
"""

from collections.abc import Iterable
from typing import Any

from .axes import Axis
from .uses import Log
from .values import Attention, Data, Exponential, Meeting


def labels_of(axes: Iterable[Axis]) -> set[int]:
    """Return the labels of some axes."""
    return {label for axis in axes for label, _ in axis}


def normalized(log: Log, data: Data, weights: Exponential) -> Data:
    """Return softmax weights, once an exponential is divided by its sum."""
    weights.is_normalized = True
    routing = 0
    meeting = weights.logits.meeting
    # A router may read what attention has made: its softmax is over other axes.
    if meeting is None or not weights.labels & (meeting.left_free | meeting.right_free):
        routing = routers(log, weights.logits, weights.labels)
    return data.copy(exponential=weights, routing=data.routing | routing, scalar=None)


def routers(log: Log, data: Data, labels: set[int]) -> int:
    """Return the layers among whose outputs a softmax or a top_k chooses."""
    bits = 0
    for use in log.members(data.last):
        if labels & labels_of(use.outputs.values()):
            bits |= use.bit
    return bits


def chosen(log: Log, weights: Data, values: Data) -> bool:
    """Note the experts that a router weighs; tell whether there are any."""
    experts = 0
    for router in log.members(weights.routing):
        # Experts lie behind what the router reads, and are not the router itself.
        before = router.data.layers if router.data is not None else 0
        behind = values.layers & ~before & ~router.bit
        if behind:
            log.routers[router.number] = labels_of(router.outputs.values())
        experts |= behind
    log.experts |= experts & ~weights.routing
    return bool(experts)


def _note_dims(point: Any, weights: Exponential, meeting: Meeting) -> None:
    """Note which dimensions of the logits are those of keys, and which of heads."""
    labels = [labels_of([axis]) for axis in weights.logits.axes]
    free = meeting.left_free | meeting.right_free
    point.keys = tuple(d for d, here in enumerate(labels) if here & weights.labels)
    # The first dimension that queries and keys share is that of the batch.
    shared = [d for d, here in enumerate(labels) if not here & free]
    point.heads = tuple(d for d in shared[1:] if d not in point.keys)


def contracted(
    log: Log, weights: Data, values: Data, labels: set[int]
) -> tuple[Attention, ...]:
    """Note that values were contracted with softmax weights over some axes."""
    exponential = weights.exponential
    if exponential is None or exponential.logits.meeting is None:
        return ()
    attention = Attention(exponential, values, labels)
    log.attentions.append(attention)
    return (attention,)


def give_roles(log: Log) -> None:
    """Give the roles of attention, once everything has been read."""
    for attention in log.attentions:
        weights = attention.weights
        meeting = weights.logits.meeting
        if meeting is None or not weights.is_normalized:
            continue
        # Weights that are summed over another axis, such as a mean over queries.
        if not weights.labels & attention.labels:
            continue
        if weights.labels & meeting.right_free:
            query, key = meeting.left, meeting.right
        elif weights.labels & meeting.left_free:
            query, key = meeting.right, meeting.left
        else:
            # The keys' axis was reshaped on the way: nothing is claimed.
            continue
        sides = (("query", query), ("key", key), ("value", attention.values))
        for role, data in sides:
            for use in log.members(data.last):
                use.roles.add(role)
        weights.point.projections = (*log.members(query.last), *log.members(key.last))
        _note_dims(weights.point, weights, meeting)
        for use in attention.readers:
            use.roles.add("attention_output")
