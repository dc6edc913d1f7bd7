"""One leaf of a plan: as a row of plain data, as a configuration."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from .._core import checks, dtypes, names, trees
from .._core.trees import Leaf
from .._initializer.base import Initializer, Scaled
from .._initializer.stack import Blocks, Stacked
from .._scale.fans import jax_fans, layout_of_axes
from .._schemes import registry
from .._schemes.fan_based import FanScheme
from .._schemes.variance_scaling import VarianceScaling
from .rules import keep


class Planned(NamedTuple):
    """One leaf of a plan: its path, its shape and dtype, its initializer.

    A leaf that can be no array is kept; its value is the leaf itself.
    """

    parts: tuple[str, ...]
    value: Any
    init: Any

    @property
    def leaf(self) -> Leaf:
        return Leaf(self.parts, self.value)

    @property
    def path(self) -> str:
        return self.leaf.path


def leaf_of(leaf: Leaf, init: Any) -> Planned:
    """Return the plan of a leaf, given its initializer.

    Raises:
      TypeError: for an initializer of a leaf that is no array.
    """
    if init is not keep:
        return Planned(leaf.parts, trees.stand_in(leaf), init)
    struct = trees.struct(leaf.value)
    return Planned(leaf.parts, leaf.value if struct is None else struct, init)


def spell(init: Any) -> str:
    known = init is keep or isinstance(init, Initializer)
    return repr(init) if known else names.public_name(init)


def row(leaf: Planned) -> dict[str, Any]:
    struct = trees.struct(leaf.value)
    shape, dtype = _type(struct)
    is_ours = isinstance(leaf.init, Initializer)
    layout, fans = _describe(leaf.init, shape) if is_ours else (None, (None, None))
    return {
        "path": leaf.path,
        "shape": shape,
        "dtype": dtype,
        "layout": layout,
        "fan_in": fans[0],
        "fan_out": fans[1],
        "initializer": spell(leaf.init),
        "std": leaf.init.std(shape) if is_ours else None,
        "parameters": 0 if struct is None else math.prod(struct.shape),
    }


def _type(struct: jax.ShapeDtypeStruct | None) -> tuple[Any, Any]:
    return (None, None) if struct is None else (struct.shape, str(struct.dtype))


def to_config(leaf: Planned) -> dict[str, Any]:
    try:
        init = "keep" if leaf.init is keep else registry.to_config(leaf.init)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the initializer of {leaf.leaf}: {error}") from error
    shape, dtype = _type(trees.struct(leaf.value))
    return {
        "path": list(leaf.parts),
        "shape": None if shape is None else list(shape),
        "dtype": dtype,
        "initializer": init,
    }


def from_config(config: Any) -> tuple[list[Leaf], list[Any]]:
    if not isinstance(config, Mapping) or "leaves" not in config:
        raise TypeError(
            f"`config` is {config!r}; it must be what plan.to_config() returns, a dict "
            "with 'leaves'."
        )
    leaves, inits = [], []
    for entry in config["leaves"]:
        absent = {"path", "shape", "dtype", "initializer"} - set(entry)
        if absent:
            raise ValueError(f"`config` has a leaf without {sorted(absent)}: {entry!r}")
        # A configuration does not record the value of a leaf that is no array.
        value: Any = ...
        if entry["shape"] is not None:
            dtype = dtypes.dtype_like(entry["dtype"])
            value = jax.ShapeDtypeStruct(tuple(entry["shape"]), dtype)
        leaves.append(Leaf(tuple(entry["path"]), value))
        named = entry["initializer"]
        inits.append(keep if named == "keep" else registry.from_config(named))
    return leaves, inits


def nested(leaves: Sequence[Leaf]) -> Any:
    """Nested dicts with these leaves."""
    if [leaf.parts for leaf in leaves] == [()]:
        return leaves[0].value
    tree: dict[str, Any] = {}
    for leaf in leaves:
        node: Any = tree
        for part in leaf.parts[:-1]:
            node = node.setdefault(part, {})
        if not isinstance(node, dict) or not leaf.parts or leaf.parts[-1] in node:
            raise ValueError(
                f"`config` has a leaf at {leaf.path!r}, where another one lies already."
            )
        node[leaf.parts[-1]] = leaf.value
    return tree


def _describe(init: Any, shape: checks.Shape) -> tuple[Any, tuple[Any, Any]]:
    """The layout and the fans by which a scheme counts; None where it does not."""
    if isinstance(init, Scaled):
        init = init.init
    if isinstance(init, FanScheme):
        # A fan that the formula does not use may be unknown; it is 0 then.
        fan_in, fan_out = (n or None for n in init._fans(shape))
        return init.layout or _layout(init, shape), (fan_in, fan_out)
    if isinstance(init, VarianceScaling):
        found = jax_fans(shape, init.in_axis, init.out_axis, init.batch_axis)
        # Axes that overlap may leave a fraction of a window.
        inputs, outputs = (int(n) if n.is_integer() else n for n in found)
        return _layout(init, shape), (inputs, outputs)
    if isinstance(init, Stacked):
        return _describe_stacked(init, shape)
    if isinstance(init, Blocks):
        parts = zip(init.inits, init._shapes(shape), strict=True)
        same = {_describe(part, own) for part, own in parts}
        return same.pop() if len(same) == 1 else (None, (None, None))
    return None, (None, None)


def _describe_stacked(init: Stacked, shape: checks.Shape) -> Any:
    """The layout and fans of one layer, where all have the same; "b" for the stack."""
    found = {_describe(layer, init._slice(shape)) for layer in init._layers(shape)}
    if len(found) != 1:
        return None, (None, None)
    layout, fans = found.pop()
    axis = init.axis % len(shape)
    return layout and layout[:axis] + "b" + layout[axis:], fans


def _layout(init: Any, shape: checks.Shape) -> str | None:
    try:
        return layout_of_axes(shape, init.in_axis, init.out_axis, init.batch_axis)
    except ValueError:
        # Axes that overlap, as JAX allows, and shapes whose fans were given.
        return None
