"""Networks set from data: models that are out of the ordinary."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from tests.support.meshes import make_mesh
from tests.support.trees import same

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(6)
X = 0.7 + jax.random.normal(KEY, (64, 12))


def loss(y):
    return jnp.mean((y - 1) ** 2)


class Added(nn.Module):
    """Positions and a token, as in a ViT."""

    @nn.compact
    def __call__(self, x):
        return x + self.param("pos_embedding", jinit.normal(0.02), (1, *x.shape[1:]))


class Token(nn.Module):
    @nn.compact
    def __call__(self, x):
        token = self.param("token", jinit.normal(), (1, 1, x.shape[-1]))
        return jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], 1)


def test_what_is_added_is_no_layer_and_is_named_as_left():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = Added(name="added")(Token(name="token")(nn.Dense(8)(x)))
            return nn.Dense(8)(nn.RNN(nn.OptimizedLSTMCell(4, name="cell"))(x))

    x = X.reshape(4, 16, 12)
    _, history = jinit.lsuv(Net(), Net().init(KEY, x), x)
    # The cell's modules hand their kernels out: these are no outputs.
    assert {row["path"] for row in history.rows} == {"Dense_0", "Dense_1"}
    left = {"added/pos_embedding", "token/token", "cell/hi/kernel", "cell/ii/kernel"}
    assert left < set(history.left) and "token/token" in str(history)


@nn.jit
class Jitted(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.DenseGeneral((2, 3))(x)


def test_a_part_that_is_jitted_and_ran_before_is_set():
    model = nn.Sequential([Jitted()])
    variables = model.init(KEY, X)
    model.apply(variables, X)
    for _ in range(2):
        new, _ = jinit.data_dependent(model, variables, X)
        std = np.asarray(model.apply(new, X)).std(0)
        assert np.abs(std - 1).max() < 0.01


def test_parameters_keep_their_shardings():
    sharded = jax.NamedSharding(make_mesh((4, 2)), jax.P("x", "y"))
    model = nn.Sequential([nn.Dense(16, use_bias=False)])
    variables = jax.device_put(model.init(KEY, X), sharded)
    found = [
        jinit.lsuv(model, variables, X, orthonormal=True),
        jinit.weight_norm_init(model, variables, X, key=KEY),
        jinit.whiten_first_layer(model, variables, X, signs=False),
    ]
    for new, _ in found:
        kernel = new["params"]["layers_0"]["kernel"]
        assert kernel.sharding.is_equivalent_to(sharded, 2)


def test_no_tracer_leaks():
    model = nn.Sequential([nn.Dense(4)])
    with jax.checking_leaks():
        jinit.lsuv(model, model.init(KEY, X), X)


class Noisy(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(12, 24, rngs=rngs)
        self.norm = nnx.BatchNorm(24, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(24, 4, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


def test_nnx_models_that_change_as_they_run_stay_as_they_were():
    model = Noisy()
    before = [np.asarray(x) for x in jax.tree.leaves(nnx.state(model, nnx.BatchStat))]
    jinit.nnx.whiten_first_layer(model, X)
    jinit.nnx.data_dependent(model, X, loss=loss, skip=["first"])
    jinit.nnx.gradinit(model, X, loss=loss, steps=1)
    after = jax.tree.leaves(nnx.state(model, nnx.BatchStat))
    chex.assert_trees_all_equal(before, after)


class Buffered(nn.Module):
    """With a weight by another name, and an array that is not trained."""

    @nn.compact
    def __call__(self, x):
        scale = self.variable("buffers", "scale", lambda: jnp.full((1, 12), 2.0)).value
        return Named()(x=x * scale)


class Named(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x @ self.param("w", jinit.he(), (12, 4))


def test_other_names_and_collections():
    variables = Buffered().init(KEY, X)
    new, _ = jinit.gradinit(Buffered(), variables, X, loss=loss, steps=5)
    chex.assert_trees_all_equal(new["buffers"], variables["buffers"])
    assert not same(new["params"], variables["params"])
    jinit.whiten_first_layer(Buffered(), variables, X)


def test_bfloat16_units_are_set_as_far_as_a_bias_can():
    model = nn.Sequential([nn.Dense(8, param_dtype=jnp.bfloat16)])
    x = X.astype(jnp.bfloat16) + 5
    new, _ = jinit.data_dependent(model, model.init(KEY, x), x)
    y = np.asarray(model.apply(new, x), np.float32)
    assert np.abs(y.mean(0)).max() < 0.05
