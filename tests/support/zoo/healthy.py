"""Models of the zoo at a usual start: what most libraries draw by default.

The zoo has shapes alone. Kernels are drawn as LeCun says, with the fans that are read
from the equations; biases and tables start as they do in Flax.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jinit
from jinit._core import trees

# Integers are below this number: they may be tokens or types of tokens.
_TOKENS = 2


def network(entry: Any, seed: int = 0) -> Any:
    """Return the network of an entry, with its parameters and inputs drawn."""
    net = jinit.network(entry.model, *entry.arguments, rngs=entry.rngs, **entry.options)
    leaves = trees.leaves(net.params)
    rng = np.random.default_rng(seed)
    drawn = [_parameter(net, leaf, rng) for leaf in leaves]
    params = jax.tree.unflatten(jax.tree.structure(net.params), drawn)
    inputs = jax.tree_util.tree_map_with_path(
        lambda path, x: _input(jax.tree_util.keystr(path), x, rng), net.inputs
    )
    return jinit.network(net.apply, params, *inputs)


def _parameter(net: Any, leaf: Any, rng: np.random.Generator) -> Any:
    if not isinstance(leaf.value, jax.ShapeDtypeStruct):
        return leaf.value
    path = "/".join(map(str, leaf.parts))
    record = net.parameters.get(path)
    shape, dtype = leaf.value.shape, leaf.value.dtype
    if not jnp.issubdtype(dtype, jnp.inexact):
        return jnp.zeros(shape, dtype)
    return jnp.asarray(_values(path, record, shape, rng), dtype)


def _values(
    path: str, record: Any, shape: tuple[int, ...], rng: np.random.Generator
) -> Any:
    roles = frozenset() if record is None else record.roles
    is_looked_up = "embedding" in roles
    if roles & {"matrix", "convolution"} and record.fans and not is_looked_up:
        # A relu drops half of the signal.
        gain = math.sqrt(2) if record.activation == "relu" else 1.0
        std = gain / math.sqrt(max(1, record.fans.fan_in))
        return std * rng.standard_normal(shape)
    if is_looked_up:
        return rng.standard_normal(shape) / math.sqrt(shape[-1])
    if "scale" in roles:
        return np.ones(shape)
    if "bias" in roles:
        return np.zeros(shape)
    return 0.02 * rng.standard_normal(shape)


def _input(path: str, x: Any, rng: np.random.Generator) -> Any:
    if "['var']" in path or ".var" in path:
        # A batch norm has stored variances.
        return jnp.ones(x.shape, x.dtype)
    if not isinstance(x, jax.ShapeDtypeStruct):
        return x
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return (
            jax.random.key(0)
            if not x.shape
            else jax.random.split(jax.random.key(0), x.shape)
        )
    if x.dtype == bool:
        return jnp.ones(x.shape, bool)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return jnp.asarray(rng.integers(0, _TOKENS, x.shape), x.dtype)
    values = rng.standard_normal(x.shape)
    # A square matrix among the inputs is an adjacency, which is not negative.
    is_square = x.ndim == 2 and x.shape[0] == x.shape[1]
    return jnp.asarray(abs(values) if is_square else values, x.dtype)
