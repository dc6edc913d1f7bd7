"""An NNX model is a function of its variables of the type nnx.Param."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

from . import modules
from .adapted import Adapted
from .arguments import adapted, arguments_of
from .checks import require_keys, require_parameters


def adapt_model(
    model: Any,
    method: str,
    arguments: Sequence[Any],
    rngs: Any,
    options: dict[str, Any],
) -> Adapted:
    """Adapt an NNX model, called as `model(*arguments, **options)`.

    With `rngs` the call gets `rngs=nnx.Rngs(...)`. A model that holds the keys of its
    dropout needs none.
    """

    def forward(model: Any, *inputs: Any, **options: Any) -> Any:
        return getattr(model, method)(*inputs, **options)

    return adapt_objects(forward, method, model, arguments, rngs, options)


def adapt_objects(
    forward: Callable[..., Any],
    behavior: Any,
    objects: Any,
    arguments: Sequence[Any],
    rngs: Any,
    options: dict[str, Any],
) -> Adapted:
    """Adapt a function of NNX objects: of a model, or of a tree with models in it.

    Variables that are no nnx.Param (keys, batch statistics, caches) are state. The call
    may change the objects that it gets, so they are made anew inside of it.
    """
    nnx = sys.modules["flax.nnx"]
    graph, params, rest = nnx.split(objects, nnx.Param, ...)
    require_parameters(params, objects, "its variables of the type nnx.Param")
    if isinstance(rngs, nnx.Rngs):
        options, rngs = {**options, "rngs": rngs}, None
    require_keys(rngs)
    call = arguments_of(arguments, options, state=rest, rngs=rngs)

    def run(params: Any, inputs: Any, options: Any, beside: Any) -> Any:
        keys = beside["rngs"]
        if keys is not None:
            keys = keys if isinstance(keys, dict) else {"default": keys}
            options = {**options, "rngs": nnx.Rngs(**keys)}
        copy = merged(params, beside["state"])
        modules.name_nnx(copy)
        return forward(copy, *inputs, **options)

    def merged(*parts: Any) -> Any:
        # Variables of its own: what a call changes must stay in it.
        return nnx.merge(graph, *jax.tree.map(lambda leaf: leaf, parts))

    def rebuild(params: Any) -> Any:
        return merged(params, rest)

    return adapted("NNX", [graph, behavior], params, call, run, rebuild)


def shared_objects(tree: Any) -> list[str]:
    """Return the paths of modules and variables that NNX modules in a tree share."""
    if "flax.nnx" not in sys.modules:
        return []
    from flax import nnx

    def is_module(node: Any) -> bool:
        return isinstance(node, nnx.Module)

    nodes = jax.tree.leaves(tree, is_leaf=is_module)
    groups = nnx.find_duplicates([node for node in nodes if is_module(node)])
    return [" and ".join(".".join(map(str, p[1:])) for p in group) for group in groups]
