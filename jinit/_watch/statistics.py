"""The statistics of one step of training, for each row of a watch."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._core.trees import leaves
from .tensors import Tensor, over_devices, stacked

# A column holds this number if a statistic is missing, since no statistic is ever -2.
# NaN would stop a training program that looks for NaN in its state.
MISSING = -2.0


def rms(tensors: Sequence[Tensor], values: Sequence[jax.Array]) -> jax.Array:
    """Return the root mean square of each row."""

    def of_one(tensor: Tensor, value: jax.Array) -> jax.Array:
        wide = jnp.abs(value).astype(jnp.float32)
        return jnp.sqrt(tensor.mean(wide * wide))

    return stacked(of_one, tensors, values)


def facts(
    tensors: Sequence[Tensor], values: Sequence[jax.Array]
) -> dict[str, jax.Array]:
    """Return facts that never change: the bits of a number, the width of a tensor."""

    def bits(tensor: Tensor, value: jax.Array) -> jax.Array:
        return jnp.full(tensor.rows, float(jnp.finfo(value.dtype).bits))

    def width(tensor: Tensor) -> jax.Array:
        return jnp.full(tensor.rows, float(min(tensor.layer_shape[-2:], default=1)))

    return {"bits": stacked(bits, tensors, values), "width": stacked(width, tensors)}


def samples(tensors: Sequence[Tensor], values: Sequence[jax.Array]) -> jax.Array:
    """Return the sample of each row in float32, the real parts of complex numbers."""

    def of_one(tensor: Tensor, value: jax.Array) -> jax.Array:
        return over_devices(tensor.sample(jnp.real(value).astype(jnp.float32)))

    return stacked(of_one, tensors, values)


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    is_number = (denominator > 0) & jnp.isfinite(denominator)
    ratio = numerator / jnp.where(is_number, denominator, 1)
    return jnp.where(is_number & jnp.isfinite(ratio), ratio, MISSING)


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the cosine between the rows of two samples, unless one is 0."""
    sizes = jnp.sqrt((a * a).sum(1)) * jnp.sqrt((b * b).sum(1))
    return _ratio((a * b).sum(1), sizes)


def flips(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the share of entries that changed their sign, of those that are not 0."""
    return _ratio((a * b < 0).sum(1), ((a != 0) & (b != 0)).sum(1))


def drift(now: jax.Array, start: jax.Array) -> jax.Array:
    """Return the distance from the start over the size of the start."""
    change = now - start
    return _ratio(jnp.sqrt((change * change).sum(1)), jnp.sqrt((start * start).sum(1)))


def lost(
    tensors: Sequence[Tensor], weights: Sequence[Any], updates: Sequence[Any]
) -> jax.Array:
    """Return the share of updates that leave their weight as it was, by rounding."""

    def of_one(tensor: Tensor, weight: jax.Array, update: jax.Array) -> jax.Array:
        w, u = tensor.sample(weight), tensor.sample(update)
        # Optax adds in the wider of both dtypes, and rounds to that of the weight.
        same = (w + u).astype(w.dtype) == w
        return over_devices(_ratio((same & (u != 0)).sum(1), (u != 0).sum(1)))

    return stacked(of_one, tensors, weights, updates)


def small(tensors: Sequence[Tensor], inner: Any, epsilon: float) -> jax.Array:
    """Return the share of Adam's second moments whose root is below its epsilon."""
    moments: dict[str, Any] = {}
    for node in jax.tree.leaves(inner, is_leaf=lambda node: hasattr(node, "nu")):
        if hasattr(node, "nu"):
            moments |= {leaf.path: leaf.value for leaf in leaves(node.nu)}

    def of_one(tensor: Tensor) -> jax.Array:
        moment = moments.get(tensor.path)
        if moment is None or moment.shape != tensor.shape:
            return jnp.full(tensor.rows, MISSING)
        entries = jnp.abs(tensor.sample(moment)).astype(jnp.float32)
        # A moment of 0 belongs to an entry that has had no gradient yet.
        is_small = (entries > 0) & (entries < epsilon**2)
        return over_devices(_ratio(is_small.sum(1), (entries > 0).sum(1)))

    return stacked(of_one, tensors)
