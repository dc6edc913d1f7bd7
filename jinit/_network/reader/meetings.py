"""Parameters meet data, and data meet data: what is noted, and what comes out."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from . import attention, modulations, points
from .axes import Axes, Axis, Factor
from .uses import FROM_INPUTS, Log, Use, letters_of
from .values import Data, Meeting, View, rebased


def note(
    log: Log, kind: str, view: View, data: Data, letters: Sequence[str], **facts: Any
) -> Use:
    """Note a use of a parameter that multiplies data and sums."""
    use = log.note(kind, view, data, letters=letters_of(view, letters), **facts)
    if kind != "lookup":
        use.activation, use.gate = data.scalar, data.gated
    # The next product behind attention's values is its output.
    for event in data.attention:
        event.readers.append(use)
    return use


def match(axes: dict[int, Axis], view: View, dim: int, axis: Axis) -> None:
    """Note which axis of data each factor of an axis of a view has met."""
    for term in view.terms:
        factors, others = _varying(term.axes[dim]), _varying(axis)
        if [size for _, size in factors] == [size for _, size in others]:
            pairs = zip(factors, others, strict=True)
            axes |= {name: (other,) for (name, _), other in pairs if name >= 0}
        else:
            axes |= {name: axis for name, _ in factors if name >= 0}


def _varying(axis: Axis) -> Axis:
    """Return the factors of an axis, without those of one entry beside others."""
    return tuple(factor for factor in axis if factor[1] > 1) or axis[:1]


def output(log: Log, use: Use, view: View, dim: int) -> Axis:
    """Return a new axis of data for a free axis of a parameter."""
    factors = _varying(use.main.axes[dim])
    axis: list[Factor] = [(log.labels.fresh(), size) for _, size in factors]
    match(use.outputs, view, dim, tuple(axis))
    return tuple(axis)


def result(log: Log, use: Use, data: Data, axes: Axes) -> Data:
    """Return the data that a product with a parameter makes."""
    new = Data().copy(
        axes=axes,
        ancestors=data.ancestors,
        layers=data.layers | use.bit,
        last=use.bit,
        sources=use.bit,
    )
    # A kernel may mix the heads of attention's logits, or of its weights.
    labels = attention.labels_of(axes) if data.meeting or data.exponential else set()
    if data.meeting and labels & data.meeting.left_free:
        new.meeting = data.meeting if labels & data.meeting.right_free else None
    if data.exponential and labels & data.exponential.labels:
        new.exponential = data.exponential
    if data.meeting is not None:
        data.meeting.is_read = True
    log.base(new)
    points.begin_layer(log, use, new)
    return new


def learned(log: Log, view: View, shape: Sequence[int]) -> Data:
    """Return a parameter that is repeated for each input as a value like an input."""
    use = log.note(
        "other", view, None, reason="it is a value that is read like an input"
    )
    # Each factor of an axis gets a label: a vmap over kernels merges copies and
    # channels into one axis.
    axes = [
        tuple((log.labels.fresh(), length) for _, length in _varying(axis))
        if size > 1
        else log.labels.axis(size)
        for axis, size in zip(view.terms[0].axes, shape, strict=True)
    ]
    data = log.base(Data().copy(axes=tuple(axes), sources=use.bit))
    log.learned[id(view)] = view, data
    return data


def of_constants(log: Log, view: View, shape: Sequence[int]) -> Data:
    """Return the data of a layer that multiplies a constant, such as coordinates."""
    mapped = View(tuple(term for term in view.terms if term.mapped))
    others = View(tuple(term for term in view.terms if not term.mapped))
    use = log.note("product", mapped, Data(), letters=dict(mapped.terms[0].mapped))
    if others.terms:
        log.note("add", others, Data()).roles.add("bias")
    return result(log, use, Data(), log.labels.axes(shape))


def replaced(log: Log, old: Use, new: Use) -> None:
    """Drop a use that turned out to be the first half of another."""
    if old.kind == "lookup":
        # The entries that are looked up are copies of one kernel.
        new.letters |= {
            name: "b" for name, letter in old.letters.items() if letter == "i"
        }
    old.kind = "half"


def modulated(log: Log, new: Data, kernel: Data) -> Data:
    """Let a product descend from what has scaled or chosen its kernel, too."""
    log.followed |= kernel.layers
    assert kernel.pending is not None
    for product in log.members(new.last):
        product.is_modulated = True
    parameters = {term.parameter for term in kernel.pending[0].terms}
    for use in log.members(kernel.layers):
        if {term.parameter for term in use.view.terms} == parameters:
            # This product is a step of a power iteration for the norm of the kernel,
            # and no layer. A factor of the kernel cancels, since it scales the norm
            # too.
            use.kind = "half"
            # That a kernel was looked up, as that of an expert is, changes no size.
            if use is not kernel.pending[1]:
                for product in log.members(new.last):
                    product.view = _normalized(product.view)
    new.layers |= kernel.layers
    new.ancestors |= kernel.ancestors
    return new


def _normalized(view: View) -> View:
    terms = (dataclasses.replace(term, is_normalized=True) for term in view.terms)
    return View(tuple(terms))


def meet(
    log: Log,
    left: Data,
    right: Data,
    axes: Axes,
    summed: tuple[set[int], set[int]],
    free: tuple[set[int], set[int]],
) -> Data:
    """Return the product of two values of data that is summed over some axes."""
    meeting = Meeting(left, right, *free)
    new = joined(left, right).copy(axes=axes, meeting=meeting)
    modulations.met(log, left, right, meeting)
    # einsum("bd,bd->b", x, x) is a sum of squares.
    if left is right:
        new.norm = "mean_square"
    for weights, values, labels in ((left, right, summed[0]), (right, left, summed[1])):
        # Weights are no source of what they weigh: the values are.
        if weights.exponential:
            new.attention += attention.contracted(log, weights, values, labels)
            new.last, new.sources, new.meeting = values.last, values.sources, None
        if weights.routing and attention.chosen(log, weights, values):
            new.last, new.sources, new.routing = values.last, values.sources, 0
            new.scalar, new.gated = rebased(values.scalar), values.gated
        elif weights.routing and not values.routing:
            new.last, new.sources = values.last, values.sources
    return log.base(new)


def joined(left: Data, right: Data) -> Data:
    """Return what is known of any value that two values of data make."""
    norms = {left.norm, right.norm}
    return Data().copy(
        ancestors=left.ancestors | right.ancestors,
        layers=left.layers | right.layers,
        last=left.last | right.last,
        sources=_sources(left, right),
        routing=left.routing | right.routing,
        attention=tuple(dict.fromkeys(left.attention + right.attention)),
        meeting=left.meeting or right.meeting,
        norm="mean_square" if "mean_square" in norms else None,
        norm_scale=left.norm_scale | right.norm_scale,
    )


def _sources(left: Data, right: Data) -> int:
    """Return the sources of both; a mask or an adjacency matrix is no source."""
    for one, other in ((left, right), (right, left)):
        if other.layers and not one.layers and one.sources == FROM_INPUTS:
            return other.sources
    return left.sources | right.sources
