"""Single numbers and keys are computed on the host, where they need no program.

The square root of a variance and the key of a layer take microseconds. A program for
each would take 20 to 70 ms to compile.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._network import jaxpr
from .._network.equations import FOLD_IN, by_primitive
from ..random import _threefry
from .units import ProgramUnit

# These operations round as IEEE 754 says, in NumPy and in XLA.
_EXACT: dict[Any, Callable[..., Any]] = by_primitive(
    {
        "sqrt": np.sqrt,
        "mul": np.multiply,
        "div": np.divide,
        "add": np.add,
        "sub": np.subtract,
    }
)
_FLOATS = (np.float32, np.float64)


def on_host(unit: ProgramUnit) -> Callable[..., Sequence[Any] | None] | None:
    """Return a function that computes a program unit on the host, or None.

    The function returns None where XLA may differ: for numbers that are not ordinary.
    """
    step, *others = unit.steps
    if others or not unit.is_small or unit.has_effects:
        return None
    kinds = [*unit.read_types(), *unit.write_types()]
    if step.eqn.primitive is FOLD_IN and jaxpr.is_threefry(kinds[0]):
        return _folded_in if all(k.shape == () for k in kinds) else None
    operation = _EXACT.get(step.eqn.primitive)
    (kind, *_) = kinds
    plain = kind.dtype in _FLOATS and all(k.dtype == kind.dtype for k in kinds)
    if operation is None or not plain or any(k.shape != () for k in kinds):
        return None

    def compute(*operands: Any) -> Sequence[Any] | None:
        numbers = [np.asarray(x, kind.dtype) for x in operands]
        with np.errstate(all="ignore"):
            result = np.asarray(operation(*numbers), kind.dtype)
        return [result] if all(map(_is_ordinary, [*numbers, result])) else None

    return compute


def folded_number(unit: ProgramUnit) -> int | None:
    """Return the number that a program unit folds into a key, or None if it does not.

    The number must be known from the trace.
    """
    step, *_ = unit.steps
    number = unit.reads[-1] if unit.reads else None
    if step.eqn.primitive is not FOLD_IN or not jaxpr.is_literal(number):
        return None
    return None if on_host(unit) is None else int(jaxpr.literal_value(number))


def _is_ordinary(x: np.ndarray) -> bool:
    """Tell whether a number is finite and not subnormal, which XLA would take for 0."""
    return bool(np.isfinite(x) and (x == 0 or abs(x) >= np.finfo(x.dtype).tiny))


def _folded_in(key: Any, data: Any) -> Sequence[Any]:
    return folded_in(np.array([data]), key)


def folded_in(data: np.ndarray, key: Any) -> Sequence[np.ndarray]:
    """Return the words of the keys that `jax.random.fold_in` makes of a key.

    One key takes 30 microseconds, and a hundred take no longer.
    """
    first, second = (int(word) for word in np.asarray(key))
    words = data.astype(np.uint32).astype(np.uint64)
    pair = _threefry.encrypted((first, second), (np.zeros_like(words), words))
    return list(np.stack(pair, -1).astype(np.uint32))
