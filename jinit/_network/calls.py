"""While a model is traced, its modules' calls are noted and their outputs named."""

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

PATCHING = threading.RLock()
# The path of the module that is being called.
_INSIDE: contextvars.ContextVar[str] = contextvars.ContextVar("inside", default="")
# Where the softmax of attention is looked up.
_HOLDERS = ("jax.nn", "flax.linen", "flax.linen.activation", "flax.nnx")
# A number for each trace. A part of a model that is jitted would be taken from the
# cache, with no names in it, if the model had been run before.
TRACES = itertools.count()


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


class ModuleCall(NamedTuple):
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
Notes = Callable[[str, ModuleCall], object]


def tell(
    notes: Notes, path: str, module: Any, own: dict[str, Any], inputs: Any
) -> None:
    """Note a module that has parameters of its own."""
    shapes = {name: p.shape for name, p in own.items() if hasattr(p, "shape")}
    if shapes:
        traced = any(
            isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(inputs)
        )
        given = () if traced else tuple(inputs)
        notes(
            path, ModuleCall(shapes, _units(module, shapes), _is_plain(module), given)
        )


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
