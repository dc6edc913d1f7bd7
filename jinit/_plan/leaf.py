"""A planned leaf becomes a row of the table, or an entry of the configuration."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from .._core import dtypes, names, trees
from .._core.results import Row
from .._core.trees import Leaf
from .._initializer.base import Initializer
from .._schemes import registry
from .model import Facts
from .rules import keep


class Planned(NamedTuple):
    """A planned leaf has a path, a `jax.ShapeDtypeStruct` and an initializer.

    A leaf that cannot be an array is kept, and its value is the leaf itself. `facts`
    are known in the plan of a network.
    """

    parts: tuple[str, ...]
    value: Any
    init: Any
    facts: Facts | None = None

    @property
    def leaf(self) -> Leaf:
        """Return the leaf without its initializer."""
        return Leaf(self.parts, self.value)

    @property
    def named(self) -> Leaf:
        """Return the leaf with the path by which it is shown, chosen and drawn."""
        if self.facts is None:
            return self.leaf
        return Leaf(self.facts.parts, self.value, self.facts.roles)

    @property
    def path(self) -> str:
        """Return the path as one text."""
        return self.named.path


def planned(leaf: Leaf, init: Any, facts: Facts | None = None) -> Planned:
    """Pair a leaf with its initializer, or with `keep`.

    Raises:
      TypeError: if an initializer is to draw a leaf that is not an array.
    """
    if init is not keep:
        return Planned(leaf.parts, trees.stand_in(leaf), init, facts)
    struct = trees.struct(leaf.value)
    value = leaf.value if struct is None else struct
    return Planned(leaf.parts, value, init, facts)


def spell(init: Any) -> str:
    """Spell an initializer for a table: jinit's by its repr, others by their names."""
    # The repr of a function has an address, which differs from run to run.
    has_stable_repr = init is keep or isinstance(init, Initializer)
    return repr(init) if has_stable_repr else names.public_name(init)


def row(leaf: Planned) -> Row:
    """Return the row of a leaf in a plan's table; see `Plan.rows` for the keys."""
    struct = trees.struct(leaf.value)
    shape, dtype = _type(struct)
    is_ours = isinstance(leaf.init, Initializer)
    layout, fans = leaf.init.layout_and_fans(shape) if is_ours else (None, (None, None))
    row = {
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
    return row if leaf.facts is None else row | {"roles": sorted(leaf.facts.roles)}


def _type(struct: jax.ShapeDtypeStruct | None) -> tuple[Any, Any]:
    return (None, None) if struct is None else (struct.shape, str(struct.dtype))


def to_config(leaf: Planned) -> dict[str, Any]:
    """Return a leaf as plain data; see `Plan.to_config`."""
    try:
        # The error of a setting does not know in which of a thousand leaves it lies.
        init = "keep" if leaf.init is keep else registry.to_config(leaf.init)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the initializer of {leaf.leaf}: {error}") from error
    shape, dtype = _type(trees.struct(leaf.value))
    config = {
        "path": list(leaf.parts),
        "shape": None if shape is None else list(shape),
        "dtype": dtype,
        "initializer": init,
    }
    if leaf.facts is None:
        return config
    named = {} if leaf.facts.parts == leaf.parts else {"name": list(leaf.facts.parts)}
    return config | named | {"roles": sorted(leaf.facts.roles)}


def from_config(config: Any) -> list[Planned]:
    """Return the leaves that a configuration describes.

    Raises:
      TypeError: if `config` is not the configuration of a plan.
      ValueError: if a leaf of the configuration lacks an entry.
    """
    if not isinstance(config, Mapping) or "leaves" not in config:
        raise TypeError(
            f"`config` is {config!r}; it must be what plan.to_config() returns, a dict "
            "with 'leaves'."
        )
    leaves = []
    for entry in config["leaves"]:
        absent = {"path", "shape", "dtype", "initializer"} - set(entry)
        if absent:
            raise ValueError(
                f"`config` has a leaf without {sorted(absent)}: {entry!r}. Each leaf "
                "must have path, shape, dtype and initializer, as plan.to_config() "
                "writes them."
            )
        # A configuration does not record the value of a leaf that is not an array. An
        # Ellipsis stands for it, which trees.is_placeholder knows as a missing value.
        value: Any = ...
        if entry["shape"] is not None:
            dtype = dtypes.dtype_like(entry["dtype"])
            value = jax.ShapeDtypeStruct(tuple(entry["shape"]), dtype)
        named = entry["initializer"]
        init = keep if named == "keep" else registry.from_config(named)
        parts = tuple(entry["path"])
        facts = None
        if "roles" in entry:
            name = tuple(entry.get("name", parts))
            facts = Facts(name, frozenset(entry["roles"]))
        leaves.append(Planned(parts, value, init, facts))
    return leaves


def nested(leaves: Sequence[Leaf]) -> Any:
    """Return nested dicts with these leaves.

    Raises:
      ValueError: if one leaf lies at another one's path, or below it.
    """
    # The plan of a single array has one leaf with an empty path.
    if [leaf.parts for leaf in leaves] == [()]:
        return leaves[0].value
    tree: dict[str, Any] = {}
    for leaf in leaves:
        node: Any = tree
        for part in leaf.parts[:-1]:
            # A leaf on the way is no dict, and the check below rejects what would lie
            # under it.
            node = node.setdefault(part, {})
        if not isinstance(node, dict) or not leaf.parts or leaf.parts[-1] in node:
            raise ValueError(
                f"`config` has a leaf at {leaf.path!r}, where another one lies "
                "already; remove one of the two."
            )
        node[leaf.parts[-1]] = leaf.value
    return tree
