"""A plan draws its leaves, and meets the leaves of a tree that exists already."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax

from .._core import trees
from .._core.patterns import Pattern
from .._core.trees import Leaf, listed
from .._initializer.foreign import BoundInitializer
from .._network.shardings import by_path as shardings_by_path
from .leaf import Planned
from .rules import keep

if TYPE_CHECKING:
    from .plan import Plan


def align(
    plan: "Plan", name: str, tree: Any, cure: str = ""
) -> list[tuple[Planned, Leaf]]:
    """Pair the leaves of a tree with those of a plan, in the order of the tree.

    Args:
      plan: the plan, whose leaves may be in another order.
      name: the argument that the tree was passed as.
      tree: a tree with the plan's paths, shapes and dtypes.
      cure: the sentence that ends the error about a shape, with a space in front.

    Raises:
      ValueError: if the tree has other paths, shapes or dtypes.
    """
    by_path = {leaf.parts: leaf for leaf in plan.leaves}
    structs = {parts: leaf.leaf for parts, leaf in by_path.items()}
    leaves = trees.align(name, tree, structs, "the plan", cure)
    return [(by_path[leaf.parts], leaf) for leaf in leaves]


def placements(plan: "Plan", shardings: Any) -> dict[tuple[str, ...], Any]:
    """Return the sharding of each leaf of a plan, by its path."""
    leaves = [leaf.leaf for leaf in plan.leaves]
    return shardings_by_path(shardings, leaves, plan.shapes)


def check_known(plan: "Plan", leaves: Sequence[Planned]) -> None:
    """Raise unless a plan knows the values of those leaves that it keeps."""
    unknown = [
        leaf.leaf
        for leaf in leaves
        if leaf.init is keep and leaf.parts not in plan._kept
    ]
    if unknown:
        raise ValueError(
            f"the plan keeps {len(unknown)} leaves whose values it does not know:"
            f"{listed(unknown)}\nMake the plan from the values, call "
            "plan.reinit(key, params), or give these leaves an initializer."
        )


def draw(plan: "Plan", key: jax.Array, leaf: Planned, sharding: Any) -> Any:
    """Return the value of a leaf: drawn, or the one that the plan keeps."""
    if leaf.init is not keep:
        return sampler(plan, leaf)(trees.key_of(key, leaf.named.parts), sharding)
    value = plan._kept[leaf.parts]
    # Without a sharding the object itself is returned, which may not be an array.
    return value if sharding is None else jax.device_put(value, sharding)


def sampler(plan: "Plan", leaf: Planned, dtype: Any = None) -> BoundInitializer:
    """Return the initializer of a leaf, bound to its shape and to a dtype.

    A plan keeps its bound initializers, since they hold compiled programs.
    """
    return plan._samplers.of(leaf.init, leaf.value.shape, dtype or leaf.value.dtype)


def chosen_by(pairs: list[tuple[Planned, Leaf]], only: Any) -> list[bool]:
    """Tell for each leaf whether it is drawn again, by `only` and the plan."""
    drawn = [planned.init is not keep for planned, _ in pairs]
    if only is None:
        return drawn
    pattern = Pattern.of("`only`", only)
    # The plan knows the roles, which the parameters themselves do not show.
    leaves = [planned.named._replace(value=leaf.value) for planned, leaf in pairs]
    pattern.check_used(leaves)
    chosen = [
        is_drawn and pattern.matches(leaf)
        for is_drawn, leaf in zip(drawn, leaves, strict=True)
    ]
    if not any(chosen):
        raise ValueError(
            f"`only` is {pattern}, and the plan keeps all that it matches; give those "
            "leaves an initializer in the plan's rules."
        )
    return chosen


def delete(value: Any) -> None:
    """Free the memory of an array."""
    # Under jit a value is a tracer, which has no memory to delete.
    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        value.delete()
