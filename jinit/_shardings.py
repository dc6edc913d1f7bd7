"""What a user says of shardings -> one for each leaf."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from . import _paths
from ._compiled import check_fits
from ._paths import Leaf


def resolve(shardings: Any, leaves: Sequence[Leaf]) -> list[Any]:
    """The sharding of each leaf (parts, ShapeDtypeStruct), checked; None for none.

    Args:
      shardings: None; one sharding for all; a tree of them, or a prefix of one, matched
        by paths, so that boxes and kinds of dicts do not matter; or a function
        `(path, ShapeDtypeStruct) -> sharding`.
      leaves: the leaves to place.

    Raises:
      TypeError: for something that is no sharding.
      ValueError: for leaves that a tree leaves out, entries of it that are of no leaf,
        and shapes that a sharding does not divide.
    """
    if shardings is None:
        return [None] * len(leaves)
    if callable(shardings) and not _is_sharding(shardings):
        found = [shardings(leaf.path, leaf.value) for leaf in leaves]
    else:
        found = _from_tree(shardings, leaves)
    for leaf, sharding in zip(leaves, found, strict=True):
        _check(leaf, sharding)
    return found


def _is_sharding(node: Any) -> bool:
    return node is None or isinstance(node, Sharding | PartitionSpec)


def _from_tree(shardings: Any, leaves: Sequence[Leaf]) -> list[Any]:
    entries = {e.parts: e.value for e in _paths.leaves(shardings, _is_sharding)}
    used = set()
    found = []
    for leaf in leaves:
        # At most one entry can be above a leaf: it is itself a leaf of its tree.
        above = (leaf.parts[:n] for n in range(len(leaf.parts) + 1))
        entry = next((parts for parts in above if parts in entries), None)
        if entry is None:
            raise ValueError(
                f"`shardings` says nothing of {leaf}; give it an entry, None for no "
                "sharding, or pass a function (path, leaf) -> sharding."
            )
        used.add(entry)
        found.append(entries[entry])
    for parts in entries:
        if parts not in used:
            raise ValueError(
                f"`shardings` has an entry at {'/'.join(parts)!r}, where there is no "
                "leaf; remove it, or correct the path."
            )
    return found


def _check(leaf: Leaf, sharding: Any) -> None:
    if not _is_sharding(sharding):
        raise TypeError(
            f"the sharding of {leaf} is {sharding!r}, of type "
            f"{type(sharding).__name__}; it must be a jax.sharding.Sharding, a "
            "PartitionSpec inside `jax.set_mesh`, or None."
        )
    try:
        if isinstance(sharding, NamedSharding | PartitionSpec):
            check_fits(sharding, leaf.value.shape)
        elif sharding is not None:
            sharding.shard_shape(leaf.value.shape)
    except ValueError as error:
        raise ValueError(f"the sharding of {leaf}: {error}") from error


def placement(value: Any) -> Any:
    """Where a new array must live to replace `value`; None for JAX's choice."""
    if isinstance(value, jax.core.Tracer):
        found = jax.typeof(value).sharding
        return found.spec if found.mesh.explicit_axes else None
    if not isinstance(value, jax.Array) or not value.committed:
        return None
    return value.sharding
