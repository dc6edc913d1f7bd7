"""The argument `shardings` of plans and of `materialize` gives each leaf a sharding.

A user may pass one sharding, a tree of them, a function, or "metadata" for the
annotations of Flax. `resolve` checks what came, and returns a list with one sharding,
or None, for each leaf.
"""

import functools
import sys
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec, Sharding

from .._core import checks, trees
from .._core.meshes import check_fits
from .._core.trees import Leaf


def resolve(shardings: Any, leaves: Sequence[Leaf], tree: Any) -> list[Any]:
    """Return the sharding of each leaf, checked, or None for JAX's choice.

    A `ShapeDtypeStruct` keeps its sharding, unless `shardings` has another one for it.
    A leaf that cannot be an array has no sharding, whatever its entry says.

    Args:
      shardings: None; one sharding for all; a tree of them, or of structs that have
        one, or a prefix of such a tree, matched by paths, so that boxes and kinds of
        dicts do not matter; a function `(path, ShapeDtypeStruct) -> sharding`; or
        "metadata".
      leaves: the leaves to place, arrays and others.
      tree: the tree of these leaves, with its boxes.

    Raises:
      TypeError: if an entry is not a sharding.
      ValueError: if a leaf has no entry, if an entry has no leaf, or if a sharding does
        not divide a shape.
    """
    structs = [trees.struct(leaf.value) for leaf in leaves]
    entries = _entries(shardings, leaves, structs, tree)
    return [
        None if struct is None else _settled(Leaf(leaf.parts, struct), entry)
        for leaf, struct, entry in zip(leaves, structs, entries, strict=True)
    ]


def by_path(
    shardings: Any, leaves: Sequence[Leaf], tree: Any
) -> dict[tuple[str, ...], Any]:
    """Return the sharding of each leaf that `resolve` gives, by the leaf's path.

    A tree of shardings may have entries where `tree` has None.
    """
    # JAX's trees have no leaf where a value is None, so these places are added.
    empty = [x for x in trees.leaves(tree, _is_none) if x.value is None]
    places = resolve(shardings, [*leaves, *empty], tree)
    # The places of None come last, and are cut off here.
    return dict(zip((leaf.parts for leaf in leaves), places, strict=False))


def _is_none(node: Any) -> bool:
    return node is None


def _entries(
    shardings: Any, leaves: Sequence[Leaf], structs: Sequence[Any], tree: Any
) -> list[Any]:
    """Return the entry of each leaf in `shardings`."""
    # Text is tested before functions and trees: it is a leaf of a tree, too.
    if shardings is None:
        return [None] * len(leaves)
    if isinstance(shardings, str):
        checks.choice("shardings", shardings, ("metadata",))
        return _from_entries(_annotated(tree), leaves)
    if is_function(shardings):
        return [
            None if struct is None else shardings(leaf.path, struct)
            for leaf, struct in zip(leaves, structs, strict=True)
        ]
    entries = {e.parts: e.value for e in trees.leaves(shardings, _is_entry)}
    return _from_entries(entries, leaves)


def is_function(shardings: Any) -> bool:
    """Tell whether shardings are a function of (path, leaf), and not a callable tree.

    An Equinox module of shardings can be a callable tree.
    """
    # A mesh is callable, too: JAX's contexts may decorate a function.
    if isinstance(shardings, Mesh | AbstractMesh):
        return False
    is_tree = not jax.tree_util.all_leaves([shardings], _is_entry)
    # A jax.tree_util.Partial is a tree, too, and a subclass of functools.partial.
    is_partial = isinstance(shardings, functools.partial)
    return (
        callable(shardings) and not _is_entry(shardings) and (is_partial or not is_tree)
    )


def _is_entry(node: Any) -> bool:
    return _is_sharding(node) or isinstance(node, jax.ShapeDtypeStruct)


def _is_sharding(node: Any) -> bool:
    return node is None or isinstance(node, Sharding | PartitionSpec)


def _from_entries(entries: dict[Any, Any], leaves: Sequence[Leaf]) -> list[Any]:
    # Leaves are matched by paths, not by the trees' structures, since a tree of
    # shardings rarely has the boxes and the container types of the model's tree.
    used = set()
    chosen = []
    for leaf in leaves:
        # At most one entry can be above a leaf: it is itself a leaf of its tree.
        above = (leaf.parts[:n] for n in range(len(leaf.parts) + 1))
        entry = next((parts for parts in above if parts in entries), None)
        if entry is None and trees.struct(leaf.value) is not None:
            raise ValueError(
                f"`shardings` says nothing of {leaf}; give it an entry (None stands "
                "for no sharding), or pass a function (path, leaf) -> sharding."
            )
        used.add(entry)
        chosen.append(None if entry is None else entries[entry])
    # An entry without a leaf is most often a misspelled path.
    for parts in entries:
        if parts not in used:
            raise ValueError(
                f"`shardings` has an entry at {'/'.join(parts)!r}, where there is no "
                "leaf; remove it, or correct the path."
            )
    return chosen


