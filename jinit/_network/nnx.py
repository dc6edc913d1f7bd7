"""An NNX model becomes its parameters, and a function whose outputs are named."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import nnx

from .behavior import key_of
from .calls import PATCHING, TRACES, ModuleCall, OnModule, inside, named, record
from .network import Called

# A module's path is kept in the module, so that the copies that NNX makes inside of its
# transformations know the path, too.
_PATH, _TRACE = "_jinit_path", "_jinit_trace"


@contextlib.contextmanager
def nnx_calls(model: Any, on_module: OnModule | None = None) -> Iterator[None]:
    """Name the outputs of the modules of an NNX model in this context.

    Python looks `__call__` up in a module's class, so the classes are changed, and put
    back. The modules of the model get marks, so the model must be a copy.
    """
    trace = next(TRACES)
    for path, module in nnx.iter_modules(model):
        setattr(module, _TRACE, trace)
        if path and any("__call__" in vars(kind) for kind in type(module).__mro__):
            setattr(module, _PATH, "/".join(map(str, path)))
    with PATCHING:
        kinds: list[Any] = [k for k in _subclasses(nnx.Module) if "__call__" in vars(k)]
        before = [vars(kind)["__call__"] for kind in kinds]
        try:
            for kind, call in zip(kinds, before, strict=True):
                kind.__call__ = _recorded(call, on_module)
            yield
        finally:
            for kind, call in zip(kinds, before, strict=True):
                kind.__call__ = call


def _recorded(
    call: Callable[..., Any], on_module: OnModule | None
) -> Callable[..., Any]:
    """Return a `__call__` that records itself, and names what it returns."""

    @functools.wraps(call)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        path = getattr(self, _PATH, None)
        with inside(path or ""):
            output = call(self, *args, **kwargs)
        if path is None:
            return output
        parameters = {k: v for k, v in vars(self).items() if isinstance(v, nnx.Param)}
        record(on_module, path, self, parameters, (*args, *kwargs.values()))
        return named(path, output)

    return run


def _subclasses(kind: Any) -> list[Any]:
    kinds: dict[Any, None] = {}
    for below in kind.__subclasses__():
        kinds |= dict.fromkeys([below, *_subclasses(below)])
    return list(kinds)


def called(
    model: Any, inputs: tuple[Any, ...], options: dict[str, Any], caller: str
) -> tuple[Called, Callable[[Any], Any]]:
    """Return a model as a function with names, and a function params -> model."""
    calls: dict[str, ModuleCall] = {}
    forward, params, rest, graph = taken_apart(model, options, caller, calls.setdefault)
    key = functools.partial(key_of, "nnx", graph, options)
    one = Called(forward, params, (rest, *inputs), key, calls)
    return one, lambda params: nnx.merge(graph, params, rest)


def taken_apart(
    model: Any,
    options: dict[str, Any],
    caller: str,
    on_module: OnModule | None = None,
) -> tuple[Callable[..., Any], Any, Any, Any]:
    """Return a model's function with names, its parameters, the rest, and its graph.

    Raises:
      TypeError: if the model is no NNX module; the text names the `caller`.
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"`model` is {model!r}, of type {type(model).__name__}; it must be an NNX "
            f"module. For Linen and for functions call jinit.{caller}."
        )
    parts: Any = nnx.split(model, nnx.Param, ...)
    graph, params, rest = parts

    # The rest goes in beside the batch, since it changes from call to call: it has the
    # counts of random keys.
    def forward(params: Any, beside: tuple[Any, ...]) -> Any:
        rest, *inputs = beside
        # A call changes its variables, and these changes must stay inside, so the
        # variables are copied.
        params, rest = jax.tree.map(lambda leaf: leaf, (params, rest))
        merged = nnx.merge(graph, params, rest)
        with nnx_calls(merged, on_module):
            return merged(*inputs, **options)

    return forward, params, rest, graph
