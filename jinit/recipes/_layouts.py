"""Recipes for shapes alone read layouts from biases, from names and from shapes.

In the plan of a network the layouts are known, and a recipe names none.
"""

import math
from collections.abc import Callable
from typing import Any

from .._core.trees import Leaf
from .._initializer.base import Initializer
from .._network.flax_names import FUSED, INTO_HEADS, OUT_OF_HEADS
from .._plan.beside import Modules
from .._plan.model import Model
from .._plan.rules import FromTree
from .._scale.fans import Fans, fans
from ._stacks import axis_of_layers


def module(path: str) -> str:
    """Return the name of the module that holds a parameter."""
    # A parameter at the root has no module, and gets an empty name.
    return ("", *path.split("/"))[-2]


class Layouts:
    """A Layouts knows the layouts of the kernels of a tree of shapes."""

    def __init__(
        self, model: Model, stacked: bool = False, num_layers: int | None = None
    ) -> None:
        self.model, self.stacked, self.num_layers = model, stacked, num_layers
        self.leaves = {leaf.path: leaf for leaf in model.leaves}
        self.shapes = {x.parts: _shape(x) for x in model.leaves}
        self._axes: dict[str, int] = {}
        self.modules = Modules.of(model.leaves)

    def of(self, path: str, heads: str | None = None) -> str:
        """Return the layout of a kernel.

        Args:
          path: the path of the kernel.
          heads: the layout of a kernel with three axes, in a role that tells it.

        Raises:
          ValueError: if neither its bias, its name nor its shape decides.
        """
        leaf = self.leaves[path]
        axis = self.axis(path)
        shape = without_axis(_shape(leaf), axis)
        letters = self._beside_bias(leaf, axis, _letters(module(path), shape, heads))
        if letters is None:
            raise ValueError(
                f"the kernel at {path!r} has shape {_shape(leaf)}, and neither its "
                "bias, its number of axes nor its module's name tells which of them "
                f"are inputs{self._counted(axis)}. Make the plan from a Network, pass "
                "a pattern for it in its role (query, key, value, residual_outputs), "
                "or put your own rule, with a layout, before the recipe's."
            )
        return letters if axis is None else letters[:axis] + "b" + letters[axis:]

    def axis(self, path: str) -> int | None:
        """Return the axis of a kernel that counts scanned layers, or None."""
        if not self.stacked:
            return None
        if path not in self._axes:
            leaf, leaves = self.leaves[path], self.model.leaves
            axes = {layout.find("b") for layout in self.modules.layouts(leaf.parts)}
            # A bias has the axis of the layers, too.
            shown = axes - {-1}
            self._axes[path] = (
                shown.pop()
                if len(shown) == 1
                else axis_of_layers(leaves, leaf, self.num_layers)
            )
        return self._axes[path]

    def fans(self, path: str, heads: str | None = None) -> Fans:
        """Return the fans of a kernel."""
        return fans(_shape(self.leaves[path]), self.of(path, heads))

    def _beside_bias(
        self, leaf: Leaf, axis: int | None, guess: str | None
    ) -> str | None:
        """Return the layout that a bias shows, or a guess that it does not refute."""
        reading = self.model.readings.get(leaf.parts)
        if reading is not None and reading.reason and guess == "io":
            raise ValueError(
                f"which axes of the kernel {leaf} are inputs is not known: "
                f"{reading.reason}. Make the plan from a Network, or put your own "
                "rule, with a layout, before the recipe's."
            )
        layouts = self.modules.layouts(leaf.parts)
        # With an axis of layers only the readings that have it there fit.
        fitting = {
            _without_letter(layout, axis)
            for layout in layouts
            if ("b" in layout) == (axis is not None)
            and (axis is None or layout[axis] == "b")
        }
        if not fitting or guess in fitting:
            return guess
        outputs = {_outputs(layout) for layout in fitting}
        # The bias shows the outputs alone; which of the others are a window it does
        # not. So a guess by the name stays if it has the same outputs.
        if guess is not None and _outputs(guess) in outputs:
            return guess
        return fitting.pop() if len(fitting) == 1 else None

    def _counted(self, axis: int | None) -> str:
        return "" if axis is None else f" (axis {axis} counts layers)"


