"""The Jacobian's singular values that `probe` gives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import jinit
from tests.support.models import MLP

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(2)
X = jax.random.normal(KEY, (6, 12))
KEYS = jax.random.split(KEY, 3)


def ends(function, x):
    """The singular values of the first output by the first input."""

    def first(row):
        return function(x.at[0].set(row))[0].ravel()

    jacobian = jax.jacobian(first)(x[0])
    return np.linalg.svd(np.asarray(jacobian).reshape(len(jacobian), -1))[1]


def test_small_jacobians_are_exact():
    model = MLP((12, 12, 4), jinit.he())
    variables = model.init(KEY, X)
    report = jinit.probe(model, variables, X, jacobian=True)
    wanted = ends(lambda x: model.apply(variables, x), X)
    assert report.jacobian["top"] == pytest.approx(wanted[0], rel=1e-4)
    assert report.jacobian["bottom"] == pytest.approx(wanted[-1], rel=1e-3)
    assert "singular values" in str(report)
    assert report.to_dict()["jacobian"] == report.jacobian
    assert jinit.probe(model, variables, X).jacobian is None


def test_a_custom_vjp_has_a_jacobian():
    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))
    w = jax.random.normal(KEY, (12, 20))
    found = jinit.probe(
        lambda w, x: checkpoint_name(sine(x @ w), "out"), w, X, jacobian=True
    ).jacobian
    wanted = ends(lambda x: jnp.sin(x @ w), X)
    assert found["top"] == pytest.approx(wanted[0], rel=1e-4)


def test_a_jacobian_knows_the_rest_of_the_batch():
    class Norm(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=False)(nn.Dense(5)(x))

    model = Norm()
    variables = model.init(KEY, X)
    found = jinit.probe(model, variables, X, jacobian=True).jacobian
    wanted = ends(lambda x: model.apply(variables, x, mutable=["batch_stats"])[0], X)
    assert found["top"] == pytest.approx(wanted[0], rel=1e-3)
    assert found["bottom"] == pytest.approx(wanted[-1], rel=1e-3)


@pytest.mark.parametrize("shape", [(300, 280), (280, 300)])
def test_large_jacobians_by_power_iteration(shape):
    """Values from 3 down to 0.5, a gap at each end: powers of it converge."""
    u, v = (
        jinit.orthogonal()(key, (n, 280)) for key, n in zip(KEYS, shape, strict=False)
    )
    values = jnp.concatenate(
        [jnp.array([3.0]), jnp.linspace(2, 1.6, 278), jnp.array([0.5])]
    )
    w = (u * values[None]) @ v.T

    def model(w, x):
        return checkpoint_name(x @ w, "all")

    x = jax.random.normal(KEY, (2, shape[0]))
    found = jinit.probe(model, w, x, jacobian=True).jacobian
    assert found["top"] == pytest.approx(3.0, rel=1e-3)
    assert found["bottom"] == pytest.approx(0.5, rel=0.02)


def test_nnx_has_a_jacobian_and_tokens_have_none():
    model = nnx.Sequential(nnx.Linear(12, 5, rngs=nnx.Rngs(0)))
    found = jinit.nnx.probe(model, X, jacobian=True).jacobian
    kernel = np.asarray(model.layers[0].kernel[...])
    assert found["top"] == pytest.approx(np.linalg.norm(kernel, 2), rel=1e-4)
    tokens = jnp.arange(6)[None]
    embed = nn.Sequential([nn.Embed(8, 4)])
    with pytest.raises(ValueError, match="whole numbers, such as tokens"):
        jinit.probe(embed, embed.init(KEY, tokens), tokens, jacobian=True)
