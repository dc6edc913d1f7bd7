"""Results are drawn in their shardings, and so is what they are computed from."""

from collections.abc import Sequence
from typing import Any

from jax.sharding import NamedSharding, PartitionSpec

from .._core.programs import is_drawn_whole
from .._network import jaxpr
from .call import Call


def places(call: Call, where: list[Any]) -> dict[int, Any]:
    """Return the shardings of the results, and of the arrays that they are made of."""
    places = {
        slot: sharding
        for slot, sharding in zip(call.listing.outputs, where, strict=True)
        if sharding is not None and not jaxpr.is_literal(slot)
    }
    for unit in reversed(call.units):
        if len(unit.writes) == 1 and unit.writes[0] in places:
            sharding, shape = places[unit.writes[0]], unit.write_types()[0].shape
            # An operation on the parts of an array reads arrays in the same parts. A
            # result that is drawn whole, and then cut, needs its operands whole.
            in_parts = not is_drawn_whole(shape, sharding)
            for slot, read_shape in unit.array_reads():
                same = read_shape == shape and in_parts
                places.setdefault(slot, sharding if same else _replicated(sharding))
    return places


def _replicated(sharding: Any) -> Any:
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec())
    return PartitionSpec() if isinstance(sharding, PartitionSpec) else None


def committed(inputs: Sequence[Any]) -> set[int]:
    """Return the slots of the inputs that are bound to their devices."""
    return {i for i, x in enumerate(inputs) if getattr(x, "committed", False)}
