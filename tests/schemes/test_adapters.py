"""Adapters: their laws, and weights that stay what they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support import laws
from tests.support.laws import drawn
from tests.support.matrices import nearest

KEY = jax.random.key(8)
SPLITS = [jinit.pissa, jinit.olora]


def effective(split, scale=1.0):
    """Residual + scale a b, in float64."""
    a, b, residual = (np.asarray(x.astype("float32"), np.float64) for x in split)
    return residual + scale * a @ b


def assert_unchanged(split, w, scale=1.0):
    """Within one rounding of the entries, and the float32 rounding of the product."""
    wide = np.asarray(w.astype("float32"), np.float64)
    # Half the last place of the residual, which is no larger than the weight's norm.
    unit = float(jnp.finfo(split.residual.dtype).eps) / 2
    bound = unit * np.linalg.norm(wide, 2) + 1e-6
    assert abs(effective(split, scale) - wide).max() <= bound


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e4m3fn"])
@pytest.mark.parametrize("split", SPLITS)
def test_the_effective_weight_is_unchanged(split, dtype):
    w = (0.1 * jax.random.normal(KEY, (24, 16))).astype(dtype)
    parts = split(w, 4, scale=2.0)
    assert {part.dtype for part in parts} == {w.dtype}
    assert_unchanged(parts, w, 2.0)
    # Without the adapter's factor, or with the weight itself as the residual, it moves.
    with pytest.raises(AssertionError):
        assert_unchanged(parts, w, 1.0)
    with pytest.raises(AssertionError):
        assert_unchanged(parts._replace(residual=w), w, 2.0)


def test_the_residual_makes_good_what_the_rounding_of_a_and_b_loses():
    w = (0.1 * jax.random.normal(KEY, (64, 64))).astype("bfloat16")
    right = jinit.pissa(w, 16)
    # The residual of factors that are not rounded yet, as a careless split has it.
    exact = jinit.pissa(w.astype("float32"), 16).residual.astype("bfloat16")
    wide = np.asarray(w.astype("float32"), np.float64)
    error, careless = (
        np.sqrt(np.mean((effective(parts) - wide) ** 2))
        for parts in (right, right._replace(residual=exact))
    )
    assert error < 0.8 * careless


@pytest.mark.parametrize("split", SPLITS)
def test_numpy_weights_are_taken_as_jax_takes_them(split):
    w = np.random.default_rng(0).normal(size=(6, 4))
    assert split(w, 2).residual.dtype == np.float32
    np.testing.assert_array_equal(split(w, 2).a, split(jnp.asarray(w), 2).a)


@pytest.mark.parametrize("split", SPLITS)
def test_float64(split, x64):
    w = jax.random.normal(KEY, (24, 16), "float64")
    a, b, residual = split(w, 4)
    assert a.dtype == residual.dtype == np.float64
    np.testing.assert_allclose(residual + a @ b, w, atol=1e-14)


@pytest.mark.parametrize("split", SPLITS)
def test_a_stack_is_split_matrix_by_matrix(split):
    w = jax.random.normal(KEY, (3, 6, 5))
    for i in range(3):
        for whole, one in zip(split(w, 2), split(w[i], 2), strict=True):
            np.testing.assert_allclose(whole[i], one, atol=1e-5)
    mapped = jax.vmap(lambda w: split(w, 2).a @ split(w, 2).b)(w)
    np.testing.assert_allclose(mapped, split(w, 2).a @ split(w, 2).b, atol=1e-5)


def assert_principal(a, b, residual, w, rank):
    """A b is the best approximation of the rank; a and b share its singular values."""
    s = np.linalg.svd(w, compute_uv=False)
    np.testing.assert_allclose(a @ b, nearest(w, rank), atol=1e-4)
    np.testing.assert_allclose(a.T @ a, np.diag(s[:rank]), atol=1e-4)
    np.testing.assert_allclose(b @ b.T, np.diag(s[:rank]), atol=1e-4)


def test_pissa_is_the_principal_part():
    w = jax.random.normal(KEY, (24, 16))
    assert_principal(*jinit.pissa(w, 4), w, 4)
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    root = np.sqrt(s)
    smallest = (u[:, -4:] * root[-4:], root[-4:, None] * vt[-4:])
    one_sided = (u[:, :4] * s[:4], vt[:4])
    for wrong in (smallest, one_sided, jinit.olora(w, 4)[:2]):
        with pytest.raises(AssertionError):
            assert_principal(*wrong, None, w, 4)


def assert_qr(a, b, w, rank):
    """B has orthonormal rows; a b is the part of w' = QR of the first columns of Q."""
    np.testing.assert_allclose(b @ b.T, np.eye(rank), atol=1e-5)
    # So the first outputs, which Q's first columns span, are all in the adapter.
    np.testing.assert_allclose((a @ b)[:rank], w[:rank], atol=1e-4)
    np.testing.assert_allclose(a, w @ b.T, atol=1e-4)


