"""Mimetic attention: its products are the paper's targets."""

import pickle

import jax
import numpy as np
import pytest

import jinit
from tests.support import laws
from tests.support.matrices import nearest

KEY = jax.random.key(6)


def test_mimetic_products_are_the_targets():
    qk, vo = jinit.mimetic_attention()
    q, k = (np.asarray(w, np.float64) for w in qk(KEY, (64, 4, 16)))
    v, o = (np.asarray(w, np.float64) for w in vo(KEY, (64, 4, 16)))
    assert q.shape == k.shape == v.shape == (64, 4, 16) and o.shape == (4, 16, 64)
    # Value and out: of full rank, so the target itself, 0.4 Z - 0.4.
    product = np.einsum("dhk,hke->de", v, o)
    z = (product + 0.4 * np.eye(64)) / 0.4 * 8
    laws.assert_law(z, laws.normal(1.0))
    with pytest.raises(AssertionError):  # the diagonal of the other sign
        laws.assert_law((product - 0.4 * np.eye(64)) / 0.4 * 8, laws.normal(1.0))
    # Query and key: head by head, of rank 16, and each head another draw.
    for head in range(4):
        product = q[:, head] @ k[:, head].T
        assert np.linalg.matrix_rank(product, tol=1e-4) == 16
        balance = np.linalg.norm(q[:, head]) / np.linalg.norm(k[:, head])
        assert balance == pytest.approx(1, rel=1e-4)
        # An identity keeps 16 of 64 directions, of singular values 1.3 and above.
        assert np.linalg.svd(product, compute_uv=False)[15] > 0.9
        assert 0.7 * 16 * 0.8 < np.trace(product) < 64
    assert abs(q[:, 0] @ k[:, 0].T - q[:, 1] @ k[:, 1].T).max() > 0.1


def test_mimetic_query_and_key_are_the_nearest_of_their_rank():
    one = jinit.mimetic_attention()[0]
    full = [np.asarray(w, np.float64)[:, 0] for w in one(KEY, (24, 1, 24))]
    part = [np.asarray(w, np.float64)[:, 0] for w in one(KEY, (24, 1, 6))]
    target = full[0] @ full[1].T
    np.testing.assert_allclose(part[0] @ part[1].T, nearest(target, 6), atol=1e-4)
    wide = [np.asarray(w)[:, 0] for w in one(KEY, (24, 1, 30))]
    np.testing.assert_allclose(wide[0] @ wide[1].T, target, atol=1e-4)


@pytest.mark.parametrize("alpha, beta", [(0.7, 0.7), (0.2, -0.3)])
def test_noise_of_query_and_key_is_of_variance_1_over_d_and_of_each_head(alpha, beta):
    d = 96
    pair = jinit.mimetic_attention(alpha_qk=alpha, beta_qk=beta)[0]
    q, k = (np.asarray(w, np.float64) for w in pair(KEY, (d, 2, d)))
    heads = np.einsum("dhk,ehk->hde", q, k)
    z = (heads - beta * np.eye(d)) / alpha * d**0.5
    for head in z:
        laws.assert_law(head, laws.normal(1.0))
    # Independent heads: their correlation over d^2 entries has the error 1 / d.
    assert abs(np.corrcoef(z[0].ravel(), z[1].ravel())[0, 1]) < laws.SIGMAS / d
    assert abs(np.corrcoef(z[0].ravel(), z[0].ravel())[0, 1]) > laws.SIGMAS / d
    with pytest.raises(AssertionError):  # entries of variance 1, not 1 / d
        laws.assert_law(z[0] / d**0.5, laws.normal(1.0))
    with pytest.raises(AssertionError):  # the diagonal left in
        laws.assert_law(heads[0] / alpha * d**0.5, laws.normal(1.0))


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_pair_is_a_value(dtype):
    for pair in jinit.mimetic_attention(beta_qk=0.5, alpha_vo=0.3, dtype=dtype):
        rebuilt = eval(repr(pair), {"jinit": jinit})
        assert rebuilt == pair and hash(rebuilt) == hash(pair)
        assert pickle.loads(pickle.dumps(pair)) == pair
    qk, vo = jinit.mimetic_attention()
    assert qk != vo and eval(repr(vo), {"jinit": jinit}) != qk


def test_parts_of_a_pair_fit():
    qk, vo = jinit.mimetic_attention()
    for pair, names, shapes in (
        (qk, ("query", "key"), [(8, 2, 4)] * 2),
        (vo, ("value", "out"), [(8, 2, 4), (2, 4, 8)]),
    ):
        for kernel, name, shape in zip(
            pair(KEY, (8, 2, 4)), names, shapes, strict=True
        ):
            alone = jinit.mimetic_attention(part=name)(KEY, shape)
            np.testing.assert_allclose(alone, kernel, atol=1e-5)
    assert jinit.mimetic_attention() == jinit.mimetic_attention()
    with pytest.raises(ValueError, match="place_mimetic_attention"):
        qk(KEY, (8, 8))
