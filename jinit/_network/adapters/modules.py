"""The outputs of Linen's and NNX's modules get names while a model is traced.

The names serve those who look at a model. What a parameter does is read without them.
"""

import contextlib
import contextvars
import functools
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ..reader.points import MODULE

# The number of the trace that is going on, or None.
_TRACE: contextvars.ContextVar[int | None] = contextvars.ContextVar(
    "trace", default=None
)
_TRACES = itertools.count()
# The path of an NNX module is kept in the module, so that the copies that NNX makes
# inside of its transformations know the path, too.
_PATH = "_jinit_path"


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Name the outputs of the modules that are called in this context."""
    token = _TRACE.set(next(_TRACES))
    try:
        with _linen():
            yield
    finally:
        _TRACE.reset(token)


def unique_collection() -> list[str]:
    """Return the name of a collection of Linen's that no other trace has.

    Without it a part of a model that is jitted would be taken from JAX's cache, with no
    names in it, if the model had been run before.
    """
    number = _TRACE.get()
    return [] if number is None else [f"jinit trace {number}"]


def _linen() -> Any:
    """Return a context in which the calls of Linen's modules are intercepted."""
    if "flax.linen" not in sys.modules:
        return contextlib.nullcontext()
    linen = sys.modules["flax.linen"]

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name != "__call__" or not path:
            return output
        parameters = linen.unbox(context.module.variables.get("params", {}))
        return _marked(path, output, parameters)

    return linen.intercept_methods(intercept)


def _marked(path: str, output: Any, parameters: Any = ()) -> Any:
    """Return an output with its path as a name on each of its floating arrays.

    An array of the module's own `parameters` gets no name: a module may only hand its
    parameters out, as an embedding does that is tied to the readout.
    """
    handed_out = {id(leaf) for leaf in jax.tree.leaves(parameters)}
    signals = [leaf for leaf in jax.tree.leaves(output) if _is_signal(leaf)]
    arrays = [id(leaf) for leaf in signals if id(leaf) not in handed_out]
    numbers = iter(range(len(arrays)))

    def mark(leaf: Any) -> Any:
        if id(leaf) not in arrays:
            return leaf
        number = next(numbers)
        name = path if len(arrays) == 1 else f"{path}/{number}"
        return checkpoint_name(leaf, MODULE + name)

    return jax.tree.map(mark, output)


def _is_signal(leaf: Any) -> bool:
    is_array = isinstance(leaf, jax.Array)
    return is_array and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.ndim > 0


def name_nnx(model: Any) -> None:
    """Let the modules of an NNX model name their outputs, while a trace goes on.

    Python looks `__call__` up in a module's class, so each module of the model, which
    must be a copy, gets a subclass of its class. No class of Flax is changed.
    """
    if _TRACE.get() is None:
        return
    nnx = sys.modules["flax.nnx"]
    for path, module in nnx.iter_modules(model):
        kind: Any = type(module)
        # A module of the bridge takes every attribute for a variable of Linen's.
        if path and callable(module) and not kind.__module__.startswith(_BRIDGE):
            setattr(module, _PATH, "/".join(map(str, path)))
            module.__class__ = _naming(kind)


_BRIDGE = "flax.nnx.bridge"


# Flax registers each class for good, so that few are made.
@functools.lru_cache(maxsize=256)
def _naming(kind: Any) -> Any:
    """Return a subclass whose calls name what they return."""

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = kind.__call__(self, *args, **kwargs)
        path = getattr(self, _PATH, None)
        return output if path is None else _marked(path, output)

    members = {
        "__call__": functools.wraps(kind.__call__)(run),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    return type(kind)(kind.__name__, (kind,), members)
