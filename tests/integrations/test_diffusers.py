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
    # 32 groups of one channel would take the time away, which is added to channels.
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
        table="""
""",
        depth=None,
        spoiled="mid_block/resnets_0/conv2/kernel",
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
""",
        depth=None,
        spoiled="encoder/mid_block/resnets_1/conv1/kernel",
    )
