"""An NNX model -> a function whose layers' outputs are named, and its parameters."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from ._behavior import key_of
from ._naming import Called, Notes, Seen, nnx_calls


def called(
    model: Any, inputs: tuple[Any, ...], options: dict[str, Any], caller: str
) -> tuple[Called, Callable[[Any], Any]]:
    """Return a model as a function with names, and a function params -> model."""
    seen: dict[str, Seen] = {}
    forward, params, rest, graph = taken_apart(model, options, caller, seen.setdefault)
    key = functools.partial(key_of, "nnx", graph, options)
    one = Called(forward, params, (rest, *inputs), key, seen)
    return one, lambda params: nnx.merge(graph, params, rest)


def taken_apart(
    model: Any, options: dict[str, Any], caller: str, notes: Notes | None = None
) -> tuple[Callable[..., Any], Any, Any, Any]:
    """A model as a function with names, its parameters, the rest, and its graph."""
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"`model` is {model!r}, of type {type(model).__name__}; it must be an NNX "
            f"module. For Linen and for functions call jinit.{caller}."
        )
    parts: Any = nnx.split(model, nnx.Param, ...)
    graph, params, rest = parts

    # What is no parameter goes in beside the batch: it may count, as keys do.
    def forward(params: Any, beside: tuple[Any, ...]) -> Any:
        rest, *inputs = beside
        # Variables of its own: what a call changes must stay in here.
        params, rest = jax.tree.map(lambda leaf: leaf, (params, rest))
        merged = nnx.merge(graph, params, rest)
        with nnx_calls(merged, notes):
            return merged(*inputs, **options)

    return forward, params, rest, graph
