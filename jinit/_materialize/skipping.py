"""Leaves that a checkpoint brings are not drawn: `skip` says which ones they are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from .._core import checks, trees
from .._core.patterns import Pattern
from .._core.programs import at_top_level
from .._core.trees import Leaf
from .._network.jaxpr import Listing, is_literal


class Skip(NamedTuple):
    """A Skip is a pattern of leaves that are not drawn.

    `within` is the path of the tree that the user knows, inside the one that is drawn.
    """

    pattern: Pattern
    within: tuple[str, ...] = ()

    def of(self, leaves: Sequence[Leaf]) -> list[bool]:
        """Tell for each leaf whether it is skipped.

        Raises:
          ValueError: if one of the patterns matches no leaf.
        """
        length = len(self.within)
        inside = [
            Leaf(leaf.parts[length:], _struct_or_value(leaf.value))
            if leaf.parts[:length] == self.within
            else None
            for leaf in leaves
        ]
        self.pattern.check_used([leaf for leaf in inside if leaf is not None])
        # A leaf that cannot be an array, such as a text, costs nothing, so it stays.
        return [
            leaf is not None
            and isinstance(leaf.value, jax.ShapeDtypeStruct)
            and self.pattern.matches(leaf)
            for leaf in inside
        ]


def skip_of(skip: Any, within: tuple[str, ...] = ()) -> Skip | None:
    """Check a user's `skip`, and return it, or None if there is none.

    Raises:
      TypeError: if it is not a pattern.
      ValueError: if a glob or a role is invalid.
    """
    # An empty sequence is no mistake here: nothing is skipped.
    is_empty = skip is None or (isinstance(skip, tuple | list) and not skip)
    return None if is_empty else Skip(Pattern.of("`skip`", skip), within)


def _struct_or_value(value: Any) -> Any:
    struct = trees.struct(value)
    return value if struct is None else struct


def check_independent(
    listing: Listing, drawn: Sequence[Leaf], skipped: Sequence[Leaf]
) -> None:
    """Raise if a drawn leaf is computed from one that is skipped.

    Args:
      listing: the steps of all results, first of the drawn ones, then of the skipped.
      drawn: the leaves that are drawn.
      skipped: the leaves that are not.

    Raises:
      ValueError: with the paths of both leaves.
    """
    # An average of the weights starts as a copy of them. An average made from a fresh
    # draw would not match the checkpoint's weights, and nobody would notice.
    outputs = listing.outputs
    source = {
        slot: leaf
        for slot, leaf in zip(outputs[len(drawn) :], skipped, strict=True)
        # Keys and counters are integers; what is drawn with a key may be drawn.
        if not is_literal(slot) and jnp.issubdtype(leaf.value.dtype, jnp.inexact)
    }
    for step in listing.steps:
        for read in step.reads:
            if not is_literal(read) and read in source:
                source |= dict.fromkeys(step.writes, source[read])
                break
    for slot, leaf in zip(outputs, drawn, strict=False):
        if not is_literal(slot) and slot in source:
            raise ValueError(
                f"{leaf} is computed from {source[slot]}, which `skip` leaves to a "
                "checkpoint, so it would have the values of a fresh draw. Let `skip` "
                "match it, too, or compute it from the restored leaf."
            )


def abstract(struct: jax.ShapeDtypeStruct, sharding: Any) -> jax.ShapeDtypeStruct:
    """Return the struct of a skipped leaf, with the sharding that its array would have.

    The sharding must not be missing, since Orbax reads the array to it. Without one,
    Orbax would read to the devices that the array was saved from.
    """
    if isinstance(sharding, PartitionSpec):
        sharding = NamedSharding(jax.sharding.get_mesh(), sharding)
    if sharding is None and at_top_level():
        sharding = _default()
    return jax.ShapeDtypeStruct(struct.shape, struct.dtype, sharding=sharding)


def _default() -> Any:
    """Return the sharding that JAX gives to an array by default."""
    mesh = jax.sharding.get_mesh()
    if not mesh.empty:
        return NamedSharding(mesh, PartitionSpec())
    device = checks.flag("jax_default_device")
    if not isinstance(device, jax.Device):
        device = jax.local_devices(backend=device)[0]
    return SingleDeviceSharding(device)
