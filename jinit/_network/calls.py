"""The calls of a model's modules are recorded, and their outputs named, during a trace.

The files linen.py and nnx.py intercept the calls of a library's modules. This file has
what they share: the name that an output gets, and the record of a call.
"""

import contextlib
import contextvars
import functools
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

# Classes and functions of libraries are changed by one thread at a time.
PATCHING = threading.RLock()
# The path of the module that is being called.
_INSIDE: contextvars.ContextVar[str] = contextvars.ContextVar("inside", default="")
# The modules in which models look up the softmax of attention.
_HOLDERS = ("jax.nn", "flax.linen", "flax.linen.activation", "flax.nnx")
# Each trace has its number. Without it, a part of a model that is jitted would be taken
# from JAX's cache, with no names in it, if the model had been run before.
TRACES = itertools.count()


def named(path: str, output: Any, parameters: Any = ()) -> Any:
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
        return checkpoint_name(leaf, name)

    return jax.tree.map(mark, output)


def _is_signal(leaf: Any) -> bool:
    is_array = isinstance(leaf, jax.Array)
    return is_array and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.ndim > 0


class ModuleCall(NamedTuple):
    """A module call is a record of what a module had when a trace called it.

    Inside of a scan the shapes are those of one step.
    """

    # The shapes of the module's own parameters, by the parameters' names.
    shapes: dict[str, tuple[int, ...]]
    # The axes of the kernel that the units lie along, counted from the end.
    units: tuple[int, ...]
    # Whether a filter covers each place of an input once: no dilation, no groups.
    is_plain: bool
    # The inputs of the call, or () if they were tracers.
    inputs: tuple[Any, ...]


# on_module(path, call) is called for each module with parameters of its own.
OnModule = Callable[[str, ModuleCall], object]


def record(
    on_module: OnModule | None,
    path: str,
    module: Any,
    parameters: dict[str, Any],
    inputs: tuple[Any, ...],
) -> None:
    """Give `on_module` the call of a module that has parameters of its own."""
    shapes = {name: p.shape for name, p in parameters.items() if hasattr(p, "shape")}
    if on_module is None or not shapes:
        return
    leaves = jax.tree.leaves(inputs)
    is_traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    inputs = () if is_traced else inputs
    units = _units(module, shapes)
    on_module(path, ModuleCall(shapes, units, _is_plain(module), inputs))


def _is_plain(module: Any) -> bool:
    names = ("kernel_dilation", "input_dilation", "feature_group_count")
    ones = all(np.all(np.asarray(getattr(module, n, 1) or 1) == 1) for n in names)
    return ones and not hasattr(module, "transpose_kernel")


def _units(module: Any, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the axes of the units, which Flax's layers say; else the last axis."""
    if getattr(module, "transpose_kernel", False):
        return (-2,)
    features = getattr(module, "features", getattr(module, "out_features", None))
    count = len(features) if isinstance(features, (tuple, list)) else 1
    count = len(shapes.get("bias", ())) or count
    return tuple(range(-count, 0))


@contextlib.contextmanager
def inside(path: str) -> Iterator[None]:
    """Say, for the names of softmax inputs, which module is being called."""
    token = _INSIDE.set(path)
    try:
        yield
    finally:
        _INSIDE.reset(token)


@contextlib.contextmanager
def softmax_inputs() -> Iterator[None]:
    """Name the inputs of `jax.nn.softmax`, attention's logits, in this context.

    A softmax leaves no mark of its own in a traced function, so the function is
    replaced in the modules that hold it, and put back.
    """
    softmax = jax.nn.softmax

    @functools.wraps(softmax)
    def run(x: Any, *args: Any, **kwargs: Any) -> Any:
        path = _INSIDE.get()
        name = f"{path}/softmax" if path else "softmax"
        return softmax(named(name, x), *args, **kwargs)

    with PATCHING:
        modules = [sys.modules[name] for name in _HOLDERS if name in sys.modules]
        holders: list[Any] = [m for m in modules if vars(m).get("softmax") is softmax]
        try:
            for module in holders:
                module.softmax = run
            yield
        finally:
            for module in holders:
                module.softmax = softmax
