"""The statistics of a watch are those that NumPy computes from whole arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jinit

KEY = jax.random.key(3)


def run(tx, weights, gradients):
    """Give an optimizer one gradient after another, and return its report."""
    params = {"w": weights}
    state = tx.init(params)
    update = jax.jit(tx.update)
    for gradient in gradients:
        updates, state = update({"w": gradient}, state, params)
        params = optax.apply_updates(params, updates)
    return jinit.watched(state)


def rms(x):
    return float(np.sqrt(np.mean(np.square(np.abs(x), dtype=np.float64))))


@pytest.mark.parametrize("shape", [(), (5,), (40, 30), (3, 3, 8, 16), (2000,)])
def test_sizes_are_those_of_whole_arrays(shape):
    weights, gradient = jax.random.normal(KEY, (2, *shape))
    (row,) = run(jinit.watch(optax.sgd(0.5)), weights, [gradient]).rows
    assert row["weight_rms"] == pytest.approx(rms(weights), rel=1e-5)
    assert row["grad_rms"] == pytest.approx(rms(gradient), rel=1e-5)
    # The rms of n normal numbers has the error 1 / sqrt(2 n). A sample has 128 to 256.
    bound = 1e-5 if weights.size <= 256 else 3 / (2 * 128) ** 0.5
    assert row["update_rms"] == pytest.approx(rms(gradient) / 2, rel=bound)
    assert row["update_ratio"] == pytest.approx(
        row["update_rms"] / row["weight_rms"], rel=1e-5
    )


def test_cosine_and_flips_between_gradients():
    weights, first, other = jax.random.normal(KEY, (3, 16, 16))
    second = 0.6 * first + 0.8 * other
    (row,) = run(jinit.watch(optax.sgd(0.1)), weights, [first, second]).rows
    a, b = np.ravel(first), np.ravel(second)
    # 256 entries are all in the sample, so it gives the very numbers.
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert row["cosine"] == pytest.approx(expected, abs=1e-5)
    assert row["flips"] == pytest.approx(np.mean(a * b < 0), abs=1e-6)


def test_a_sample_estimates_the_cosine_of_a_large_array():
    weights, first, other = jax.random.normal(KEY, (3, 400, 300))
    second = 0.6 * first + 0.8 * other
    (row,) = run(jinit.watch(optax.sgd(0.1)), weights, [first, second]).rows
    # At least 128 of 120,000 entries: the error is (1 - 0.36) / sqrt(128), three times.
    assert abs(row["cosine"] - 0.6) < 3 * 0.64 / 128**0.5


def test_no_gradient_has_no_cosine():
    zero = jnp.zeros((4, 4))
    (row,) = run(jinit.watch(optax.sgd(0.1)), jnp.ones((4, 4)), [zero, zero]).rows
    assert row["cosine"] is row["flips"] is row["lost"] is None


def test_drift_is_measured_from_the_start():
    weights = jax.random.normal(KEY, (16, 16))
    gradients = [jnp.ones((16, 16))] * 4
    (row,) = run(jinit.watch(optax.sgd(0.1)), weights, gradients).rows
    # The drift is that of the weights before the last update: three updates of 0.1.
    assert row["drift"] == pytest.approx(0.3 / rms(weights), rel=1e-4)


def test_updates_that_rounding_undoes():
    weights = jnp.ones((8, 8), jnp.bfloat16)
    # Below 1 bfloat16 has steps of 2^-8, so a change of less than 2^-9 is lost.
    gradient = jnp.full((8, 8), 0.001, jnp.bfloat16).at[:2].set(0.1)
    (row,) = run(jinit.watch(optax.sgd(1.0)), weights, [gradient]).rows
    assert row["lost"] == pytest.approx(0.75)


def test_small_second_moments_of_adam():
    gradient = jnp.full((8, 8), 1e-9).at[:4].set(1.0)
    (row,) = run(jinit.watch(optax.adam(0.1)), jnp.ones((8, 8)), [gradient] * 3).rows
    assert row["small"] == pytest.approx(0.5)
    (row,) = run(jinit.watch(optax.sgd(0.1)), jnp.ones((8, 8)), [gradient]).rows
    assert row["small"] is None


@pytest.mark.parametrize("shape", [(30, 20), (3, 3, 4, 8)])
def test_the_power_iteration_finds_the_spectral_norm(shape):
    weights = jax.random.normal(KEY, shape)
    still = [jnp.zeros(shape)] * 60
    (row,) = run(jinit.watch(optax.sgd(0.1)), weights, still).rows
    norm = np.linalg.norm(np.reshape(weights, (-1, shape[-1])), 2)
    assert 0.97 * norm < row["spectral"] < 1.0001 * norm


def test_measurements_are_made_at_every_kth_step():
    gradients = [jnp.full((4, 4), float(number)) for number in range(1, 6)]
    (row,) = run(jinit.watch(optax.sgd(0.1), every=4), jnp.ones((4, 4)), gradients).rows
    # The first and the fifth gradient, of sizes 1 and 5.
    assert row["measured"] == 2
    assert row["grad_rms"] == pytest.approx(3.0)


def test_a_stack_has_a_row_for_each_layer():
    def model(p, x):
        return jax.lax.scan(lambda x, w: (jax.nn.relu(x @ w), None), x, p["w"])[0]

    params = {"w": jax.random.normal(KEY, (12, 8, 8))}
    net = jinit.network(model, params, jnp.ones((2, 8)))
    tx = jinit.watch(optax.sgd(0.1), network=net)
    gradient = jnp.arange(12.0)[:, None, None] * jnp.ones((12, 8, 8))
    report = run(tx, params["w"], [gradient])
    assert [row["path"] for row in report.rows] == [f"w[{i}]" for i in range(12)]
    sizes = [row["grad_rms"] for row in report.rows]
    np.testing.assert_allclose(sizes, np.arange(12.0), rtol=1e-5)


def test_nothing_is_nan_under_the_checker_of_nans():
    with jax.debug_nans(True), jax.debug_infs(True):
        report = run(
            jinit.watch(optax.adam(0.1)), jnp.zeros((4, 4)), [jnp.zeros((4, 4))] * 3
        )
    assert report.rows[0]["update_ratio"] is None


def test_complex_weights():
    weights = jax.random.normal(KEY, (8, 8), jnp.complex64)
    (row,) = run(jinit.watch(optax.sgd(0.1)), weights, [weights]).rows
    assert row["weight_rms"] == pytest.approx(rms(weights), rel=1e-5)


def test_the_table_fits_80_columns():
    layer = {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)}
    params = {f"hidden_{number}": layer for number in range(3)}
    tx = jinit.watch(optax.adam(1e-3))
    state = tx.init(params)
    for _ in range(3):
        grads = jax.tree.map(lambda w: 1.2345e-5 * w, params)
        _, state = tx.update(grads, state, params)
    lines = str(jinit.watched(state)).splitlines()
    rows = [line for line in lines if "/kernel" in line]
    assert len(rows) == 3 and max(map(len, lines[:-1])) <= 80


def test_plain_data_is_flat():
    report = run(jinit.watch(optax.sgd(0.1)), jnp.ones((4, 4)), [jnp.ones((4, 4))] * 2)
    data = report.to_dict()
    assert data["step"] == 2 and data["w/grad_rms"] == 1.0
    assert all(isinstance(value, float | int) for value in data.values())
