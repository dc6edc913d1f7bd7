"""Every activation has a row in a probe, called by its name or written out."""

import jax
import jax.numpy as jnp
import pytest

import jinit

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(8)
X = jax.random.normal(KEY, (16, 24))

ACTIVATIONS = {
    "gelu": jax.nn.gelu,
    "tanh": jnp.tanh,
    "elu": lambda x: jnp.where(x > 0, x, jnp.expm1(x)),
    "leaky_relu": lambda x: jnp.maximum(x, 0.01 * x),
    "softplus": lambda x: jnp.logaddexp(x, 0.0),
    "softsign": lambda x: x / (1 + jnp.abs(x)),
    "selu": jax.nn.selu,
    "sin": jnp.sin,
    "relu": lambda x: jnp.where(x > 0, x, 0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_rows(name):
    def model(w, x):
        return ACTIVATIONS[name](x @ w["a"]) @ w["b"]

    w = {"a": jinit.he()(KEY, (24, 24)), "b": jinit.he()(KEY, (24, 3))}
    report = jinit.probe(model, w, X)
    assert [row["path"] for row in report.rows] == ["a", name, "b"]
    out = ACTIVATIONS[name](X @ w["a"])
    assert report.rows[1]["rms"] == pytest.approx(
        float(jnp.sqrt(jnp.mean(out**2))), rel=1e-4
    )
