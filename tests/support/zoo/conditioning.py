"""Models whose layers are scaled and shifted by data: DiT, FiLM, squeeze-excitation.

In plain JAX. Two towers whose outputs meet in a product, as in CLIP, are here too.
"""

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known

WIDTH, HEADS, SIZE = 16, 2, 8


def linear(p, x):
    return x @ p["kernel"] + p["bias"]


def affine(n, m):
    return {"kernel": dense(n, m), "bias": dense(m)}


def norm(x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-6)


def modulate(x, shift, scale):
    return x * (1 + scale[:, None, :]) + shift[:, None, :]


def attention(p, x):
    batch, length, width = x.shape
    qkv = linear(p["qkv"], x).reshape(batch, length, 3, HEADS, SIZE)
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    logits = jnp.einsum("bqhd,bkhd->bhqk", q * SIZE**-0.5, k)
    y = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits, axis=-1), v)
    return linear(p["proj"], y.reshape(batch, length, width))


def block(p, x, c):
    parts = jnp.split(linear(p["adaLN"], jax.nn.silu(c)), 6, axis=-1)
    shift1, scale1, gate1, shift2, scale2, gate2 = parts
    y = attention(p["attn"], modulate(norm(x), shift1, scale1))
    x = x + gate1[:, None, :] * y
    y = modulate(norm(x), shift2, scale2)
    y = linear(p["mlp"]["fc2"], jax.nn.gelu(linear(p["mlp"]["fc1"], y)))
    return x + gate2[:, None, :] * y


def dit(params, x, t):
    """Peebles & Xie 2023: a transformer whose norms and branches a time scales."""
    angles = t[:, None] * 2.0 ** jnp.arange(4)[None, :]
    t = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    c = linear(params["t2"], jax.nn.silu(linear(params["t1"], t)))
    x = linear(params["x_embedder"], x) + params["pos_embed"]
    for p in params["blocks"]:
        x = block(p, x, c)
    shift, scale = jnp.split(linear(params["final_adaLN"], jax.nn.silu(c)), 2, -1)
    return linear(params["final"], modulate(norm(x), shift, scale))


DIT_PARAMS = {
    "t1": affine(8, WIDTH),
    "t2": affine(WIDTH, WIDTH),
    "x_embedder": affine(5, WIDTH),
    "pos_embed": dense(1, 9, WIDTH),
    "blocks": [
        {
            "adaLN": affine(WIDTH, 6 * WIDTH),
            "attn": {"qkv": affine(WIDTH, 3 * WIDTH), "proj": affine(WIDTH, WIDTH)},
            "mlp": {"fc1": affine(WIDTH, 32), "fc2": affine(32, WIDTH)},
        }
    ]
    * 2,
    "final_adaLN": affine(WIDTH, 2 * WIDTH),
    "final": affine(WIDTH, 5),
}

# The branch is multiplied by a gate that does not come from the stream, and added.
DIT = """
t1/kernel          io   8  16  input
t2/kernel          io  16  16
x_embedder/kernel  io   5  16  input
pos_embed          .    .   .  bias|other|embedding
blocks/{0,1}/adaLN/kernel     io  16  96
blocks/{0,1}/attn/qkv/kernel  io  16  48  query key value
blocks/{0,1}/attn/proj/kernel io  16  16  attention_output residual_output
blocks/{0,1}/mlp/fc1/kernel   io  16  32
blocks/{0,1}/mlp/fc2/kernel   io  32  16  residual_output
final_adaLN/kernel io  16  32
final/kernel       io  16   5  readout
{t1,t2,x_embedder,final_adaLN,final}/bias none . . bias
blocks/{0,1}/{adaLN,attn/qkv,attn/proj,mlp/fc1,mlp/fc2}/bias none . . bias
"""


def squeeze(p, x):
    """Hu et al. 2018: channels are scaled by a sigmoid of their means."""
    s = jax.nn.relu(linear(p["down"], x.mean(axis=(1, 2))))
    return x * jax.nn.sigmoid(linear(p["up"], s))[:, None, None, :]


def convolve(kernel, x):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def squeeze_excitation(params, x):
    x = convolve(params["stem"], x)
    for p in params["blocks"]:
        y = convolve(p["conv2"], jax.nn.relu(convolve(p["conv1"], x)))
        x = jax.nn.relu(x + squeeze(p["se"], y))
    return linear(params["head"], x.mean(axis=(1, 2)))


SE_PARAMS = {
    "stem": dense(3, 3, 3, 8),
    "blocks": [
        {
            "conv1": dense(3, 3, 8, 8),
            "conv2": dense(3, 3, 8, 8),
            "se": {"down": affine(8, 2), "up": affine(2, 8)},
        }
    ],
    "head": affine(8, 4),
}

# y sigmoid(W relu(V mean(y))): the last products of the branch are conv2, and W, which
# only scales it.
SE = """
stem  kkio  27  72  input convolution
blocks/0/conv1  kkio  72  72  convolution
blocks/0/conv2  kkio  72  72  convolution residual_output
blocks/0/se/down/kernel  io  8  2
blocks/0/se/up/kernel    io  2  8  residual_output? gate?
blocks/0/se/{down,up}/bias  none . . bias
head/kernel  io  8  4  readout
head/bias    none .  .  bias
"""


def tower(p, x):
    h = jax.nn.relu(linear(p["fc"], x))
    y = h @ p["projection"]
    return y / jnp.linalg.norm(y, axis=-1, keepdims=True)


def clip(params, image, text):
    """Radford et al. 2021: cosines of two towers, times a learned temperature."""
    left, right = tower(params["image"], image), tower(params["text"], text)
    return jnp.exp(params["logit_scale"]) * left @ right.T


CLIP = """
image/fc/kernel   io   6  16  input
text/fc/kernel    io   5  16  input
{image,text}/fc/bias none  .  .  bias
{image,text}/projection  io  16  4  readout
logit_scale       none .   .  scale|other
"""

CLIP_PARAMS = {
    "image": {"fc": affine(6, 16), "projection": dense(16, 4)},
    "text": {"fc": affine(5, 16), "projection": dense(16, 4)},
    "logit_scale": dense(),
}

MODELS = {
    "dit": lambda: known(
        dit, DIT_PARAMS, floats(2, 9, 5), floats(2), table=DIT, depth=4
    ),
    "squeeze and excitation": lambda: known(
        squeeze_excitation, SE_PARAMS, floats(2, 8, 8, 3), table=SE, depth=1
    ),
    "clip": lambda: known(
        clip, CLIP_PARAMS, floats(7, 6), floats(7, 5), table=CLIP, depth=0
    ),
}
