"""Residual networks: v1 (post-activation) and v2 (pre-activation), Linen and NNX."""

import functools

import flax.linen as nn
import jax
from flax import nnx

from tests.support.zoo.truth import floats, known, shapes


class PostActivation(nn.Module):
    features: int
    stride: int
    train: bool

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, self.features, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=not self.train)
        strides = (self.stride, self.stride)
        y = nn.relu(norm(name="bn1")(conv((3, 3), strides, name="conv1")(x)))
        y = conv((3, 3), name="conv2")(y)
        y = norm(name="bn2", scale_init=nn.initializers.zeros)(y)
        if x.shape != y.shape:
            x = norm(name="bn_proj")(conv((1, 1), strides, name="conv_proj")(x))
        return nn.relu(x + y)


class PreActivation(nn.Module):
    features: int
    stride: int
    train: bool

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, self.features, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=not self.train)
        strides = (self.stride, self.stride)
        shortcut, y = x, nn.relu(norm(name="bn1")(x))
        if self.stride > 1:
            shortcut = conv((1, 1), strides, name="conv_proj")(y)
        y = nn.relu(norm(name="bn2")(conv((3, 3), strides, name="conv1")(y)))
        return shortcut + conv((3, 3), name="conv2")(y)


class ResNet(nn.Module):
    block: type
    train: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), use_bias=False, name="conv_init")(x)
        if self.block is PostActivation:
            x = nn.BatchNorm(use_running_average=not self.train, name="bn_init")(x)
            x = nn.relu(x)
        x = self.block(8, 1, self.train, name="block0")(x)
        x = self.block(16, 2, self.train, name="block1")(x)
        if self.block is PreActivation:
            x = nn.BatchNorm(use_running_average=not self.train, name="bn_final")(x)
            x = nn.relu(x)
        return nn.Dense(5, name="head")(x.mean(axis=(1, 2)))


CONVOLUTIONS = """
conv_init/kernel  kkio  27  72  input convolution       # 3 x 3 x 3
block0/conv1/kernel  kkio  72  72  convolution          # 9 x 8
block0/conv2/kernel  kkio  72  72  convolution residual_output
block1/conv1/kernel  kkio  72   .  convolution          # stride 2
block1/conv2/kernel  kkio 144 144  convolution residual_output
block1/conv_proj/kernel kkio 8  .  convolution          # the shortcut
head/kernel   io   16  5  readout
head/bias     none  .  .  bias
"""

# The scale multiplies the normalized value, or its 1 / std first.
POST = (
    CONVOLUTIONS
    + """
{bn_init,block1/bn_proj}/scale  none . . scale
{bn_init,block1/bn_proj}/bias   none . . bias
block{0,1}/bn{1,2}/scale  none . . scale
block{0,1}/bn{1,2}/bias   none . . bias
"""
)

PRE = (
    CONVOLUTIONS
    + """
bn_final/scale  none . . scale
bn_final/bias   none . . bias
block{0,1}/bn{1,2}/scale  none . . scale
block{0,1}/bn{1,2}/bias   none . . bias
"""
)


class NnxBlock(nnx.Module):
    def __init__(self, before, after, stride, rngs):
        def conv(n, m, size, stride):
            return nnx.Conv(
                n, m, (size, size), (stride, stride), use_bias=False, rngs=rngs
            )

        self.conv1 = conv(before, after, 3, stride)
        self.bn1 = nnx.BatchNorm(after, rngs=rngs)
        self.conv2 = conv(after, after, 3, 1)
        self.bn2 = nnx.BatchNorm(after, rngs=rngs)
        self.conv_proj = conv(before, after, 1, stride) if stride > 1 else None
        self.bn_proj = nnx.BatchNorm(after, rngs=rngs) if stride > 1 else None

    def __call__(self, x):
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.conv_proj is not None:
            x = self.bn_proj(self.conv_proj(x))
        return nnx.relu(x + y)


class NnxResNet(nnx.Module):
    def __init__(self, rngs):
        self.conv_init = nnx.Conv(3, 8, (3, 3), use_bias=False, rngs=rngs)
        self.bn_init = nnx.BatchNorm(8, rngs=rngs)
        self.block0 = NnxBlock(8, 8, 1, rngs)
        self.block1 = NnxBlock(8, 16, 2, rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(16, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn_init(self.conv_init(x)))
        x = self.block1(self.block0(x))
        return self.head(self.dropout(x.mean(axis=(1, 2))))


def of(block, table, train):
    module, image = ResNet(block, train), floats(2, 8, 8, 3)
    # In this architecture there are two residual additions.
    return known(module, shapes(module.init, image), image, table=table, depth=2)


def in_nnx():
    model = nnx.eval_shape(lambda: NnxResNet(nnx.Rngs(0)))
    return known(model, floats(2, 8, 8, 3), table=POST, depth=2)


def around(apply):
    """Return a function that hides the module, as libraries hand it out."""
    entry = of(PostActivation, POST, False)
    return entry._replace(model=jax.jit(lambda variables, x: apply(variables, x)))


MODELS = {
    "resnet v1": lambda: of(PostActivation, POST, False),
    "resnet v1 in training": lambda: of(PostActivation, POST, True),
    "resnet v1 in a function": lambda: around(ResNet(PostActivation).apply),
    "resnet v2": lambda: of(PreActivation, PRE, False),
    "resnet v2 in training": lambda: of(PreActivation, PRE, True),
    "resnet v1 in NNX": in_nnx,
}
