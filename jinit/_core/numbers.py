"""One arithmetic serves Python's numbers and traced ones.

Inside `jit`, `vmap` or `grad` a setting of an initializer may be a tracer, which has no
value yet. `math.sqrt`, `float` and `if` reject it. All the code that makers share goes
through this file instead, so that no scheme needs to ask which kind of number it has.
"""

import math
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_traced(*values: Any) -> bool:
    """Tell whether one of the values is a tracer."""
    # A loop, since a generator would take twice as long, and every draw asks.
    for value in values:  # noqa: SIM110
        if isinstance(value, jax.core.Tracer):
            return True
    return False


def holds_tracer(setting: Any) -> bool:
    """Tell whether a setting is a tracer, or a tuple or initializer that holds one."""
    if isinstance(setting, tuple):
        return any(map(holds_tracer, setting))
    return is_traced(setting) or bool(getattr(setting, "_is_traced", False))


def numpy_of(*values: Any) -> ModuleType:
    """Return `jax.numpy` if one of the values is traced, and NumPy otherwise."""
    return jnp if is_traced(*values) else np


def sqrt(x: Any) -> Any:
    """Return the square root; NumPy's numbers keep their type, tracers stay traced."""
    if is_traced(x):
        return jnp.sqrt(x)
    return np.sqrt(x) if isinstance(x, np.generic) else math.sqrt(x)


def log(x: Any) -> Any:
    """Return the natural logarithm, in Python's floats or in JAX."""
    return jnp.log(x) if is_traced(x) else math.log(x)


def at_least(minimum: float, x: Any) -> Any:
    """Return `x`, or `minimum` if `x` is less."""
    return jnp.maximum(x, minimum) if is_traced(x) else max(x, minimum)


def cast(x: Any, dtype: np.dtype) -> Any:
    """Return `x` as a number of `dtype`, rounded once."""
    return jnp.asarray(x, dtype) if is_traced(x) else dtype.type(x)


def times(x: Any, factor: Any) -> Any:
    """Return `factor * x`, computed in Python's floats where neither is traced."""
    if is_one(factor):
        # Times 1 would be exact too, but would leave NumPy's type behind.
        return x
    return (x if is_traced(x) else float(x)) * factor


def is_symbolic(x: Any) -> bool:
    """Tell whether `x` is made of dimensions of `jax.export.symbolic_shape`."""
    return hasattr(x, "dimension_as_value")


def is_known(x: Any) -> bool:
    """Tell whether `x` is a number that can be compared: not traced, not symbolic."""
    return not is_traced(x) and not is_symbolic(x)


def is_one(x: Any) -> bool:
    """Tell whether `x` is known to be 1."""
    # Every draw asks, mostly of a float, and the other questions take longer.
    if type(x) is float:
        return x == 1
    return is_known(x) and bool(x == 1)


def is_zero(x: Any) -> bool:
    """Tell whether `x` is known to be 0."""
    return is_known(x) and bool(x == 0)


def spell(x: Any) -> str:
    """Spell a tracer by its type, since it has no value that could be printed."""
    shape = ",".join(map(str, x.shape))
    return f"<traced {x.dtype.name}{f'[{shape}]' if shape else ''}>"
