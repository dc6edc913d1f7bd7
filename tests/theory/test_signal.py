"""What the classic papers say of deep networks, at initialization."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit


def mean_squares(init, depth=30, width=512):
    """The mean square of the pre-activations of a relu network, layer by layer."""
    keys = jax.random.split(jax.random.key(1), depth + 1)
    z, found = jax.random.normal(keys[-1], (64, width)), []
    for key in keys[:-1]:
        z = jax.nn.relu(z) @ init(key, (width, width))
        found.append(float(jnp.mean(z**2)))
    return np.array(found)


def test_he_keeps_the_signal_of_thirty_relu_layers_and_xavier_halves_it():
    """He et al. 2015: variance 1 in every layer; Xavier's 2^-30, an rms of 2^-15."""
    layers = np.arange(1, 31)
    # Each layer multiplies by a factor of relative spread sqrt(5 / width).
    bound = 4 * np.sqrt(5 / 512 * layers)
    assert (abs(np.log(mean_squares(jinit.he()))) < bound).all()
    xavier = np.log(mean_squares(jinit.xavier()))
    assert (abs(xavier + layers * math.log(2)) < bound).all()
    assert not (abs(xavier) < bound).all()


@pytest.mark.parametrize(
    ("init", "wanted"),
    [
        (jinit.xavier(distribution="uniform"), 8 / (3 * math.pi)),
        (jinit.scaled_uniform(), 8 / (3 * math.pi) / math.sqrt(3)),
    ],
)
def test_glorot_s_mean_singular_values(init, wanted):
    """Glorot and Bengio 2010: 0.8 by their law, 0.5 by U(+-1 / sqrt(n))."""
    w = init(jax.random.key(2), (600, 600))
    assert np.linalg.svd(w, compute_uv=False).mean() == pytest.approx(wanted, abs=5e-3)