def _shape(leaf: Leaf) -> tuple[int, ...]:
    return tuple(getattr(leaf.value, "shape", ()))


def without_axis(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    """Return a shape without the axis that counts layers, if there is one."""
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]


def _without_letter(layout: str, axis: int | None) -> str:
    return layout if axis is None else layout[:axis] + layout[axis + 1 :]


def _outputs(layout: str) -> tuple[int, ...]:
    return tuple(i for i, letter in enumerate(layout) if letter == "o")


def _letters(name: str, shape: tuple[int, ...], heads: str | None) -> str | None:
    """Return the layout of a kernel that is not stacked, or None if it is unknown."""
    if len(shape) == 2:
        return "io"
    # Names come before numbers of axes: the kernel of a convolution over one axis has
    # three, as those of an attention have.
    if 3 <= len(shape) <= 5 and "conv" in name.lower():
        return "k" * (len(shape) - 2) + "io"
    # (d, heads, head_dim): by numbers of axes alone it would be a 1-D convolution.
    if len(shape) >= 3 and name in INTO_HEADS:
        return "i" + "o" * (len(shape) - 1)
    # Three axes without a known name may be heads, or a convolution over one axis, so
    # the role or the lengths must decide.
    if len(shape) == 3:
        # A role that the user named is surer than the guess by sizes.
        return "iio" if name in OUT_OF_HEADS else heads or _from_heads(shape)
    # These layers of Flax may have any number of axes of inputs and of outputs.
    if name.startswith(("DenseGeneral", "LinearGeneral")):
        return _from_heads(shape)
    return "k" * (len(shape) - 2) + "io" if len(shape) in (4, 5) else None


def _from_heads(shape: tuple[int, ...]) -> str | None:
    """Return the layout of a kernel between a width and its heads, or None.

    The heads fill the width if heads * head_dim = width. If both readings of a shape
    fit, as for (8, 1, 8), they have the same fans.
    """
    if len(shape) >= 3 and shape[0] == math.prod(shape[1:]):
        return "i" + "o" * (len(shape) - 1)
    if len(shape) >= 3 and shape[-1] == math.prod(shape[:-1]):
        return "i" * (len(shape) - 1) + "o"
    return None


def with_layout(
    make: Callable[..., Initializer],
    stacked: bool,
    heads: str | None = None,
    num_layers: int | None = None,
    **options: Any,
) -> FromTree:
    """Return the side of a rule that gives a scheme the kernel's layout.

    Args:
      make: the maker of a scheme that counts fans.
      stacked: whether the kernels have an axis that counts layers.
      heads: the layout of a kernel with three axes, in a role that tells it.
      num_layers: the length of that axis, if it is known.
      **options: settings of the maker.
    """

    def of(model: Model) -> Any:
        # The plan of a network gives every scheme its layout.
        if model.network is not None:
            return make(**options)
        layouts = Layouts(model, stacked, num_layers)
        return lambda path, _leaf: make(layout=layouts.of(path, heads), **options)

    return FromTree(of)


def not_fused(side: FromTree) -> FromTree:
    """Return a side that rejects kernels with queries, keys and values in one."""

    def of(model: Model) -> Any:
        inner = side.function(model)

        def checked(path: str, leaf: Any) -> Initializer:
            # One gain for the whole kernel would scale queries and keys as the values,
            # and nothing would show it.
            if module(path) in FUSED:
                refuse_fused(path)
            return inner if isinstance(inner, Initializer) else inner(path, leaf)

        return inner if model.network is not None else checked

    return FromTree(of)


def width_of_table(leaf: Any) -> int:
    """Return the width of the vectors that a table holds.

    A network knows on which axis it is; shapes alone have it on the last.
    """
    fans_of_lookup = getattr(leaf, "fans", None)
    if fans_of_lookup is not None and "embedding" in leaf.roles:
        return int(fans_of_lookup.fan_out)
    return int(leaf.shape[-1])


def refuse_fused(path: str, _leaf: Any = None) -> Any:
    """Raise the error of a kernel with queries, keys and values in one."""
    raise ValueError(
        f"the kernel at {path!r} holds queries, keys and values, which this "
        "recipe scales differently; put a rule before the recipe's that draws "
        "them as jinit.blocks([query, key, value])."
    )
