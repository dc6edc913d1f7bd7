"""The networks that Haiku brings, at small size."""

import jax
import jax.numpy as jnp

from tests.support.integration import KEY, Case, Checks, Widths, library

hk = library("haiku", "dm-haiku")

X = jax.random.normal(KEY, (64, 8))
IMAGES = jax.random.normal(KEY, (32, 32, 32, 3))


def perceptron(width=32):
    return hk.without_apply_rng(
        hk.transform(lambda x: hk.nets.MLP([width] * 2 + [4])(x))
    )


class TestPerceptron(Checks):
    case = Case(
        draw=lambda key: perceptron().init(key, X),
        call=lambda params: (perceptron(), params, X),
        table="""
mlp/~/linear_0/w  io   8  32  input
mlp/~/linear_1/w  io  32  32
mlp/~/linear_2/w  io  32   4  readout
mlp/~/linear_{0,1,2}/b none . . bias
""",
        depth=0,
        spoiled="mlp/~/linear_1/w",
        widths=Widths(
            make=lambda width: tuple(perceptron(width)),
            sizes=(64, 512),
            x=X,
            target=jnp.sin(X[:, :4]),
            classes={
                "mlp/~/linear_0/w": "input",
                "mlp/~/linear_1/w": "hidden",
                "mlp/~/linear_2/w": "output",
                "mlp/~/linear_1/b": "vector",
            },
        ),
    )


RESNET = hk.transform_with_state(
    lambda x: hk.nets.ResNet(
        (1, 1, 1, 1), 10, bottleneck=False, channels_per_group=(16, 16, 32, 32)
    )(x, is_training=True)
)
GROUPS = "res_net/~/block_group_{0,1,2,3}/~/block_0/~"


class TestResNet(Checks):
    case = Case(
        draw=lambda key: RESNET.init(key, IMAGES),
        call=lambda drawn: (RESNET, *drawn, IMAGES),
        # He et al. 2016, with one block in a group and no bottleneck.
        table=f"""
res_net/~/initial_conv/w  kkio  147  3136  input convolution
{GROUPS}/conv_0/w         kkio    .     .  convolution
{GROUPS}/conv_1/w         kkio    .     .  convolution residual_output
{GROUPS}/shortcut_conv/w  kkio    .     .  convolution
{GROUPS}/batchnorm_{{0,1}}/scale  none  .  .  scale
res_net/~/logits/w          io   32    10  readout
res_net/~/logits/b        none    .     .  bias
""",
        depth=4,
        spoiled="res_net/~/block_group_2/~/block_0/~/conv_0/w",
        # Haiku draws the readout as zeros (Goyal et al. 2017), which no factor scales.
        skip=("**/logits",),
        left=("res_net/~/logits/w",),
        autoinit_skip=("**/logits",),
        # The stem has 64 channels at any width, and the tests of Flax's ResNet grow.
        widths=None,
    )


MOBILENET = hk.transform_with_state(
    lambda x: hk.nets.MobileNetV1((1, 2, 1), (16, 32, 32), 10)(x, is_training=True)
)


class TestMobileNet(Checks):
    case = Case(
        draw=lambda key: MOBILENET.init(key, IMAGES),
        call=lambda drawn: (MOBILENET, *drawn, IMAGES),
        # Howard et al. 2017: a depthwise output reads 3 x 3 numbers of one channel.
        table="""
mobile_net_v1/conv2_d/w  kkio  27  288  input convolution
mobile_net_v1/mobile_net_v1_block{,_1,_2}/depthwise_conv/w  kkio  9  9  convolution
mobile_net_v1/mobile_net_v1_block/pointwise_conv/w    kkio  32  16  convolution
mobile_net_v1/mobile_net_v1_block_1/pointwise_conv/w  kkio  16  32  convolution
mobile_net_v1/mobile_net_v1_block_2/pointwise_conv/w  kkio  32  32  convolution
mobile_net_v1/logits/w    io  32  10  readout
""",
        depth=0,
        spoiled="mobile_net_v1/mobile_net_v1_block_1/pointwise_conv/w",
        widths=None,
    )
