"""Mean-field theory against simulated networks, in bounds that their width gives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit import theory
from tests.support import laws
from tests.support.split import slow_unless


def simulated(activation, sigma_w2, sigma_b2, q, c, layers, width=1500):
    """Mean squares and correlation of two inputs, layer by layer."""
    kernel = jinit.lecun(gain=sigma_w2**0.5)
    bias = jinit.normal(sigma_b2**0.5)
    keys = jax.random.split(jax.random.key(2), layers + 1)
    a, b = jax.random.normal(keys[-1], (2, width))
    a = a / jnp.linalg.norm(a)
    b = b - (a @ b) * a
    b = b / jnp.linalg.norm(b)
    z = jnp.stack([a, c * a + (1 - c * c) ** 0.5 * b]) * (q * width) ** 0.5
    found = []
    for key in keys[:-1]:
        of_kernel, of_bias = jax.random.split(key)
        z = activation(z) @ kernel(of_kernel, (width, width))
        z = z + bias(of_bias, (width,))[None]
        squares = jnp.mean(z * z, axis=1)
        found.append((float(squares[0]), float(jnp.mean(z[0] * z[1]) / squares[0])))
    return np.array(found)


WIDE = [("tanh", 2.5, 0.05), ("relu", 2.0, 0.0)]
MORE = [("tanh", 1.3, 0.05), ("gelu", 1.5, 0.2)]


@pytest.mark.parametrize(
    ("name", "sigma_w2", "sigma_b2"), slow_unless(WIDE, [*WIDE, *MORE])
)
def test_wide_networks_follow_the_maps(name, sigma_w2, sigma_b2):
    layers, q, c = 6, 1.0, 0.4
    function = {"gelu": lambda x: jax.nn.gelu(x, approximate=False)}.get(
        name, getattr(jax.nn, name, None)
    )
    found = simulated(function, sigma_w2, sigma_b2, q, c, layers)

    def predicted(sigma_w2):
        at, rows = (q, c), []
        for _ in range(layers):
            at = (
                theory.variance_map(name, sigma_w2, sigma_b2, at[0]),
                theory.correlation_map(name, sigma_w2, sigma_b2, *at),
            )
            rows.append(at)
        return np.array(rows)

    # Each layer's mean square of 1500 units has a relative error sqrt(2 / 1500).
    bound = 4 * np.sqrt(2 / 1500 * np.arange(1, layers + 1))
    right, wrong = predicted(sigma_w2), predicted(1.3 * sigma_w2)
    assert (abs(found[:, 0] / right[:, 0] - 1) < bound).all()
    assert (abs(found[:, 1] - right[:, 1]) < bound).all()
    assert not (abs(found[:, 0] / wrong[:, 0] - 1) < bound).all()


WIDTH = 400


def jacobian(init, point, function, depth):
    """Squared singular values of one network's Jacobian, from its fixed q on."""
    keys = jax.random.split(jax.random.key(5), depth + 1)
    z = jax.random.normal(keys[-1], (WIDTH,))
    z = z * (point.q * WIDTH) ** 0.5 / jnp.linalg.norm(z)
    total = jnp.eye(WIDTH)
    for key in keys[:-1]:
        of_kernel, of_bias = jax.random.split(key)
        w = point.sigma_w2**0.5 * init(of_kernel, (WIDTH, WIDTH))
        total = (total * jax.vmap(jax.grad(function))(z)[None]) @ w
        z = function(z) @ w + jinit.normal(point.sigma_b2**0.5)(of_bias, (WIDTH,))
    return np.linalg.svd(np.asarray(total), compute_uv=False) ** 2


@pytest.mark.parametrize("depth", [4, 8])
@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("name", ["linear", "relu", "tanh"])
def test_jacobian_spectra(name, weights, depth):
    point = theory.critical(name, sigma_b2=0.05 if name == "tanh" else 0.0)
    args = (name, point.sigma_w2, point.sigma_b2, depth)
    spectrum = theory.jacobian_spectrum(*args, weights, q=point.q)
    init = {"gaussian": jinit.lecun(), "orthogonal": jinit.orthogonal()}[weights]
    function = {"linear": lambda z: z, "relu": jax.nn.relu, "tanh": jnp.tanh}[name]
    found = jacobian(init, point, function, depth)
    # The share p of open gates differs by 1 / (2 sqrt(n)) in each layer, of 1 / 2; so
    # the mean, a product of 2 p, by sqrt(L / n), and the spread, a sum of 1 / p, by 2
    # sqrt(L / n). What the width changes on average goes as L^2 / n.
    noise = math.sqrt(depth / WIDTH)
    assert spectrum.mean == pytest.approx(1)
    assert abs(found.mean() - 1) < laws.SIGMAS * noise
    spread = np.var(found / found.mean())
    bound = laws.SIGMAS * 2 * noise + 2 * depth**2 / WIDTH
    assert abs(spread - spectrum.variance) < bound
    # The law of the other kind of kernel does not pass.
    other = {"gaussian": "orthogonal", "orthogonal": "gaussian"}[weights]
    wrong = theory.jacobian_spectrum(*args, other, q=point.q)
    assert abs(spread - wrong.variance) > bound
    if spectrum.max is not None:
        # The edge of such a spectrum moves by n^(-2/3).
        edge = laws.SIGMAS * WIDTH ** (-2 / 3) * math.sqrt(depth)
        assert found.max() == pytest.approx(spectrum.max, rel=edge)
    assert (spectrum.max is None) == (name != "linear")


def test_isometry_is_reached_by_orthogonal_tanh_networks_alone():
    """Pennington: along the edge, to ever smaller q, the variance goes to 0."""
    spreads = []
    for sigma_b2 in (0.05, 1e-3, 1e-5):
        point = theory.critical("tanh", sigma_b2=sigma_b2)
        args = ("tanh", point.sigma_w2, point.sigma_b2, 10)
        orthogonal = theory.jacobian_spectrum(*args, "orthogonal", q=point.q)
        gaussian = theory.jacobian_spectrum(*args, q=point.q)
        assert orthogonal.mean == pytest.approx(1) and gaussian.variance > 10
        spreads.append(orthogonal.variance)
    assert spreads[0] > spreads[1] > spreads[2] and spreads[2] < 0.05


def test_finite_width_is_what_narrow_networks_do():
    width, depth, draws = 40, 8, 4000
    found = theory.finite_width(width, depth)

    def growth(key):
        keys = jax.random.split(key, depth)
        x = jnp.ones(width)
        for key in keys:
            x = jax.nn.relu(x @ jinit.he()(key, (width, width)))
        return jnp.mean(x**2)

    m = np.asarray(jax.lax.map(growth, jax.random.split(jax.random.key(0), draws),
                               batch_size=500), np.float64)  # fmt: skip
    error = m.std() / math.sqrt(draws)
    assert abs(m.mean() - 1) < laws.SIGMAS * error
    second = m**2
    error = second.std() / math.sqrt(draws)
    assert abs(second.mean() - found.second_moment) < laws.SIGMAS * error
    logs = np.log(m)
    # The next order of E log M is L / n^2 times a small number.
    bound = laws.SIGMAS * logs.std() / math.sqrt(draws) + 10 * depth / width**2
    assert abs(logs.mean() - found.mean_log) < bound
    assert abs(logs.mean() - found.mean_log / 2.5) > bound
    # A law without the fluctuations of the gates would have (1 + 2 / n)^L.
    assert abs(second.mean() - (1 + 2 / width) ** depth) > laws.SIGMAS * error
