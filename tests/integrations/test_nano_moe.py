"""A small language model whose MLPs are mixtures of experts, in Linen."""

import jax

from tests.support.integration import KEY, Case, Checks, Widths, library

nano_moe = library("nano_moe", "nano-moe-jax")

IDS = jax.random.randint(KEY, (4, 8), 0, 48)


def model(width=16):
    return nano_moe.NanoMoE(
        nano_moe.NanoMoEConfig(
            vocab_size=48,
            n_layers=2,
            n_heads=width // 8,
            d_model=width,
            d_ff=4 * width,
            block_size=8,
        )
    )


class TestNanoMoE(Checks):
    # Both branches of a block end in a sum: attention, and the experts' weighted mean.
    case = Case(
        slow=("coordinate_check_is_flat",),
        draw=lambda key: model().init(key, IDS),
        call=lambda variables: (model(), variables, IDS),
        table="""
Embed_0/embedding  io   .   .  embedding
pos_emb            .    .   .  bias|other|embedding
block_{0,1}/MultiHeadAttention_0/Dense_0/kernel io 16 48 query key value
block_{0,1}/MultiHeadAttention_0/Dense_1/kernel io 16 16 attention_output residual_output
block_{0,1}/MoELayer_0/Router_0/Dense_0/kernel  io 16  4 router
block_{0,1}/MoELayer_0/expert_{0,1,2,3}/Dense_0/kernel io 16 64 expert
block_{0,1}/MoELayer_0/expert_{0,1,2,3}/Dense_1/kernel io 64 16 expert residual_output
Dense_0/kernel     io  16  48  readout
""",  # noqa: E501
        depth=4,
        left=("Embed_0/embedding", "pos_emb"),
        spoiled="block_1/MoELayer_0/expert_2/Dense_1/kernel",
        widths=Widths(
            make=lambda width: (
                model(width).init,
                lambda variables, ids: model(width).apply(variables, ids)[0],
            ),
            sizes=(32, 128),
            # The choice of top_k jumps, so that slopes of routers scatter. Without muP
            # layers grow by 0.5 and more.
            tolerance=0.4,
            x=IDS[:2, :4],
            target=jax.random.normal(KEY, (2, 4, 48)),
            classes={
                "Embed_0/embedding": "input",
                "block_0/MultiHeadAttention_0/Dense_0/kernel": "hidden",
                "block_0/MoELayer_0/expert_1/Dense_0/kernel": "expert",
                "block_0/MoELayer_0/Router_0/Dense_0/kernel": "router",
                "block_0/LayerNorm_0/scale": "vector",
                "Dense_0/kernel": "output",
            },
        ),
    )
