"""A plan tells its initializers what the axes of each kernel are.

A network has the layout of each kernel from the equations. A tree of shapes may have a
bias beside a kernel, whose length shows the outputs (beside.py).
"""

from typing import Any

from .._core.trees import Leaf
from .._initializer.foreign import with_axes
from .._initializer.kernel_axes import KernelAxes
from .._network.kernel_axes import kernel_axes
from .beside import Reading

# Parameters with none of these roles are added or multiplied entry by entry.
_WITH_AXES = {"matrix", "convolution", "embedding", "other"}
_ADVICE = (
    "Say which axes are inputs and outputs, as in jinit.he(layout='io'), or pass the "
    "fans, as in jinit.he(fan_in=...); a plan for shapes alone could also be made from "
    "a Network, which reads the axes from the equations"
)


def with_axes_of_network(init: Any, leaf: Leaf) -> Any:
    """Return an initializer that counts fans by the axes that a network shows.

    Args:
      init: an initializer of any origin.
      leaf: a leaf whose value is a `Parameter`.

    Raises:
      ValueError: if the initializer needs a layout, and the network does not show it.
    """
    parameter = leaf.value
    roles, is_table = parameter.roles, "embedding" in parameter.roles
    is_unread = parameter.layout is None and parameter.fans is None
    # A bias or a scale has no layout, nor has a table whose rows are chosen by several
    # indices. A scheme counts their fans, or refuses them, by their shapes.
    if not roles & _WITH_AXES or (is_table and is_unread):
        return init
    reason = parameter.reason or "it is used in a shape that has no layout"
    return _fitted(init, leaf, kernel_axes(parameter), reason)


def with_axes_of_shapes(init: Any, leaf: Leaf, reading: Reading) -> Any:
    """Return an initializer that counts fans by the axes that a bias shows.

    Raises:
      ValueError: if the initializer needs a layout, and nothing shows it.
    """
    return _fitted(init, leaf, reading.axes, reading.reason)


def _fitted(init: Any, leaf: Leaf, axes: KernelAxes, reason: str) -> Any:
    try:
        return with_axes(init, axes)
    except ValueError as error:
        if axes.layout is not None:
            raise ValueError(f"for the leaf {leaf}: {error}") from error
        raise ValueError(
            f"{init!r} counts inputs and outputs, and which axes of {leaf} are these "
            f"is not known: {reason}. {_ADVICE}."
        ) from error