def test_olora_is_the_first_part_of_a_qr_factorization():
    w = jax.random.normal(KEY, (24, 16))
    a, b, _ = jinit.olora(w, 4)
    assert_qr(a, b, w, 4)
    # The factorization of w, not of w', is that of a weight (out, in).
    q, r = jnp.linalg.qr(w)
    for wrong in ((q[:, :4], r[:4]), jinit.pissa(w, 4)[:2]):
        with pytest.raises(AssertionError):
            assert_qr(*wrong, w, 4)


def test_lora_has_its_code_s_law_and_the_paper_s_on_request():
    shape, limit = (400, 300), 1 / 20
    law = laws.uniform(-limit, limit)
    laws.assert_law(jinit.lora()[0](KEY, shape), law)
    # He's uniform law (a = 0 in place of sqrt 5) is sqrt 6 times as wide.
    for wrong in (jinit.he_uniform(), jinit.lecun()):
        with pytest.raises(AssertionError):
            laws.assert_law(jinit.lora(wrong)[0](KEY, shape), law)
    laws.assert_law(jinit.lora(jinit.lecun())[0](KEY, shape), laws.normal(limit))


def test_an_adapted_model_starts_as_the_model_and_can_learn():
    w = jax.random.normal(KEY, (12, 7))
    init_a, init_b = jinit.lora()
    of_a, of_b = init_a(KEY, (12, 3)), init_b(KEY, (3, 7))
    np.testing.assert_array_equal(w + of_a @ of_b, w)
    a, b = jax.grad(lambda a, b: jnp.sum((w + a @ b) ** 2), (0, 1))(of_a, of_b)
    # A is not zero, so B has a gradient at once; with both zero nothing would move.
    assert not a.any() and abs(b).max() > 0.1
    assert not jax.grad(lambda b: jnp.sum((w + 0 * of_a @ b) ** 2))(of_b).any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("split", [jinit.pissa, jinit.olora])
def test_adapters_leave_the_weight_as_it_is(split, dtype):
    w = jax.random.normal(KEY, (3, 24, 16)).astype(dtype)
    a, b, residual = jax.jit(split, static_argnums=1)(w, 4)
    assert a.shape == (3, 24, 4) and b.shape == (3, 4, 16) and a.dtype == dtype
    effective = residual.astype("float32") + jnp.matmul(
        a.astype("float32"), b.astype("float32"), precision="highest"
    )
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(effective, w.astype("float32"), atol=tolerance)
    # With the adapter's factor left out the weight changes.
    a, b, residual = split(w, 4, scale=0.5)
    wide = [x.astype("float32") for x in (a, b, residual)]
    np.testing.assert_allclose(
        wide[2] + 0.5 * wide[0] @ wide[1], w.astype("float32"), atol=2 * tolerance
    )
    assert abs(wide[2] + wide[0] @ wide[1] - w.astype("float32")).max() > 0.1


def test_pissa_takes_the_largest_singular_values():
    w = jax.random.normal(KEY, (24, 16))
    a, b, residual = jinit.pissa(w, 4)
    s = np.linalg.svd(w, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(residual, 2), s[4], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(a, axis=0) ** 2, s[:4], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(b, axis=1) ** 2, s[:4], rtol=1e-4)


def test_lora_starts_as_the_model():
    a, b = jinit.lora()
    laws.assert_law(drawn(a, (300, 200)), laws.uniform(-(300**-0.5), 300**-0.5))
    assert not drawn(b, (8, 20)).any()
    assert jinit.lora(jinit.lecun())[0] == jinit.lecun()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jinit.pissa(jnp.ones((4, 3)), 4), ValueError, "from 1 to 3"),
        (lambda: jinit.pissa(jnp.ones(4), 1), TypeError, r"\(\.\., in, out\)"),
        (lambda: jinit.olora(jnp.ones((4, 3), int), 1), TypeError, "floating"),
        (lambda: jinit.olora(jnp.full((4, 3), jnp.nan), 1), ValueError, "not finite"),
        (lambda: jinit.lora(3), TypeError, "init"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
