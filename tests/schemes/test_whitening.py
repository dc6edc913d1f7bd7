"""The whitening convolution: second moments of responses, and what it is made of."""

import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit

KEY = jax.random.key(9)
RNG = np.random.default_rng(3)
# Far from mean zero, correlated, and of spread-out scales, down to the size of eps.
MIX = RNG.normal(size=(12, 12)) * np.geomspace(1, 0.02, 12)[:, None]
PATCHES = (RNG.normal(size=(900, 12)) @ MIX + 0.7).reshape(900, 2, 2, 3)


def second_moments(kernel, patches=PATCHES):
    flat = np.asarray(patches, np.float64).reshape(len(patches), -1)
    y = flat @ np.asarray(kernel, np.float64).reshape(flat.shape[1], -1)
    return y.T @ y / len(y)


def assert_whitens(kernel, eps):
    """Uncorrelated responses of moments lambda / (lambda + eps), with both signs."""
    assert kernel.shape == (2, 2, 3, 24)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
    flat = PATCHES.reshape(900, 12)
    values = np.linalg.eigvalsh(flat.T @ flat / 900)[::-1]
    expected = np.diag(values / (values + eps))
    np.testing.assert_allclose(second_moments(kernel[..., :12]), expected, atol=2e-4)


def made(centre=0.0, eps=5e-4, power=-0.5, after=False):
    """The kernel from the definition, with what a wrong one would have."""
    flat = PATCHES.reshape(900, 12) - centre
    values, vectors = np.linalg.eigh(flat.T @ flat / 900)
    scales = (values + eps) ** power
    if after:  # eps added behind the root
        scales = 1 / (np.sqrt(values) + eps)
    half = vectors[:, ::-1] * scales[::-1]
    return np.concatenate([half, -half], 1).reshape(2, 2, 3, 24)


def test_responses_are_white_up_to_eps():
    kernel = jinit.whitening_conv(PATCHES)(KEY, (2, 2, 3, 24))
    assert_whitens(kernel, 5e-4)
    assert_whitens(made(), 5e-4)
    assert_whitens(jinit.whitening_conv(PATCHES, eps=0.1)(KEY, (2, 2, 3, 24)), 0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"centre": PATCHES.reshape(900, 12).mean(0)},
        {"eps": 0.0},
        {"eps": 5e-3},
        {"power": -1.0},
        {"after": True},
    ],
    ids=str,
)
def test_a_wrong_formula_does_not_whiten(wrong):
    with pytest.raises(AssertionError):
        assert_whitens(made(**wrong), 5e-4)


def test_without_the_negative_half_it_is_no_whitening_kernel():
    kernel = jinit.whitening_conv(PATCHES)(KEY, (2, 2, 3, 24))
    with pytest.raises(AssertionError):
        assert_whitens(np.concatenate([kernel[..., :12]] * 2, -1), 5e-4)


def test_all_windows_of_images_are_their_patches():
    images = RNG.normal(size=(20, 5, 4, 2))
    patches = [
        image[y : y + 3, x : x + 2] for image in images for y in (0, 1, 2) for x in
        (0, 1, 2)
    ]  # fmt: skip
    found = jinit.whitening_conv(images, window=(3, 2))(KEY, (3, 2, 2, 24))
    direct = jinit.whitening_conv(np.stack(patches))(KEY, (3, 2, 2, 24))
    # Eigenvectors have no sign of their own.
    np.testing.assert_allclose(abs(found), abs(direct), atol=1e-5)


def test_it_is_a_value_of_the_data():
    init = jinit.whitening_conv(PATCHES)
    assert (
        init
        == jinit.whitening_conv(PATCHES.copy())
        != jinit.whitening_conv(PATCHES, eps=0.1)
    )
    assert pickle.loads(pickle.dumps(init)) == init and hash(init) == hash(
        jinit.whitening_conv(PATCHES)
    )
    assert eval(repr(init), {"jinit": jinit}) == init
    assert jinit.from_config(jinit.to_config(init)) == init


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_narrow_images_are_widened_first(dtype):
    patches = jnp.asarray(PATCHES).astype(dtype)
    kernel = jinit.whitening_conv(patches, eps=0.0)(KEY, (2, 2, 3, 24))
    found = second_moments(kernel[..., :12], patches.astype("float32"))
    np.testing.assert_allclose(found, np.eye(12), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 3}, TypeError, "two integers"),
        ({"window": (2,)}, TypeError, "two integers"),
        ({"window": (None, 2)}, TypeError, "two integers"),
        ({"window": (0, 2)}, ValueError, "1 or more"),
        ({"eps": -1.0}, ValueError, "at least 0"),
        ({"patches": np.ones((9, 2, 2, 0))}, ValueError, "length 0"),
        ({"patches": np.ones((9, 2, 2, 1), complex)}, TypeError, "real numbers"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        jinit.whitening_conv(**{"patches": PATCHES} | options)


def test_traced_patches_are_refused():
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda p: jinit.whitening_conv(p)(jax.random.key(0), (2, 2, 1, 8)))(
            np.ones((9, 2, 2, 1), np.float32)
        )


def test_whitened_patches_are_white():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(40, 12, 12, 2)) @ np.array([[1.0, 0.8], [0.0, 0.3]])
    images += np.roll(images, 1, axis=1)
    init = jinit.whitening_conv(images, window=(2, 2), eps=0.0)
    kernel = init(KEY, (2, 2, 2, 16))
    y, _ = nn.Conv(
        16, (2, 2), padding="VALID", use_bias=False, kernel_init=lambda *_: kernel
    ).init_with_output(KEY, jnp.asarray(images, "float32"))
    flat = np.asarray(y, np.float64).reshape(-1, 16)
    moments = flat.T @ flat / len(flat)
    np.testing.assert_allclose(moments[:8, :8], np.eye(8), atol=1e-3)
    np.testing.assert_array_equal(flat[:, 8:], -flat[:, :8])
    patches = rng.normal(size=(30, 2, 2, 1))
    assert jinit.whitening_conv(patches)(KEY, (2, 2, 1, 8)).shape == (2, 2, 1, 8)


@pytest.mark.parametrize(
    ("patches", "options", "message"),
    [
        (np.ones((3, 2, 2, 1)), {}, "takes at least 4"),
        (np.ones((9, 2, 2)), {}, "four axes"),
        (np.full((9, 2, 2, 1), np.nan), {}, "not finite"),
        (np.ones((9, 2, 2, 1)), {"window": (3, 1)}, "larger than the images"),
        (np.zeros((9, 2, 2, 1)), {"eps": 0.0}, "positive eps"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_whitening_errors(patches, options, message):
    with pytest.raises(ValueError, match=message):
        jinit.whitening_conv(patches, **options)
