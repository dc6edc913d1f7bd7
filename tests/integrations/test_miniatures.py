"""Models of packages that do not install, written anew: see tests/support/miniatures.

T5 is that of tests/support/zoo, whose layers are scanned along axis 1.
"""

import jax

from tests.support.integration import KEY, Case, Checks
from tests.support.miniatures import gemma, s5, style_gan, vit_moe
from tests.support.zoo import t5

IDS = jax.random.randint(KEY, (4, 8), 0, 40)
GEMMA = gemma.Gemma(16)


class TestGemmaOfEinsums(Checks):
    case = Case(
        draw=lambda key: GEMMA.init(key, IDS),
        call=lambda variables: (GEMMA, variables, IDS),
        table=gemma.TABLE,
        left=("input_embedding",),
        depth=4,
        spoiled="layer_1/attn/q_einsum/w",
    )


SOURCE, TARGET = IDS[:, :6], IDS[:, :5]
T5 = t5.T5(1)


class TestT5AlongAxisOne(Checks):
    case = Case(
        draw=lambda key: T5.init(key, SOURCE, TARGET),
        call=lambda variables: (T5, variables, SOURCE, TARGET),
        table=t5.table("ibo"),
        left=("*_relpos/rel_embedding", "token_embedder/embedding"),
        depth=10,
        spoiled="encoder/mlp/wi_1/kernel",
    )


IMAGES = jax.random.normal(KEY, (8, 8, 8, 3))
VIT_MOE = vit_moe.ViTMoE(16)


class TestViTMoE(Checks):
    case = Case(
        draw=lambda key: VIT_MOE.init(key, IMAGES),
        call=lambda variables: (VIT_MOE, variables, IMAGES),
        table=vit_moe.TABLE,
        left=("positions",),
        depth=4,
        spoiled="mlp_1/experts/up/kernel",
    )


LATENTS = jax.random.normal(KEY, (8, 8))
STYLE_GAN = style_gan.Generator(16)


class TestStyleGAN2(Checks):
    case = Case(
        draw=lambda key: STYLE_GAN.init(key, LATENTS),
        call=lambda variables: (STYLE_GAN, variables, LATENTS),
        table=style_gan.TABLE,
        depth=None,
        spoiled="conv_1/affine/weight",
    )


SEQUENCES = jax.random.normal(KEY, (4, 16, s5.FEATURES))


class TestS5(Checks):
    case = Case(
        draw=s5.draw,
        call=lambda params: (s5.apply, params, SEQUENCES),
        table=s5.TABLE,
        depth=None,
        spoiled="layers/1/C_re",
    )
