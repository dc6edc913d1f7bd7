"""Scanned layers have an axis that counts the layers: the first one, or the second."""

from collections.abc import Sequence

from .._core.trees import Leaf
from .._network.branches import outer


def axis_of_layers(leaves: Sequence[Leaf], leaf: Leaf, num_layers: int | None) -> int:
    """Return the axis that counts the layers of a scanned kernel, from its neighbours.

    All leaves of scanned layers share the number of layers: on their first axis in
    Flax's usual form, on their second where `variable_axes={"params": 1}`. Where both
    axes fit, `num_layers` decides, or else the usual form.

    Raises:
      ValueError: if the leaves share neither.
    """
    # The subtree of the scan may have other layers around it, so the largest subtree
    # whose leaves agree is taken.
    for depth in range(len(leaf.parts)):
        group = _group(leaves, leaf.parts[:depth])
        axes = [axis for axis in (0, 1) if _is_shared(group, axis)]
        if len(axes) == 1:
            return axes[0]
        if axes:
            return _by_number(leaf, num_layers)
    raise ValueError(
        f"`stacked` is True, and the leaves beside {leaf} share neither the length of "
        "their first axis nor that of their second, so none of the two counts the "
        "layers. Make the plan from a Network, which shows it, or put your own rule, "
        "with a layout, before the recipe's."
    )


def _group(leaves: Sequence[Leaf], above: tuple[str, ...]) -> list[Leaf]:
    inside = [x for x in leaves if x.parts[: len(above)] == above]
    # The model's own layers, such as a head, are not scanned.
    return [x for x in inside if not outer(x)] or inside


def _is_shared(group: Sequence[Leaf], axis: int) -> bool:
    shapes = [tuple(leaf.value.shape) for leaf in group]
    return all(len(shape) > axis for shape in shapes) and (
        len({shape[axis] for shape in shapes}) == 1
    )


def _by_number(leaf: Leaf, num_layers: int | None) -> int:
    first, second = tuple(leaf.value.shape)[:2]
    return int(num_layers is not None and second == num_layers != first)
