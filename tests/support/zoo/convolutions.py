"""Convolutions of every kind, one after another, in plain JAX and in Linen.

fan_in counts the numbers that an output reads, fan_out the outputs that read an input.
"""

import flax.linen as nn
import jax

from tests.support.zoo.truth import dense, floats, known, shapes


def plain(params, x):
    """Run images (N, C, H, W) with kernels (O, I, H, W), as in PyTorch."""
    forms = ("NCHW", "OIHW", "NCHW")

    def convolve(x, kernel, groups=1, dilation=(1, 1)):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", rhs_dilation=dilation, dimension_numbers=forms,
            feature_group_count=groups,
        )  # fmt: skip

    x = jax.nn.relu(convolve(x, params["first"]))
    x = jax.nn.relu(convolve(x, params["grouped"], groups=2))
    x = jax.nn.relu(convolve(x, params["depthwise"], groups=12))
    x = jax.nn.relu(convolve(x, params["dilated"], dilation=(2, 2)))
    x = jax.lax.conv_transpose(x, params["up"], (2, 2), "SAME", dimension_numbers=forms)
    return x.mean(axis=(2, 3)) @ params["head"]


PLAIN_PARAMS = {
    "first": dense(8, 3, 3, 3),
    "grouped": dense(12, 4, 3, 3),
    "depthwise": dense(12, 1, 5, 5),
    "dilated": dense(6, 12, 3, 3),
    "up": dense(10, 6, 4, 4),
    "head": dense(10, 3),
}
PLAIN = """
first      oikk  27   72  input convolution
grouped    oikk  36   54  convolution  # 4 of 8 channels; 12 outputs in 2 groups
depthwise  oikk  25   25  convolution  # 1 channel; 12 outputs in 12 groups
dilated    oikk 108   54  convolution
up         oikk  24    .  convolution  # stride 2: 2 x 2 of 4 x 4 taps, 6 channels
head       io    10    3  readout
"""


class Windows(nn.Module):
    """Windows of one and three axes, and Linen's transposed kernels."""

    @nn.compact
    def __call__(self, sound, volume):
        x = nn.relu(nn.Conv(8, (5,), name="sound")(sound))
        x = nn.ConvTranspose(6, (4,), (2,), transpose_kernel=True, name="longer")(x)
        y = nn.relu(nn.Conv(8, (3, 3, 3), name="volume")(volume))
        y = nn.Conv(6, (1, 1, 1), kernel_dilation=(2, 2, 2), name="mix")(y)
        z = nn.tanh(x.mean(axis=1) + y.mean(axis=(1, 2, 3)))
        return nn.Dense(3, name="head")(z)


WINDOWS = """
sound/kernel   kio   10    .  input convolution
longer/kernel  koi   16    .  convolution  # (window, out, in): 2 of 4 taps, 8 channels
volume/kernel  kkkio 54    .  input convolution
mix/kernel     kkkio  8    6  convolution
head/kernel    io     6    3  readout
{sound,longer,volume,mix,head}/bias none . . bias
"""


def windows():
    module, inputs = Windows(), (floats(2, 9, 2), floats(2, 4, 4, 4, 2))
    variables = shapes(module.init, *inputs)
    return known(module, variables, *inputs, table=WINDOWS, depth=0)


MODELS = {
    "convolutions": lambda: known(
        plain, PLAIN_PARAMS, floats(2, 3, 8, 8), table=PLAIN, depth=0
    ),
    "windows in Linen": windows,
}
