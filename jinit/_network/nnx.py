"""An NNX model -> a function whose layers' outputs are named, and its parameters."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import nnx

from .behavior import key_of
from .calls import PATCHING, TRACES, ModuleCall, Notes, inside, named, tell
from .network import Called

# A module's path is kept in it, so that the copies that NNX makes inside of its
# transformations know it, too.
_PATH, _TRACE = "_jinit_path", "_jinit_trace"


@contextlib.contextmanager
def nnx_calls(model: Any, notes: Notes | None = None) -> Iterator[None]:
    """Name the outputs of the modules of an NNX model, while inside.

    A call of a module looks `__call__` up in its class, so classes are changed, and put
    back; one thread at a time. The model is marked, and so must be a copy.
    """
    from flax import nnx

    trace = next(TRACES)
    for path, module in nnx.iter_modules(model):
        setattr(module, _TRACE, trace)
        if path and any("__call__" in vars(kind) for kind in type(module).__mro__):
            setattr(module, _PATH, "/".join(map(str, path)))

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            path = getattr(self, _PATH, None)
            with inside(path or ""):
                output = call(self, *args, **kwargs)
            if path is None:
                return output
            if notes is not None:
                own = {k: v for k, v in vars(self).items() if isinstance(v, nnx.Param)}
                tell(notes, path, self, own, (*args, *kwargs.values()))
            return named(path, output)

        return run

    with PATCHING:
        kinds: list[Any] = [
            kind for kind in _subclasses(nnx.Module) if "__call__" in vars(kind)
        ]
        before = [vars(kind)["__call__"] for kind in kinds]
        try:
            for kind, call in zip(kinds, before, strict=True):
                kind.__call__ = wrapped(call)
            yield
        finally:
            for kind, call in zip(kinds, before, strict=True):
                kind.__call__ = call


def _subclasses(kind: Any) -> list[Any]:
    found: dict[Any, None] = {}
    for below in kind.__subclasses__():
        found |= dict.fromkeys([below, *_subclasses(below)])
    return list(found)


def called(
    model: Any, inputs: tuple[Any, ...], options: dict[str, Any], caller: str
) -> tuple[Called, Callable[[Any], Any]]:
    """Return a model as a function with names, and a function params -> model."""
    seen: dict[str, ModuleCall] = {}
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
