"""The axes of a tensor that grow with the width give its layout and its muP class.

A layout has a letter per axis, as in `jinit.fans`: i input, o output, k window, b
batch. A tensor is "hidden" if its inputs and its outputs grow, "input" if only its
outputs grow, "output" if only its inputs grow, a "vector" if it has no inputs, and a
"scalar" if nothing grows.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._core import names
from .._core.patterns import Pattern, first_matches
from .._core.trees import Leaf, listed
from .._network.flax_names import INTO_HEADS, OUT_OF_HEADS

CLASSES = ("input", "hidden", "output", "vector", "scalar")
# Parameters with these names have no inputs.
# Such a parameter may have two axes, as the bias of a query, (heads, head_dim).
_VECTORS = ("bias", "scale", "gamma", "beta", "mean", "var")

Shape = tuple[int, ...]


class ClassifiedTensor(NamedTuple):
    """A classified tensor has a class, a layout, and the axes that grow with width."""

    parts: tuple[str, ...]
    shape: Shape
    base: Shape
    mup_class: str
    layout: str
    axes: tuple[int, ...]

    def ratio(self, letters: str) -> float:
        """Return the growth of the product of these axes from base to target."""
        pairs = zip(self.layout, self.shape, self.base, strict=True)
        return math.prod(n / m for letter, n, m in pairs if letter in letters)

    @property
    def inputs(self) -> float:
        """Return the growth of the number of inputs."""
        return self.ratio("ik")

    @property
    def outputs(self) -> float:
        """Return the growth of the number of outputs."""
        return self.ratio("o")


def classify(
    leaf: Leaf, shapes: Sequence[Shape], override: str | None
) -> ClassifiedTensor:
    """Classify a leaf by its shapes: base, target, and maybe a third one."""
    axes = tuple(
        axis for axis, sizes in enumerate(zip(*shapes, strict=True))
        if len(set(sizes)) > 1
    )  # fmt: skip
    return classify_by_axes(leaf, shapes[1], shapes[0], axes, override)


def classify_by_axes(
    leaf: Leaf, shape: Shape, base: Shape, axes: tuple[int, ...], override: str | None
) -> ClassifiedTensor:
    """Classify a leaf whose growing axes are known."""
    if override in CLASSES:
        mup_class = override
        layout = _layout_of_class(leaf, len(shape), axes, override)
    else:
        layout = override or _layout(leaf, len(shape), axes)
        _check_layout(leaf, layout, shape)
        mup_class = _class_of(layout, axes)
    return ClassifiedTensor(leaf.parts, shape, base, mup_class, layout, axes)


def _class_of(layout: str, axes: tuple[int, ...]) -> str:
    # More experts or more layers are more copies, and make none of them wider.
    grows = {layout[axis] for axis in axes} - {"b"}
    if not grows:
        return "scalar"
    if "o" not in grows:
        return "output"
    if grows != {"o"}:
        return "hidden"
    return "input" if set(layout) & {"i", "k"} else "vector"


def _layout(leaf: Leaf, ndim: int, axes: tuple[int, ...]) -> str:
    """Return a layout by the names of Flax, and by the axes that grow."""
    module, name = names_of(leaf)
    if ndim < 2 or name in _VECTORS:
        return "o" * ndim
    if ndim == 2:
        return "io"
    return heads_layout(module, ndim, axes) or _by_growth(leaf, module, ndim, axes)


def names_of(leaf: Leaf) -> tuple[str, str]:
    """Return (module name, parameter name); a parameter alone is its own module."""
    names = [part.lower() for part in leaf.parts] or [""]
    is_alone = len(names) < 2 or names[-1] not in ("kernel", "weight", "w")
    return names[-1 if is_alone else -2], names[-1]


def heads_layout(module: str, ndim: int, axes: tuple[int, ...]) -> str | None:
    """Return the layout of a projection into or out of heads, else None.

    More than three axes are a stack of such projections.
    """
    stack = "b" * (ndim - 3)
    # A layer outside of attention may be called "out", too. Its growing axes tell.
    if module in INTO_HEADS:
        return f"{stack}ioo"
    return f"{stack}iio" if module in OUT_OF_HEADS else None


def _by_growth(leaf: Leaf, module: str, ndim: int, axes: tuple[int, ...]) -> str:
    # Two axes that grow are the inputs and the outputs; of three one is split, and it
    # may be either.
    if len(axes) > 2:
        raise ambiguous(leaf, axes)
    # Three axes are a stack of matrices, unless a name says that they are a window's.
    # Both grow alike, but a window multiplies the number of inputs.
    around = "k" if ndim > 3 or "conv" in module else "b"
    if len(axes) == 2:
        first, last = axes
        return around * first + "i" * (last - first) + "o" * (ndim - last)
    window = around * (ndim - 2) + "io"
    # A first convolution grows in its outputs alone.
    if not axes or axes[0] == ndim - 1 or "conv" in module:
        return window
    if axes[0] == 0:
        # A readout with several output axes, such as (d, codebooks, codes), has its
        # inputs first.
        return "i" + "o" * (ndim - 1)
    if ndim > 3 and axes[0] == ndim - 2:
        return window
    raise ambiguous(leaf, axes)


def ambiguous(leaf: Leaf, axes: Sequence[int]) -> ValueError:
    """Return the error for a tensor whose layout is unknown."""
    grow = ", ".join(map(str, axes))
    reason = f"axes that grow: {grow}" if axes else "its layout is not known"
    return ValueError(
        f"the class of {leaf} is ambiguous ({reason}): its shape does not say which "
        "axes are inputs and which outputs. Say so by an override, with a letter per "
        "axis (i input, o output, k window, b batch) or a class ('input', 'hidden', "
        f"'output'): overrides=[({leaf.path!r}, "
        f"{'i' + 'o' * (len(leaf.value.shape) - 1)!r})]."
    )


def _layout_of_class(
    leaf: Leaf, ndim: int, axes: tuple[int, ...], mup_class: str
) -> str:
    """Return the layout of a class that a user names, from the axes that grow."""
    if mup_class == "vector":
        return "o" * ndim
    if mup_class == "scalar":
        return "b" * ndim
    if mup_class == "hidden":
        # Without any axis that grows the base is the target, and every class will do.
        if axes and len(axes) < 2:
            raise ValueError(
                f"the override makes {leaf} 'hidden', and only its axis {axes[0]} "
                "grows; a hidden tensor grows in its inputs and its outputs. Name it "
                "'input' or 'output', or give base and target shapes that differ."
            )
        return _layout(leaf, ndim, axes)
    grows, stays = ("o", "i") if mup_class == "input" else ("i", "o")
    return "".join(grows if axis in axes else stays for axis in range(ndim))


def _check_layout(leaf: Leaf, layout: str, shape: Shape) -> None:
    if len(layout) != len(shape) or set(layout) - set("iokb"):
        raise ValueError(
            f"the override of {leaf} is {layout!r}; it must be a class "
            f"({', '.join(map(repr, CLASSES))}) or a letter per axis, {len(shape)} of "
            "them: i input, o output, k window, b batch."
            f"{names.did_you_mean(layout, CLASSES)}"
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


def same_structure(trees: Sequence[tuple[str, list[Leaf]]]) -> None:
    """Raise unless the trees have the same paths, and as many axes at each path."""
    (first, ours), *others = trees
    here = {leaf.parts: leaf for leaf in ours}
    for name, theirs in others:
        there = {leaf.parts: leaf for leaf in theirs}
        absent = [leaf for parts, leaf in here.items() if parts not in there]
        extra = [leaf for parts, leaf in there.items() if parts not in here]
        if absent or extra:
            lines = [f"{leaf} only in `{first}`" for leaf in absent]
            lines += [f"{leaf} only in `{name}`" for leaf in extra]
            raise ValueError(
                f"`{first}` and `{name}` are trees of different structure:"
                f"{listed(lines[:10])}\nThey must be shapes of one model, that differ "
                "in width only; a change of depth goes into `depth=(base, target)`."
            )
        wrong = [
            f"{here[parts]} and {leaf.value.shape}"
            for parts, leaf in there.items()
            if len(leaf.value.shape) != len(here[parts].value.shape)
        ]
        if wrong:
            raise ValueError(
                f"`{first}` and `{name}` have different numbers of axes:{listed(wrong)}"
                "\nThey must be shapes of one model, that differ in width only."
            )
