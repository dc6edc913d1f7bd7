"""The state of a watch lies around the state of the optimizer that it watches."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .tensors import SAMPLE

# The columns of a watch's table, one number of each for every row.
COLUMNS = (
    "bits",  # the bits of one number of the tensor
    "width",  # the smaller of the tensor's last two sizes
    "measured",  # how many measurements were finite
    "start_rms",
    "weight_rms",
    "weight_before",  # a slow mean of log(weight_rms)
    "grad_rms",
    "grad_before",  # a slow mean of log(grad_rms)
    "update_rms",
    "update_before",  # a slow mean of log(update_rms)
    "cosine",
    "flips",
    "lost",
    "small",
    "drift",
    "spectral",
    "zeros",  # how many gradients in a row, up to the last one, were 0
    "held",  # how many measurements in a row, up to the last one, had no update
    "ratio_peak",  # the largest mean of update_rms / weight_rms
    "spike",  # the largest grad_rms over its usual size
    "spike_step",
    "largest_update",
    "skipped",  # how many gradients in a row were not finite, without harm
    "bad_step",  # the first step that was not finite; 0 for none
    "bad_value",  # 1 for the gradient, 2 for the update, 3 for the weight
)
AT = {name: number for number, name in enumerate(COLUMNS)}


class WatchState(NamedTuple):
    """A WatchState has the optimizer's own state and the measurements of each row.

    `paths` is a dict from the key of each row to an empty tuple: JAX sorts the keys of
    a dict, so the i-th key belongs to row i, and checkpoints keep them. `table` has a
    row for each key and the columns of `COLUMNS`. `gradients` and `starts` are samples
    of the last gradients and of the first weights. `directions` are the vectors of the
    power iteration, one after the other.
    """

    inner: Any
    step: jax.Array
    paths: dict[str, tuple[()]]
    table: jax.Array
    gradients: jax.Array
    starts: jax.Array
    directions: jax.Array


def empty(inner: Any) -> WatchState:
    """Return the state of a watch of no tensor, around the state of an optimizer."""
    none = jnp.zeros((0, SAMPLE))
    return WatchState(
        inner, jnp.zeros((), jnp.int32), {}, jnp.zeros((0, len(COLUMNS))), none, none,
        jnp.zeros((0,)),
    )  # fmt: skip


def states_in(tree: Any) -> Iterator[WatchState]:
    """Find the states of all watches in the state of an optimizer."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, WatchState))
    for node in nodes:
        if isinstance(node, WatchState):
            # A watch of a watch measures the same tensors twice.
            yield node
