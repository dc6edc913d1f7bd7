"""A ViT, an MLP-Mixer and a ConvNeXt in Linen."""

import flax.linen as nn
import jax.numpy as jnp

from tests.support.zoo.truth import floats, known, shapes


class Mlp(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x):
        h = nn.gelu(nn.Dense(self.hidden)(x))
        return nn.Dense(x.shape[-1])(h)


class Encoder(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, name="attention")(y, y)
        return x + Mlp(4 * x.shape[-1])(nn.LayerNorm()(x))


class ViT(nn.Module):
    """Patches by a convolution, a class token, positions that are added."""

    width: int = 16
    depth: int = 2
    heads: int = 2
    classes: int = 5

    @nn.compact
    def __call__(self, image):
        patch = (4, 4)
        x = nn.Conv(self.width, patch, patch, padding="VALID", name="embedding")(image)
        x = x.reshape(len(x), -1, self.width)
        init = nn.initializers.normal(0.02)
        x = x + self.param("pos_embedding", init, (1, x.shape[1], self.width))
        token = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)
        for number in range(self.depth):
            x = Encoder(self.heads, name=f"block{number}")(x)
        x = nn.LayerNorm(name="norm")(x)
        return nn.Dense(self.classes, name="head", kernel_init=nn.initializers.zeros)(
            x[:, 0]
        )


VIT = """
embedding/kernel   kkio  48  .  input convolution      # 4 x 4 x 3 numbers of a patch
embedding/bias     none   .  .  bias
pos_embedding      none   .  .  bias|other                 # added to the patches
cls                none   .  .  other|embedding|bias       # only concatenated
block{0,1}/LayerNorm_{0,1}/scale  none . . scale
block{0,1}/LayerNorm_{0,1}/bias   none . . bias
block{0,1}/attention/query/kernel ioo 16 16 query  # (d, h, size)
block{0,1}/attention/key/kernel   ioo 16 16 key
block{0,1}/attention/value/kernel ioo 16 16 value
block{0,1}/attention/out/kernel   iio 16 16 attention_output residual_output
block{0,1}/attention/{query,key,value,out}/bias none . . bias
block{0,1}/Mlp_0/Dense_0/kernel  io 16 64
block{0,1}/Mlp_0/Dense_1/kernel  io 64 16 residual_output
block{0,1}/Mlp_0/Dense_{0,1}/bias none . . bias
norm/scale   none  .  .  scale
norm/bias    none  .  .  bias
head/kernel  io   16  5  readout
head/bias    none  .  .  bias
"""


class MixerBlock(nn.Module):
    tokens: int
    channels: int

    @nn.compact
    def __call__(self, x):
        y = jnp.swapaxes(nn.LayerNorm()(x), 1, 2)
        x = x + jnp.swapaxes(Mlp(self.tokens, name="token_mixing")(y), 1, 2)
        return x + Mlp(self.channels, name="channel_mixing")(nn.LayerNorm()(x))


class Mixer(nn.Module):
    @nn.compact
    def __call__(self, image):
        x = nn.Conv(16, (4, 4), (4, 4), name="stem")(image)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for number in range(2):
            x = MixerBlock(8, 32, name=f"block_{number}")(x)
        x = nn.LayerNorm(name="norm")(x).mean(axis=1)
        return nn.Dense(5, name="head")(x)


MIXER = """
stem/kernel   kkio  48  .  input convolution
stem/bias     none   .  .  bias
block_{0,1}/LayerNorm_{0,1}/scale  none . . scale
block_{0,1}/LayerNorm_{0,1}/bias   none . . bias
block_{0,1}/token_mixing/Dense_0/kernel    io  9   8                  # 9 patches
block_{0,1}/token_mixing/Dense_1/kernel    io  8   9 residual_output
block_{0,1}/channel_mixing/Dense_0/kernel  io 16  32
block_{0,1}/channel_mixing/Dense_1/kernel  io 32  16 residual_output
block_{0,1}/{token,channel}_mixing/Dense_{0,1}/bias none . . bias
norm/scale   none  .  .  scale
norm/bias    none  .  .  bias
head/kernel  io   16  5  readout
head/bias    none  .  .  bias
"""


class ConvNeXtBlock(nn.Module):
    """A depthwise window, an inverted bottleneck, and a factor of the branch."""

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        y = nn.Conv(width, (7, 7), feature_group_count=width, name="dwconv")(x)
        y = nn.gelu(nn.Dense(4 * width, name="pwconv1")(nn.LayerNorm(name="norm")(y)))
        y = nn.Dense(width, name="pwconv2")(y)
        gamma = self.param("gamma", nn.initializers.constant(1e-6), (width,))
        return x + jnp.reshape(gamma, (1, 1, 1, width)) * y


class ConvNeXt(nn.Module):
    @nn.compact
    def __call__(self, image):
        x = nn.LayerNorm(name="norm_0")(nn.Conv(8, (4, 4), (4, 4), name="stem")(image))
        x = ConvNeXtBlock(name="block_0")(x)
        x = nn.Conv(16, (2, 2), (2, 2), name="down")(nn.LayerNorm(name="norm_1")(x))
        x = ConvNeXtBlock(name="block_1")(x)
        x = nn.LayerNorm(name="norm_2")(x.mean(axis=(1, 2)))
        return nn.Dense(5, name="head")(x)


CONVNEXT = """
stem/kernel   kkio  48  .  input convolution
stem/bias     none   .  .  bias
norm_{0,1,2}/scale  none . . scale
norm_{0,1,2}/bias   none . . bias
block_{0,1}/dwconv/kernel  kkio 49 49 convolution   # one channel for each output
block_{0,1}/dwconv/bias    none  .  . bias
block_{0,1}/norm/scale     none  .  . scale
block_{0,1}/norm/bias      none  .  . bias
block_0/pwconv1/kernel     io    8 32
block_0/pwconv2/kernel     io   32  8 residual_output   # x + gamma y W
block_1/pwconv1/kernel     io   16 64
block_1/pwconv2/kernel     io   64 16 residual_output
block_{0,1}/pwconv{1,2}/bias none . . bias
block_{0,1}/gamma          none  .  . scale|other
down/kernel   kkio  32  .  convolution
down/bias     none   .  .  bias
head/kernel   io   16   5  readout
head/bias     none   .  .  bias
"""


def of(module, table, depth):
    image = floats(2, 12, 12, 3)
    return known(module, shapes(module.init, image), image, table=table, depth=depth)


MODELS = {
    "vit": lambda: of(ViT(), VIT, 4),
    "mixer": lambda: of(Mixer(), MIXER, 4),
    "convnext": lambda: of(ConvNeXt(), CONVNEXT, 2),
}
