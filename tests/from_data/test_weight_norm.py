"""`weight_norm_init`: gains and biases come from the batch."""

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support.classification import KEY, X, call, mlp, outputs
from tests.support.trees import same

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_weight_norm_has_its_gains_from_the_batch():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.WeightNorm(nn.Dense(16))(x))
            return nn.WeightNorm(nn.Dense(4))(x)

    variables = Net().init(KEY, X)
    new, history = jinit.weight_norm_init(Net(), variables, X)
    params = new["params"]
    kernel, bias = params["Dense_0"]["kernel"], params["Dense_0"]["bias"]
    chex.assert_trees_all_equal(kernel, variables["params"]["Dense_0"]["kernel"])
    # g = 1 / std(t), b = -mean(t) / std(t), t = x v / |v|: the paper's formulas.
    t = np.asarray(X @ (kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True)))
    gain = params["WeightNorm_0"]["Dense_0/kernel/scale"]
    assert np.allclose(gain, 1 / t.std(0), rtol=1e-3)
    assert np.allclose(bias, -t.mean(0) / t.std(0), rtol=1e-3, atol=1e-3)
    found = outputs(Net(), new)
    assert max(np.abs(y.std(0) - 1).max() for y in found.values()) < 1e-3
    gains = [row for row in history.rows if "least_gain" in row]
    assert gains[0]["least_gain"] == pytest.approx(float(gain.min()))


def test_without_a_weight_norm_the_product_is_in_the_kernel():
    model = mlp()
    variables = model.init(KEY, X)
    new, history = jinit.weight_norm_init(model, variables, X, key=KEY)
    first = new["params"]["Dense_0"]["kernel"]
    norms = jnp.linalg.norm(first, axis=0)
    gains = [row for row in history.rows if "least_gain" in row]
    assert gains[0]["largest_gain"] == pytest.approx(float(norms.max()), rel=1e-5)
    for y in outputs(model, new).values():
        assert np.abs(y.mean(0)).max() < 1e-3 and np.abs(y.std(0) - 1).max() < 1e-3
    # v was drawn anew: with the same key the same, whatever was there.
    other, _ = jinit.weight_norm_init(model, model.init(KEY, 2 * X), X, key=KEY)
    chex.assert_trees_all_equal(new, other)
    kept, _ = jinit.weight_norm_init(model, variables, X)
    assert not same(new, kept, 0.1)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: call("weight_norm_init", key=3), TypeError, "`key` is 3"),
    ],
)  # fmt: skip
def test_errors(run, error, message):
    with pytest.raises(error, match=message):
        run()
