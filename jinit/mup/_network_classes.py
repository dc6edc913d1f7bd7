"""The classes of tensors are read from a network: what is contracted, and what grows.

A parameter may meet data several times, as a tied embedding does. Each product has a
layout, and so a class; together they decide the class of the tensor.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .._core.trees import Leaf, leaves
from .._network.reader.records import Layer, Parameter
from .._network.record import Network
from .._scale.fans import Fans
from ._growth import (
    ClassifiedTensor,
    ambiguous,
    class_of,
    growing_axes,
    layout_by_override,
)

_PRODUCTS = {"matrix", "convolution"}


class Reading(NamedTuple):
    """A Reading is a parameter with its products, in a network of one width."""

    parameter: Parameter
    layers: tuple[Layer, ...]


def parameters_of(network: Network) -> list[Leaf]:
    """Return a leaf for each parameter, in the order of the network's tree."""
    parameters = [network.parameters[path] for path in network.paths]
    pairs = zip(parameters, leaves(network.params), strict=True)
    return [
        # A list of arrays, as Keras has it, gives them no names. A name may have a "/"
        # in it, so that a path may not be split where the tree has its parts.
        Leaf(
            leaf.parts if leaf.path == one.path else tuple(one.path.split("/")),
            one,
            one.roles,
        )
        for one, leaf in pairs
    ]


def readings_of(network: Network) -> dict[str, Reading]:
    """Return the parameters of a network with their products, by path."""
    layers: dict[str, list[Layer]] = {}
    for layer in network.layers:
        layers.setdefault(layer.path, []).append(layer)
    return {
        path: Reading(parameter, tuple(layers.get(path, ())))
        for path, parameter in network.parameters.items()
    }


def classify_by_network(
    leaf: Leaf, readings: Sequence[Reading], override: str | None
) -> ClassifiedTensor:
    """Classify a parameter of two networks, or of three.

    Args:
      leaf: the parameter of the target network.
      readings: its readings in the base network, the target, and maybe a third one.
      override: the class or the layout that a user names, or None.

    Raises:
      ValueError: if the networks do not tell its class.
    """
    base, target = readings[:2]
    shapes = [reading.parameter.shape for reading in readings]
    axes = growing_axes(shapes)
    if override is None:
        mup_class, layout = _class_and_layout(leaf, base, target, axes)
    else:
        mup_class, layout = layout_by_override(
            leaf, axes, override, lambda: _class_and_layout(leaf, base, target, axes)[1]
        )
    roles = target.parameter.roles
    tensor = ClassifiedTensor(
        leaf.parts,
        shapes[1],
        shapes[0],
        mup_class,
        layout,
        axes,
        is_readout=is_readout(target, axes),
        is_looked_up="embedding" in roles,
        counted=_counted(base, target) if override is None else None,
        roles=roles,
        groups=target.parameter.groups,
    )
    return tensor if override else tensor._replace(doubts=_doubts(roles, tensor))


def _doubts(roles: frozenset[str], tensor: ClassifiedTensor) -> tuple[str, ...]:
    """Return the doubts that a user has to know about a classified tensor."""
    is_fused = "query" in roles and bool(roles & {"key", "value"})
    # Keys and values of grouped queries are outputs, and their part of a fused kernel
    # has the std of the whole.
    if tensor.mup_class == "hidden" and is_fused and tensor.outputs < tensor.inputs:
        return ("fused",)
    if "other" in roles and tensor.mup_class == "scalar" and tensor.axes:
        return ("unused",)
    has_axes = sum(size > 1 for size in tensor.shape) > 1
    is_vector = tensor.mup_class == "vector"
    return ("use",) if is_vector and has_axes and "other" in roles else ()


def _class_and_layout(
    leaf: Leaf, base: Reading, target: Reading, axes: tuple[int, ...]
) -> tuple[str, str]:
    """Return the class of all uses together, and the layout of one with that class."""
    ndim = len(leaf.value.shape)
    heads = _axes_of_heads(base, target)
    layouts = _layouts(target, heads)
    # Nothing in the equations shows an axis of one entry that was dropped.
    if 1 not in base.parameter.shape + target.parameter.shape:
        _check_alike(leaf, _layouts(base, heads), layouts, axes)
    # One row of an embedding is read at a time, so that more rows are no more inputs.
    rows = target.parameter.layout if "embedding" in target.parameter.roles else None
    classes = {
        class_of(x.replace("i", "k") if x == rows else x, axes): x for x in layouts
    }
    grown = {name: layout for name, layout in classes.items() if name != "scalar"}
    if not classes:
        return _without_layout(leaf, base, target, axes)
    if not grown:
        return "scalar", next(iter(classes.values()))
    # Tied tensors read and write the width: their std and their rates are those of an
    # input, and the multiplier is that of an output.
    if "output" in grown and not grown.keys() - {"input", "output", "vector"}:
        return "output", grown["output"]
    if len(grown) > 1 and grown.keys() != {"input", "vector"}:
        raise ambiguous(
            leaf, axes, f"its uses are of several classes ({', '.join(sorted(grown))})"
        )
    mup_class = "input" if "input" in grown else next(iter(grown))
    return mup_class, "o" * ndim if mup_class == "vector" else grown[mup_class]


