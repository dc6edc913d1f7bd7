"""Trees of shapes -> a parametrization: from two widths, from rules, from norms."""

from collections.abc import Sequence
from typing import Any

from .._core import checks
from .._core.trees import Leaf, leaves, listed, stand_in
from ._growth import (
    CLASSES,
    Classed,
    ambiguous,
    checked,
    classed,
    of_axes,
    overridden,
    same_structure,
)

KINDS = ("adam", "sgd")


def infer(
    base_shapes: Any, shapes: Any, delta_shapes: Any, overrides: Any
) -> list[Classed]:
    """The class of every tensor of a model, by its shapes at two or three widths."""
    trees = [
        ("base_shapes", checked_leaves(base_shapes)),
        ("shapes", checked_leaves(shapes)),
    ]
    if delta_shapes is not None:
        trees.append(("delta_shapes", checked_leaves(delta_shapes)))
    same_structure(trees)
    target = trees[1][1]
    others = [{leaf.parts: leaf.value.shape for leaf in tree} for _, tree in trees]
    said = overridden(overrides, target, "overrides")
    return [
        classed(leaf, [tuple(tree[leaf.parts]) for tree in others], text)
        for leaf, text in zip(target, said, strict=True)
    ]


def checked_leaves(tree: Any) -> list[Leaf]:
    return [
        Leaf(leaf.parts, stand_in(leaf)) for leaf in leaves(tree)
    ]  # fmt: skip


def by_rules(shapes: Any, rules: Any, width: Any) -> list[Classed]:
    """The class of every tensor, from rules; the base from the ratio of widths."""
    base, target = pair("width", width)
    pairs, found = checked(rules, "rules"), checked_leaves(shapes)
    unmatched = [
        x for x in found if not any(pattern.matches(x) for pattern, _ in pairs)
    ]
    if unmatched:
        raise ValueError(
            f"{len(unmatched)} of {len(found)} leaves match no rule:"
            f"{listed(unmatched[:10])}\nAdd one for each, such as ('**', 'vector')."
        )
    said = overridden(rules, found, "rules")
    return [
        _by_rule(leaf, str(text), base, target)
        for leaf, text in zip(found, said, strict=True)
    ]


def _by_rule(leaf: Leaf, text: str, base: int, target: int) -> Classed:
    shape = tuple(leaf.value.shape)
    axes = _growing(leaf, text, len(shape))
    sizes = list(shape)
    for axis in axes:
        if sizes[axis] * base % target:
            raise ValueError(
                f"axis {axis} of {leaf} would be {sizes[axis] * base / target:g} long "
                f"at the base width ({base} for {target}); it must come out whole. Say "
                "which axes grow by capital letters, as in 'IO' or 'IoO'."
            )
        sizes[axis] = sizes[axis] * base // target
    override = text if text in CLASSES else text.lower()
    return of_axes(leaf, shape, tuple(sizes), axes, override)


def _growing(leaf: Leaf, text: str, ndim: int) -> tuple[int, ...]:
    """The axes that grow: of a class the usual ones, of a layout the capitals."""
    if text not in CLASSES:
        return tuple(axis for axis, letter in enumerate(text) if letter.isupper())
    wanted = {"input": (-1,), "vector": (-1,), "output": (-2,), "hidden": (-2, -1)}
    axes = wanted.get(text, ())
    if text == "vector" and ndim == 0:
        return ()
    if (axes and ndim < -axes[0]) or (text == "hidden" and ndim == 3):
        raise ambiguous(leaf, ())
    # An embedding that is read out too has its features last.
    if text == "output" and leaf.parts[-1:] == ("embedding",):
        return (ndim - 1,)
    return tuple(axis % ndim for axis in axes)


def pair(name: str, value: Any) -> tuple[int, int]:
    """Two positive integers, (base, target)."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"`{name}` is {value!r}; it must be a pair (base, target).")
    base, target = (checks.count(f"{name}[{i}]", n) for i, n in enumerate(value))
    if base is None or target is None:
        raise TypeError(f"`{name}` is {value!r}; it must be two integers.")
    return base, target
