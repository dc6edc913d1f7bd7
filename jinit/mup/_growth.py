"""The axes of a tensor that grow with the width give its layout and its muP class.

A layout has a letter per axis, as in `jinit.fans`: i input, o output, k window, b
batch. A tensor is "hidden" if its inputs and its outputs grow, "input" if only its
outputs grow, "output" if only its inputs grow, a "vector" if it has no inputs, and a
"scalar" if nothing grows. Axes whose length stays the same count for no class.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._core import names
from .._core.patterns import Pattern, first_matches
from .._core.trees import Leaf
from .._scale.fans import Fans, fans

CLASSES = ("input", "hidden", "output", "vector", "scalar")
# The classes of a mixture of experts, and the class whose factors each of them has.
EXPERT_CLASSES = {"router": "output", "expert": "hidden"}

Shape = tuple[int, ...]


class ClassifiedTensor(NamedTuple):
    """A classified tensor has a class, a layout, and the axes that grow with width.

    `is_readout` is for the class "output": whether the tensor writes the model's
    results, so that a multiplier may stand behind it. `is_looked_up` tells an
    embedding, also a tied one. `counted` are the fans that the layout cannot tell.
    `drawn` is the growth of the initializer's std, if it is known. `doubts` are the
    keys of sentences that the table says about the tensor. `roles` and `groups` are
    those of a network, and `moe` is "router" or "expert" in a mixture of experts.
    """

    parts: tuple[str, ...]
    shape: Shape
    base: Shape
    mup_class: str
    layout: str
    axes: tuple[int, ...]
    is_readout: bool = True
    is_looked_up: bool = False
    counted: tuple[Fans, Fans] | None = None
    drawn: float | None = None
    doubts: tuple[str, ...] = ()
    roles: frozenset[str] | None = None
    groups: int = 1
    moe: str = ""

    @property
    def path(self) -> str:
        """Return the path, with slashes between its parts."""
        return "/".join(self.parts)

    @property
    def inputs(self) -> float:
        """Return the growth of the number of inputs."""
        if self.counted:
            return self.counted[1].fan_in / self.counted[0].fan_in
        return self.ratio("ik")

    @property
    def outputs(self) -> float:
        """Return the growth of the number of outputs."""
        if self.counted:
            return self.counted[1].fan_out / self.counted[0].fan_out
        return self.ratio("o")

    @property
    def fans(self) -> Fans:
        """Return the fans at the target width."""
        return self.counted[1] if self.counted else fans(self.shape, self.layout)

    @property
    def is_tied(self) -> bool:
        """Tell whether the tensor is an embedding and an output at once."""
        return self.is_looked_up and self.mup_class == "output"

    def ratio(self, letters: str) -> float:
        """Return the growth of the product of these axes from base to target."""
        pairs = zip(self.layout, self.shape, self.base, strict=True)
        return math.prod(n / m for letter, n, m in pairs if letter in letters)


def growing_axes(shapes: Sequence[Shape]) -> tuple[int, ...]:
    """Return the axes whose lengths differ between the widths."""
    return tuple(
        axis for axis, sizes in enumerate(zip(*shapes, strict=True))
        if len(set(sizes)) > 1
    )  # fmt: skip


def class_of(layout: str, axes: Sequence[int]) -> str:
    """Return the class of a tensor from its layout and the axes that grow."""
    # More experts or more layers are more copies, and make none of them wider.
    grows = {layout[axis] for axis in axes} - {"b"}
    if not grows:
        return "scalar"
    if "o" not in grows:
        return "output"
    if grows != {"o"}:
        return "hidden"
    return "input" if set(layout) & {"i", "k"} else "vector"


def layout_by_override(
    leaf: Leaf, axes: tuple[int, ...], override: str, layout_of: Callable[[], str]
) -> tuple[str, str]:
    """Return class and layout of a tensor for which a user names one of the two.

    Args:
      leaf: the tensor.
      axes: the axes that grow.
      override: a class, or a layout.
      layout_of: gives the layout that the tensor would have without the override.
    """
    ndim = len(leaf.value.shape)
    if override not in CLASSES:
        check_layout(leaf, override)
        return class_of(override, axes), override
    if override == "vector":
        return override, "o" * ndim
    if override == "scalar":
        return override, "b" * ndim
    if override == "hidden":
        # Without any axis that grows the base is the target, and every class will do.
        if axes and len(axes) < 2:
            raise ValueError(
                f"the override makes {leaf} 'hidden', and only its axis {axes[0]} "
                "grows; a hidden tensor grows in its inputs and its outputs. Name it "
                "'input' or 'output', or give base and target shapes that differ."
            )
        return override, layout_of()
    grows, stays = ("o", "i") if override == "input" else ("i", "o")
    letters = (grows if axis in axes else stays for axis in range(ndim))
    return override, "".join(letters)


def check_layout(leaf: Leaf, layout: str) -> None:
    """Raise unless a layout has one of the four letters for each axis of a leaf."""
    ndim, known = len(leaf.value.shape), (*CLASSES, *EXPERT_CLASSES)
    if len(layout) != ndim or set(layout) - set("iokb"):
        raise ValueError(
            f"the override of {leaf} is {layout!r}; it must be a class "
            f"({', '.join(map(repr, known))}) or a letter per axis, {ndim} of "
            "them: i input, o output, k window, b batch."
            f"{names.did_you_mean(layout, known)}"
        )


def ambiguous(leaf: Leaf, axes: Sequence[int], reason: str = "") -> ValueError:
    """Return the error for a tensor whose layout is unknown."""
    grow = ", ".join(map(str, axes))
    why = f"axes that grow: {grow}" if axes else "its layout is not known"
    reason = reason or (
        "its shape does not say which axes are inputs and which outputs. Networks in "
        "the place of shapes do: jinit.network(model, *arguments)"
    )
    return ValueError(
        f"the class of {leaf} is ambiguous ({why}): {reason}. Say so by an override, "
        "with a letter per axis (i input, o output, k window, b batch) or a class "
        f"('input', 'hidden', 'output'): overrides=[({leaf.path!r}, "
        f"{'i' + 'o' * (len(leaf.value.shape) - 1)!r})]."
    )


def overridden(overrides: Any, leaves: list[Leaf], name: str) -> list[str | None]:
    """Return, for each leaf, the text of the first rule that matches it, or None."""
    return first_matches(checked(overrides, name), leaves)


def checked(rules: Any, name: str) -> list[tuple[Pattern, str]]:
    """Check pairs (pattern, text), and return them."""
    message = f"`{name}` is {rules!r}; it must be a sequence of pairs (pattern, text), "
    message += "such as [('**/embedding', 'output')]."
    if isinstance(rules, str | dict):
        raise TypeError(message)
    try:
        pairs = [(pattern, text) for pattern, text in rules]
    except (TypeError, ValueError):
        raise TypeError(message) from None
    if not all(isinstance(text, str) for _, text in pairs):
        raise TypeError(message)
    argument = f"a pattern of `{name}`"
    return [(Pattern.of(argument, pattern), text) for pattern, text in pairs]
