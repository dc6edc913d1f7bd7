"""Orthogonal matrices: exactly orthogonal, and uniform over all of them."""

import jax
import jax.nn.initializers as jax_initializers
import numpy as np
import pytest
from scipy import stats

import jinit
from jinit._schemes.orthogonal import haar
from tests.support.laws import FAILURE_RATE
from tests.support.matrices import orthogonality_error
from tests.support.split import slow_unless

SHAPES = [
    (16, 16),
    (40, 16),
    (16, 40),
    (1, 1),
    (1, 7),
    (7, 1),
    (3, 4, 10),
    (2, 3, 4, 5),
]


ALL = [
    (shape, axis, method)
    for shape in SHAPES
    for axis in (-1, 0)
    for method in ("householder", "qr")
]
# Every shape by reflections; tall, wide and of many axes by the first axis and by QR.
SOME = [(shape, -1, "householder") for shape in SHAPES]
SOME += [((40, 16), 0, "householder"), ((2, 3, 4, 5), 0, "householder")]
SOME += [((16, 40), -1, "qr"), ((2, 3, 4, 5), 0, "qr")]


@pytest.mark.parametrize("shape, column_axis, method", slow_unless(SOME, ALL))
def test_orthogonal_to_rounding(shape, column_axis, method, key):
    w = jinit.orthogonal(2.0, column_axis, method=method)(key, shape)
    assert w.shape == shape
    q = np.moveaxis(np.asarray(w), column_axis, -1).reshape(-1, shape[column_axis]) / 2
    assert orthogonality_error(q) < 2e-6


def test_as_exact_as_jax(key):
    for shape in ((256, 256), (512, 128)):
        ours = orthogonality_error(jinit.orthogonal()(key, shape))
        theirs = orthogonality_error(jax_initializers.orthogonal()(key, shape))
        assert ours <= 1.5 * theirs


@pytest.mark.parametrize(
    "rows, columns", [(1, 1), (64, 64), (65, 64), (90, 70), (200, 129), (700, 600)]
)
def test_blocks_are_the_product_of_the_reflections(rows, columns, key):
    drawn = haar.reflections(key, rows, columns, np.dtype(np.float32))
    blocked = jax.jit(haar.blocked_product)(drawn)
    np.testing.assert_allclose(blocked, haar.lapack_product(drawn), atol=3e-6)
    # And they are those of a factorization: Q R is the matrix that was drawn.
    x = jinit.random.normal(key, (rows, columns))
    first = np.asarray(blocked * drawn.signs)[:, 0]
    np.testing.assert_allclose(first, x[:, 0] / np.linalg.norm(x[:, 0]), atol=1e-6)


def test_blocked_matrices_follow_the_law(key):
    """An entry of a matrix of size n as above; traces with mean 0 and variance 1."""
    keys = jax.random.split(key, 500)
    q = np.asarray(jax.vmap(lambda k: jinit.orthogonal()(k, (96, 96)))(keys))
    law = stats.beta(47.5, 47.5, loc=-1, scale=2)
    for entry in (q[:, 0, 0], q[:, -1, -1], q[:, 0, -1], q[:, 40, 63]):
        assert stats.kstest(entry, law.cdf).pvalue > FAILURE_RATE
    trace = np.trace(q, axis1=1, axis2=2)
    assert abs(trace.mean()) < 5 / np.sqrt(500)
    assert abs(trace.var() - 1) < 5 * np.sqrt(2 / 500)
    # Without the signs it would be a factorization's, and no uniform law.
    wrong = q[:, :, 0] * np.sign(q[:, :1, 0])
    assert stats.kstest(wrong[:, 0], law.cdf).pvalue < FAILURE_RATE


def test_float64(key, x64):
    assert orthogonality_error(jinit.orthogonal()(key, (100, 80))) < 1e-14
    assert orthogonality_error(jinit.orthogonal()(key, (50, 30))) < 1e-14


def test_complex_is_unitary(key):
    q = np.asarray(jinit.orthogonal()(key, (24, 24), "complex64"))
    assert abs(q.conj().T @ q - np.eye(24)).max() < 3e-6


@pytest.mark.parametrize("rows, columns", [(2, 2), (3, 3), (5, 2), (2, 5)])
def test_haar_law_of_the_entries(rows, columns, key):
    """An entry of a Haar matrix of size n: (1 + x) / 2 is Beta((n-1)/2, (n-1)/2)."""
    init = jinit.orthogonal()
    keys = jax.random.split(key, 20_000)
    q = np.asarray(jax.vmap(lambda k: init(k, (rows, columns)))(keys), np.float64)
    n = max(rows, columns)
    law = stats.beta((n - 1) / 2, (n - 1) / 2, loc=-1, scale=2)
    for entry in (q[:, 0, 0], q[:, -1, -1], q[:, 0, -1]):
        assert stats.kstest(entry, law.cdf).pvalue > FAILURE_RATE
    np.testing.assert_allclose((q**2).mean(), init.std((rows, columns)) ** 2, rtol=1e-6)


def test_determinants_of_both_signs(key):
    keys = jax.random.split(key, 4000)
    q = jax.vmap(lambda k: jinit.orthogonal()(k, (4, 4)))(keys)
    positive = (np.linalg.det(np.asarray(q)) > 0).mean()
    assert abs(positive - 0.5) < 5 * 0.5 / np.sqrt(4000)


def test_angles_of_a_haar_matrix_repel(key):
    """The trace of an n x n Haar matrix has mean 0 and variance 1, for n > 1."""
    keys = jax.random.split(key, 20_000)
    q = jax.vmap(lambda k: jinit.orthogonal()(k, (6, 6)))(keys)
    trace = np.trace(np.asarray(q, np.float64), axis1=1, axis2=2)
    assert abs(trace.mean()) < 5 / np.sqrt(20_000)
    assert abs(trace.var() - 1) < 5 * np.sqrt(2 / 20_000)


@pytest.mark.parametrize("shape", [(3, 4, 6), (3, 5, 4, 6), (2, 3, 3, 4, 6)])
def test_delta_orthogonal_is_zero_but_for_its_centre(shape, key):
    kernel = np.array(jinit.delta_orthogonal(1.5)(key, shape))
    centre = tuple((size - 1) // 2 for size in shape[:-2])
    assert orthogonality_error(kernel[centre] / 1.5) < 2e-6
    kernel[centre] = 0
    assert not kernel.any()


def test_empty(key):
    assert jinit.orthogonal()(key, (0, 5)).shape == (0, 5)
    assert jinit.orthogonal()(key, (5, 0)).shape == (5, 0)
