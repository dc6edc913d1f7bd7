"""State-space schemes: spectra, reconstruction, unit variance, uniform steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support import laws

KEY = jax.random.key(4)


def drawn(init, shape, dtype=None):
    return np.asarray(init(KEY, shape, dtype))


def legs(n, power=1.0):
    """HiPPO-LegS' A by its definition, in float64."""
    a = np.zeros((n, n))
    for i in range(n):
        for k in range(i):
            a[i, k] = -(((2 * i + 1) * (2 * k + 1)) ** 0.5)
        a[i, i] = -((i + 1) ** power)
    return a


def assert_spectrum(a):
    found = np.sort(np.linalg.eigvals(np.asarray(a, np.float64)).real)[::-1]
    np.testing.assert_allclose(found, -np.arange(1, len(a) + 1), rtol=1e-3)


def test_hippo_legs_is_its_definition(x64):
    a = drawn(jinit.ssm.hippo_legs(), (12, 12), "float64")
    np.testing.assert_allclose(a, legs(12), rtol=1e-12)
    assert_spectrum(a)
    with pytest.raises(AssertionError):
        assert_spectrum(legs(12, power=1.1))
    b = drawn(jinit.ssm.hippo_legs("B"), (12,), "float64")
    np.testing.assert_allclose(b, np.sqrt(2 * np.arange(12) + 1))


def test_hippo_legs_reconstructs_the_past(x64):
    """Online, by the backward rule x_k = (1 - A / k)^-1 (x_{k-1} + B u_k / k)."""
    n, steps = 32, 1000
    a = drawn(jinit.ssm.hippo_legs(), (n, n), "float64")
    b = drawn(jinit.ssm.hippo_legs("B"), (n,), "float64")
    time = (np.arange(steps) + 0.5) / steps
    u = np.sin(7 * time) + 0.5 * np.cos(13 * time)
    x = np.zeros(n)
    for k in range(1, steps + 1):
        x = np.linalg.solve(np.eye(n) - a / k, x + b * u[k - 1] / k)
    polynomials = np.polynomial.legendre.legvander(2 * time - 1, n - 1)
    rebuilt = polynomials @ (x * np.sqrt(2 * np.arange(n) + 1))
    assert np.sqrt(np.mean((rebuilt - u)[20:-20] ** 2)) < 1e-2


def test_s4d_s_formulas():
    n = np.arange(8)
    lin, inv, real = (
        drawn(getattr(jinit.ssm, f"s4d_{name}")(), (2, 8))
        for name in ("lin", "inv", "real")
    )
    np.testing.assert_allclose(lin[1], -0.5 + 1j * np.pi * n, rtol=1e-6)
    np.testing.assert_allclose(
        inv[0], -0.5 + 1j * 16 / np.pi * (16 / (2 * n + 1) - 1), rtol=1e-6
    )
    np.testing.assert_array_equal(real[0], -(n + 1))
    assert lin.dtype == "complex64" and real.dtype == "float32"


def test_s4d_legs_are_the_eigenvalues_of_the_normal_part():
    p = np.sqrt(np.arange(16) + 0.5)
    wanted = np.linalg.eigvals(legs(16) + np.outer(p, p))
    np.testing.assert_allclose(wanted.real, -0.5, atol=1e-6)
    wanted = np.sort(wanted.imag)[:8]
    found = drawn(jinit.ssm.s4d_legs(), (8,))
    np.testing.assert_array_equal(found.real, -0.5)
    np.testing.assert_allclose(found.imag, wanted, rtol=1e-5)
    # S4D-Inv is their approximation; S4D-Lin is none.
    near = -np.sort(drawn(jinit.ssm.s4d_inv(), (8,)).imag)[::-1]
    assert abs(near[0] / wanted[0] - 1) < 0.1
    assert abs(np.pi * 7 / wanted[0] + 1) > 0.3


@pytest.mark.parametrize("name", ["lin", "inv", "legs", "real"])
def test_the_real_parts_and_imaginary_parts_are_those_of_the_whole(name):
    make = getattr(jinit.ssm, f"s4d_{name}")
    whole = drawn(make(), (8,))
    np.testing.assert_allclose(
        -np.exp(drawn(make("log_real"), (8,))), whole.real, rtol=1e-6
    )
    if name != "real":
        np.testing.assert_array_equal(drawn(make("imag"), (8,)), whole.imag)
        with pytest.raises(TypeError, match="part='log_real'"):
            make()(KEY, (8,), "float32")


