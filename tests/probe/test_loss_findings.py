"""`probe` tells a loss without a gradient, and inputs that make it large."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

import jinit

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(1)
X = jax.random.normal(jax.random.key(0), (64, 32))


@pytest.mark.parametrize(
    "loss",
    [
        lambda y: jnp.mean(y.argmax(-1) == 3),
        lambda y: 3.0,
        lambda y: jnp.mean(jax.lax.stop_gradient(y) ** 2),
    ],
)
def test_a_loss_without_a_gradient(loss):
    model = nn.Dense(4)
    report = jinit.probe(model, model.init(KEY, X), X, loss=loss)
    assert [finding[:2] for finding in report.verdict] == [("no gradient", "kernel")]
    with pytest.raises(AssertionError, match="does not depend on the parameters"):
        report.check()


def test_some_parameters_without_a_gradient_are_no_finding():
    w = {"a": jnp.eye(32), "b": jnp.eye(32)}

    def model(w, x):
        return x @ w["a"], jax.lax.stop_gradient(x @ w["b"])

    report = jinit.probe(model, w, X, loss=lambda y: jnp.mean(y[0] * X + y[1]))
    assert report.verdict == []
    # A loss that is not the user's is not judged.
    assert (
        jinit.probe(lambda w, x: jax.lax.stop_gradient(x @ w), w["a"], X).verdict == []
    )


def test_a_large_input_is_not_laid_on_the_readout():
    labels = jnp.arange(64) % 10

    def loss(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    he = jinit.he()
    layers = [
        layer for _ in range(4) for layer in (nn.Dense(64, kernel_init=he), nn.relu)
    ]
    model = nn.Sequential([*layers, nn.Dense(10)])
    variables = model.init(KEY, X)
    (first,) = jinit.probe(model, variables, 100 * X, loss=loss).verdict
    assert first[:2] == ("large input", "layers_0")
    assert first.value == pytest.approx(100, rel=0.05)
    assert jinit.probe(model, variables, X, loss=loss).verdict == []
    # The readout is at fault if it is too large for any input.
    kernel = variables["params"]["layers_8"]["kernel"]
    variables["params"]["layers_8"]["kernel"] = 30 * kernel
    findings = jinit.probe(model, variables, 100 * X, loss=loss).verdict
    kinds = [finding[:2] for finding in findings]
    assert ("first loss", "layers_8") in kinds
    assert "large input" not in dict(kinds)
