"""Mean-field theory against closed forms and published numbers."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit import theory
from jinit.theory import _dual
from jinit.theory._scalar import scalar

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


T_S = [1.9999, 1.5, 0.3, 1e-2, 1e-4, 1e-6, 1e-9]


@pytest.mark.parametrize("t", T_S)
def test_means_keep_their_precision_at_any_correlation(t):
    """1 - R of relu and of its slope, a step: the angle between the two inputs."""
    s = scalar("relu")
    angle = 2 * math.asin(math.sqrt(t / 2))
    step = angle / (2 * math.pi)
    assert _dual.gap(s, s.df, 1.0, t) == pytest.approx(step, rel=1e-9)
    # 1 - R is t / 2 less (sin a - a cos a) / 2 pi, a^3 / 6 pi for small a.
    cubic = math.sin(angle) - angle * math.cos(angle)
    cubic = angle**3 / 3 * (1 - angle**2 / 10) if angle < 0.03 else cubic
    ramp = t / 2 - cubic / (2 * math.pi)
    assert _dual.gap(s, s.f, 1.0, t) == pytest.approx(ramp, rel=1e-8)


@pytest.mark.parametrize("q", [1e-4, 100.0, 1e4])
def test_functions_that_are_steep_or_flat_beside_q(q):
    for c in (-0.9, 0.3, 0.99):
        found = theory.correlation_map("erf", 1.0, 0.0, q, c)
        assert found == pytest.approx(erf_map(q, c), abs=1e-8)


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
    assert theory.critical is theory.critical_point
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


def clipped_map(q, c):
    """E f(u) f(v) of hard_tanh, by a plain grid of a million points."""
    z = (np.arange(4000) + 0.5) / 4000 * 16 - 8
    w = np.exp(-z * z / 2)
    v = c * z[:, None] + math.sqrt(1 - c * c) * z
    u, v = (np.clip(math.sqrt(q) * x, -1, 1) for x in (z, v))
    return float((w * u) @ (v @ w) / w.sum() ** 2)


def test_the_chaotic_phase_of_a_function_with_kinks():
    found = theory.fixed_point("hard_tanh", 3.0, 0.1)
    assert 0.2 < found.c < 0.3
    again = (3.0 * clipped_map(found.q, found.c) + 0.1) / found.q
    assert again == pytest.approx(found.c, abs=1e-5)
    assert 4 < theory.depth_scales("hard_tanh", 3.0, 0.1).xi_c < 6
    assert 0.5 < theory.fixed_point("selu", 1.2, 0.1).c < 0.7


@pytest.mark.parametrize("more", [1e-7, 1e-5, 1e-3])
def test_just_above_the_edge(more):
    """Near c = 1, R = 1 - chi_1 t + k t^2: t* = (chi_1 - 1) / k, slope 2 - chi_1."""
    point = theory.critical("tanh", sigma_b2=0.05)
    at = point.sigma_w2 + more, point.sigma_b2
    found, scales = theory.fixed_point("tanh", *at), theory.depth_scales("tanh", *at)
    # k = sigma_w2 q E f''^2 / 2.
    z = np.linspace(-9, 9, 20001)
    f = np.tanh(math.sqrt(found.q) * z)
    density = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    k = at[0] * found.q / 2 * np.sum(density * (2 * f * (1 - f * f)) ** 2)
    assert 1 - found.c == pytest.approx((found.chi1 - 1) / k, rel=0.01)
    assert scales.xi_c == pytest.approx(1 / (found.chi1 - 1), rel=0.01)


def test_figures_beyond_float64_are_infinite():
    deep = theory.jacobian_spectrum("tanh", 4.0, 0.05, 100_000)
    assert deep.mean == deep.variance == math.inf
    assert theory.finite_width(1, 10_000).second_moment == math.inf
    flat = theory.jacobian_spectrum(lambda x: 0 * x + 1.0, 1.0, 0.0, 3)
    assert flat == (0.0, 0.0, 0.0)


def test_functions_in_single_precision():
    def own(x):
        return jnp.tanh(x.astype(jnp.float32))

    for args in ((1.3, 0.05), (3.0, 0.1)):
        found = theory.fixed_point(own, *args)
        assert found == pytest.approx(theory.fixed_point("tanh", *args), abs=1e-4)
    assert theory.critical(own).sigma_w2 == pytest.approx(2.1533026, abs=1e-5)


def test_a_signal_of_which_less_comes_back_the_larger_it_is():
    found = theory.fixed_point(lambda x: x * jnp.exp(-(x**4)), 60.0, 0.0)
    again = theory.variance_map(lambda x: x * jnp.exp(-(x**4)), 60.0, 0.0, found.q)
    assert again == pytest.approx(found.q)


def test_of_several_fixed_points_the_one_that_attracts():
    point = theory.critical("silu")
    for start in (0.5, 0.99):
        found = theory.fixed_point("silu", point.sigma_w2, point.sigma_b2, q=start)
        assert found.q == pytest.approx(0.2694577, abs=1e-6) and found.chi1 < 1
    with pytest.raises(ValueError, match="grows without bound"):
        theory.fixed_point("silu", point.sigma_w2, point.sigma_b2, q=1.01)


def test_neutral_vanishing_and_growing_signals():
    assert theory.fixed_point("relu", 2.0, 0.0, q=3.0).q == 3.0
    assert theory.fixed_point("relu", 1.9, 0.0) == pytest.approx((0, 1, 0.95), abs=1e-9)
    assert theory.fixed_point("relu", 1.5, 0.3).q == pytest.approx(1.2)
    assert theory.critical("tanh", sigma_b2=0.0)[:3] == (1.0, 0.0, True)
    assert theory.critical("relu", sigma_b2=0.0)[:2] == (2.0, 0.0)
    scales = theory.depth_scales("relu", 1.0, 0.3)
    assert scales.xi_q == pytest.approx(1 / math.log(2)) == scales.xi_c


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
    assert figure.get_suptitle().replace("\n", " ") == (
        "tanh: the edge of chaos is at sigma_w2 = 1 (sigma_b2 = 0) to 3.4 "
        "(sigma_b2 = 1)"
    )
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["ordered", "chaotic"]
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


def signed_root(x):
    """E f'^2 is infinite: f' goes as |x|^(-1/2)."""
    return jnp.sign(x) * jnp.sqrt(jnp.abs(x) + 0.0)


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
        (lambda: theory.correlation_map("tanh", 1.0, 0.0, 0.0, 0.5), "greater than 0"),
        (lambda: theory.correlation_map("tanh", 1.0, 0.0, 1.0, -1.1), "between -1"),
        (lambda: theory.correlation_map("tanh", 0.0, 0.0, 1.0, 0.5), "not defined"),
        (lambda: theory.fixed_point("linear", 1.0, 0.1), "grows without bound"),
        (lambda: theory.fixed_point("relu", 2.0, 1e-9), "grows without bound"),
        (lambda: theory.fixed_point(jnp.sign, 1.0, 0.1), "jumps at"),
        (lambda: theory.depth_scales(jnp.sign, 1.0, 0.1), "jumps at"),
        (lambda: theory.critical(jnp.sign), "jumps at"),
        (lambda: theory.critical(lambda x: 0 * x + 1.0), "slope 0"),
        (lambda: theory.critical(lambda x: x * x, sigma_b2=0.0), "no critical point"),
        (lambda: theory.fixed_point(signed_root, 1.0, 0.1), "too steep"),
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
