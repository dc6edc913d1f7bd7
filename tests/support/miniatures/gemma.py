"""Gemma 2 (Gemma Team 2024) is written in Linen, with its reference code's kernels.

Every projection is an einsum: queries (heads, d, size), keys and values together
(2, heads, d, size), the output (heads, size, d), the two of the gated unit together
(2, hidden, d). Queries come in groups, norms stand before and behind each branch, and
logits are capped by a tanh.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

VOCABULARY, LAYERS, SIZE, QUERIES = 48, 2, 4, 2


class Einsum(nn.Module):
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, equation, x):
        return jnp.einsum(
            equation, x, self.param("w", nn.initializers.normal(), self.shape)
        )


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.zeros, x.shape[-1:])
        mean = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(mean + 1e-6) * (1 + scale)


def rotated(x):
    """Turn pairs of entries by angles that grow with the position."""
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-jnp.arange(half) / half)
    angles = (jnp.arange(x.shape[1])[:, None] * rates)[None, :, None, :]
    one, other = jnp.split(x, 2, axis=-1)
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    return jnp.concatenate([one * cos - other * sin, other * cos + one * sin], -1)


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        width, heads = x.shape[-1], x.shape[-1] // SIZE
        groups = heads // QUERIES
        query = Einsum((heads, width, SIZE), name="q_einsum")("BTD,NDH->BTNH", x)
        pair = Einsum((2, groups, width, SIZE), name="kv_einsum")
        key, value = pair("BSD,CKDH->CBSKH", x)
        query, key = rotated(query) * SIZE**-0.5, rotated(key)
        query = query.reshape(*x.shape[:2], groups, QUERIES, SIZE)
        logits = jnp.einsum("BTKGH,BSKH->BTKGS", query, key)
        logits = 50 * jnp.tanh(logits / 50)
        mask = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        logits = jnp.where(mask[None, :, None, None, :], logits, -2e38)
        weights = jax.nn.softmax(logits, axis=-1)
        y = jnp.einsum("BTKGS,BSKH->BTKGH", weights, value)
        y = y.reshape(*x.shape[:2], heads, SIZE)
        shape = (heads, SIZE, width)
        return Einsum(shape, name="attn_vec_einsum")("BTNH,NHD->BTD", y)


class FeedForward(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = 2 * x.shape[-1]
        pair = Einsum((2, hidden, x.shape[-1]), name="gating_einsum")
        gate, up = jnp.split(pair("BTF,NHF->BTNH", x), 2, axis=2)
        y = (nn.gelu(gate) * up)[:, :, 0]
        return Einsum((hidden, x.shape[-1]), name="linear")("BTH,HF->BTF", y)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = Attention(name="attn")(Norm(name="pre_attention_norm")(x))
        x = x + Norm(name="post_attention_norm")(y)
        y = FeedForward(name="mlp")(Norm(name="pre_ffw_norm")(x))
        return x + Norm(name="post_ffw_norm")(y)


class Gemma(nn.Module):
    width: int
    # What muP multiplies the logits of an embedding by, before they are capped.
    factor: float = 1.0

    @nn.compact
    def __call__(self, ids):
        shape = (VOCABULARY, self.width)
        table = self.param("input_embedding", nn.initializers.normal(), shape)
        x = table[ids] * jnp.sqrt(self.width)
        for number in range(LAYERS):
            x = Block(name=f"layer_{number}")(x)
        logits = jnp.dot(Norm(name="final_norm")(x), table.T) * self.factor
        return 30 * jnp.tanh(logits / 30)


TABLE = """
input_embedding  io  .  .  embedding readout
layer_{0,1}/attn/q_einsum/w   oio  16 16  query            # BTD,NDH->BTNH
layer_{0,1}/attn/kv_einsum/w  ooio 16 16  key value        # BSD,CKDH->CBSKH
layer_{0,1}/attn/attn_vec_einsum/w  iio  16 16  attention_output residual_output
layer_{0,1}/mlp/gating_einsum/w  ooi  16 64  gate up       # BTF,NHF->BTNH
layer_{0,1}/mlp/linear/w         io   32 16  residual_output
layer_{0,1}/pre_{attention,ffw}_norm/scale   none . . scale
layer_{0,1}/post_{attention,ffw}_norm/scale  none . . scale
final_norm/scale  none . . scale
"""
