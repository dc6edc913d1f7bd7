"""StyleGAN2's generator (Karras et al. 2020) has modulated convolutions, in Linen.

Kernels are N(0, 1) and multiplied by 1 / sqrt(fan_in) as they are used, so that all
have equal learning rates. A style scales a kernel's inputs, and its outputs are scaled
back to unit norm.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

MAPPED, BLOCKS = 2, 2


def activated(x):
    return jnp.sqrt(2.0) * nn.leaky_relu(x, 0.2)


class Linear(nn.Module):
    features: int
    rate: float = 1.0
    bias: float = 0.0

    @nn.compact
    def __call__(self, x):
        shape = (x.shape[-1], self.features)
        w = self.param("weight", nn.initializers.normal(1 / self.rate), shape)
        b = self.param("bias", nn.initializers.constant(self.bias), shape[1:])
        return x @ (w * (self.rate / jnp.sqrt(shape[0]))) + b * self.rate


class Modulated(nn.Module):
    features: int
    size: int = 3
    demodulates: bool = True

    @nn.compact
    def __call__(self, x, w):
        style = Linear(x.shape[-1], bias=1.0, name="affine")(w)
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("weight", nn.initializers.normal(1.0), shape)
        kernel = kernel / jnp.sqrt(self.size**2 * x.shape[-1])
        kernels = kernel[None] * style[:, None, None, :, None]
        if self.demodulates:
            squares = jnp.sum(kernels**2, axis=(1, 2, 3), keepdims=True)
            kernels = kernels * jax.lax.rsqrt(squares + 1e-8)

        def convolve(image, kernel):
            numbers = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(
                image[None], kernel, (1, 1), "SAME", dimension_numbers=numbers
            )[0]

        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return jax.vmap(convolve)(x, kernels) + bias


class Generator(nn.Module):
    width: int

    @nn.compact
    def __call__(self, z):
        w = z * jax.lax.rsqrt(jnp.mean(z**2, axis=-1, keepdims=True) + 1e-8)
        for number in range(MAPPED):
            w = activated(Linear(self.width, 0.01, name=f"mapping_{number}")(w))
        const = self.param("const", nn.initializers.normal(1.0), (4, 4, self.width))
        x = jnp.broadcast_to(const, (z.shape[0], *const.shape))
        image = 0.0
        for number in range(BLOCKS):
            if number:
                x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
                image = jnp.repeat(jnp.repeat(image, 2, axis=1), 2, axis=2)
            x = activated(Modulated(self.width, name=f"conv_{number}")(x, w))
            rgb = Modulated(3, 1, False, name=f"to_rgb_{number}")
            image = image + rgb(x, w)
        return image


TABLE = """
mapping_0/weight  io  8 16  input
mapping_1/weight  io  16 16
const             .   .   .  other|bias
conv_{0,1}/affine/weight    io  16 16
conv_{0,1}/weight           kkio 144 144  convolution
to_rgb_{0,1}/affine/weight  io  16 16
to_rgb_{0,1}/weight         kkio 16 3  convolution readout
"""
