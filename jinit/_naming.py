"""A model -> a function whose layers' outputs are named by their paths.

Linen's modules are met by Flax's interceptor, those of NNX by their class's
`__call__` while the model is traced. What a user names by `checkpoint_name` is found
beside them.
"""

import contextlib
import contextvars
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

_PATCHING = threading.RLock()
# The path of the module that is being called.
_INSIDE: contextvars.ContextVar[str] = contextvars.ContextVar("inside", default="")
# Where the softmax of attention is looked up.
_HOLDERS = ("jax.nn", "flax.linen", "flax.linen.activation", "flax.nnx")


def named(path: str, output: Any) -> Any:
    """An output with its path as a name on each of its arrays of numbers."""
    arrays = [leaf for leaf in jax.tree.leaves(output) if _is_signal(leaf)]
    numbers = iter(range(len(arrays)))

    def mark(leaf: Any) -> Any:
        if not _is_signal(leaf):
            return leaf
        number = next(numbers)
        name = path if len(arrays) == 1 else f"{path}/{number}"
        return checkpoint_name(leaf, name)

    return jax.tree.map(mark, output)


def _is_signal(leaf: Any) -> bool:
    is_array = isinstance(leaf, jax.Array)
    return is_array and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.ndim > 0


def linen(model: Any, rngs: Any, options: dict[str, Any]) -> Callable[..., Any]:
    """A Linen module as a function of (variables, batch)."""
    import flax.linen as nn

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        path = "/".join(context.module.path)
        with inside(path):
            output = call(*args, **kwargs)
        return output if context.method_name != "__call__" or not path else (
            named(path, output)
        )  # fmt: skip

    def forward(variables: Any, batch: tuple[Any, ...]) -> Any:
        others = [name for name in variables if name != "params"]
        with nn.intercept_methods(intercept):
            output = model.apply(
                variables, *batch, rngs=rngs, mutable=others or False, **options
            )
        return output[0] if others else output

    return forward


def is_module(model: Any, library: str) -> bool:
    """Whether a model is one of flax.linen or flax.nnx, without loading them to see."""
    return any(
        kind.__name__ == "Module" and kind.__module__.startswith(library)
        for kind in type(model).__mro__
    )


@contextlib.contextmanager
def nnx_calls(paths: dict[int, str]) -> Iterator[None]:
    """Name the outputs of the NNX modules with these ids, while inside.

    A call of a module looks `__call__` up in its class, so classes are changed, and put
    back; one thread at a time.
    """
    from flax import nnx

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            path = paths.get(id(self))
            with inside(path or ""):
                output = call(self, *args, **kwargs)
            return named(path, output) if path else output

        return run

    with _PATCHING:
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


@contextlib.contextmanager
def inside(path: str) -> Iterator[None]:
    """While a module is called."""
    token = _INSIDE.set(path)
    try:
        yield
    finally:
        _INSIDE.reset(token)


@contextlib.contextmanager
def softmax_inputs() -> Iterator[None]:
    """Name what goes into `jax.nn.softmax`, attention's logits, while inside.

    It leaves no mark of its own in a traced function, so it is changed where it is
    looked up, and put back; one thread at a time.
    """
    softmax = jax.nn.softmax

    @functools.wraps(softmax)
    def run(x: Any, *args: Any, **kwargs: Any) -> Any:
        path = _INSIDE.get()
        return softmax(
            named(f"{path}/softmax" if path else "softmax", x), *args, **kwargs
        )

    with _PATCHING:
        modules = [sys.modules[name] for name in _HOLDERS if name in sys.modules]
        holders: list[Any] = [m for m in modules if vars(m).get("softmax") is softmax]
        try:
            for module in holders:
                module.softmax = run
            yield
        finally:
            for module in holders:
                module.softmax = softmax


def _subclasses(kind: Any) -> list[Any]:
    found: dict[Any, None] = {}
    for below in kind.__subclasses__():
        found |= dict.fromkeys([below, *_subclasses(below)])
    return list(found)
