"""A decoder in NNX: a list of blocks, blocks that nnx.scan stacks, and a tied layer."""

import jax.numpy as jnp
from flax import nnx

from tests.support.zoo.truth import floats, known, tokens

WIDTH, HEADS, VOCABULARY, LENGTH = 16, 2, 40, 6


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm1 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attn = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.norm2 = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        mask = nnx.make_causal_mask(jnp.ones(x.shape[:2]))
        x = x + self.dropout(self.attn(self.norm1(x), mask=mask))
        return x + self.dropout(self.down(nnx.gelu(self.up(self.norm2(x)))))


class Decoder(nnx.Module):
    """Tokens -> logits; the table of the tokens is the readout, too."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)

    def __call__(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = nnx.remat(Block.__call__)(block, x)
        return self.embed.attend(self.norm(x))


class Stacked(nnx.Module):
    """Blocks that are made by nnx.vmap and run by nnx.scan."""

    def __init__(self, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(rngs):
            return Block(rngs)

        self.embed = nnx.Linear(5, WIDTH, rngs=rngs)
        self.blocks = make(rngs)
        self.head = nnx.Linear(WIDTH, 3, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, block):
            return block(x)

        return self.head(run(self.embed(x), self.blocks))


def block(path, before):
    """Return the rows of a block; `before` are the letters of stacked axes."""
    return f"""
{path}/norm1/scale  none . . scale
{path}/norm1/bias   none . . bias
{path}/norm2/scale  none . . scale
{path}/attn/query/kernel  {before}ioo  16  16  query
{path}/attn/key/kernel    {before}ioo  16  16  key
{path}/attn/value/kernel  {before}ioo  16  16  value
{path}/attn/out/kernel    {before}iio  16  16  attention_output residual_output
{path}/attn/{{query,key,value,out}}/bias none . . bias
{path}/up/kernel          {before}io   16  64
{path}/down/kernel        {before}io   64  16  residual_output
{path}/{{up,down}}/bias none . . bias
"""


DECODER = (
    block("blocks/{0,1}", "")
    + """
embed/embedding  io   .  .  embedding readout
norm/scale       none .  .  scale
norm/bias        none .  .  bias
"""
)
STACKED = (
    block("blocks", "b")
    + """
embed/kernel  io   5  16  input
head/kernel   io  16   3  readout
{embed,head}/bias none . . bias
"""
)


def of(kind, x, table, depth):
    return known(nnx.eval_shape(lambda: kind(nnx.Rngs(0))), x, table=table, depth=depth)


MODELS = {
    "decoder in NNX": lambda: of(Decoder, tokens(2, LENGTH), DECODER, 4),
    "stacked blocks in NNX": lambda: of(Stacked, floats(2, LENGTH, 5), STACKED, 6),
}
