"""Sines and Fourier features: the laws of networks of coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jinit
from tests.support import laws

KEY = jax.random.key(5)


def siren_variances(w0_of_kernels, depth=4, width=1024):
    """Var of w0 (x W) in the layers after the first, for x ~ U(-1, 1)."""
    keys = jax.random.split(KEY, depth + 1)
    x = jax.random.uniform(keys[-1], (200, 2), minval=-1, maxval=1)
    first = jinit.siren(first=True)(keys[0], (2, width))
    h, variances = jnp.sin(30 * x @ first), []
    for key in keys[1:-1]:
        z = 30 * h @ jinit.siren(w0_of_kernels)(key, (width, width))
        variances.append(float(jnp.mean(z**2)))
        h = jnp.sin(z)
    return variances


def test_siren_s_laws():
    """The arcsine law after the first layer; then v -> 1 - exp(-2 v) from 1."""
    variances = siren_variances(30.0)
    expected = [1.0]
    while len(expected) < len(variances):
        expected.append(1 - np.exp(-2 * expected[-1]))
    np.testing.assert_allclose(variances, expected, rtol=0.1)
    # One input a unit, so that the sines are independent.
    x = jax.random.uniform(KEY, (3000, 2), minval=-1, maxval=1)
    sines = jnp.sin(30 * jnp.sum(x.T * jinit.siren(first=True)(KEY, (2, 3000)), 0))
    assert stats.kstest(sines, stats.arcsine(-1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(sines, stats.uniform(-1, 2).cdf).pvalue < 1e-6
    # With another frequency in the kernels than in the layers the signal is another.
    assert abs(siren_variances(20.0)[0] - 1) > 0.5


def test_siren_s_kernels():
    hidden = jinit.siren(25.0)(KEY, (300, 400))
    limit = (6 / 300) ** 0.5 / 25
    laws.assert_law(hidden, laws.uniform(-limit, limit))
    first = jinit.siren(first=True)(KEY, (3, 40_000))
    laws.assert_law(first, laws.uniform(-1 / 3, 1 / 3))
    with pytest.raises(TypeError, match="True or False"):
        jinit.siren(first=1)


@pytest.mark.parametrize("radians", [False, True])
def test_fourier_features_have_the_gaussian_kernel(radians):
    b = jinit.fourier_features(0.3, radians=radians)(KEY, (2, 50_000))
    w = np.asarray(b) * (1 if radians else 2 * np.pi)
    for x in ([0.5, 0.0], [0.3, -0.4], [1.0, 0.5]):
        found = np.cos(np.asarray(x) @ w)
        wanted = np.exp(-2 * np.pi**2 * 0.3**2 * np.dot(x, x))
        error = found.std() / np.sqrt(found.size)
        assert abs(found.mean() - wanted) < laws.SIGMAS * error
