"""Residual branches, in the order of execution, show the index of each layer.

A layer of a transformer is an attention and the branches up to the next attention, in
general a perceptron. Without attentions, two residual sums are a layer. A scan is read
once; its step number i holds the layers `start + step i`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .._network.reader.records import Branch, BranchPlace, Loop
from .._network.record import Network
from . import network_roles as in_networks
from .model import Model

# The largest layer has an attention, a cross-attention and a perceptron.
_MOST_SUMS = 3


class Stack(NamedTuple):
    """A Stack says which layers a parameter belongs to.

    `start` is the index of the layer, or of the first one. A parameter of scanned
    layers has an axis for each scan around it, in `axes`, and `steps` say by how much
    the index grows along each. They are empty for a parameter of one layer.
    """

    start: int
    axes: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class LayerIndex:
    """A LayerIndex has the number of layers, and the place of each parameter in them.

    `stacks` has a reason, as a text, for a parameter without a single index.
    """

    number: int
    stacks: Mapping[str, Stack | str]

    def of(self, path: str, asker: str) -> Stack:
        """Return the place of a parameter.

        Raises:
          ValueError: if it has none. The message names `asker`, which needs the place.
        """
        stack = self.stacks.get(path, "it lies in no residual branch")
        if isinstance(stack, str):
            raise ValueError(
                f"{asker} has a law that depends on the index of the layer, and "
                f"{path!r} has none: {stack}. Put a rule for it before the recipe's."
            )
        return stack


class _Sum(NamedTuple):
    """A _Sum is one residual sum, with the paths of the layers in its branches."""

    loops: tuple[Loop, ...]
    paths: tuple[str, ...]
    attends: bool


# The place of a sum: the index of its layer, and by how much each scan moves it.
_Place = tuple[int, dict[int, int]]


def layer_index(model: Model, num_layers: int | None, asker: str) -> LayerIndex:
    """Return the index of every layer of a network, or of the part of a recipe.

    Args:
      model: the model of a plan, with a network.
      num_layers: the number of layers, if the user passed it.
      asker: the recipe that needs the indices, for the texts of errors.

    Raises:
      ValueError: if the residual branches do not show the layers.
    """
    net = model.network
    assert net is not None
    sums = _sums(net, in_networks.branches(model))
    per_layer = None
    try:
        number, places = _numbered(sums, 0, _layers)
    except _Unclear:
        number = None
    executed = sum(_executions(one) for one in sums)
    if num_layers is not None and number != num_layers and executed % num_layers == 0:
        per_layer = executed // num_layers
        try:
            number, places = _numbered(sums, 0, lambda s: _equal(s, per_layer))
        except _Unclear:
            number = None
    if number is None or num_layers not in (None, number):
        raise ValueError(_message(asker, executed, number, num_layers))
    return LayerIndex(number, _stacks(net, sums, places))


class _Unclear(Exception):
    """Sums do not show where one layer ends and the next begins."""


def _message(
    asker: str, executed: int, number: int | None, num_layers: int | None
) -> str:
    shown = "do not show which of them form one layer"
    if number is not None:
        shown = f"are {number} layers"
    passed = "" if num_layers is None else f" `num_layers` is {num_layers}."
    return (
        f"{asker} has a law that depends on the layers, and the {executed} residual "
        f"sums of the network {shown}.{passed} Pass the number of layers, each with "
        "equally many sums, as `num_layers`, or put rules for these layers before the "
        "recipe's."
    )


def _sums(net: Network, branches: Sequence[Branch]) -> list[_Sum]:
    """Return the residual sums of some branches, in the order of execution."""
    places: dict[int, BranchPlace] = {}
    members: dict[int, list[Branch]] = {}
    for branch, place in zip(net.branches, net._read.reading.places, strict=True):
        if any(branch is one for one in branches):
            places[place.sum] = place
            members.setdefault(place.sum, []).append(branch)
    return [
        _Sum(
            places[number].loops,
            tuple(dict.fromkeys(p for b in several for p in b.layers)),
            any(_attends(net, branch) for branch in several),
        )
        for number, several in members.items()
    ]


def _attends(net: Network, branch: Branch) -> bool:
    """Tell whether a branch is a self-attention, with which a layer begins."""
    roles = [net.parameters[path].roles for path in branch.layers]
    return any("query" in known for known in roles) and (
        not in_networks.crosses(net, branch)
    )


def _executions(one: _Sum) -> int:
    count = 1
    for loop in one.loops:
        count *= loop.length
    return count


def _numbered(
    sums: Sequence[_Sum], depth: int, rule: Callable[[Sequence[_Sum]], list[int]]
) -> tuple[int, list[_Place]]:
    """Return the number of layers of a sequence of sums, and the place of each sum.

    `rule` numbers the layers of sums that lie directly in this sequence. `depth` is the
    number of loops around it.
    """
    places: list[_Place] = []
    number = 0
    for loop, group in _groups(sums, depth):
        if loop is None:
            indices = rule(group)
            places += [(number + index, {}) for index in indices]
            number += indices[-1] + 1
            continue
        inside, nested = _numbered(group, depth + 1, rule)
        first, step = number, inside
        if loop.reverse:
            first, step = number + (loop.length - 1) * inside, -inside
        places += [(first + at, {loop.number: step} | more) for at, more in nested]
        number += loop.length * inside
    return number, places


def _groups(
    sums: Sequence[_Sum], depth: int
) -> list[tuple[Loop | None, Sequence[_Sum]]]:
    """Split sums into those of one loop after another, and those between loops."""
    groups: list[tuple[Loop | None, list[_Sum]]] = []
    for one in sums:
        loop = one.loops[depth] if len(one.loops) > depth else None
        if groups and groups[-1][0] == loop:
            groups[-1][1].append(one)
        else:
            groups.append((loop, [one]))
    return [(loop, group) for loop, group in groups]


def _layers(sums: Sequence[_Sum]) -> list[int]:
    """Return the index of the layer of each sum, by the attentions among them."""
    starts = [at for at, one in enumerate(sums) if one.attends]
    if not starts:
        # One sum alone is a layer: the step of a scanned residual network.
        return _equal(sums, 1 if len(sums) == 1 else 2)
    ends = [*starts[1:], len(sums)]
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    # Layers before the first attention have no attention, so attentions do not count
    # the layers.
    if starts[0] > 0 or max(lengths) > _MOST_SUMS:
        raise _Unclear
    return [layer for layer, length in enumerate(lengths) for _ in range(length)]


def _equal(sums: Sequence[_Sum], per_layer: int) -> list[int]:
    if len(sums) % per_layer:
        raise _Unclear
    return [at // per_layer for at in range(len(sums))]


def _stacks(
    net: Network, sums: Sequence[_Sum], places: Sequence[_Place]
) -> dict[str, Stack | str]:
    stacks: dict[str, Stack | str] = {}
    for one, (start, moves) in zip(sums, places, strict=True):
        for path in one.paths:
            new = _stack(net, path, start, moves)
            # Attention and MLP of one layer may share a parameter, such as a norm's.
            if stacks.setdefault(path, new) != new:
                stacks[path] = "several layers share it"
    return stacks


def _stack(net: Network, path: str, start: int, moves: dict[int, int]) -> Stack | str:
    axes = net._read.reading.steps.get(path, {})
    along = [axes.get(number) for number in moves]
    known = [axis for axis in along if axis is not None]
    if len(known) < len(along):
        return "the steps of a scan share it, or run along a part of one of its axes"
    return Stack(start, tuple(known), tuple(moves.values()))
