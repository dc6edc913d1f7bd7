"""Mean-field theory against closed forms, published numbers and simulated networks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit import theory
from tests import laws

CS = [-1.0, -0.99, -0.5, 0.0, 0.3, 0.9, 0.999, 1 - 1e-6, 1.0]


def relu_map(q, c):
    return (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi


def erf_map(q, c):
    return math.asin(2 * q * c / (1 + 2 * q)) / math.asin(2 * q / (1 + 2 * q))


def sin_map(q, c):
    return math.sinh(q * c) / math.sinh(q)


MAPS = {
    "relu": relu_map,
    "erf": erf_map,
    "sin": sin_map,
    "linear": lambda q, c: c,
}


@pytest.mark.parametrize("q", [0.3, 1.7])
@pytest.mark.parametrize("name", MAPS)
def test_correlation_maps_have_their_closed_forms(name, q):
    for c in CS:
        found = theory.correlation_map(name, 1.3, 0.0, q, c)
        assert found == pytest.approx(MAPS[name](q, c), abs=1e-8)


def test_functions_with_kinks_that_nobody_names():
    def own(x):
        return jnp.maximum(x, 0.0)

    for c in CS:
        found = theory.correlation_map(own, 2.0, 0.0, 1.7, c)
        assert found == pytest.approx(relu_map(1.7, c), abs=1e-8)
    step = theory.correlation_map(lambda x: jnp.sign(x - 0.0), 1.0, 0.0, 1.0, 0.5)
    assert step == pytest.approx(2 / math.pi * math.asin(0.5), abs=1e-7)


def test_variance_maps():
    assert theory.variance_map("relu", 2.0, 0.1, 3.0) == pytest.approx(3.1)
    erf = theory.variance_map("erf", 1.0, 0.0, 0.7)
    assert erf == pytest.approx(2 / math.pi * math.asin(1.4 / 2.4), abs=1e-12)
    sin = theory.variance_map("sin", 1.5, 0.2, 0.7)
    assert sin == pytest.approx(0.75 * (1 - math.exp(-1.4)) + 0.2, abs=1e-12)


def test_published_fixed_points():
    found = theory.fixed_point("tanh", 1.3, 0.05)
    assert found == pytest.approx((0.31532, 1.0, 0.88016), abs=1e-5)
    scales = theory.depth_scales("tanh", 1.3, 0.05)
    assert scales.xi_c == pytest.approx(7.834, abs=1e-3)
    point = theory.critical("tanh", sigma_b2=0.05)
    assert point[:2] == pytest.approx((1.760955, 0.05), abs=1e-6)
    assert point.q == pytest.approx(0.570048, abs=1e-6) and point.stable
    selu = theory.critical("selu")
    assert selu[:2] == pytest.approx((0.933206, 0.066794), abs=1e-6)
    assert selu.slope == pytest.approx(0.730, abs=1e-3) and selu.stable


@pytest.mark.parametrize(
    ("name", "stable"),
    [("gelu", False), ("silu", False), ("tanh", True), ("relu", True)],
)
def test_where_the_edge_of_chaos_keeps_its_q(name, stable):
    point = theory.critical(name)
    assert point.stable == stable
    at = theory.fixed_point(name, point.sigma_w2, point.sigma_b2)
    assert at.q == pytest.approx(1) and at.chi1 == pytest.approx(1)
    # From a little above, q comes back or runs away.
    q = 1.05
    for _ in range(200):
        q = theory.variance_map(name, point.sigma_w2, point.sigma_b2, q)
        if q > 10:
            break
    assert (q < 1.06) == stable


def test_on_the_edge_correlations_live_for_ever():
    point = theory.critical("tanh", sigma_b2=0.05)
    scales = theory.depth_scales("tanh", point.sigma_w2, point.sigma_b2, q=point.q)
    assert scales.xi_c > 1e6 and scales.xi_q < 2


def test_the_chaotic_phase_has_a_correlation_below_one():
    found = theory.fixed_point("tanh", 2.5, 0.05)
    assert found.chi1 > 1 and 0.1 < found.c < 0.9
    again = theory.correlation_map("tanh", 2.5, 0.05, found.q, found.c)
    assert again == pytest.approx(found.c, abs=1e-9)
    # An odd function without bias makes all inputs orthogonal.
    assert theory.fixed_point("erf", 3.0, 0.0).c == 0.0


def test_neutral_vanishing_and_growing_signals():
    assert theory.fixed_point("relu", 2.0, 0.0, q=3.0).q == 3.0
    assert theory.fixed_point("relu", 1.9, 0.0) == pytest.approx((0, 1, 0.95), abs=1e-9)
    assert theory.fixed_point("relu", 1.5, 0.3).q == pytest.approx(1.2)
    assert theory.critical("tanh", sigma_b2=0.0)[:3] == (1.0, 0.0, True)
    assert theory.critical("relu", sigma_b2=0.0)[:2] == (2.0, 0.0)
    scales = theory.depth_scales("relu", 1.0, 0.3)
    assert scales.xi_q == pytest.approx(1 / math.log(2)) == scales.xi_c


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


@pytest.mark.parametrize(
    ("name", "sigma_w2", "sigma_b2"),
    [("tanh", 1.3, 0.05), ("tanh", 2.5, 0.05), ("relu", 2.0, 0.0), ("gelu", 1.5, 0.2)],
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


def jacobian(init, function, slope, depth, width=300):
    """Squared singular values of one network's Jacobian at q = 1."""
    keys = jax.random.split(jax.random.key(5), depth + 1)
    z = jax.random.normal(keys[-1], (width,))
    total = jnp.eye(width)
    for key in keys[:-1]:
        w = init(key, (width, width))
        total = (total * jax.vmap(slope)(z)[None]) @ w
        z = function(z) @ w
    return np.linalg.svd(np.asarray(total), compute_uv=False) ** 2


