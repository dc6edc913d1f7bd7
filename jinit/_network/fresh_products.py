"""A product of a network is computed again, with a kernel that is drawn anew.

It shows what chance alone does with the inputs of this product.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from .equations import CONVOLUTION, PRODUCT, bind
from .reader.records import Tap

# With so many units a share of 1 % is measured as more than 0.
_UNITS, _MOST_DRAWS = 256, 8


def can_be_drawn(tap: Tap) -> bool:
    """Tell whether the product that a tap is the operand of can be computed again.

    An array with a sharding in its type asks for a kernel with one.
    """
    eqn = tap.place[-1]
    if eqn.primitive not in (PRODUCT, CONVOLUTION) or not tap.is_operand:
        return False
    kernel = _type(eqn.invars[1 - tap.number])
    shardings = [getattr(x.aval, "sharding", None) for x in eqn.invars]
    specs = [getattr(sharding, "spec", None) or () for sharding in shardings]
    is_whole = not any(axis is not None for spec in specs for axis in spec)
    return bool(jnp.issubdtype(kernel.dtype, jnp.floating)) and is_whole


def never_positive(tap: Tap, operand: jax.Array, key: jax.Array) -> jax.Array:
    """Return the share of the units of fresh kernels that are positive for no input.

    Args:
      tap: the operand of a product with a parameter.
      operand: its value, in one step of the scans around it.
      key: a key for the kernels, whose entries are normal and independent.
    """
    eqn = tap.place[-1]
    kernel, result = _type(eqn.invars[1 - tap.number]), _type(eqn.outvars[0])
    units = _unit_axes(eqn, 1 - tap.number)
    rows = tuple(d for d in range(result.ndim) if d not in units)
    count = math.prod(result.shape[d] for d in units)
    draws = max(1, min(_MOST_DRAWS, _UNITS // max(1, count)))

    def share(key: jax.Array) -> jax.Array:
        fresh = jax.random.normal(key, kernel.shape, kernel.dtype)
        values: list[Any] = [operand, fresh] if tap.number == 0 else [fresh, operand]
        return jnp.mean(jnp.all(bind(eqn, values)[0] <= 0, axis=rows))

    return jnp.mean(jax.vmap(share)(jax.random.split(key, draws)))


def _type(variable: Any) -> Any:
    # Types of arrays have a shape, which JAX's class of all types does not declare.
    return variable.aval


def _unit_axes(eqn: JaxprEqn, side: int) -> set[int]:
    """Return the axes of a product that it has from its kernel.

    They are the units, and the members of a batched kernel.
    """
    rank = _type(eqn.outvars[0]).ndim
    if eqn.primitive is CONVOLUTION:
        return {eqn.params["dimension_numbers"].out_spec[1]}
    contracted, batched = eqn.params["dimension_numbers"]
    count = _type(eqn.invars[side]).ndim - len(contracted[side]) - len(batched[side])
    first = len(batched[side]) if side == 0 else rank - count
    return {*range(len(batched[side])), *range(first, first + count)}
