"""The optimizer's state lies where its parameters lie, unless it is placed itself."""

from collections.abc import Sequence
from typing import Any

from .._core import trees
from .._core.trees import Leaf, strip_collection

Parts = tuple[str, ...]


def followed(
    leaves: Sequence[Leaf], places: Sequence[Any], root: Parts = ()
) -> list[Any]:
    """Return the shardings of leaves; a leaf without one gets that of its parameter.

    "params/Dense_0/kernel" is the parameter of "opt_state/0/mu/Dense_0/kernel": it has
    the same shape and lies in another field of the state, its path below that field
    ends the path of the leaf, and the leaves beside the two match in the same way. If a
    leaf has two parameters with different shardings, nothing is inferred.

    Args:
      leaves: the leaves of a state.
      places: their shardings, or None.
      root: the path of the state in the tree.
    """
    below = [Leaf(x.parts[len(root) :], x.value) for x in leaves]
    state = _State(below)
    placed: dict[Any, list[tuple[Parts, Any]]] = {}
    for leaf, place in zip(below, places, strict=True):
        if place is not None:
            placed.setdefault(_kind(leaf), []).append((leaf.parts, place))
    # An empty PartitionSpec asks for whole copies on all devices, and is false.
    return [
        state.inferred(leaf.parts, placed.get(_kind(leaf), ()))
        if place is None
        else place
        for leaf, place in zip(below, places, strict=True)
    ]


def _kind(leaf: Leaf) -> Any:
    # A single number needs no sharding, and a Python number stays one.
    struct = trees.struct(leaf.value)
    if struct is None or not struct.shape:
        return None
    return leaf.parts[-1:], struct.shape


class _State:
    """A _State knows which of its trees repeat the paths of another one."""

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self._paths = [leaf.parts for leaf in leaves]
        self._repeats: dict[tuple[Parts, Parts], bool] = {}

    def inferred(self, parts: Parts, placed: Sequence[tuple[Parts, Any]]) -> Any:
        """Return the one sharding of the parameters that a path repeats, or None."""
        places: list[Any] = []
        for other, place in placed:
            if place not in places and self._has_parameter(parts, other):
                places.append(place)
        return places[0] if len(places) == 1 else None

    def _has_parameter(self, parts: Parts, other: Parts) -> bool:
        # In one field two layers may have equal paths below their modules, and two
        # fields of equal depth may be two towers. An optimizer's trees lie deeper.
        if parts[:1] == other[:1] or len(parts) <= len(other):
            return False
        # `tx.init` may have got the variables, or the parameters among them.
        for end in {other[1:], strip_collection(other[1:])}:
            if len(end) > 1 and parts[-len(end) :] == end:
                return self._repeat(parts[: -len(end)], other[: -len(end)])
        return False

    def _repeat(self, tree: Parts, other: Parts) -> bool:
        """Tell whether all paths below a tree are paths below another one, too."""
        key = tree, other
        if key not in self._repeats:
            self._repeats[key] = self._below(tree) <= self._below(other)
        return self._repeats[key]

    def _below(self, tree: Parts) -> set[Parts]:
        length = len(tree)
        return {parts[length:] for parts in self._paths if parts[:length] == tree}
