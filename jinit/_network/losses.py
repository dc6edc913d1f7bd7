"""A loss gives a scalar, and without a loss a random direction stands for it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .behavior import key_of
from .kept import Traced, traced


def loss_of(loss: Callable[[Any], Any], trace: Traced) -> Traced:
    """Return the trace of a loss of a traced model's output."""
    key = functools.partial(key_of, "loss", loss)
    return traced(key, lambda output: scalar(loss(output)), (trace.shapes,))


def scalar(loss: Any) -> jax.Array:
    """Return a loss in float32, after a check that it is a scalar."""
    value = jnp.asarray(loss)
    if value.shape != ():
        raise ValueError(
            f"`loss` returned an array of shape {value.shape}; it must return a "
            "scalar: take the mean."
        )
    return value.astype(np.float32)


def direction(output: Any) -> jax.Array:
    """Return the output along a fixed random direction, averaged over the batch."""
    total = jnp.zeros((), np.float32)
    for number, leaf in enumerate(jax.tree.leaves(output)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            # The key is fixed, so that two probes of a model can be compared.
            key = jax.random.key(number)
            weights = jax.random.normal(key, leaf.shape, np.float32)
            total += jnp.sum(weights * leaf) / max(1, leaf.shape[0] if leaf.ndim else 1)
    return total
