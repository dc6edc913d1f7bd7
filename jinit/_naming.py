"""A model -> a function whose layers' outputs are named by their paths.

Linen's modules are met by Flax's interceptor, those of NNX by their class's
`__call__` while the model is traced. What a user names by `checkpoint_name` is found
beside them.
"""

import contextlib
import contextvars
import functools
import inspect
import itertools
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from ._behavior import key_of
from ._kept import Key, Traced, traced

_PATCHING = threading.RLock()
# The path of the module that is being called.
_INSIDE: contextvars.ContextVar[str] = contextvars.ContextVar("inside", default="")
# Where the softmax of attention is looked up.
_HOLDERS = ("jax.nn", "flax.linen", "flax.linen.activation", "flax.nnx")
# A number for each trace. A part of a model that is jitted would be taken from the
# cache, with no names in it, if the model had been run before.
_TRACES = itertools.count()


def named(path: str, output: Any, own: Any = ()) -> Any:
    """An output with its path as a name on each of its arrays of numbers.

    Not on the module's own parameters, which a module may only hand out.
    """
    given = {id(leaf) for leaf in jax.tree.leaves(own)}
    signals = [leaf for leaf in jax.tree.leaves(output) if _is_signal(leaf)]
    arrays = [id(leaf) for leaf in signals if id(leaf) not in given]
    numbers = iter(range(len(arrays)))

    def mark(leaf: Any) -> Any:
        if id(leaf) not in arrays:
            return leaf
        number = next(numbers)
        name = path if len(arrays) == 1 else f"{path}/{number}"
        return checkpoint_name(leaf, name)

    return jax.tree.map(mark, output)


def _is_signal(leaf: Any) -> bool:
    is_array = isinstance(leaf, jax.Array)
    return is_array and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.ndim > 0


F = TypeVar("F", bound=Callable[..., Any])


def function_of_a_model(function: F) -> F:
    """Make a call with too few arguments an error that says how to call instead."""

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except TypeError:
            # Binding takes microseconds, so it waits until something went wrong.
            message = _too_few(run, args, options)
            if message is None:
                raise
        raise TypeError(message)

    return run  # type: ignore[return-value]


def _too_few(function: Any, args: Any, options: Any) -> str | None:
    """Say what a call of (model, variables, ...) lacks; None where it lacks nothing."""
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **options)
        return None
    except TypeError as error:
        problem, name = str(error), f"jinit.{function.__name__}"
    needed = [p.name for p in signature.parameters.values() if p.default is p.empty]
    named = [n for n in needed if n != "options"]
    if args and is_module(args[0], "flax.nnx"):
        return (
            f"{name} got an NNX model, which holds its variables, and {problem}. Call "
            f"jinit.nnx.{function.__name__}(model, ...) instead."
        )
    return f"{name}: {problem}. Call {name}({', '.join(named)})."


def inputs_of(batch: Any) -> tuple[Any, ...]:
    """A batch as the arguments of a model."""
    return batch if isinstance(batch, tuple) else (batch,)


class Seen(NamedTuple):
    """A module as its call met it, inside of the scans around it."""

    # Of its own parameters, by their names.
    shapes: dict[str, tuple[int, ...]]
    # The axes of its kernel that its outputs' units lie along, counted from the end.
    units: tuple[int, ...]
    # Whether its filters meet each place of an input once, as plain ones do.
    is_plain: bool
    # What it was called with, where that are arrays and no tracers.
    inputs: tuple[Any, ...]


# What is told of each module with parameters of its own, by its path.
Notes = Callable[[str, Seen], object]


class Called(NamedTuple):
    """A called model is a function of (variables, beside), with its arguments."""

    forward: Callable[[Any, tuple[Any, ...]], Any]
    variables: Any
    # First what is neither parameter nor input, such as the keys of dropout or the
    # statistics of a batch norm; then the inputs.
    beside: tuple[Any, ...]
    # The key of what the function computes, see `_behavior`, or None.
    key: Key
    # Filled while the function is traced or run.
    seen: dict[str, Seen]

    def traced(self) -> Traced:
        """Return the trace of the function, from an earlier call where possible."""
        arguments = (self.variables, self.beside)
        return traced(self.key, self.forward, arguments, self._noted)

    def _noted(self) -> Hashable:
        """Return what was seen of modules, without their inputs, which are arrays."""
        rows = ((path, seen.shapes, seen.units, seen.is_plain) for path, seen in
                self.seen.items())  # fmt: skip
        return tuple(
            (path, tuple(shapes.items()), *rest) for path, shapes, *rest in rows
        )


