"""The results of a call get their shardings, and no two of them share memory."""

from collections.abc import Sequence
from typing import Any

import jax

from .._core import trees
from .._network import jaxpr
from .._network.shardings import resolve
from .call import Call
from .following import followed
from .skipping import abstract


def places_of(shardings: Any, call: Call, root: tuple[str, ...]) -> list[Any]:
    """Return the sharding of each result, or None, before anything is drawn."""
    values = call.results.filled(call.shapes)
    if shardings is None:
        return [None] * len(values)
    tree = jax.tree.unflatten(call.results.tree, values)
    # A tree of shardings may have entries where the results have None, so these places
    # count as leaves until the entries are matched.
    leaves = trees.leaves(tree, lambda node: node is None)
    places = followed(leaves, resolve(shardings, leaves, tree), root)
    return [
        sharding
        for leaf, sharding in zip(leaves, places, strict=True)
        if leaf.value is not None
    ]


def joined(call: Call, values: Sequence[Any], where: list[Any]) -> Any:
    """Return the tree of results; move known results to their shardings."""
    results = call.results
    rows = zip(
        results.filled(values), results.known, results.is_skipped, where, strict=True
    )
    leaves = []
    for x, known, skipped, sharding in rows:
        if skipped:
            x = abstract(x, sharding)
        elif known is not None and sharding is not None:
            x = jax.device_put(x, sharding, may_alias=False)
        elif known is not None and isinstance(x, jax.Array):
            # The function holds this array for its next call.
            x = _copied(x)
        leaves.append(x)
    return jax.tree.unflatten(results.tree, leaves)


def separate(outputs: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return the values of outputs, and copy a value that comes a second time.

    An optimizer may begin with a copy of the weights, which in an eager call is the
    same array. A training step that donates its state could not take it twice. The
    first of them may be an argument, such as restored weights, and is not copied.
    """
    copies: list[Any] = []
    before: set[int] = set()
    for output, value in zip(outputs, values, strict=True):
        if not jaxpr.is_literal(output):
            copies.append(_copied(value) if output in before else value)
            before.add(output)
        else:
            copies.append(value)
    return copies


def _copied(value: jax.Array) -> jax.Array:
    place = value.sharding if getattr(value, "committed", False) else None
    # `jnp.copy` would compile a program for each shape.
    copy: jax.Array = jax.device_put(value, place, may_alias=False)
    return copy
