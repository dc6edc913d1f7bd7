"""Methods that set NNX models from data: a new model, and the old one stays."""

import chex
import numpy as np
import pytest
from flax import nnx

import jinit
from tests.support.classification import KEY, X, loss

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_nnx_models():
    model = nnx.Sequential(
        nnx.Linear(12, 24, rngs=nnx.Rngs(0)),
        nnx.relu,
        nnx.Linear(24, 4, rngs=nnx.Rngs(1)),
    )
    before = nnx.to_pure_dict(nnx.state(model))
    unit, _ = jinit.nnx.data_dependent(model, X)
    assert np.abs(np.asarray(unit(X)).std(0) - 1).max() < 1e-3
    white, _ = jinit.nnx.whiten_first_layer(model, X, eps=0.0)
    y = np.asarray(X @ white.layers[0].kernel[...])[:, :12]
    assert np.allclose(y.T @ y / 64, np.eye(12), atol=2e-3)
    learned, _ = jinit.nnx.gradinit(model, X, loss=loss, steps=3)
    meta, _ = jinit.nnx.metainit(model, X, loss=loss, steps=3)
    gains, _ = jinit.nnx.weight_norm_init(model, X, key=KEY)
    assert learned(X).shape == meta(X).shape == gains(X).shape == (64, 4)
    chex.assert_trees_all_equal(before, nnx.to_pure_dict(nnx.state(model)))
