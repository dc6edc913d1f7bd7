"""A product of a network is evaluated again, with another input or another kernel.

A product is linear in its input and in its kernel. So its own equation, whatever its
layout is, splits the change of its output in two:

    W_t x_t - W_0 x_0 = (W_t - W_0) x_t + W_0 (x_t - x_0)

Haas et al. (2025) call the first part the effective update, since the layer itself has
learned it, and the second one the propagated update, since it comes from the layers
before.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from .equations import bind, multiplies
from .reader.records import Tap
from .record import Network
from .signature import signature


class Operands(NamedTuple):
    """The operands of a product: its input, its kernel, and the sizes of groups."""

    input: Any
    kernel: Any
    others: tuple[Any, ...] = ()


class Parts(NamedTuple):
    """The two parts of the change of a product's output."""

    effective: jax.Array
    propagated: jax.Array


class LinearProduct(NamedTuple):
    """A LinearProduct is an equation that multiplies data with a kernel.

    `weight` is the path of the parameter; `output` is the number of the layer's tap.
    `operands` are the taps of its operands, in the order of the equation, and `side`
    says which of them is the input.
    """

    weight: str
    output: int
    operands: tuple[Tap, ...]
    side: int

    @property
    def eqn(self) -> JaxprEqn:
        """The equation."""
        return self.operands[0].place[-1]

    @property
    def scans(self) -> int:
        """The number of scans around it."""
        return self.operands[0].scans

    @property
    def form(self) -> Hashable:
        """Return a key: products with equal forms compute the same."""
        return signature(self.eqn), self.side

    @property
    def evaluate(self) -> Callable[[Operands], jax.Array]:
        """Return the function that evaluates the equation for other operands."""
        eqn, side = self.eqn, self.side

        def evaluate(operands: Operands) -> jax.Array:
            first, second = operands.input, operands.kernel
            pair = (second, first) if side else (first, second)
            result: jax.Array = bind(eqn, [*pair, *operands.others])[0]
            return result

        return evaluate

    def named(self, values: Sequence[Any]) -> Operands:
        """Return the values of the operands by what they are."""
        kernel = values[1 - self.side]
        return Operands(values[self.side], kernel, tuple(values[2:]))


def linear_products(net: Network) -> list[LinearProduct]:
    """Return the products whose operands can be recorded, in the order of execution.

    The kernel of a product depends on parameters alone. A kernel that data choose or
    scale, as in a modulated convolution, changes with the data too, so the product is
    left out.
    """
    reading = net._read.reading
    return [
        LinearProduct(
            reading.layers[product.layer].path,
            product.output,
            _operands(product.input),
            product.input.number,
        )
        for product in reading.products
        if product.input is not None
        and not product.is_modulated
        and _is_linear(product.input)
    ]


def _is_linear(tap: Tap) -> bool:
    eqn = tap.place[-1]
    kinds: Any = [variable.aval for variable in eqn.invars[:2]]
    is_real = all(jnp.issubdtype(kind.dtype, jnp.inexact) for kind in kinds)
    return multiplies(eqn) and tap.is_operand and is_real


def _operands(tap: Tap) -> tuple[Tap, ...]:
    """Return a tap for each operand of the equation that takes a value."""
    eqn: Any = tap.place[-1]
    lengths = tap.shape[: tap.scans]
    return tuple(
        tap._replace(
            number=number,
            shape=(*lengths, *variable.aval.shape),
            dtype=variable.aval.dtype,
        )
        for number, variable in enumerate(eqn.invars)
    )


def parts_of(
    evaluate: Callable[[Operands], jax.Array], before: Operands, after: Operands
) -> Parts:
    """Return the effective and the propagated part of the change of an output.

    Their sum is the change, up to rounding. The differences are taken before the
    products, so that a small update is not lost in the rounding of two large outputs.

    Args:
      evaluate: the product.
      before: its operands at the start.
      after: its operands after training.
    """
    effective = evaluate(after._replace(kernel=after.kernel - before.kernel))
    if before.others:
        # A router may send a row to another expert than before, so that the rows of
        # the two inputs are not the same, and the outputs have to be compared.
        one = evaluate(after._replace(kernel=before.kernel))
        return Parts(effective, one - evaluate(before))
    moved = before._replace(input=after.input - before.input)
    return Parts(effective, evaluate(moved))


def operator_norm(
    function: Callable[[Any], jax.Array], x: jax.Array, rounds: int = 12
) -> jax.Array:
    """Return the largest |f(v)| / |v| of a linear function, by power iteration.

    For a batch of rows this is the spectral norm of a kernel, for experts the largest
    one of theirs, for a convolution that of the convolution.

    Args:
      function: a linear function.
      x: an array of the shape of its argument.
      rounds: the number of iterations. The slope of norms over widths, for which this
        is made, does not need more digits.
    """
    back = jax.linear_transpose(function, x)

    def gain(v: jax.Array) -> jax.Array:
        return _norm(function(v)) / jnp.maximum(_norm(v), jnp.finfo(jnp.float32).tiny)

    def step(v: jax.Array, _: None) -> tuple[jax.Array, None]:
        (turned,) = back(function(v))
        return _unit(turned), None

    # A random start has a share of every singular vector, which `x` may lack.
    noise = jax.random.normal(jax.random.key(0), x.shape, jnp.float32)
    start = _unit(_unit(x) + _unit(noise).astype(x.dtype))
    last, _ = jax.lax.scan(step, start, None, length=rounds)
    return jnp.maximum(gain(last), gain(x))


def _norm(x: jax.Array) -> jax.Array:
    """Return the Euclidean norm over all entries, in float32 or wider."""
    wide = jnp.abs(x).astype(jnp.promote_types(jnp.abs(x).dtype, jnp.float32))
    largest = jnp.max(wide, initial=0)
    unit = jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.sum((wide / unit) ** 2))


def _unit(x: jax.Array) -> jax.Array:
    """Return an array whose entries have the root mean square 1, or zeros."""
    norm = _norm(x) / max(x.size, 1) ** 0.5
    return (x / jnp.where(norm > 0, norm, 1).astype(x.dtype)).astype(x.dtype)
