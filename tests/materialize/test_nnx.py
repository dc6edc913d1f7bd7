"""materialize of NNX: the models and the streams of the constructor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from tests.support.trees import assert_equal


class Model(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(12, 8, kernel_init=jinit.he(), rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(3)])


@pytest.mark.parametrize("make", [int, jax.random.key, nnx.Rngs])
def test_nnx_models_are_those_of_the_constructor(make):
    wanted = Model(nnx.Rngs(make(5)) if make is not nnx.Rngs else nnx.Rngs(5))
    got = jinit.nnx.materialize(lambda rngs: Model(rngs), make(5))
    graph, state = nnx.split(got)
    assert graph == nnx.split(wanted)[0]
    assert_equal(state, nnx.split(wanted)[1])
    y = got.linear(jnp.ones((1, 12)))
    np.testing.assert_array_equal(y, wanted.linear(jnp.ones((1, 12))))


def test_nnx_streams_count_on():
    ours, theirs = nnx.Rngs(0, params=1), nnx.Rngs(0, params=1)
    for _ in range(2):
        got = jinit.nnx.materialize(Model, ours)
        assert_equal(nnx.state(got), nnx.state(Model(theirs)))
    assert_equal(nnx.state(ours), nnx.state(theirs))


def test_nnx_wants_a_function():
    with pytest.raises(TypeError, match="`make` is .* must be a function of nnx.Rngs"):
        jinit.nnx.materialize(Model(nnx.Rngs(0)).norm.epsilon, 0)
    with pytest.raises(TypeError, match="of type Linear; .* that makes a model"):
        jinit.nnx.materialize(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), 0)
