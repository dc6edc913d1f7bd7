"""`data_dependent` with a loss: layers have equal ratios of gradient to weight."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support.classification import KEY, X, loss, mlp
from tests.support.trees import same

pytestmark = pytest.mark.usefixtures("quick_compilation")


def ratios(model, variables):
    slopes = jax.grad(lambda v: loss(model.apply(v, X)))(variables)["params"]
    return np.array(
        [
            float(jnp.linalg.norm(slopes[p]["kernel"]) / jnp.linalg.norm(w["kernel"]))
            for p, w in variables["params"].items()
        ]
    )


def test_with_a_loss_relu_layers_are_balanced_and_the_function_stays():
    model = mlp()
    variables = model.init(KEY, X)
    unit, _ = jinit.data_dependent(model, variables, X)
    new, history = jinit.data_dependent(model, variables, X, loss=loss)
    before, after = ratios(model, unit), ratios(model, new)
    assert before.max() / before.min() > 1.5 and after.max() / after.min() < 1.02
    assert np.allclose(model.apply(unit, X), model.apply(new, X), rtol=1e-3, atol=1e-3)
    assert "ratio" in str(history)
    # And its own result comes out again.
    again, _ = jinit.data_dependent(model, new, X, loss=loss)
    chex.assert_trees_all_close(new, again, rtol=0.02, atol=0.02)
    # Without a loss there is the paper's random direction.
    paper, _ = jinit.data_dependent(model, variables, X, balance=True)
    assert not same(paper, unit, 0.01)


def test_what_is_not_homogeneous_is_balanced_step_by_step():
    model = mlp(activation=nn.tanh, widths=(16, 16, 16, 4))
    variables = model.init(KEY, X)
    unit, _ = jinit.data_dependent(model, variables, X)
    new, _ = jinit.data_dependent(model, variables, X, loss=loss)
    before, after = ratios(model, unit), ratios(model, new)
    assert np.log(after.max() / after.min()) < 0.3 * np.log(before.max() / before.min())
