"""Spectral norms of kernels, by one step of the power iteration at a time.

The vectors of the last step are kept, so that the estimate improves from step to step
while the kernel moves slowly. It is a lower bound of the norm.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from .._core.meshes import varying_axes
from .statistics import MISSING
from .tensors import Tensor, replicated


def first_directions(tensors: Sequence[Tensor]) -> jax.Array:
    """Return the vectors with which the iteration begins, one after the other."""
    sizes = [_size(tensor) for tensor in tensors]
    # Cosines of the integers are orthogonal to no structure that a kernel may have.
    return jnp.cos(jnp.arange(sum(sizes), dtype=jnp.float32))


def step(
    tensors: Sequence[Tensor], weights: Sequence[jax.Array], directions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the norm of each row, and the vectors for the next step."""
    norms, after, place = [], [], 0
    for tensor, weight in zip(tensors, weights, strict=True):
        size = _size(tensor)
        before = directions[place : place + size]
        place += size
        if size and not varying_axes(weight):
            norm, vector = _iterate(tensor, weight, before)
        else:
            # A device of a `shard_map` has a part of the kernel, whose norm is another.
            norm, vector = jnp.full(tensor.rows, MISSING), before
        norms.append(norm)
        after.append(vector)
    return jnp.concatenate(norms), jnp.concatenate(after)


def _iterate(
    tensor: Tensor, weight: jax.Array, before: jax.Array
) -> tuple[jax.Array, jax.Array]:
    kernel = tensor.by_row(jnp.real(weight).astype(jnp.float32))
    depth = len(tensor.stack)
    vector = before.reshape(*kernel.shape[:depth], kernel.shape[-1])
    ones = (1,) * (kernel.ndim - depth - 1)
    inner = (*kernel.shape[:depth], *ones, kernel.shape[-1])
    others = tuple(range(depth, kernel.ndim - 1))
    image = jnp.sum(kernel * _unit(vector).reshape(inner), -1, keepdims=True)
    size = jnp.sqrt(jnp.sum(image * image, others, keepdims=True))
    back = jnp.sum(kernel * (image / jnp.where(size > 0, size, 1)), others)
    norm = jnp.sqrt(jnp.sum(replicated(back) ** 2, -1)).reshape(-1)
    # A kernel of zeros would leave the vector at zero for ever.
    kept = jnp.where(norm[:, None] > 0, replicated(back).reshape(tensor.rows, -1), 1.0)
    return norm, kept.reshape(-1)


def _unit(vector: jax.Array) -> jax.Array:
    size = jnp.sqrt(jnp.sum(vector * vector, -1, keepdims=True))
    return vector / jnp.where(size > 0, size, 1)


def _size(tensor: Tensor) -> int:
    """Return the length of a tensor's vectors: 0 if it is no kernel."""
    shape = tensor.layer_shape
    is_kernel = len(shape) >= 2 and math.prod(tensor.shape) > 0
    return tensor.rows * shape[-1] if is_kernel else 0