def seen_in(trace: Traced) -> dict[str, Seen]:
    """Return what was noted of each module while it was traced."""
    return {
        path: Seen(dict(shapes), units, is_plain, ())
        for path, shapes, units, is_plain in trace.notes
    }


def called(
    model: Any, variables: Any, batch: Any, rngs: Any, options: dict[str, Any],
    caller: str,
) -> Called:  # fmt: skip
    """Return a Linen module or a function as a function whose outputs are named.

    Raises:
      TypeError: for anything else; `caller` is named in the text.
    """
    seen: dict[str, Seen] = {}
    forward = forward_of(model, options, caller, seen.setdefault)
    keys = rngs if is_module(model, "flax.linen") else None
    return Called(
        forward,
        variables,
        (keys, *inputs_of(batch)),
        functools.partial(key_of, "model", model, options),
        seen,
    )


def forward_of(
    model: Any, options: dict[str, Any], caller: str, notes: Notes | None = None
) -> Callable[..., Any]:
    """Return a model as a function of (variables, (keys, *inputs)) with names.

    Raises:
      TypeError: if it is neither a Linen module nor a function; `caller` is named.
    """
    if is_module(model, "flax.linen"):
        return linen(model, options, notes)
    if not callable(model) or is_module(model, "flax.nnx"):
        raise TypeError(
            f"`model` is {model!r}, of type {type(model).__name__}; it must be a Linen "
            "module or a function of (variables, batch). For an NNX model call "
            f"jinit.nnx.{caller}."
        )

    def forward(variables: Any, beside: tuple[Any, ...]) -> Any:
        return model(variables, *beside[1:], **options)

    return forward


def linen(
    model: Any, options: dict[str, Any], notes: Notes | None = None
) -> Callable[..., Any]:
    """Return a Linen module as a function of (variables, (keys, *inputs))."""
    import flax.linen as nn

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        path = "/".join(context.module.path)
        with inside(path):
            output = call(*args, **kwargs)
        if context.method_name != "__call__" or not path:
            return output
        own = nn.unbox(context.module.variables.get("params", {}))
        if notes is not None:
            _tell(notes, path, context.module, own, (*args, *kwargs.values()))
        return named(path, output, own)

    def forward(variables: Any, beside: tuple[Any, ...]) -> Any:
        rngs, *inputs = beside
        others = [name for name in variables if name != "params"]
        mutable = [*others, f"jinit trace {next(_TRACES)}"]
        with nn.intercept_methods(intercept):
            output, _ = model.apply(
                variables, *inputs, rngs=rngs, mutable=mutable, **options
            )
        return output

    return forward


def _tell(
    notes: Notes, path: str, module: Any, own: dict[str, Any], inputs: Any
) -> None:
    """Note a module that has parameters of its own."""
    shapes = {name: p.shape for name, p in own.items() if hasattr(p, "shape")}
    if shapes:
        traced = any(
            isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(inputs)
        )
        given = () if traced else tuple(inputs)
        notes(path, Seen(shapes, _units(module, shapes), _is_plain(module), given))


def _is_plain(module: Any) -> bool:
    names = ("kernel_dilation", "input_dilation", "feature_group_count")
    ones = all(np.all(np.asarray(getattr(module, n, 1) or 1) == 1) for n in names)
    return ones and not hasattr(module, "transpose_kernel")


def _units(module: Any, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Of Flax's layers the axes are known; of others, the last is taken."""
    if getattr(module, "transpose_kernel", False):
        return (-2,)
    features = getattr(module, "features", getattr(module, "out_features", None))
    count = len(features) if isinstance(features, (tuple, list)) else 1
    count = len(shapes.get("bias", ())) or count
    return tuple(range(-count, 0))


def is_module(model: Any, library: str) -> bool:
    """Whether a model is one of flax.linen or flax.nnx, without loading them to see."""
    return any(
        kind.__name__ == "Module" and kind.__module__.startswith(library)
        for kind in type(model).__mro__
    )


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

    trace = next(_TRACES)
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
                _tell(notes, path, self, own, (*args, *kwargs.values()))
            return named(path, output)

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