def _axes_of_heads(base: Reading, target: Reading) -> dict[int, str]:
    """Return the letters of batch axes that are heads of attention, and grow.

    More experts, layers or members of an ensemble are more copies. But more heads, if
    they are mapped over, are more outputs of a query, and more inputs of the product
    behind them, which sums over the heads.
    """
    roles, layout = target.parameter.roles, target.parameter.layout or ""
    letter = "o" if roles & {"query", "key", "value"} else "i"
    # The factors of an adapter have no layer of their own, and no heads.
    is_of_attention = roles & {"query", "key", "value", "attention_output"}
    if not (is_of_attention and base.layers and target.layers):
        return {}
    sizes = zip(layout, base.parameter.shape, target.parameter.shape, strict=False)
    ratios = {x: n / m for x, (b, m, n) in enumerate(sizes) if b == "b" and n != m}
    # A scan over more layers executes the product more often.
    layers = target.layers[0].count / base.layers[0].count
    scanned = next((axis for axis, n in ratios.items() if n == layers), None)
    return {axis: letter for axis in ratios if axis != scanned}


def _layouts(reading: Reading, heads: dict[int, str]) -> list[str]:
    """Return the layouts of a parameter, one for each sort of use."""
    parameter = reading.parameter

    def lettered(layout: str) -> str:
        return "".join(heads.get(axis, letter) for axis, letter in enumerate(layout))

    products = [lettered(layer.layout) for layer in reading.layers if layer.layout]
    products = list(dict.fromkeys(products))
    if parameter.layout is None:
        return products
    layout = lettered(parameter.layout)
    return products if layout in products else [layout, *products]


def _check_alike(
    leaf: Leaf, base: list[str], target: list[str], axes: tuple[int, ...]
) -> None:
    """Raise unless the axes that grow do the same at both widths."""

    def grown(layouts: list[str]) -> set[str]:
        return {"".join(layout[axis] for axis in axes) for layout in layouts}

    if len(base) == len(target) and grown(base) != grown(target):
        raise ambiguous(
            leaf, axes, f"the networks read it as {', '.join(base)} at the base width "
            f"and as {', '.join(target)} at the target width",
        )  # fmt: skip


def _without_layout(
    leaf: Leaf, base: Reading, target: Reading, axes: tuple[int, ...]
) -> tuple[str, str]:
    """Return class and layout of a parameter that has no axes of inputs and outputs."""
    parameter, ndim = target.parameter, len(leaf.value.shape)
    fans = _counted(base, target)
    if fans is not None:
        # A kernel that is kept as a vector has its inputs and outputs in one axis.
        inputs = fans[0].fan_in != fans[1].fan_in
        outputs = fans[0].fan_out != fans[1].fan_out
        names = {(1, 1): "hidden", (1, 0): "output", (0, 1): "input"}
        return names.get((inputs, outputs), "scalar"), "b" * ndim
    # A parameter that is never used has no gradient, and no factor does any harm.
    if not axes or parameter.uses == 0:
        return "scalar", "o" * ndim
    if parameter.roles & _PRODUCTS or ("other" in parameter.roles and len(axes) > 1):
        reason = parameter.reason or "the layout of its product is not known"
        raise ambiguous(leaf, axes, f"the network does not tell its use ({reason})")
    return "vector", "o" * ndim


def _counted(base: Reading, target: Reading) -> tuple[Fans, Fans] | None:
    """Return the fans of a parameter that has fans, but no layout."""
    before, after = base.parameter, target.parameter
    if after.layout is not None or before.fans is None or after.fans is None:
        return None
    return (before.fans, after.fans) if after.roles & _PRODUCTS else None


def is_readout(reading: Reading, axes: tuple[int, ...]) -> bool:
    """Tell whether a multiplier may stand behind each product that sums the width."""
    parameter = reading.parameter
    sums = [
        layer for layer in reading.layers
        if layer.layout is None or class_of(layer.layout, axes) == "output"
    ]  # fmt: skip
    if "embedding" in parameter.roles or not parameter.roles & _PRODUCTS:
        # Weights of a tied embedding cannot take the factor, and where the network
        # does not see a product, the word of the user counts.
        return True
    # The factors of an adapter have no layer of their own.
    roles = [layer.roles for layer in sums] or [parameter.roles]
    return all("readout" in one for one in roles)
