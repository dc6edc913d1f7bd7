"""An adapted model is one record; its trees are split by what their leaves are."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.trees import leaves, struct


class Adapted(NamedTuple):
    """A model is a pure function of its parameters and of all other arrays."""

    apply: Callable[..., Any]
    # What may be changed: a tree of arrays, or of their shapes and dtypes.
    params: Any
    # A path for each leaf of `params`, in JAX's order.
    paths: tuple[str, ...]
    # The arguments that hold arrays, in the order of the call. A last dictionary holds
    # the options that are arrays, and the arrays that are neither parameter nor
    # argument (batch statistics, caches, keys); it is absent where it would be empty.
    inputs: tuple[Any, ...]
    # How many leaves of `inputs`, the first ones, are the user's arguments and options.
    num_arguments: int
    # params -> what the user called the model with, or the model that holds its arrays.
    rebuild: Callable[[Any], Any]
    # The name of the library, for messages.
    library: str
    # Gives a key of what the function computes, or None where it cannot be told.
    key: Callable[[], Hashable | None]


class Split(NamedTuple):
    """A tree is two trees of its structure, each with None in the other's places."""

    chosen: Any
    rest: Any
    structure: Any

    def join(self, chosen: Any, rest: Any) -> Any:
        """Put two trees with None in each other's places together."""
        pairs = zip(
            self.structure.flatten_up_to(chosen),
            self.structure.flatten_up_to(rest),
            strict=True,
        )
        return self.structure.unflatten([a if b is None else b for a, b in pairs])


def split(tree: Any, choose: Callable[[Any], bool]) -> Split:
    """Split the leaves of a tree into those that are chosen and the rest."""
    flat, structure = jax.tree.flatten(tree)
    chosen = [leaf if choose(leaf) else None for leaf in flat]
    rest = [
        leaf if one is None else None for leaf, one in zip(flat, chosen, strict=True)
    ]
    unflatten = jax.tree.unflatten
    return Split(unflatten(structure, chosen), unflatten(structure, rest), structure)


def is_array(leaf: Any) -> bool:
    """Tell whether a leaf is an array of JAX or NumPy, or the shape and dtype of one.

    A NumPy scalar is none: like a Python number it may be a setting, as in
    `if train:`, so it enters the call as it is.
    """
    kinds = (jax.Array, np.ndarray, jax.ShapeDtypeStruct)
    return isinstance(leaf, kinds) and struct(leaf) is not None


def is_parameter(leaf: Any) -> bool:
    """Tell whether a leaf may be trained: it is an array of real or complex numbers."""
    return is_array(leaf) and bool(jnp.issubdtype(leaf.dtype, np.inexact))


def paths_of(params: Any) -> tuple[str, ...]:
    """Return the path of each leaf of a tree of parameters."""
    return tuple(leaf.path for leaf in leaves(params))