def _settled(leaf: Leaf, entry: Any) -> Any:
    """Return the sharding of a leaf's entry, or of the leaf if the entry has none."""
    if isinstance(entry, jax.ShapeDtypeStruct):
        if entry.shape != leaf.value.shape:
            raise ValueError(
                f"`shardings` has for {leaf} a struct of shape {entry.shape}; the "
                "shapes must agree, so pass the structs of the same tree."
            )
        entry = entry.sharding
    if not _is_sharding(entry):
        raise TypeError(
            f"the sharding of {leaf} is {entry!r}, of type "
            f"{type(entry).__name__}; it must be a jax.sharding.Sharding such as "
            "NamedSharding(mesh, spec), a PartitionSpec inside `jax.set_mesh`, or None."
        )
    sharding = _concrete(leaf.value.sharding if entry is None else entry)
    # All shardings are checked before the first array is drawn: an error of XLA would
    # come late, and without the path.
    try:
        if isinstance(sharding, NamedSharding | PartitionSpec):
            check_fits(sharding, leaf.value.shape)
        elif sharding is not None:
            sharding.shard_shape(leaf.value.shape)
    except ValueError as error:
        raise ValueError(f"the sharding of {leaf}: {error}") from error
    return sharding


def _concrete(sharding: Any) -> Any:
    """Return the spec of a sharding without devices, for the mesh of the context.

    `jax.eval_shape` inside a mesh gives structs with such shardings.
    """
    if not isinstance(sharding, NamedSharding):
        return sharding
    if not isinstance(sharding.mesh, jax.sharding.AbstractMesh):
        return sharding
    # A spec without axes asks for nothing, so it must not ask for a mesh either.
    divides = any(entry is not None for entry in sharding.spec)
    return sharding.spec if divides else None


def placement(value: Any) -> Any:
    """Return the sharding for an array that replaces `value`, or None for JAX's choice.

    None is the answer for an array that is not bound to its devices.
    """
    if isinstance(value, jax.core.Tracer):
        # A tracer has no devices. Only in an explicit mesh does its type say its spec.
        sharding = jax.typeof(value).sharding
        return sharding.spec if sharding.mesh.explicit_axes else None
    if isinstance(value, jax.ShapeDtypeStruct):
        return _concrete(value.sharding)
    # JAX chose the place of an array that is not committed, and may choose again.
    if not isinstance(value, jax.Array) or not value.committed:
        return None
    return value.sharding


def _annotated(tree: Any) -> dict[tuple[str, ...], Any]:
    """Return the shardings that Flax's boxes around the leaves ask for, by path.

    A box names its axes; logical names go through Flax's rules. The mesh is that of the
    box, or else that of the context.
    """
    entries = {}
    for leaf in trees.leaves(tree, lambda node: _is_none(node) or trees.is_box(node)):
        spec = _annotation(leaf.value) if trees.is_box(leaf.value) else None
        # As in `_concrete`, a spec without axes must not ask for a mesh.
        named = NamedSharding(_mesh(leaf.value), spec) if spec else None
        entries[leaf.parts] = named
    return entries


def _annotation(box: Any) -> PartitionSpec | None:
    # A caller that has such a box has loaded Flax, so sys.modules has it. The kind of a
    # box is told by its attributes, since this file does not import Flax.
    if hasattr(box, "rules"):
        linen: Any = sys.modules["flax.linen"]
        logical: PartitionSpec | None = linen.logical_to_mesh_axes(box.names, box.rules)
        return logical
    if hasattr(box, "get_partition_spec"):
        named: PartitionSpec | None = box.get_partition_spec()
        return named
    if not hasattr(box, "get_metadata"):
        return None
    nnx: Any = sys.modules["flax.nnx"]
    spec, *_ = jax.tree.leaves(nnx.get_partition_spec(box))
    # NNX gives a variable without annotations an empty spec.
    return spec if any(spec) else None


def _mesh(box: Any) -> Any:
    mesh = getattr(box, "mesh", None) or jax.sharding.get_mesh()
    if mesh.empty:
        raise ValueError(
            "`shardings` is 'metadata', and the model's annotations name axes of a "
            "mesh, but there is none; call inside `jax.set_mesh(mesh)`."
        )
    return mesh
