"""The tests of data methods share this batch with labels, a loss and a perceptron."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jinit
from tests.support.models import MLP

KEY = jax.random.key(5)
X = 0.7 + jax.random.normal(KEY, (64, 12))
LABELS = jnp.argmax(X[:, :4], 1)


def loss(logits):
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), LABELS[:, None], 1)
    return -picked.mean()


def mlp(kernel=None, activation=nn.relu, widths=(16, 16, 4)):
    kernel = jinit.normal(0.4) if kernel is None else kernel
    return MLP(widths, kernel, activation=activation)


def outputs(model, variables, x=X):
    """Return the output of each layer, in float64."""
    _, state = model.apply(variables, x, capture_intermediates=True)
    return {
        path: np.asarray(layer["__call__"][0], np.float64)
        for path, layer in state["intermediates"].items()
        if path != "__call__"
    }


def call(name, model=None, x=X, **options):
    """Run a method that sets parameters from data, by its name."""
    model = model or mlp()
    return getattr(jinit, name)(model, model.init(KEY, X), x, **options)
