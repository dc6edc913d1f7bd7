"""Upsampling: ICNR makes constant blocks, and bilinear kernels interpolate."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit

KEY = jax.random.key(5)


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
