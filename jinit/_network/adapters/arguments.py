"""The arguments of a call are taken apart: their arrays, and everything else.

Arrays are traced. Python numbers, texts and functions enter the call as they are, so
that `train=True` still decides an `if`.
"""

import functools
import sys
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax

from ..behavior import key_of
from .adapted import Adapted, is_array, paths_of, split


class Arguments(NamedTuple):
    """The arguments of a call, with their arrays apart from everything else."""

    # The arrays, as `Adapted.inputs`.
    inputs: tuple[Any, ...]
    # The number of their leaves without state and keys, as `Adapted.num_arguments`.
    number: int
    # (*inputs) -> (arguments, options, the trees that lie beside them).
    restore: Callable[..., tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]]
    # Everything that is no array: trees with None in the places of arrays.
    settings: Sequence[Any]

    def key(self, *behavior: Any) -> Hashable | None:
        """Return a key of a call: what is called, and all that is no array.

        None says that `behavior` cannot be told by looking at it, as in `key_of`.
        """
        trees = [jax.tree.flatten(tree) for tree in self.settings]
        known = key_of(behavior, [leaves for leaves, _ in trees])
        return (
            None if known is None else (known, *(structure for _, structure in trees))
        )


def arguments_of(
    arguments: Sequence[Any], options: dict[str, Any], **beside: Any
) -> Arguments:
    """Take the arguments of a call apart, and what lies beside them, such as state."""
    positional = [split(opened(argument), is_array) for argument in arguments]
    trees = {"options": options, **beside}
    named = {name: split(opened(tree), is_array) for name, tree in trees.items()}
    passed = [number for number, one in enumerate(positional) if _holds(one.chosen)]
    last = {name: one.chosen for name, one in named.items() if _holds(one.chosen)}

    def restore(*inputs: Any) -> Any:
        arrays = dict(zip(passed, inputs, strict=False))
        beside = inputs[-1] if last else {}
        whole = (
            closed(one.join(arrays.get(number, one.chosen), one.rest))
            for number, one in enumerate(positional)
        )
        trees = {
            name: closed(one.join(beside.get(name, one.chosen), one.rest))
            for name, one in named.items()
        }
        return tuple(whole), trees.pop("options"), trees

    inputs = (*(positional[number].chosen for number in passed), *filter(None, [last]))
    # In JAX's order of a dictionary "options" come before "rngs" and "state".
    passed_arrays = ([one.chosen for one in positional], named["options"].chosen)
    number = len(jax.tree.leaves(passed_arrays))
    settings = [one.rest for one in (*positional, *named.values())]
    return Arguments(inputs, number, restore, settings)


def adapted(
    library: str,
    behavior: Sequence[Any],
    params: Any,
    call: Arguments,
    run: Callable[[Any, tuple[Any, ...], dict[str, Any], dict[str, Any]], Any],
    rebuild: Callable[[Any], Any],
) -> Adapted:
    """Return the record of a model from what its library's adapter knows.

    Args:
      library: the library's name.
      behavior: what tells, with the call's settings, what the model computes.
      params: the parameters.
      call: the arguments.
      run: a function of (params, arguments, options, trees beside them).
      rebuild: a function of the parameters, as in `Adapted`.
    """

    def apply(params: Any, *inputs: Any) -> Any:
        return run(params, *call.restore(*inputs))

    key = functools.partial(call.key, library, *behavior)
    paths = paths_of(params)
    return Adapted(
        apply, params, paths, call.inputs, call.number, rebuild, library, key
    )


def _holds(tree: Any) -> bool:
    return bool(jax.tree.leaves(tree))


@jax.tree_util.register_pytree_node_class
class _Opened:
    """An NNX object among the arguments is its graph and its state.

    A call may change the object, so it is made anew inside the call.
    """

    def __init__(self, graph: Any, state: Any) -> None:
        self.graph, self.state = graph, state

    def tree_flatten(self) -> tuple[tuple[Any], Any]:
        return (self.state,), self.graph

    @classmethod
    def tree_unflatten(cls, graph: Any, children: tuple[Any]) -> "_Opened":
        return cls(graph, children[0])


def is_nnx(value: Any) -> bool:
    """Tell whether a value is an object of NNX: a module, a cache, or its Rngs."""
    return "flax.nnx" in sys.modules and any(
        kind.__module__.startswith("flax.nnx") and kind.__name__ in ("Pytree", "Object")
        for kind in type(value).__mro__
    )


def without_streams(tree: Any) -> Any:
    """Drop the keys and the counters of NNX's random streams from a tree."""
    if "flax.nnx" not in sys.modules:
        return tree
    stream: Any = sys.modules["flax.nnx"].RngState

    def is_stream(value: Any) -> bool:
        return isinstance(value, stream)

    return jax.tree.map(
        lambda value: None if is_stream(value) else value, tree, is_leaf=is_stream
    )


def opened(tree: Any) -> Any:
    """Replace each NNX object of a tree by its graph and its state."""
    if "flax.nnx" not in sys.modules:
        return tree

    def open_one(value: Any) -> Any:
        if not is_nnx(value):
            return value
        return _Opened(*sys.modules["flax.nnx"].split(value))

    return jax.tree.map(open_one, tree, is_leaf=is_nnx)


def closed(tree: Any) -> Any:
    """Make the NNX objects of a tree anew, with variables of their own."""

    def close_one(value: Any) -> Any:
        if not isinstance(value, _Opened):
            return value
        state = jax.tree.map(lambda leaf: leaf, value.state)
        return sys.modules["flax.nnx"].merge(value.graph, state)

    return jax.tree.map(close_one, tree, is_leaf=lambda node: isinstance(node, _Opened))