def ring(key, shape, *radii):
    nu, theta, gamma = (np.asarray(i(key, shape), np.float64) for i in
                        jinit.ssm.lru_ring(*radii))  # fmt: skip
    return np.exp(-np.exp(nu)), np.exp(theta), gamma


@pytest.mark.parametrize("radii", [(0.0, 1.0), (0.5, 0.9), (0.99, 0.999)])
def test_the_ring_is_uniform(radii):
    radius, phase, gamma = ring(KEY, (30_000,), *radii)
    law = laws.uniform(radii[0] ** 2, radii[1] ** 2)
    laws.assert_law(radius**2, law)
    laws.assert_law(phase, laws.uniform(0, 2 * np.pi))
    np.testing.assert_allclose(gamma**2 + radius**2, 1, atol=1e-5)
    if radii[1] > 2 * radii[0]:
        # A radius that is uniform itself crowds the centre.
        with pytest.raises(AssertionError):
            laws.assert_law((radii[1] * phase / 2 / np.pi) ** 2, law)


def test_white_noise_gives_a_state_of_variance_one():
    """Var x = gamma^2 sum |lambda|^2k = 1, however long the memory."""
    radius, phase, gamma = ring(KEY, (64,), 0.9, 0.99)
    decay = radius * np.exp(1j * phase)

    def step(x, u):
        x = jnp.asarray(decay, "complex64") * x + jnp.asarray(gamma, "float32") * u
        return x, jnp.abs(x) ** 2

    noise = jax.random.normal(KEY, (20_000, 1))
    _, squares = jax.lax.scan(step, jnp.zeros(64, "complex64"), noise)
    assert float(squares[1000:].mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mamba_s_steps_are_log_uniform(dtype):
    b = np.asarray(jinit.ssm.mamba_dt_bias()(KEY, (20_000,), dtype), np.float64)
    log_dt = np.log(np.log1p(np.exp(b)))
    if dtype == "float32":
        laws.assert_law(log_dt, laws.uniform(np.log(1e-3), np.log(0.1)))
        large = jinit.ssm.mamba_dt_bias(0.1, 5.0)(KEY, (20_000,))
        law = laws.uniform(np.log(0.1), np.log(5))
        laws.assert_law(np.log(np.log1p(np.exp(np.asarray(large, float)))), law)
        with pytest.raises(AssertionError):  # log dt itself as the bias
            laws.assert_law(large, law)
    assert np.isfinite(b).all() and abs(log_dt.mean() - np.log(1e-2)) < 0.05
    floored = jinit.ssm.mamba_dt_bias(1e-6, 1e-5, 1e-4)(KEY, (9,))
    np.testing.assert_allclose(jax.nn.softplus(floored), 1e-4, rtol=1e-3)


def test_mamba_s_states():
    a = np.exp(drawn(jinit.ssm.mamba_a_log(), (3, 16)))
    np.testing.assert_allclose(a, np.broadcast_to(np.arange(1, 17), (3, 16)), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jinit.ssm.hippo_legs()(KEY, (3, 4)), r"such as \(4, 4\)"),
        (lambda: jinit.ssm.hippo_legs("C"), "must be one of"),
        (lambda: jinit.ssm.lru_ring(0.9, 0.5), "r_min < r_max"),
        (lambda: jinit.ssm.lru_ring(0.5, 1.5), "r_max <= 1"),
        (lambda: jinit.ssm.lru_ring(max_phase=7.0), "at most 2 pi"),
        (lambda: jinit.ssm.mamba_dt_bias(0.1, 0.01), "must be less"),
        (lambda: jinit.ssm.mamba_dt_bias(1e-40, 1e-39, 0.0), "rounds? a step to 0"),
        (lambda: jinit.ssm.mamba_a_log()(KEY, ()), "no axes"),
        (lambda: jinit.ssm.s4d_lin()(KEY, ()), "no axes"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
