"""Two models of equimo: a vision transformer with registers, and a ConvNeXt."""

import jax
import jax.numpy as jnp

from tests.support.integration import KEY, Case, Checks, Widths, library, of_equinox

models = library("equimo.models", "equimo")

IMAGES = jax.random.normal(KEY, (16, 3, 16, 16))
BLOCKS = "blocks/0/blocks/{0,1}"


def vit(key, width=32):
    return models.VisionTransformer(
        img_size=16,
        in_channels=3,
        dim=width,
        patch_size=4,
        num_heads=[width // 8],
        depths=[2],
        num_classes=10,
        key=key,
    )


def classified(model, images):
    return jax.vmap(lambda x: model(x, key=KEY, inference=True))(images)


class TestVisionTransformer(Checks):
    case = Case(
        slow=("coordinate_check_is_flat",),
        draw=vit,
        call=lambda model: (classified, model, IMAGES),
        # Dosovitskiy et al. 2021, with registers of Darcet et al. 2024.
        table=f"""
patch_embed/proj/weight  oikk  48  512  input convolution
cls_token                none   .    .  other
reg_tokens               none   .    .  other
global_pos_embed/weight  none   .    .  bias
{BLOCKS}/prenorm/weight  none   .    .  scale
{BLOCKS}/attn/qkv/weight   oi  32  96  query key value
{BLOCKS}/attn/proj/weight  oi  32  32  attention_output residual_output
{BLOCKS}/mlp/fc1/weight    oi  32  128
{BLOCKS}/mlp/fc2/weight    oi  128  32  residual_output
head/weight                oi  32  10  readout
""",
        depth=4,
        spoiled="blocks/0/blocks/1/mlp/fc1/weight",
        left=("global_pos_embed/weight", "cls_token", "reg_tokens"),
        widths=Widths(
            make=of_equinox(vit, classified),
            sizes=(32, 128),
            rate=1e-3,
            # Outputs of attention change by slopes of -0.2 at these widths. Without muP
            # they grow by 0.5 and more.
            tolerance=0.3,
            x=IMAGES,
            target=jnp.sin(IMAGES[:, 0, 0, :10]),
            classes={
                "patch_embed/proj/weight": "input",
                "blocks/0/blocks/0/attn/qkv/weight": "hidden",
                "blocks/0/blocks/0/mlp/fc2/weight": "hidden",
                "head/weight": "output",
            },
        ),
    )


LARGE = jax.random.normal(KEY, (16, 3, 32, 32))


def convnext(key, width=8):
    dims = [width, 2 * width, 3 * width, 4 * width]
    return models.ConvNeXt(3, depths=[1] * 4, dims=dims, num_classes=10, key=key)


class TestConvNeXt(Checks):
    case = Case(
        slow=("autoinit_sets_every_layer",),
        draw=convnext,
        call=lambda model: (classified, model, LARGE),
        # Liu et al. 2022. The branches begin with a LayerScale of 1e-6.
        table="""
blocks/0/downsample/conv/weight  oikk  48  128  input convolution
blocks/1/downsample/conv/weight  oikk  32   64  convolution
blocks/{0,1,2,3}/blocks/0/dwconv/weight   oikk  49  49  convolution
blocks/{0,1,2,3}/blocks/0/norm/weight     none   .   .  scale
blocks/{0,1,2,3}/blocks/0/ls/gamma        none   .   .  scale|other
blocks/2/blocks/0/pwconv1/weight          oikk  24  96  convolution
blocks/2/blocks/0/pwconv2/weight          oikk  96  24  convolution residual_output
blocks/3/downsample/norm/weight           none   .   .  scale
head/weight                                 oi  32  10  readout
""",
        depth=4,
        spoiled="blocks/2/downsample/conv/weight",
        # Grouped convolutions of several seeds at once take minutes on a CPU.
        widths=None,
    )
