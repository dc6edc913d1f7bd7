"""Uniform over all orthogonal, or unitary, matrices: for every method, and not QR's."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

import jinit
from tests.support.laws import FAILURE_RATE, SIGMAS

METHODS = ["householder", "qr", "polar"]
DRAWS = 8000
SIZE = 4
CIRCLE = stats.uniform(-np.pi, 2 * np.pi).cdf


@functools.cache
def draws(method, dtype="float32"):
    init = jinit.orthogonal(method=method)
    keys = jax.random.split(jax.random.key(7), DRAWS)
    return np.asarray(jax.vmap(lambda k: init(k, (SIZE, SIZE), dtype))(keys))


def without_signs(dtype="float32"):
    """Q of a factorization as LAPACK gives it, R's diagonal of any sign."""
    key = jax.random.key(7)
    return np.asarray(
        jax.numpy.linalg.qr(jax.random.normal(key, (DRAWS, SIZE, SIZE), dtype))[0]
    )


def assert_mean(x, mean):
    """Within five standard errors, the error taken from the sample."""
    error = x.std() / np.sqrt(x.size)
    assert abs(x.mean() - mean) < SIGMAS * error, (x.mean(), mean, error)


def assert_traces(q):
    """E |tr Q|^2 = 1; E (tr Q)^2 is 1 for real matrices and 0 for complex ones.

    E |tr Q^2|^2: Q^2 has for real Q a trace of mean 1 and variance 2; for complex Q of
    mean 0 and variance 2.
    """
    real = not np.iscomplexobj(q)
    trace = np.trace(q, axis1=1, axis2=2)
    square = np.trace(q @ q, axis1=1, axis2=2)
    assert_mean(trace.real, 0)
    assert_mean(abs(trace) ** 2, 1)
    assert_mean((trace**2).real, 1 if real else 0)
    assert_mean(square.real, 1 if real else 0)
    assert_mean(abs(square) ** 2, 3 if real else 2)


def assert_entries(q):
    """A real entry is 2 Beta((n-1)/2, (n-1)/2) - 1.

    Of a complex one |q|^2 is Beta(1, n-1), and the angle is uniform.
    """
    law = stats.beta((SIZE - 1) / 2, (SIZE - 1) / 2, loc=-1, scale=2)
    if np.iscomplexobj(q):
        law = stats.beta(1, SIZE - 1)
    for i, j in ((0, 0), (SIZE - 1, SIZE - 1), (0, SIZE - 1), (2, 1)):
        x = q[:, i, j]
        if np.iscomplexobj(q):
            assert stats.kstest(np.angle(x), CIRCLE).pvalue > FAILURE_RATE
            x = abs(x) ** 2
        assert stats.kstest(x, law.cdf).pvalue > FAILURE_RATE


def assert_uniform_angles(q):
    """The angle of an eigenvalue of a unitary matrix, and of its determinant."""
    chosen = np.random.default_rng(0).integers(SIZE, size=DRAWS)
    angles = np.angle(np.linalg.eigvals(q))[np.arange(DRAWS), chosen]
    assert stats.kstest(angles, CIRCLE).pvalue > FAILURE_RATE
    determinants = np.angle(np.linalg.det(q))
    assert stats.kstest(determinants, CIRCLE).pvalue > FAILURE_RATE


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("method", METHODS)
def test_haar(method, dtype):
    q = draws(method, dtype)
    assert_traces(q)
    assert_entries(q)
    if dtype == "complex64":
        assert_uniform_angles(q)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_a_factorization_without_signs_fails(dtype):
    with pytest.raises(AssertionError):
        assert_traces(without_signs(dtype))
    with pytest.raises(AssertionError):
        assert_entries(without_signs(dtype))
    if dtype == "complex64":
        with pytest.raises(AssertionError):
            assert_uniform_angles(without_signs(dtype))


@pytest.mark.parametrize("method", METHODS)
def test_both_halves_of_a_rotation_have_the_law(method):
    """U Q V has the law of Q for fixed U and V."""
    left, right = draws(method)[:2]
    assert_entries(left @ draws(method)[2:] @ right)
