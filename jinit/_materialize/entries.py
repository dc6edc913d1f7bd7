"""The equations of a sampler are replayed for some entries of its result.

The entries are given by their numbers, so a program for a few entries serves arrays of
every shape (chunks.py). Where flat.py has found that erf_inv meets only numbers for
which its short form is exact, the short form takes its place.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from .._core.erf_inv import erf_inv
from .._network import equations, interpret, jaxpr
from ..random import _threefry
from .flat import Index, counted, opened, passes_on
from .units import ProgramUnit

Words = tuple[jax.Array, jax.Array]


def replayed(
    unit: ProgramUnit,
    operands: Sequence[Any],
    numbers: Words,
    bound: float,
) -> jax.Array:
    """Return some entries of the array that a flat sampler draws.

    Args:
      unit: the program unit of the sampler.
      operands: the values of its operands.
      numbers: the numbers of the entries, as (high, low) words.
      bound: the bound for erf_inv from flat.py, or infinity for JAX's erf_inv.
    """
    handler = _Replay(numbers, bound)
    first, *others = unit.steps
    slots: dict[int, Any] = dict(enumerate(operands))
    interpret.evaluate([first], slots, (), handler)
    handler.is_sampler = False
    (result,) = interpret.evaluate(others, slots, unit.steps[-1].writes, handler)
    return jnp.broadcast_to(handler.entries(result), numbers[1].shape)


class _Replay:
    """A replay is a handler that computes with the entries asked for."""

    def __init__(self, numbers: Words, bound: float) -> None:
        self._numbers = numbers
        self._shape = numbers[1].shape
        self._bound = bound
        self.is_sampler = True

    def __call__(self, eqn: JaxprEqn, values: list[Any]) -> Sequence[Any]:
        results = opened(eqn, values, self)
        if results is not None:
            return results
        index = counted(eqn, values)
        if index is not None:
            return [index]
        values = [self.entries(x) for x in values]
        if eqn.primitive is equations.RANDOM_BITS:
            words = jax.random.key_data(values[0])
            key = words[0], words[1]
            return [_threefry.bits_at(key, self._numbers, eqn.params["bit_width"])]
        return [self._result(eqn, values)]

    def entries(self, value: Any) -> Any:
        """Return the numbers of the entries in the place of an index."""
        return self._numbers[1] if isinstance(value, Index) else value

    def _result(self, eqn: JaxprEqn, values: list[Any]) -> Any:
        many = any(np.shape(x) == self._shape for x in values)
        if not many and any(jaxpr.size(atom) > 1 for atom in eqn.invars):
            # The words of a key.
            return self._number(*equations.bind(eqn, values))
        repeats = not many and eqn.primitive is equations.BROADCAST
        if repeats or passes_on(eqn):
            return values[0]
        avals: list[Any] = [atom.aval for atom in eqn.invars]
        pairs = zip(values, avals, strict=True)
        values = [self._arranged(x, kind.dtype, many) for x, kind in pairs]
        if eqn.primitive is equations.MULTIPLY and many and not self.is_sampler:
            # XLA must not multiply the factor with a factor of the sampler first.
            values = list(lax.optimization_barrier(values))
        if eqn.primitive is equations.INVERSE_ERF and many:
            return erf_inv(values[0], self._bound)
        return equations.bind(eqn, values)[0]

    def _arranged(self, x: Any, dtype: Any, many: bool) -> Any:
        x = x if hasattr(x, "dtype") and x.dtype == dtype else np.asarray(x, dtype)
        return jnp.broadcast_to(x, self._shape) if many else x

    def _number(self, x: jax.Array) -> jax.Array:
        return x.reshape(()) if x.size == 1 else x
