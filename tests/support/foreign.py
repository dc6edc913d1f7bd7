"""An initializer that is not jinit's."""

import jax
import jax.numpy as jnp


def plain(key, shape, dtype=jnp.float32):
    return jax.random.normal(key, shape, dtype) * 0.1
