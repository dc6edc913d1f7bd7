"""A plan is made for a model: a network, or a tree of shapes."""

from typing import Any, NamedTuple

from .._core import trees
from .._core.patterns import Pattern
from .._core.trees import Leaf
from .._network.adapters import is_linen
from .._network.record import Network
from .axes import with_axes_of_network, with_axes_of_shapes
from .beside import Parts, Reading, axes_beside_biases


class Facts(NamedTuple):
    """Facts are those that a network shows about a leaf.

    `parts` are those of its path in the network. They differ from the leaf's place in
    the tree where that is a list of arrays, as Keras has it.
    """

    parts: tuple[str, ...]
    roles: frozenset[str]


class Model(NamedTuple):
    """A Model is what a plan is made for, with its leaves in the order of the tree.

    The value of a leaf is a `Parameter` if there is a network. `within` limits a recipe
    to a part of the model.
    """

    tree: Any
    leaves: list[Leaf]
    network: Network | None
    # The axes that biases show, of the kernels that are not in Flax's order.
    readings: dict[Parts, Reading]
    within: Pattern | None = None

    @classmethod
    def of(cls, shapes: Any) -> "Model":
        """Return the model that a user passed to `plan`."""
        if is_linen(shapes):
            # JAX counts a module as one leaf without a name, which no pattern matches.
            raise TypeError(
                f"`shapes` is a Linen module, of type {type(shapes).__name__}, which "
                "has no parameters of its own; pass its network, jinit.network(model, "
                "variables, x), or its shapes, jax.eval_shape(model.init, key, x)."
            )
        if not isinstance(shapes, Network):
            leaves = trees.leaves(shapes)
            return cls(shapes, leaves, None, axes_beside_biases(leaves))
        leaves = []
        paths = shapes.paths
        for path, leaf in zip(paths, trees.leaves(shapes.params), strict=True):
            parameter = shapes.parameters[path]
            # A name may have "/" in it, so that splitting a path would not give its
            # parts. A list, as Keras has it, gives its arrays no names at all.
            parts = leaf.parts if leaf.path == path else tuple(path.split("/"))
            leaves.append(Leaf(parts, parameter, parameter.roles))
        return cls(shapes.params, leaves, shapes, {})

    def facts(self) -> list[Facts | None]:
        """Return the facts about each leaf, or None if the model is no network."""
        return [
            None if leaf.roles is None else Facts(leaf.parts, leaf.roles)
            for leaf in self.leaves
        ]

    def fitted(self, init: Any, leaf: Leaf) -> Any:
        """Return the initializer of a leaf, counting by the axes of the leaf."""
        if self.network is not None:
            return with_axes_of_network(init, leaf)
        reading = self.readings.get(leaf.parts)
        return init if reading is None else with_axes_of_shapes(init, leaf, reading)

    def inside(self, pattern: Pattern) -> "Model":
        """Return the same model for a recipe that is limited to a part of it."""
        return self._replace(within=pattern)

    def part(self) -> list[Leaf]:
        """Return the leaves of the part that a recipe is for."""
        within = self.within
        return [x for x in self.leaves if within is None or within.matches(x)]
