"""The U-Net and the autoencoder of Stable Diffusion (Rombach et al. 2022), in Linen."""

import jax
import jax.numpy as jnp

from tests.support.integration import KEY, Case, Checks, library

diffusers = library("diffusers")

UNET = diffusers.FlaxUNet2DConditionModel(
    sample_size=8,
    in_channels=4,
    out_channels=4,
    down_block_types=("CrossAttnDownBlock2D",),
    up_block_types=("CrossAttnUpBlock2D",),
    # The time is added to channels, and groups of one channel would take it away.
    block_out_channels=(64,),
    layers_per_block=1,
    attention_head_dim=2,
    cross_attention_dim=16,
)
LATENTS = jax.random.normal(KEY, (2, 4, 8, 8))
TIMES = jnp.asarray([3, 700])
TEXT = jax.random.normal(KEY, (2, 5, 16))


class TestUNet(Checks):
    case = Case(
        draw=lambda key: {"params": UNET.init_weights(key)},
        call=lambda variables: (UNET, variables, LATENTS, TIMES, TEXT),
        # Time goes to each block of convolutions, and text to the second attention.
        # Long skips double the channels of `up_blocks`. The gated unit is fused, and
        # four times as wide.
        table="""
conv_in/kernel   kkio   36 576  input convolution
time_embedding/linear_1/kernel  io   64 256  input
time_embedding/linear_2/kernel  io  256 256
{down_blocks_0,mid_block}/resnets_0/conv1/kernel  kkio  576 576  convolution
{down_blocks_0,mid_block}/resnets_0/conv2/kernel  kkio  576 576  convolution residual_output
{down_blocks_0,mid_block}/resnets_0/time_emb_proj/kernel  io  256 64
up_blocks_0/resnets_{0,1}/conv1/kernel  kkio  1152 576  convolution
up_blocks_0/resnets_{0,1}/conv2/kernel  kkio  576  576  convolution residual_output
up_blocks_0/resnets_{0,1}/conv_shortcut/kernel  kkio  128 64  convolution
{down_blocks_0,mid_block}/attentions_0/proj_in/kernel   kkio  64 64  convolution
{down_blocks_0,mid_block}/attentions_0/proj_out/kernel  kkio  64 64  convolution residual_output
mid_block/attentions_0/transformer_blocks_0/attn1/to_q/kernel  io  64 64  query
mid_block/attentions_0/transformer_blocks_0/attn1/to_k/kernel  io  64 64  key
mid_block/attentions_0/transformer_blocks_0/attn1/to_v/kernel  io  64 64  value
mid_block/attentions_0/transformer_blocks_0/attn2/to_q/kernel  io  64 64  query
mid_block/attentions_0/transformer_blocks_0/attn2/to_k/kernel  io  16 64  key input
mid_block/attentions_0/transformer_blocks_0/attn2/to_v/kernel  io  16 64  value input
mid_block/attentions_0/transformer_blocks_0/attn{1,2}/to_out_0/kernel io 64 64 attention_output residual_output
mid_block/attentions_0/transformer_blocks_0/ff/net_0/proj/kernel  io  64 512  gate up
mid_block/attentions_0/transformer_blocks_0/ff/net_2/kernel       io 256  64  residual_output
conv_out/kernel  kkio  576  36  readout convolution
""",  # noqa: E501
        # Five blocks of convolutions; four of attention, with three branches in each.
        depth=5 + 4 * 4,
        spoiled="mid_block/resnets_0/conv2/kernel",
        # Its widths are not varied: a step of training compiles for half a minute.
    )


AUTOENCODER = diffusers.FlaxAutoencoderKL(
    down_block_types=("DownEncoderBlock2D",),
    up_block_types=("UpDecoderBlock2D",),
    block_out_channels=(32,),
    layers_per_block=1,
    latent_channels=4,
    sample_size=8,
)
IMAGES = jax.random.normal(KEY, (2, 3, 8, 8))


class TestAutoencoder(Checks):
    case = Case(
        draw=lambda key: {"params": AUTOENCODER.init_weights(key)},
        call=lambda variables: (AUTOENCODER, variables, IMAGES),
        table="""
encoder/conv_in/kernel   kkio   27 288  input convolution
{encoder,decoder}/mid_block/resnets_{0,1}/conv1/kernel  kkio  288 288  convolution
{encoder,decoder}/mid_block/resnets_{0,1}/conv2/kernel  kkio  288 288  convolution residual_output
{encoder,decoder}/mid_block/attentions_0/query/kernel      io  32  32  query
{encoder,decoder}/mid_block/attentions_0/key/kernel        io  32  32  key
{encoder,decoder}/mid_block/attentions_0/value/kernel      io  32  32  value
{encoder,decoder}/mid_block/attentions_0/proj_attn/kernel  io  32  32  attention_output residual_output
encoder/conv_out/kernel  kkio  288  72  convolution   # means and log variances
quant_conv/kernel        kkio    8   8  convolution
post_quant_conv/kernel   kkio    4   4  convolution
decoder/conv_out/kernel  kkio  288  27  readout convolution
""",  # noqa: E501
        # Three branches in the middle of each half; one block down, and two up.
        depth=2 * 3 + 1 + 2,
        spoiled="encoder/mid_block/resnets_1/conv1/kernel",
        # Its widths are not varied: as above.
    )
