"""A loop over shifts of data, times slices of a parameter, is a convolution."""

import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit import recipes
from tests.support.networks import floats, tokens

LENGTH, WIDTH, WINDOW = 6, 64, 4


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def shifted(y, steps):
    return jnp.pad(y, ((0, 0), (steps, 0), (0, 0)))[:, : y.shape[1]]


def official(w, y):
    """Return a convolution over time as RecurrentGemma writes it."""
    out = jnp.zeros_like(y)
    for step in range(WINDOW):
        out += shifted(y, step) * w[WINDOW - step - 1][None, None, :]
    return out


def windows(function, *params):
    net = jinit.network(function, params, floats(2, LENGTH, WIDTH))
    return dict(net._read.reading.windows)


def test_the_axis_of_the_window_is_read():
    def model(p, x):
        return (official(p[0], x) + p[1]) @ p[2]

    rest = floats(WIDTH), floats(WIDTH, 3)
    assert windows(model, floats(WINDOW, WIDTH), *rest) == {"0": 0}

    def transposed(p, x):
        return (official(p[0].T, x) + p[1]) @ p[2]

    assert windows(transposed, floats(WIDTH, WINDOW), *rest) == {"0": 1}


def test_scanned_and_indexed_windows_are_read():
    def step(x, p):
        return x + jnp.tanh(official(p[0], x)) @ p[1], None

    stacked = floats(3, WINDOW, WIDTH), floats(3, WIDTH, WIDTH)
    assert windows(lambda p, x: jax.lax.scan(step, x, p)[0], *stacked) == {"0": 1}

    def loop(p, x):
        for i in range(3):
            x, _ = step(x, (p[0][i], p[1][i]))
        return x

    assert windows(loop, *stacked) == {"0": 1}


def test_other_products_of_slices_are_no_windows():
    def gains(p, x):
        # The gain of each branch, and another sum of parts than all of them.
        for i in range(3):
            x = x + p[0][i] * jnp.tanh(x @ p[1])
        return x

    assert windows(gains, floats(3, WIDTH), floats(WIDTH, WIDTH)) == {}

    def apart(p, x):
        return jnp.tanh(p[0][0] * x) + jnp.tanh(p[0][1] * x)

    assert windows(apart, floats(2, WIDTH)) == {}

    def weighed(p, x):
        # Single numbers weigh parts of a value.
        return (p[0][0] * x[:, :3] + p[0][1] * x[:, 3:]) @ p[1]

    assert windows(weighed, floats(2), floats(WIDTH, 3)) == {}


def griffin(p, ids):
    x = p["emb"][ids]
    y = official(p["conv"], x)
    decay = jnp.exp(-8 * jax.nn.sigmoid(y @ p["gate"]) * jax.nn.softplus(p["lam"]))
    _, h = jax.lax.associative_scan(
        lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (decay, y), axis=1
    )
    return (x + h @ p["out"]) @ p["emb"].T


@pytest.mark.parametrize("passed", [{}, {"convolutions": "conv"}])
def test_griffin_starts_the_convolution_of_the_official_code(passed, key):
    square = floats(WIDTH, WIDTH)
    params = {
        "emb": floats(50, WIDTH), "conv": floats(WINDOW, WIDTH), "gate": square,
        "lam": floats(WIDTH), "out": square,
    }  # fmt: skip
    net = jinit.network(griffin, params, tokens(2, LENGTH))
    plan = jinit.plan(net, recipes.griffin(1, **passed))
    (row,) = (row for row in plan.rows if row["path"] == "conv")
    # N(0, 0.01 / k), and not the width, 64, in the place of k.
    assert row["std"] == pytest.approx(0.05)
    drawn = plan.init(key)["conv"]
    # 4 standard errors of the std of n normal numbers.
    assert float(jnp.std(drawn)) == pytest.approx(0.05, rel=4 / (2 * drawn.size) ** 0.5)
