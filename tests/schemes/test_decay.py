"""Decays, gates and mixes of linear recurrences, against the official formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support import laws
from tests.support.counting import count_compilations

KEY = jax.random.key(15)


def drawn(init, shape, dtype=None):
    return np.asarray(init(KEY, shape, dtype), np.float64)


@pytest.mark.parametrize(("low", "high"), [(1.0, 16.0), (0.0, 16.0)])
def test_a_log_is_the_logarithm_of_a_uniform_number(low, high):
    init = jinit.ssm.a_log(low, high)
    x = drawn(init, (40_000,))
    laws.assert_law(np.exp(x), laws.uniform(low, high))
    with pytest.raises(AssertionError):
        laws.assert_law(np.exp(x), laws.uniform(low + 0.5, high))
    # The std is that of log A, by an integral over A.
    a = low + (high - low) * (np.arange(10**6) + 0.5) / 10**6
    assert init.std((8,)) == pytest.approx(np.log(a).std(), rel=1e-4)


@pytest.mark.parametrize("low", [0.0, 1.0])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_million_heads_are_finite(low, dtype):
    x = drawn(jinit.ssm.a_log(low), (10**6,), dtype)
    assert np.isfinite(x).all()
    # A rounded logarithm is off by less than 2^-8 of itself, which changes the mean of
    # A by less than its five standard errors.
    a = np.exp(x)
    error = 5 * (16 - low) / 12**0.5 / 1000
    assert abs(a.mean() - (16 + low) / 2) < error
    # A draw of A in bfloat16 itself is 0 for some heads, whose logarithm is infinite.
    wrong = jnp.log(jax.random.uniform(KEY, (10**6,), "bfloat16") * 16)
    assert bool(jnp.isinf(wrong).any())


@pytest.mark.parametrize("c", [8.0, 1.0])
def test_the_decay_of_an_rg_lru_is_uniform_on_a_ring(c):
    x = drawn(jinit.ssm.rg_lru_lambda(c=c), (40_000,))
    square = np.exp(-2 * c * np.log1p(np.exp(x)))
    laws.assert_law(square, laws.uniform(0.9**2, 0.999**2))
    with pytest.raises(AssertionError):  # uniform in the radius
        laws.assert_law(square**0.5, laws.uniform(0.9, 0.999))
    mirrored = drawn(jinit.ssm.rg_lru_lambda(c=c, form="sigmoid"), (40_000,))
    np.testing.assert_array_equal(mirrored, -x)


def test_c_1_is_recurrentgemma_s_formula():
    """Recurrentgemma/jax/layers.py, rnn_real_param_init, commit 2efa84d."""
    unif = np.linspace(0, 1, 10_001)
    a_real = 0.5 * np.log(unif * (0.999**2 - 0.9**2) + 0.9**2 + 1e-8)
    quantiles = np.sort(np.log(np.exp(-a_real) - 1))
    x = np.sort(drawn(jinit.ssm.rg_lru_lambda(c=1.0), (10_001,)))
    inner = slice(500, -500)
    np.testing.assert_allclose(x[inner], quantiles[inner], atol=0.15)
    assert np.isfinite(drawn(jinit.ssm.rg_lru_lambda(0, 1), (10**5,), "bfloat16")).all()


def official_w0(layer, num_layers, channels, head_size):
    ratio = layer / (num_layers - 1)
    w0 = np.zeros(channels)
    for n in range(channels):
        zigzag = ((n % head_size) - (head_size - 1) / 2) / ((head_size - 1) / 2)
        w0[n] = -6 + 6 * (n / (channels - 1)) ** (1 + ratio**0.3)
        w0[n] += 0.5 + 2.5 * zigzag * abs(zigzag)
    return w0


def test_rwkv7_s_decay_is_the_official_one():
    for layer in range(3):
        w0 = drawn(jinit.ssm.rwkv7_decay(layer, 3, head_size=8), (1, 1, 32))
        expected = official_w0(layer, 3, 32, 8)
        np.testing.assert_allclose(w0.ravel(), expected, atol=1e-5)
    assert np.abs(expected - official_w0(1, 3, 32, 8)).max() > 0.05
    only = drawn(jinit.ssm.rwkv7_decay(0, 1, head_size=8), (32,))
    np.testing.assert_allclose(only, official_w0(0, 3, 32, 8), atol=1e-5)


def test_rwkv7_s_mixes_are_the_official_ones():
    share = np.arange(16) / 16
    powers = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}
    for part, power in powers.items():
        mix = drawn(jinit.ssm.rwkv7_mix(part, 2, 6), (16,))
        np.testing.assert_allclose(mix, 1 - share ** (power * (1 - 2 / 6)), atol=1e-6)
    channel = drawn(jinit.ssm.rwkv7_mix("channel", 2, 6), (16,))
    np.testing.assert_allclose(channel, 1 - share ** (4 / 6) ** 4, atol=1e-6)


def test_rwkv7_s_vectors_are_the_official_ones():
    n = np.arange(32)
    linear, x = n / 31 - 0.5, ((n % 8) - 3.5) / 3.5
    zigzag = x * np.abs(x)
    expected = {
        "a0": -0.19 + zigzag * 0.3 + linear * 0.4,
        "v0": 0.73 - linear * 0.4,
        "k_k": 0.71 - linear * 0.1,
        "k_a": np.full(32, 1.02),
        "r_k": np.full(32, -0.04),
    }
    for part, vector in expected.items():
        init = jinit.ssm.rwkv7_vector(part, head_size=8)
        np.testing.assert_allclose(drawn(init, (4, 8)).ravel(), vector, atol=1e-6)


def test_the_layers_of_rwkv7_share_a_program():
    jinit.ssm.rwkv7_decay(0, 7, head_size=8)(KEY, (24,))
    with count_compilations() as compilations:
        for layer in range(1, 7):
            jinit.ssm.rwkv7_decay(layer, 7, head_size=8)(KEY, (24,))
    assert compilations() == 0
    # The stack of layers is one array, whose slices differ.
    stack = jinit.stacked(lambda i: jinit.ssm.rwkv7_decay(i, 7, head_size=8))
    layers = drawn(stack, (7, 24))
    for layer in (0, 6):
        expected = official_w0(layer, 7, 24, 8)
        np.testing.assert_allclose(layers[layer], expected, atol=1e-5)


def test_the_forget_biases_of_an_mlstm_are_spread():
    """Components/init.py, bias_linspace_init_, in NX-AI/xlstm, commit 032a6fb."""
    b = drawn(jinit.recurrent.linspace_bias(), (2, 8))
    np.testing.assert_allclose(b, np.tile(np.linspace(3, 6, 8), (2, 1)), rtol=1e-6)
    assert drawn(jinit.recurrent.linspace_bias(), (1,)) == 3


def test_hyper_alpha_is_a_one_hot_stream_beside_the_identity():
    """Lucidrains/hyper-connections, hyper_connections.py, commit 4775103."""
    for layer in (0, 1, 6):
        alpha = drawn(jinit.hyper_alpha(layer), (4, 5))
        np.testing.assert_array_equal(alpha[:, 0], np.eye(4)[layer % 4])
        np.testing.assert_array_equal(alpha[:, 1:], np.eye(4))
    two_inputs = drawn(jinit.hyper_alpha(1), (3, 5))
    np.testing.assert_array_equal(two_inputs[:, :2], np.eye(3)[[1, 1]].T)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jinit.ssm.a_log(-1.0), "at least 0"),
        (lambda: jinit.ssm.a_log(2.0, 2.0), "less than `high`"),
        (lambda: jinit.ssm.rg_lru_lambda(0.9, 1.1), "0 <= low < high <= 1"),
        (lambda: jinit.ssm.rg_lru_lambda(form="tanh"), "must be one of"),
        (lambda: jinit.ssm.rwkv7_decay(3, 3), "counted from 0 to 2"),
        (lambda: jinit.ssm.rwkv7_decay(0, 3, head_size=1), "2 channels or more"),
        (lambda: jinit.ssm.rwkv7_decay(0, 3)(KEY, (48,)), "does not divide"),
        (lambda: jinit.ssm.rwkv7_mix("x", 0, 3), "must be one of"),
        (lambda: jinit.ssm.rwkv7_mix("k", 0, 3)(KEY, ()), "no axes"),
        (lambda: jinit.ssm.rwkv7_vector("b0"), "must be one of"),
        (lambda: jinit.recurrent.linspace_bias()(KEY, ()), "no axes"),
        (lambda: jinit.hyper_alpha(-1), "counted from 0"),
        (lambda: jinit.hyper_alpha()(KEY, (4, 4)), r"is \(4, 5\)"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
