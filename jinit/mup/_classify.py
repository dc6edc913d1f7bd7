"""The tensors of a model are classified by networks, by shapes or by rules."""

from collections.abc import Sequence
from typing import Any

from .._core import checks
from .._core.trees import Leaf, leaves, listed, stand_in, strip_collection
from .._network.record import Network
from ._drawn import with_drawn
from ._experts import with_experts
from ._growth import (
    CLASSES,
    EXPERT_CLASSES,
    ClassifiedTensor,
    ambiguous,
    checked,
    class_of,
    growing_axes,
    layout_by_override,
    overridden,
)
from ._network_classes import (
    classify_by_network,
    is_readout,
    parameters_of,
    readings_of,
)
from ._shape_layouts import (
    ShapesOfModel,
    is_beside_others,
    is_head,
    layout_by_shapes,
    shapes_of_model,
)

KINDS = ("adam", "sgd")


def classify(
    base_shapes: Any, shapes: Any, delta_shapes: Any, overrides: Any
) -> list[ClassifiedTensor]:
    """Classify every tensor of a model by two or three networks, or by their shapes."""
    models = {"base_shapes": base_shapes, "shapes": shapes}
    if delta_shapes is not None:
        models["delta_shapes"] = delta_shapes
    are_networks = {isinstance(model, Network) for model in models.values()}
    if len(are_networks) > 1:
        kinds = [f"`{name}` is {_kind(model)}" for name, model in models.items()]
        raise TypeError(
            f"{', '.join(kinds)}; all must be networks, or all trees of shapes. Make a "
            "network of each: jinit.network(model, *arguments)."
        )
    # The places in a tree tell which tensors belong together. The names may differ:
    # Keras counts its layers, so that those of a second model have other names.
    places = {name: _by_place(model) for name, model in models.items()}
    same_structure(list(places.items()))
    ordered = [
        [tree[place][0] for place in places["shapes"]] for tree in places.values()
    ]
    texts = overridden(overrides, ordered[1], "overrides")
    by_kind = _by_networks if are_networks == {True} else _by_shapes
    plain = [EXPERT_CLASSES.get(text or "", text) for text in texts]
    tensors = with_experts(by_kind(list(models.values()), ordered, plain), texts)
    base, target, *_ = places.values()
    pairs = [(base[place][1], target[place][1]) for place in places["shapes"]]
    return with_drawn(tensors, pairs)


def _kind(model: Any) -> str:
    return "a Network" if isinstance(model, Network) else "not"


def _by_place(model: Any) -> dict[tuple[str, ...], tuple[Leaf, Any]]:
    """Return the leaf and the value of each tensor, by its place in the tree."""
    in_tree = leaves(model.params if isinstance(model, Network) else model)
    pairs = zip(in_tree, checked_leaves(model), strict=True)
    return {leaf.parts: (record, leaf.value) for leaf, record in pairs}


def checked_leaves(model: Any) -> list[Leaf]:
    """Return the leaves of a tree as shapes and dtypes, or those of a network.

    The leaves of a network are its records `Parameter`.
    """
    if isinstance(model, Network):
        return parameters_of(model)
    return [Leaf(leaf.parts, stand_in(leaf)) for leaf in leaves(model)]


def _by_networks(
    networks: list[Any], trees: list[list[Leaf]], texts: list[str | None]
) -> list[ClassifiedTensor]:
    readings = [
        [by_path[leaf.value.path] for leaf in tree]
        for by_path, tree in zip(map(readings_of, networks), trees, strict=True)
    ]
    return [
        classify_by_network(leaf, several, text)
        for leaf, several, text in zip(
            trees[1], zip(*readings, strict=True), texts, strict=True
        )
    ]


def _by_shapes(
    models: list[Any], trees: list[list[Leaf]], texts: list[str | None]
) -> list[ClassifiedTensor]:
    del models
    sizes = {
        several[1].parts: tuple(tuple(leaf.value.shape) for leaf in several)
        for several in zip(*trees, strict=True)
    }
    model = shapes_of_model(sizes)
    tensors = [
        _by_shape(leaf, sizes[leaf.parts], model, text)
        for leaf, text in zip(trees[1], texts, strict=True)
    ]
    return _with_readouts(tensors, trees[1], texts)


def _by_shape(
    leaf: Leaf,
    shapes: tuple[tuple[int, ...], ...],
    model: ShapesOfModel,
    text: str | None,
) -> ClassifiedTensor:
    axes, doubts = growing_axes(shapes), tuple[str, ...]()
    if text is None:
        layout, doubts = layout_by_shapes(leaf, model)
        mup_class = class_of(layout, axes)
    else:
        mup_class, layout = layout_by_override(
            leaf, axes, text, lambda: layout_by_shapes(leaf, model)[0]
        )
    return ClassifiedTensor(
        leaf.parts,
        shapes[1],
        shapes[0],
        mup_class,
        layout,
        axes,
        is_looked_up=is_looked_up(leaf),
        doubts=doubts,
    )


