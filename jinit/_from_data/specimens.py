"""Specimens are arrays that stand for a signal, as a network with these weights has it.

Where entries depend on each other, as x and its norm do, or the tokens that attention
mixes, a law of one entry is not enough, and every approximation of the joint law fails
somewhere: entries of a norm at 8 features, a causal softmax, a router. So inputs are
drawn from their law, several times where they are small, and each operation is run as
it is, at the shapes of the traced model. This is right for any operation, and as exact
as the number of entries allows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from .._network.equations import bind
from .signals import Moments

# All results of a model together have about so many entries, and an input is drawn at
# most so often: 1024 numbers have a mean square that is 4 % off.
_ENTRIES, _MOST = 2**22, 1024
# JAX raises these where it cannot run an equation outside of the model's own program.
_REFUSALS = (NotImplementedError, ValueError, TypeError, RuntimeError)
# Whole numbers that choose nothing are like a mask.
_CHOICES = 2


class Input(NamedTuple):
    """An input has a shape and a dtype, and the mean and variance of its entries.

    Whole numbers choose rows of tables. They are taken as they are where they are
    known, since tokens that repeat make attention's averages larger.
    """

    leaf: Any
    mean: float
    variance: float


class Specimens:
    """Specimens are drawn and computed several times, along a leading axis."""

    def __init__(self, jaxpr: Jaxpr, choices: Mapping[int, int]) -> None:
        self.count = max(1, min(_MOST, _ENTRIES // max(1, _size(jaxpr))))
        self._choices = choices
        self._random = np.random.default_rng(0)

    def draw(self, index: int, source: Input) -> Any:
        """Draw an input of the model, where `index` is its number."""
        leaf = source.leaf
        shape = (self.count, *leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            if not isinstance(leaf, jax.ShapeDtypeStruct):
                return self.repeat(leaf)
            number = self._choices.get(index, _CHOICES)
            return jnp.asarray(self._random.integers(0, number, shape), leaf.dtype)
        noise: Any = self._random.standard_normal(shape, np.float32)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            imaginary = self._random.standard_normal(shape, np.float32)
            noise = (noise + 1j * imaginary) / np.sqrt(2)
        return jnp.asarray(source.mean + np.sqrt(source.variance) * noise, leaf.dtype)

    def repeat(self, array: Any) -> Any:
        """Return a known array as a specimen."""
        array = jnp.asarray(array)
        return jnp.broadcast_to(array[None], (self.count, *array.shape))

    def run(
        self, eqn: JaxprEqn, arrays: Sequence[Any], is_signal: Sequence[bool]
    ) -> list[Any]:
        """Return the results of an equation for each of the draws.

        Raises:
          NotImplementedError: if JAX cannot run the equation for a batch of operands.
        """
        axes = tuple(0 if signal else None for signal in is_signal)

        def once(*operands: Any) -> tuple[Any, ...]:
            return tuple(bind(eqn, operands))

        batched = jax.vmap(once, axes, axis_size=self.count)
        try:
            return list(batched(*arrays))
        except _REFUSALS:
            # JAX has no batched form of some operations, such as a ragged product.
            return self._one_by_one(eqn, arrays, is_signal)

    def _one_by_one(
        self, eqn: JaxprEqn, arrays: Sequence[Any], is_signal: Sequence[bool]
    ) -> list[Any]:
        drawn = [x for x, signal in zip(arrays, is_signal, strict=True) if signal]

        def once(operands: Sequence[Any]) -> list[Any]:
            rest = iter(operands)
            pairs = zip(arrays, is_signal, strict=True)
            return bind(eqn, [next(rest) if signal else x for x, signal in pairs])

        try:
            results: list[Any] = jax.lax.map(once, drawn)
        except _REFUSALS as error:
            name = eqn.primitive.name
            raise NotImplementedError(f"the law of {name} is not known") from error
        return results


def moments_of(specimen: Any) -> Moments:
    """Return the moments of a specimen's entries; of complex ones, by their size."""
    wide = np.asarray(specimen)
    wide = wide.astype(np.complex128 if wide.dtype.kind == "c" else np.float64)
    mean = wide.mean()
    variance = float(np.mean(np.abs(wide - mean) ** 2))
    size = mean.real if wide.dtype.kind == "f" else abs(mean)
    return Moments(float(size), variance, float(np.mean(np.abs(wide) ** 2)))


def spread_of(specimen: Any, axes: Sequence[int] | None) -> float:
    """Return the relative variance of the sums of squares over some axes."""
    if axes is None:
        return 0.0
    wide = np.abs(np.asarray(specimen)).astype(np.float64)
    # The first axis of a specimen counts the draws.
    sums = np.sum(wide**2, tuple(axis + 1 for axis in axes))
    return float(sums.var() / sums.mean() ** 2) if sums.any() else 0.0


def _size(jaxpr: Jaxpr) -> int:
    """Count the entries of all results of a jaxpr, and of the bodies in it."""
    total = 0
    for eqn in jaxpr.eqns:
        total += sum(getattr(var.aval, "size", 0) for var in eqn.outvars)
        bodies = sum(map(_size_of_parameter, eqn.params.values()))
        total += bodies * eqn.params.get("length", 1)
    return total


def _size_of_parameter(value: Any) -> int:
    if isinstance(value, tuple | list):
        return sum(map(_size_of_parameter, value))
    body = value.jaxpr if isinstance(value, ClosedJaxpr) else value
    return _size(body) if isinstance(body, Jaxpr) else 0
