"""Make a perceptron and a transformer at any width, for the tests of muP."""

import functools

import jax
import jax.numpy as jnp

from jinit import materialize
from tests.support.models import MLP, Transformer, shapes_of

KEY = jax.random.key(6)
X = jax.random.normal(KEY, (16, 8))
Y = jax.random.normal(jax.random.fold_in(KEY, 1), (16, 4))


def mlp(width):
    return MLP((width, width, 4))


@functools.cache
def mlp_shapes(width):
    """Return the shapes alone: to draw would compile a program for each of them."""
    return shapes_of(mlp(width), X)


@functools.cache
def mlp_variables(width):
    return materialize(mlp(width).init)(KEY, X)


def transformer_shapes(width, heads=2):
    model = Transformer(layers=1, width=width, heads=heads)
    return shapes_of(model, jnp.zeros((1, 3), jnp.int32))
