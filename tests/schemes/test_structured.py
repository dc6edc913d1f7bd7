"""Structured kernels: what is exact of them, and what paper they keep."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

import jinit
from tests.support import laws
from tests.support.laws import drawn


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4)])
def test_identity_is_eye(shape):
    np.testing.assert_array_equal(drawn(jinit.identity(2.0), shape), 2 * np.eye(*shape))


def test_identity_of_stacks_and_of_split_axes():
    stack = drawn(jinit.identity(), (3, 4, 5))
    np.testing.assert_array_equal(stack, np.broadcast_to(np.eye(4, 5), (3, 4, 5)))
    heads = drawn(jinit.identity(layout="ioo"), (6, 2, 3))
    np.testing.assert_array_equal(heads.reshape(6, 6), np.eye(6))
    with pytest.raises(ValueError, match=r"jinit\.dirac"):
        drawn(jinit.identity(), (3, 3, 4, 4))
    with pytest.raises(ValueError, match=r"jinit\.dirac"):
        drawn(jinit.identity(layout="kio"), (3, 4, 4))


@pytest.mark.parametrize("window", [(3,), (3, 5), (3, 3, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_with_dirac_is_the_identity(window, groups, key):
    conv = nn.Conv(
        4, window, feature_group_count=groups, kernel_init=jinit.dirac(groups=groups)
    )
    x = jax.random.normal(key, (2, *(6,) * len(window), 4))
    y, _ = conv.init_with_output(key, x)
    np.testing.assert_array_equal(y, x)


def test_dirac_drops_inputs_and_fills_up_with_zeros():
    wide, narrow = (drawn(jinit.dirac(), (3, *ends)) for ends in ((2, 4), (4, 2)))
    np.testing.assert_array_equal(wide[1], np.eye(2, 4))
    np.testing.assert_array_equal(narrow[1], np.eye(4, 2))
    assert not wide[[0, 2]].any() and not narrow[[0, 2]].any()


def test_dirac_s_errors_say_what_fits():
    with pytest.raises(ValueError, match=r"An odd window, such as \(3, 5\)"):
        drawn(jinit.dirac(), (3, 4, 8, 8))
    with pytest.raises(ValueError, match="does not divide the 8 outputs"):
        drawn(jinit.dirac(groups=3), (3, 8, 8))


def assert_sparse(w, sparsity, std, axis=0):
    """The exact number of zeros along the axis, and a normal law for the rest."""
    zeros = (w == 0).sum(axis=axis)
    n = w.size // zeros.size
    assert (zeros == np.ceil(sparsity * n - 1e-9)).all()
    laws.assert_law(w[w != 0], laws.normal(std))


@pytest.mark.parametrize(
    ("shape", "axis", "sparsity"),
    [((400, 300), 0, 0.9), ((400, 300), -1, 0.9), ((3, 3, 40, 200), (0, 1, 2), 0.958)],
)
def test_sparse(shape, axis, sparsity):
    w = drawn(jinit.sparse(sparsity, 0.02, axis), shape)
    assert_sparse(w, sparsity, 0.02, axis)
    for wrong in ((sparsity - 0.01, 0.02), (sparsity, 0.025)):
        with pytest.raises(AssertionError):
            assert_sparse(w, *wrong, axis)
    std = jinit.sparse(sparsity, 0.02, axis).std(shape)
    assert std == pytest.approx(np.sqrt(np.mean(w**2)), rel=0.02)


def test_sparse_chooses_every_input_as_often():
    kept = drawn(jinit.sparse(0.75), (8, 20_000)) != 0
    error = np.sqrt(0.25 * 0.75 / 20_000)
    assert (abs(kept.mean(axis=1) - 0.25) < laws.SIGMAS * error).all()


def test_sparse_refuses_units_without_inputs():
    with pytest.raises(ValueError, match="every unit would be dead"):
        drawn(jinit.sparse(0.95), (8, 4))
    assert not drawn(jinit.sparse(1.0), (8, 4)).any()
    with pytest.raises(ValueError, match="share of zeros"):
        jinit.sparse(1.5)


def test_hadamard_is_scipy_s():
    h = drawn(jinit.hadamard(), (16, 16))
    np.testing.assert_array_equal(h, linalg.hadamard(16) / 4)
    with pytest.raises(ValueError, match=r"such as \(8, 8\) or \(16, 16\)"):
        drawn(jinit.hadamard(), (12, 12))


def test_zero_hadamard_is_the_paper_s():
    """I for n_out <= n_in; I* (H / 2^(p/2)) I* where a layer widens."""
    np.testing.assert_array_equal(drawn(jinit.zero_hadamard(), (6, 4)), np.eye(6, 4))
    wide = drawn(jinit.zero_hadamard(), (3, 6))
    np.testing.assert_allclose(wide, (linalg.hadamard(8) / np.sqrt(8))[:3, :6])
    conv = drawn(jinit.zero_hadamard(), (3, 3, 2, 4))
    np.testing.assert_allclose(conv[1, 1], (linalg.hadamard(4) / 2)[:2])
    assert np.count_nonzero(conv) == 8


def residual_rank(init, steps=30):
    """The rank of what training adds to a square layer behind a widening one."""
    keys = jax.random.split(jax.random.key(3), 3)
    x = jax.random.normal(keys[0], (64, 8))
    y = jax.random.normal(keys[1], (64, 32))
    weights = [init(keys[2], (8, 32)), init(keys[2], (32, 32))]

    def loss(weights):
        hidden = jax.nn.relu(x @ weights[0])
        return jnp.mean((jax.nn.relu(hidden @ weights[1]) - y) ** 2)

    grad = jax.jit(jax.grad(loss))
    for _ in range(steps):
        weights = jax.tree.map(lambda w, g: w - 3.0 * g, weights, grad(weights))
    return np.linalg.matrix_rank(np.asarray(weights[1]) - np.eye(32), tol=1e-4)


def test_a_hadamard_matrix_breaks_the_rank_that_an_identity_keeps():
    assert residual_rank(jinit.identity()) <= 8
    assert residual_rank(jinit.zero_hadamard()) > 8


def signal(x, network):
    return functools.reduce(
        lambda h, w: jax.nn.relu(h) @ w, network[1:], x @ network[0]
    )


def test_a_looks_linear_network_is_linear(key):
    """50 layers of relu are the product of their W, which is orthogonal."""
    keys = jax.random.split(key, 50)
    parts = ["first", *["hidden"] * 48, "last"]
    shapes = [(16, 32), *[(32, 32)] * 48, (32, 16)]
    network = [
        jinit.looks_linear(part=part)(k, shape)
        for part, k, shape in zip(parts, keys, shapes, strict=True)
    ]
    matrix = signal(jnp.eye(16), network)
    x = jax.random.normal(key, (8, 16))
    np.testing.assert_allclose(signal(x, network), x @ matrix, atol=2e-5)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(16), atol=2e-5)
    # One layer that is not mirrored, and the network is no longer linear.
    network[20] = jinit.orthogonal()(key, (32, 32))
    broken = signal(jnp.eye(16), network)
    assert abs(signal(x, network) - x @ broken).max() > 0.1


def test_looks_linear_convolutions_are_linear(key):
    def conv(x, kernel):
        x = jnp.pad(x, ((0, 0), (1, 1), (0, 0)), mode="wrap")
        return jax.lax.conv_general_dilated(
            x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
        )

    parts = (("first", (3, 4, 8)), ("hidden", (3, 8, 8)), ("last", (3, 8, 4)))
    kernels = [jinit.looks_linear(part=p)(key, shape) for p, shape in parts]
    x = jax.random.normal(key, (2, 6, 4))
    y = conv(x, kernels[0])
    for kernel in kernels[1:]:
        y = conv(jax.nn.relu(y), kernel)
    norm = functools.partial(jnp.linalg.norm, axis=-1)
    np.testing.assert_allclose(norm(y), norm(x), rtol=1e-5)


def test_looks_linear_wants_even_widths(key):
    with pytest.raises(ValueError, match="must be even, such as 8"):
        jinit.looks_linear()(key, (7, 8))
    assert jinit.looks_linear(part="first")(key, (7, 8)).shape == (7, 8)


def test_scaled_orthogonal_meets_the_spectral_condition(key):
    for shape in ((16, 64), (64, 16), (3, 3, 4, 64)):
        w = drawn(jinit.scaled_orthogonal(0.5), shape).reshape(-1, shape[-1])
        found = np.linalg.svd(w, compute_uv=False)
        np.testing.assert_allclose(
            found, 0.5 * (w.shape[1] / w.shape[0]) ** 0.5, rtol=1e-5
        )


def circular_singular_values(kernel):
    """All singular values of a convolution with circular padding, by Fourier blocks."""
    blocks = np.fft.fft(np.pad(kernel, ((0, 5), (0, 0), (0, 0))), axis=0)
    return np.linalg.svd(blocks, compute_uv=False)


def test_delta_orthogonal_is_an_isometry_and_a_gaussian_is_not():
    for shape in ((3, 8, 8), (3, 4, 8), (3, 8, 4)):
        values = circular_singular_values(drawn(jinit.delta_orthogonal(), shape))
        np.testing.assert_allclose(values, 1, atol=1e-5)
    values = circular_singular_values(drawn(jinit.lecun(), (3, 8, 8)))
    assert values.max() > 1.5 and values.min() < 0.5


def test_a_product_of_a_thousand_delta_orthogonal_convolutions_keeps_the_norm(key):
    kernels = jax.vmap(lambda k: jinit.delta_orthogonal()(k, (3, 8, 8)))(
        jax.random.split(key, 1000)
    )

    def layer(x, kernel):
        x = jnp.pad(x, ((0, 0), (1, 1), (0, 0)), mode="wrap")
        y = jax.lax.conv_general_dilated(
            x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return y, None

    x = jax.random.normal(key, (1, 10, 8))
    y = jax.jit(lambda x: jax.lax.scan(layer, x, kernels)[0])(x)
    assert float(jnp.linalg.norm(y) / jnp.linalg.norm(x)) == pytest.approx(1, abs=1e-4)
