"""T5's encoder and decoder in Linen, with layers scanned along an axis of choice.

As the reference code bases write it: kernels are kept flat and used with their heads
apart, the table of relative positions meets a one-hot, and the logits are tied.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from tests.support.zoo.truth import known, shapes, tokens

WIDTH, HEADS, SIZE, HIDDEN, VOCABULARY, BUCKETS, LAYERS = 16, 2, 4, 24, 40, 8, 2


class DenseGeneral(nn.Module):
    """A kernel that is kept as a matrix and used with all its axes."""

    features: tuple[int, ...]
    axes: tuple[int, ...] = (-1,)

    @nn.compact
    def __call__(self, x):
        axes = tuple(axis % x.ndim for axis in self.axes)
        before = tuple(x.shape[axis] for axis in axes)
        shape = math.prod(before), math.prod(self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        kernel = kernel.reshape(before + self.features)
        contracted = axes, tuple(range(len(axes)))
        return jax.lax.dot_general(x, kernel, (contracted, ((), ())))


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        mean = jnp.mean(jax.lax.square(x), axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(mean + 1e-6) * scale[None, None, :]


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x, context, bias=None, mask=None):
        def heads(name, y):
            return DenseGeneral((HEADS, SIZE), name=name)(y)

        q, k, v = heads("query", x), heads("key", context), heads("value", context)
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        if bias is not None:
            logits = logits + jnp.broadcast_to(bias, logits.shape)
        if mask is not None:
            logits = jnp.where(mask, logits, -1e10)
        weights = jax.nn.softmax(logits)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        return DenseGeneral((WIDTH,), (-2, -1), name="out")(y)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        gate = nn.gelu(DenseGeneral((HIDDEN,), name="wi_0")(x))
        return DenseGeneral((WIDTH,), name="wo")(
            gate * DenseGeneral((HIDDEN,), name="wi_1")(x)
        )


class EncoderLayer(nn.Module):
    @nn.compact
    def __call__(self, x, bias):
        y = Norm(name="pre_attention_layer_norm")(x)
        x = x + Attention(name="attention")(y, y, bias)
        return x + Mlp(name="mlp")(Norm(name="pre_mlp_layer_norm")(x)), None


class DecoderLayer(nn.Module):
    @nn.compact
    def __call__(self, x, encoded, bias):
        y = Norm(name="pre_self_attention_layer_norm")(x)
        mask = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        x = x + Attention(name="self_attention")(y, y, bias, mask)
        y = Norm(name="pre_cross_attention_layer_norm")(x)
        x = x + Attention(name="encoder_decoder_attention")(y, encoded)
        return x + Mlp(name="mlp")(Norm(name="pre_mlp_layer_norm")(x)), None


class RelativePositions(nn.Module):
    @nn.compact
    def __call__(self, length):
        offsets = jnp.arange(length)[None, :] - jnp.arange(length)[:, None]
        buckets = jnp.clip(jnp.abs(offsets), 0, BUCKETS - 1)
        table = self.param(
            "rel_embedding", nn.initializers.normal(1.0), (HEADS, BUCKETS)
        )
        places = jax.lax.broadcasted_iota(jnp.int32, (BUCKETS, 1, 1), 0)
        one_hot = jnp.asarray(buckets[None] == places, table.dtype)
        return jax.lax.dot_general(table, one_hot, (((1,), (0,)), ((), ())))[None]


def scan(layer, axis, broadcast):
    return nn.scan(
        layer,
        variable_axes={"params": axis},
        split_rngs={"params": True},
        in_axes=(nn.broadcast,) * broadcast,
        length=LAYERS,
    )


class T5(nn.Module):
    axis: int

    @nn.compact
    def __call__(self, source, target):
        embed = nn.Embed(VOCABULARY, WIDTH, name="token_embedder")
        bias = RelativePositions(name="encoder_relpos")(source.shape[1])
        x = embed(source)
        x, _ = scan(EncoderLayer, self.axis, 1)(name="encoder")(x, bias)
        encoded = Norm(name="encoder_norm")(x)
        bias = RelativePositions(name="decoder_relpos")(target.shape[1])
        y = embed(target)
        y, _ = scan(DecoderLayer, self.axis, 2)(name="decoder")(y, encoded, bias)
        y = Norm(name="decoder_norm")(y)
        return embed.attend(y) / jnp.sqrt(WIDTH)


def table(matrix):
    """Return the table; `matrix` is the layout of a stacked kernel."""
    blocks = "encoder/attention", "decoder/self_attention"
    attentions = ",".join((*blocks, "decoder/encoder_decoder_attention"))
    return f"""
token_embedder/embedding  io  .  .  embedding readout   # attend contracts axis 1
{{encoder,decoder}}_relpos/rel_embedding  .  .  .  embedding|bias  # times a one-hot
{{encoder,decoder}}_norm/scale  none . . scale
encoder/pre_{{attention,mlp}}_layer_norm/scale  none . . scale
decoder/pre_{{self_attention,cross_attention,mlp}}_layer_norm/scale  none . . scale
{{{attentions}}}/query/kernel  {matrix} 16  8  query   # flat: (d, heads size)
{{{attentions}}}/key/kernel    {matrix} 16  8  key
{{{attentions}}}/value/kernel  {matrix} 16  8  value
{{{attentions}}}/out/kernel    {matrix}  8 16  attention_output residual_output
{{encoder,decoder}}/mlp/wi_0/kernel  {matrix} 16 24  gate
{{encoder,decoder}}/mlp/wi_1/kernel  {matrix} 16 24  up
{{encoder,decoder}}/mlp/wo/kernel    {matrix} 24 16  residual_output
"""


def of(axis, matrix):
    module, source, target = T5(axis), tokens(2, 6), tokens(2, 5)
    variables = shapes(module.init, source, target)
    # Two layers of two and of three residual additions.
    return known(module, variables, source, target, table=table(matrix), depth=10)


MODELS = {
    "t5, layers along axis 0": lambda: of(0, "bio"),
    "t5, layers along axis 1": lambda: of(1, "ibo"),
}
