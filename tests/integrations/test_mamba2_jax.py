"""Mamba-2 (Dao & Gu 2024) in NNX, in its parallel form."""

import jax
from flax import nnx

from tests.support.integration import KEY, Case, Checks, Widths, library

mamba2 = library("mamba2_jax", "mamba2-jax")

IDS = jax.random.randint(KEY, (4, 8), 0, 48)


def model(width=16, head_dim=8, *, rngs):
    config = mamba2.Mamba2Config(
        vocab_size=48,
        hidden_size=width,
        state_size=8,
        head_dim=head_dim,
        chunk_size=8,
        num_hidden_layers=2,
    )
    return mamba2.Mamba2ForCausalLM(config, rngs=rngs)


def logits(model, ids):
    return model(ids)["logits"]


class Logits(nnx.Module):
    """The model with its logits, and the factor of muP for those of an embedding."""

    def __init__(self, width, *, rngs):
        # Steps of time are log-uniform: few heads have no mean that tells a slope.
        self.model = model(width, 2, rngs=rngs)
        self.factor = 32 / width

    def __call__(self, ids):
        return logits(self.model, ids) * self.factor


# The projection has the gate z (32), x (32), B (8), C (8) and dt (4) of 4 heads.
class TestMamba2(Checks):
    case = Case(
        draw=lambda key: model(rngs=nnx.Rngs(key)),
        call=lambda model: (logits, model, IDS),
        table="""
backbone/embedder/embedding   io  .  .  embedding readout
backbone/layers/{0,1}/mixer/in_proj/kernel   io  16  84
backbone/layers/{0,1}/mixer/conv1d/conv/kernel  .  .  .  other
backbone/layers/{0,1}/mixer/out_proj/kernel  io  32  16  residual_output
backbone/layers/{0,1}/mixer/dt_bias  none . .  bias
backbone/layers/{0,1}/norm/weight    none . .  scale
backbone/final_norm/weight           none . .  scale
""",
        depth=2,
        spoiled="backbone/layers/1/mixer/out_proj/kernel",
        # Its convolution is written as shifts and products, which are no layer.
        left=(
            "backbone/embedder/embedding",
            "backbone/layers/?/mixer/conv1d/conv/kernel",
        ),
        widths=Widths(
            make=lambda width, *, rngs: Logits(width, rngs=rngs),
            readout="multiplier",
            sizes=(32, 128),
            x=IDS[:2, :4],
            target=jax.random.normal(KEY, (2, 4, 48)),
            classes={
                "model/backbone/embedder/embedding": "output",
                "model/backbone/layers/0/mixer/in_proj/kernel": "hidden",
                "model/backbone/layers/0/mixer/out_proj/kernel": "hidden",
                "model/backbone/layers/0/norm/weight": "vector",
            },
        ),
    )
