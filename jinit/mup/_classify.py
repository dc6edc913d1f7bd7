"""The tensors of a model are classified by shapes at two widths, or by rules."""

from collections.abc import Sequence
from typing import Any

from .._core import checks
from .._core.trees import Leaf, leaves, listed, stand_in
from ._growth import (
    CLASSES,
    ClassifiedTensor,
    ambiguous,
    checked,
    classify,
    classify_by_axes,
    overridden,
    same_structure,
)

KINDS = ("adam", "sgd")


def classify_by_shapes(
    base_shapes: Any, shapes: Any, delta_shapes: Any, overrides: Any
) -> list[ClassifiedTensor]:
    """Classify every tensor of a model by its shapes at two or three widths."""
    trees = [
        ("base_shapes", checked_leaves(base_shapes)),
        ("shapes", checked_leaves(shapes)),
    ]
    if delta_shapes is not None:
        trees.append(("delta_shapes", checked_leaves(delta_shapes)))
    same_structure(trees)
    target = trees[1][1]
    shapes_by_path = [
        {leaf.parts: leaf.value.shape for leaf in tree} for _, tree in trees
    ]
    texts = overridden(overrides, target, "overrides")
    return [
        classify(leaf, [tuple(by_path[leaf.parts]) for by_path in shapes_by_path], text)
        for leaf, text in zip(target, texts, strict=True)
    ]


def checked_leaves(tree: Any) -> list[Leaf]:
    """Return the leaves of a tree as shapes and dtypes."""
    return [Leaf(leaf.parts, stand_in(leaf)) for leaf in leaves(tree)]


def classify_by_rules(shapes: Any, rules: Any, width: Any) -> list[ClassifiedTensor]:
    """Classify every tensor by rules, with base shapes from the ratio of widths."""
    base, target = pair("width", width)
    pairs, tensors = checked(rules, "rules"), checked_leaves(shapes)
    unmatched = [
        x for x in tensors if not any(pattern.matches(x) for pattern, _ in pairs)
    ]
    if unmatched:
        raise ValueError(
            f"{len(unmatched)} of {len(tensors)} leaves match no rule:"
            f"{listed(unmatched[:10])}\nAdd a rule for each, such as ('**', 'vector')."
        )
    texts = overridden(rules, tensors, "rules")
    return [
        _by_rule(leaf, str(text), base, target)
        for leaf, text in zip(tensors, texts, strict=True)
    ]


def _by_rule(leaf: Leaf, text: str, base: int, target: int) -> ClassifiedTensor:
    shape = tuple(leaf.value.shape)
    axes = _growing(leaf, text, len(shape))
    sizes = list(shape)
    for axis in axes:
        if sizes[axis] * base % target:
            raise ValueError(
                f"axis {axis} of {leaf} would be {sizes[axis] * base / target:g} long "
                f"at the base width ({base} for {target}); it must be a whole number. "
                "Say which axes grow by capital letters, as in 'IO' or 'IoO'."
            )
        sizes[axis] = sizes[axis] * base // target
    # Capitals only say which axes grow; the letters of a layout are small.
    override = text if text in CLASSES else text.lower()
    return classify_by_axes(leaf, shape, tuple(sizes), axes, override)


def _growing(leaf: Leaf, text: str, ndim: int) -> tuple[int, ...]:
    """Return the axes that grow: the capitals of a layout, or the usual of a class."""
    if text not in CLASSES:
        return tuple(axis for axis, letter in enumerate(text) if letter.isupper())
    usual = {"input": (-1,), "vector": (-1,), "output": (-2,), "hidden": (-2, -1)}
    axes = usual.get(text, ())
    if text == "vector" and ndim == 0:
        return ()
    # Three axes may be a stack of matrices or a projection into heads, whose growing
    # axes differ, so a class alone does not tell.
    if (axes and ndim < -axes[0]) or (text == "hidden" and ndim == 3):
        raise ambiguous(leaf, ())
    # An embedding that is also the readout has its features last.
    if text == "output" and leaf.parts[-1:] == ("embedding",):
        return (ndim - 1,)
    return tuple(axis % ndim for axis in axes)


def pair(name: str, value: Any) -> tuple[int, int]:
    """Check a pair of positive integers, (base, target), and return it."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"`{name}` is {value!r}; it must be a pair (base, target).")
    base, target = (checks.count(f"{name}[{i}]", n) for i, n in enumerate(value))
    if base is None or target is None:
        raise TypeError(f"`{name}` is {value!r}; it must be two integers.")
    return base, target
