"""Schemes for layers of a kind: embeddings, sines, enlargement, spectra, priors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal, stats

import jinit
from tests.support import laws

KEY = jax.random.key(5)


def test_an_embedding_has_flax_s_values():
    theirs = nn.Embed(50, 32).init(KEY, jnp.zeros(1, int))["params"]["embedding"]
    ours = nn.Embed(50, 32, embedding_init=jinit.embedding())
    found = ours.init(KEY, jnp.zeros(1, int))["params"]["embedding"]
    assert abs(np.asarray(found - theirs)).max() <= np.spacing(np.float32(1))
    laws.assert_law(jinit.embedding()(KEY, (900, 100)), laws.normal(0.1))


@pytest.mark.parametrize("row", [0, 4, -1])
def test_a_padding_row_is_zero_and_no_other(row):
    table = jinit.embedding(padding_row=row)(KEY, (5, 8))
    plain = jinit.embedding()(KEY, (5, 8))
    others = np.arange(5) != row % 5
    assert not table[row].any()
    np.testing.assert_array_equal(table[others], plain[others])
    with pytest.raises(ValueError, match="a table of shape"):
        jinit.embedding(padding_row=5)(KEY, (5, 8))


def test_scaled_uniform_is_torch_s_default():
    assert jinit.scaled_uniform().std((300, 7)) == pytest.approx(1 / 30)
    w = jinit.scaled_uniform()(KEY, (300, 400))
    limit = 300**-0.5
    laws.assert_law(w, laws.uniform(-limit, limit))
    with pytest.raises(AssertionError):  # the fan of the other side
        laws.assert_law(w, laws.uniform(-(400**-0.5), 400**-0.5))
    with pytest.raises(ValueError, match="fan"):
        jinit.scaled_uniform()(KEY, (300,))
    b = jinit.scaled_uniform(fan_in=300)(KEY, (50_000,))
    laws.assert_law(b, laws.uniform(-limit, limit))


def test_a_prior_is_what_the_classifier_starts_with():
    prior = np.array([0.9, 0.09, 0.01])
    sigmoid = jinit.constant_bias_from_prior(prior)(KEY, (3,))
    np.testing.assert_allclose(jax.nn.sigmoid(sigmoid), prior, rtol=1e-5)
    softmax = jinit.constant_bias_from_prior(prior, "softmax")(KEY, (3,))
    np.testing.assert_allclose(jax.nn.softmax(softmax), prior, rtol=1e-5)
    # The first loss is the entropy of the prior.
    loss = -float(jnp.asarray(prior) @ jax.nn.log_softmax(softmax))
    assert loss == pytest.approx(stats.entropy(prior), rel=1e-5)
    for wrong in (0.0, 1.0, [0.5, 1.5], -1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            jinit.constant_bias_from_prior(wrong)
    with pytest.raises(ValueError, match="add up to 1"):
        jinit.constant_bias_from_prior([0.5, 0.3], "softmax")
    with pytest.raises(ValueError, match="broadcast"):
        jinit.constant_bias_from_prior(prior)(KEY, (4,))


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


def shuffled(x, factor, order):
    """Channels into blocks of pixels, as PyTorch and as depth_to_space do it."""
    n, h, w, c = x.shape
    if order == "minor":
        x = x.reshape(n, h, w, c // factor**2, factor, factor).transpose(
            0, 1, 4, 2, 5, 3
        )
    else:
        x = x.reshape(n, h, w, factor, factor, c // factor**2).transpose(
            0, 1, 3, 2, 4, 5
        )
    return x.reshape(n, h * factor, w * factor, c // factor**2)


def is_constant_in_blocks(y, factor):
    first = np.asarray(y)[:, ::factor, ::factor]
    nearest = first.repeat(factor, 1).repeat(factor, 2)
    return np.allclose(nearest[:, : y.shape[1], : y.shape[2]], y, atol=1e-6)


@pytest.mark.parametrize("order", ["minor", "major"])
def test_icnr_makes_constant_blocks(order):
    init = jinit.icnr(jinit.he(), 3, order=order)
    x = jax.random.normal(KEY, (1, 5, 5, 2))
    y, _ = nn.Conv(18, (3, 3), kernel_init=init).init_with_output(KEY, x)
    assert is_constant_in_blocks(shuffled(y, 3, order), 3)
    other = "major" if order == "minor" else "minor"
    assert not is_constant_in_blocks(shuffled(y, 3, other), 3)


def test_icnr_of_a_transposed_convolution():
    init = jinit.icnr(jinit.he(), 2, transposed=True)
    layer = nn.ConvTranspose(3, (4, 4), (2, 2), padding="VALID", kernel_init=init)
    y, _ = layer.init_with_output(KEY, jax.random.normal(KEY, (1, 5, 5, 2)))
    assert is_constant_in_blocks(y, 2)
    with pytest.raises(ValueError, match=r"A window such as \(4, 4\) fits"):
        init(KEY, (3, 3, 2, 2))


def test_icnr_draws_the_part_s_law():
    init = jinit.icnr(jax.nn.initializers.he_normal(), 2)
    assert jinit.icnr(jinit.he(), 2).std((3, 3, 8, 16)) == jinit.he().std((3, 3, 8, 4))
    part = jax.nn.initializers.he_normal()(KEY, (3, 3, 8, 4))
    np.testing.assert_allclose(init(KEY, (3, 3, 8, 16))[..., ::4], part, rtol=1e-6)
    with pytest.raises(ValueError, match="a multiple of 4, such as 12"):
        init(KEY, (3, 3, 8, 10))


@pytest.mark.parametrize(("kernel", "factor"), [(4, 2), (3, 2), (6, 3), (5, 3)])
def test_bilinear_interpolates_a_ramp(kernel, factor):
    layer = nn.ConvTranspose(
        2, (kernel,), (factor,), padding="VALID", kernel_init=jinit.bilinear()
    )
    ramp = jnp.arange(8.0)[None, :, None] * jnp.array([[[1.0, -2.0]]])
    y = np.asarray(layer.init_with_output(KEY, ramp)[0])[0]
    steps = np.diff(y, axis=0)[kernel:-kernel]
    np.testing.assert_allclose(
        steps, [[1 / factor, -2 / factor]] * len(steps), rtol=1e-5
    )


def test_bilinear_is_the_outer_product_of_tents():
    w = np.asarray(jinit.bilinear()(KEY, (4, 4, 2, 2)))
    tent = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(w[..., 1, 1], np.outer(tent, tent))
    assert not w[..., 0, 1].any()
    depthwise = jinit.bilinear(groups=3)(KEY, (4, 1, 3))
    np.testing.assert_allclose(depthwise[:, 0], np.repeat(tent[:, None], 3, 1))
    with pytest.raises(ValueError, match="it needs 3 outputs"):
        jinit.bilinear()(KEY, (4, 3, 5))


@pytest.mark.parametrize("scaling", ["density", "spectrum", None])
@pytest.mark.parametrize("window", ["hann", "hamming", None])
def test_stft_is_the_transform(window, scaling):
    x = np.random.default_rng(0).normal(size=64)
    w = signal.get_window(window, 64, False) if window else np.ones(64)
    norm = {"density": np.sqrt(np.sum(w**2)), "spectrum": np.sum(w), None: 1.0}
    wanted = np.fft.rfft(x * w) / (norm[scaling] if window else 1.0)
    for side, part in (("real", wanted.real), ("imag", wanted.imag)):
        kernel = jinit.stft(side, window, scaling)(KEY, (64, 1, 33))
        np.testing.assert_allclose(x @ np.asarray(kernel)[:, 0], part, atol=1e-5)


def test_stft_keeps_its_digits_in_long_frames():
    kernel = np.asarray(jinit.stft(window=None)(KEY, (4096, 1, 2049)))
    t, f = np.ogrid[:4096, :2049]
    np.testing.assert_allclose(
        kernel[:, 0], np.cos(2 * np.pi * t * f / 4096), atol=3e-7
    )


def test_stft_s_errors():
    with pytest.raises(ValueError, match="'hann' or 'hamming'"):
        jinit.stft(window="hand")
    with pytest.raises(ValueError, match="the frames have 8 samples"):
        jinit.stft(window=[1.0, 2.0])(KEY, (8, 1, 5))
    with pytest.raises(ValueError, match=r"\(frame, 1, frequencies\)"):
        jinit.stft()(KEY, (8, 2, 5))
    with pytest.raises(ValueError, match="one frequency"):
        jinit.stft()(KEY, (8, 1, 1))
    with pytest.raises(ValueError, match="not finite"):
        jinit.stft(window=[1.0, np.nan])
    # A symmetric Hann window of two samples is (0, 0).
    with pytest.raises(ValueError, match="no norm"):
        jinit.stft()(KEY, (2, 1, 5))


@pytest.mark.parametrize("row", [1.5, True, (1, 2)])
def test_a_padding_row_is_one_integer(row):
    with pytest.raises(TypeError, match="`padding_row` is .* must be an integer"):
        jinit.embedding(row)


@pytest.mark.parametrize("prior", ["rare", 0.5 + 1j])
def test_a_prior_is_of_real_numbers(prior):
    with pytest.raises(TypeError, match="`prior` is"):
        jinit.constant_bias_from_prior(prior)
