"""`autoinit` predicts many operations as networks with fresh weights show them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import jinit
from tests.support import signal_tables

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(13)
ROWS, SEEDS = 64, 32


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def between(operation):
    """Return a model of two layers with an operation between them."""

    def model(params, x):
        hidden = checkpoint_name(x @ params["a"], "a")
        return checkpoint_name(operation(hidden).reshape(len(x), -1) @ params["b"], "b")

    return model


def predicted(operation, width, features):
    """Return the model, its new parameters, and the mean square that "b" reads."""
    kinds = jax.ShapeDtypeStruct((ROWS, width), jnp.float32)
    size = jax.eval_shape(operation, kinds).size // ROWS
    keys = jax.random.split(KEY)
    params = {
        "a": jax.random.normal(keys[0], (features, width)),
        "b": jax.random.normal(keys[1], (size, 64)),
    }
    model = between(operation)
    batch = jax.ShapeDtypeStruct((ROWS, features), jnp.float32)
    new, history = jinit.autoinit(model, params, batch=batch)
    return model, new, 1 / (size * history.rows[1]["weight_std"] ** 2)


@functools.cache
def measured(name, width, features):
    """Return the mean squares of an operation's results, for fresh weights."""
    operation = signal_tables.OPERATIONS[name]

    def once(key):
        keys = jax.random.split(key)
        weight = jax.random.normal(keys[0], (features, width)) / np.sqrt(features)
        x = jax.random.normal(keys[1], (ROWS, features))
        return jnp.mean(jnp.square(operation(x @ weight)))

    return np.asarray(jax.lax.map(once, jax.random.split(KEY, SEEDS)), np.float64)


@pytest.mark.parametrize("name", signal_tables.OPERATIONS)
def test_mean_squares_are_those_of_networks_with_fresh_weights(name):
    operation = signal_tables.OPERATIONS[name]
    width, features = 64, 96
    model, new, square = predicted(operation, width, features)
    squares = measured(name, width, features)
    mean, spread = squares.mean(), squares.std(ddof=1)
    # The prediction is for one draw of the weights, the measurement for SEEDS of them.
    bound = 0.01 * mean + 5 * spread * np.sqrt(1 + 1 / SEEDS)
    assert abs(square - mean) < bound
    x = jax.random.normal(jax.random.key(1), (ROWS, features))
    assert 0.75 < float(jnp.std(model(new, x))) < 1.3


def test_the_bounds_would_notice_a_law_that_is_wrong():
    bounds = []
    for name in signal_tables.OPERATIONS:
        squares = measured(name, 64, 96)
        bounds.append(0.01 + 5 * squares.std() / squares.mean())
    assert np.median(bounds) < 0.3


@pytest.mark.parametrize("name", signal_tables.NORMS)
def test_norms_at_any_width(name):
    for width in (8, 16, 127, 1024):
        model, new, square = predicted(signal_tables.NORMS[name], width, 64)
        if name in ("rsqrt", "sqrt", "power", "std", "difference of moments"):
            assert square == pytest.approx(1, rel=1e-3)
        x = jax.random.normal(jax.random.key(1), (ROWS, 64))
        assert 0.8 < float(jnp.std(model(new, x))) < 1.2
