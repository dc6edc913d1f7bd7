"""The tests use this initializer as one that is not from jinit."""

import jax
import jax.numpy as jnp


def plain(key, shape, dtype=jnp.float32):
    return jax.random.normal(key, shape, dtype) * 0.1