@pytest.mark.parametrize("depth", [4, 8])
@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("name", ["linear", "relu"])
def test_jacobian_spectra(name, weights, depth):
    sigma_w2 = {"linear": 1.0, "relu": 2.0}[name]
    spectrum = theory.jacobian_spectrum(name, sigma_w2, 0.0, depth, weights)
    init = jinit.lecun() if weights == "gaussian" else jinit.orthogonal()
    function = {"linear": lambda z: z, "relu": jax.nn.relu}[name]
    found = jacobian(sigma_w2**0.5 * init, function, jax.grad(function), depth)
    assert spectrum.mean == 1.0
    assert found.mean() == pytest.approx(1, abs=0.25)
    # Relu networks of one draw fluctuate: their own mean is taken out.
    spread = np.var(found / found.mean())
    assert spread == pytest.approx(spectrum.variance, rel=0.3, abs=1e-6)
    if spectrum.max is not None:
        assert found.max() == pytest.approx(spectrum.max, rel=0.25)
    assert (spectrum.max is None) == (name == "relu")


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
    assert np.log(m).mean() == pytest.approx(found.mean_log, abs=0.05)
    # A law without the fluctuations of the gates would have (1 + 2 / n)^L.
    assert abs(second.mean() - (1 + 2 / width) ** depth) > laws.SIGMAS * error


def test_the_critical_pair_of_initializers(key):
    kernel, bias = jinit.critical("tanh")
    point = theory.critical("tanh")
    assert 50 * kernel.std((50, 9)) ** 2 == pytest.approx(point.sigma_w2)
    assert bias.std((9,)) ** 2 == pytest.approx(point.sigma_b2)
    conv, _ = jinit.critical("tanh", 0.5, layout="kio", distribution="uniform")
    at = theory.critical("tanh", 0.5)
    assert 30 * conv.std((3, 10, 7)) ** 2 == pytest.approx(at.sigma_w2)
    assert jinit.critical("relu")[1](key, (3,)).tolist() == [0.0] * 3


def test_the_phase_diagram_is_drawn(tmp_path):
    path = tmp_path / "phase.png"
    figure = theory.plot_phase_diagram("tanh", path)
    assert path.stat().st_size > 5000
    chi1 = np.exp(np.asarray(figure.axes[0].collections[0].get_array()))
    # Without bias the edge is at sigma_w2 = 1; below it ordered, above chaotic.
    assert chi1[0, 10] < 1 < chi1[0, 40]
    edge = np.linspace(0.05, 4, 80)[np.argmax(chi1[2] > 1)]
    assert edge == pytest.approx(
        theory.critical("tanh", sigma_b2=0.05).sigma_w2, abs=0.06
    )
    relu = theory.plot_phase_diagram("relu").axes[0].collections[0].get_array()
    assert np.ma.getmaskarray(np.ma.masked_invalid(relu))[10, 60]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.critical("sigmoid"), "no critical point at q=1.0"),
        (lambda: theory.critical("relu", sigma_b2=0.1), "no critical point with"),
        (lambda: theory.critical("tanh", 1.0, sigma_b2=0.1), "give one"),
        (lambda: theory.fixed_point("relu", 2.5, 0.1), "grows without bound"),
        (lambda: theory.variance_map("tanh", -1.0, 0.0, 1.0), "sigma_w2"),
        (lambda: theory.variance_map("tanh", 1.0, 0.0, -1.0), "`q`"),
        (
            lambda: theory.correlation_map("tanh", 1.0, 0.0, 1.0, 1.1),
            "between -1",
        ),
        (lambda: theory.correlation_map("tanh", 1.0, 0.0, 0.0, 0.5), "not defined"),
        (lambda: theory.fixed_point("swiglu", 1.0, 0.0), "gated unit"),
        (lambda: theory.fixed_point("tahn", 1.0, 0.0), "Did you mean 'tanh'"),
        (lambda: theory.jacobian_spectrum("tanh", 1.0, 0.1, 0), "depth"),
        (lambda: theory.jacobian_spectrum("tanh", 1.0, 0.1, 1, "haar"), "weights"),
        (lambda: theory.finite_width(0, 3), "width"),
        (lambda: jinit.critical("tanh", gain=2.0), "decides the gain"),
        (lambda: theory.variance_map(lambda x: jnp.exp(x * x), 1, 0, 1.0), "grows so"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
