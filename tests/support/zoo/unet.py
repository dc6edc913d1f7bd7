"""A diffusion U-Net in Linen: time embedding, group norms, attention, long skips."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tests.support.zoo.truth import floats, known


def sinusoids(t, width):
    rates = jnp.exp(-jnp.log(1e4) * jnp.arange(width // 2) / (width // 2 - 1))
    angles = t[:, None] * rates[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, time):
        h = nn.swish(nn.GroupNorm(4, name="norm1")(x))
        h = nn.Conv(self.features, (3, 3), name="conv1")(h)
        h = h + nn.Dense(self.features, name="temb")(nn.swish(time))[:, None, None, :]
        h = nn.swish(nn.GroupNorm(4, name="norm2")(h))
        h = nn.Dropout(0.1, deterministic=False)(h)
        h = nn.Conv(self.features, (3, 3), name="conv2")(h)
        if x.shape[-1] != self.features:
            x = nn.Dense(self.features, name="nin_shortcut")(x)
        return x + h


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        batch, height, width, features = x.shape
        h = nn.GroupNorm(4, name="norm")(x)
        q, k, v = (nn.Dense(features, name=name)(h) for name in "qkv")
        w = jnp.einsum("bhwc,bHWc->bhwHW", q, k) * features**-0.5
        w = jax.nn.softmax(w.reshape(batch, height, width, -1), axis=-1)
        w = w.reshape(batch, height, width, height, width)
        h = jnp.einsum("bhwHW,bHWc->bhwc", w, v)
        return x + nn.Dense(features, name="proj_out")(h)


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x, t):
        time = nn.Dense(32, name="time1")(sinusoids(t, 8))
        time = nn.Dense(32, name="time2")(nn.swish(time))
        first = nn.Conv(8, (3, 3), name="conv_in")(x)
        left = Block(8, name="left")(first, time)
        h = nn.Conv(8, (3, 3), (2, 2), name="down")(left)
        h = Block(16, name="middle1")(h, time)
        h = Attention(name="attention")(h)
        h = Block(16, name="middle2")(h, time)
        h = nn.ConvTranspose(8, (4, 4), (2, 2), name="up")(h)
        h = Block(8, name="right")(jnp.concatenate([h, left], axis=-1), time)
        h = nn.swish(nn.GroupNorm(4, name="norm_out")(h))
        return nn.Conv(3, (3, 3), name="conv_out", kernel_init=nn.initializers.zeros)(h)


# The long skip is a concatenation, and the time is added to what does not come from
# it: neither is a residual addition. Four blocks and the attention are.
TABLE = """
time1/kernel     io    8  32  input
time2/kernel     io   32  32
time{1,2}/bias   none  .   .  bias
conv_in/kernel   kkio 27  72  input convolution
conv_in/bias     none  .   .  bias
{left,right,middle1,middle2}/norm{1,2}/scale  none . . scale
{left,right,middle1,middle2}/norm{1,2}/bias   none . . bias
{left,right,middle1,middle2}/conv{1,2}/bias   none . . bias
{left,right,middle1,middle2}/temb/bias        none . . bias
{left,right}/temb/kernel       io   32   8
{middle1,middle2}/temb/kernel  io   32  16
left/conv1/kernel        kkio  72   72  convolution
left/conv2/kernel        kkio  72   72  convolution residual_output
down/kernel              kkio  72    .  convolution
down/bias                none   .    .  bias
middle1/conv1/kernel     kkio  72  144  convolution
middle1/conv2/kernel     kkio 144  144  convolution residual_output
middle1/nin_shortcut/kernel io  8   16
middle1/nin_shortcut/bias none  .    .  bias
attention/norm/scale     none   .    .  scale
attention/norm/bias      none   .    .  bias
attention/q/kernel       io    16   16  query
attention/k/kernel       io    16   16  key
attention/v/kernel       io    16   16  value
attention/proj_out/kernel io   16   16  attention_output residual_output
attention/{q,k,v,proj_out}/bias none . . bias
middle2/conv1/kernel     kkio 144  144  convolution
middle2/conv2/kernel     kkio 144  144  convolution residual_output
up/kernel                kkio  64    .  convolution  # 2 x 2 taps reach an output
up/bias                  none   .    .  bias
right/conv1/kernel       kkio 144   72  convolution  # 16 channels, concatenated
right/conv2/kernel       kkio  72   72  convolution residual_output
right/nin_shortcut/kernel io   16    8
right/nin_shortcut/bias  none   .    .  bias
norm_out/scale           none   .    .  scale
norm_out/bias            none   .    .  bias
conv_out/kernel          kkio  72   27  readout convolution
conv_out/bias            none   .    .  bias
"""


def unet():
    module, arguments = UNet(), (floats(2, 8, 8, 3), floats(2))
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(module.init, {"params": key, "dropout": key}, *arguments)
    return known(
        module, variables, *arguments, table=TABLE, depth=5, rngs={"dropout": key}
    )


MODELS = {"unet": unet}