def _with_readouts(
    tensors: list[ClassifiedTensor], leaves: list[Leaf], texts: list[str | None]
) -> list[ClassifiedTensor]:
    """Tell readouts from outputs that feed other layers, as far as shapes show them.

    A tensor that is not known to be a readout does not count as one: its factor in std
    and rates trains as a multiplier does, and a multiplier that the model lacks does
    not.
    """
    modules = [set(modules_of(tensor)) for tensor in tensors]
    blocks = {
        # A module that holds the whole model is no block.
        module for module in blocks_of(tensors)
        if not all(module in around for around in modules)
    }  # fmt: skip
    return [
        tensor._replace(
            is_readout=not is_beside_others(leaf)
            # The user's word counts: a readout has the class "output".
            and (
                text == "output"
                or is_head(leaf)
                or not ("b" in tensor.layout or around & blocks)
            )
        )
        for tensor, leaf, text, around in zip(
            tensors, leaves, texts, modules, strict=True
        )
    ]


def modules_of(tensor: ClassifiedTensor) -> list[tuple[str, ...]]:
    """Return the modules around a tensor below the root, the outermost first."""
    parts = strip_collection(tensor.parts)
    return [parts[:length] for length in range(1, len(parts))]


# Every module on the way to a hidden tensor counts, so that the norm beside an
# attention lies in a block, and a readout or a norm at the root does not.
def blocks_of(tensors: Sequence[ClassifiedTensor]) -> set[tuple[str, ...]]:
    """Return the modules below the root that hold hidden tensors."""
    hidden = (tensor for tensor in tensors if tensor.mup_class == "hidden")
    return {module for tensor in hidden for module in modules_of(tensor)}


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
    classified = [
        _by_rule(leaf, EXPERT_CLASSES.get(str(text), str(text)), base, target)
        for leaf, text in zip(tensors, texts, strict=True)
    ]
    if isinstance(shapes, Network):
        readings = readings_of(shapes)
        classified = [
            one._replace(is_readout=is_readout(readings[one.path], one.axes))
            for one in classified
        ]
    return with_experts(classified, texts)


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

    def usual() -> str:
        model = shapes_of_model({leaf.parts: (tuple(sizes), shape)})
        return getattr(leaf.value, "layout", None) or layout_by_shapes(leaf, model)[0]

    mup_class, layout = layout_by_override(leaf, axes, override, usual)
    return ClassifiedTensor(
        leaf.parts,
        shape,
        tuple(sizes),
        mup_class,
        layout,
        axes,
        is_readout=not is_beside_others(leaf),
        is_looked_up=is_looked_up(leaf),
        roles=leaf.roles,
        groups=getattr(leaf.value, "groups", 1),
    )


def is_looked_up(leaf: Leaf) -> bool:
    """Tell whether a leaf is an embedding, by its role or by Flax's name."""
    if leaf.roles is not None:
        return "embedding" in leaf.roles
    return leaf.parts[-1:] == ("embedding",)


def _growing(leaf: Leaf, text: str, ndim: int) -> tuple[int, ...]:
    """Return the axes that grow: the capitals of a layout, or the usual of a class."""
    if text not in CLASSES:
        return tuple(axis for axis, letter in enumerate(text) if letter.isupper())
    layout = getattr(leaf.value, "layout", None)
    if layout is not None and text in ("input", "output", "hidden"):
        return _growing_by_layout(leaf, text, layout)
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


def _growing_by_layout(leaf: Leaf, text: str, layout: str) -> tuple[int, ...]:
    """Return the axes that grow in a tensor whose layout a network tells."""
    letters = {"input": "o", "output": "i", "hidden": "io"}[text]
    # A tied embedding is laid out as it is looked up, and its features are the inputs
    # of the logits.
    if text == "output" and is_looked_up(leaf):
        letters = "o"
    if any(layout.count(letter) != 1 for letter in letters):
        raise ambiguous(
            leaf, (), f"its layout is {layout!r}, and the class {text!r} does not say "
            f"which axes grow; name them by capitals, as in {layout.upper()!r}",
        )  # fmt: skip
    return tuple(sorted(map(layout.index, letters)))


def pair(name: str, value: Any) -> tuple[int, int]:
    """Check a pair of positive integers, (base, target), and return it."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"`{name}` is {value!r}; it must be a pair (base, target).")
    base, target = (checks.count(f"{name}[{i}]", n) for i, n in enumerate(value))
    if base is None or target is None:
        raise TypeError(f"`{name}` is {value!r}; it must be two integers.")
    return base, target


def same_structure(
    trees: Sequence[tuple[str, dict[tuple[str, ...], tuple[Leaf, Any]]]],
) -> None:
    """Raise unless the trees have the same paths, and as many axes at each path."""
    (first, ours), *others = trees
    here = {parts: leaf for parts, (leaf, _) in ours.items()}
    for name, theirs in others:
        there = {parts: leaf for parts, (leaf, _) in theirs.items()}
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
