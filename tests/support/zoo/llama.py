"""Llama's decoder: RMSNorm, rotary embeddings, grouped queries, SwiGLU, no biases.

In plain JAX, with kernels (in, heads, size), and kernels (out, in) as in PyTorch's
checkpoints; with separate kernels, and with one for q, k, v and one for gate and up.
"""

import functools

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, known, tokens

WIDTH, HEADS, GROUPS, SIZE, HIDDEN, VOCABULARY, LENGTH = 32, 4, 2, 8, 24, 40, 6


def rms_norm(weight, x):
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-6)
    return weight * y.astype(x.dtype)


def gemma_norm(weight, x):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * (1 + weight)


def rotary(x):
    """Rotate halves: x is (batch, length, heads, size)."""
    length, size = x.shape[1], x.shape[-1]
    rates = 10000.0 ** (-jnp.arange(0, size, 2) / size)
    angles = jnp.arange(length)[:, None] * rates[None, :]
    cos = jnp.concatenate([jnp.cos(angles)] * 2, -1)[None, :, None, :]
    sin = jnp.concatenate([jnp.sin(angles)] * 2, -1)[None, :, None, :]
    first, second = jnp.split(x, 2, axis=-1)
    return x * cos + jnp.concatenate([-second, first], axis=-1) * sin


def attend(q, k, v, cap=None):
    """Grouped queries: each key serves HEADS / GROUPS queries."""
    batch, length = q.shape[:2]
    q = q.reshape(batch, length, GROUPS, HEADS // GROUPS, SIZE)
    logits = jnp.einsum("btgrd,bsgd->bgrts", q, k) * SIZE**-0.5
    if cap is not None:
        logits = cap * jnp.tanh(logits / cap)
    mask = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(mask, logits, -jnp.inf), axis=-1)
    return jnp.einsum("bgrts,bsgd->btgrd", weights, v)


def layer(p, x):
    h = rms_norm(p["input_norm"], x)
    q = rotary(jnp.einsum("btd,dhk->bthk", h, p["wq"]))
    k = rotary(jnp.einsum("btd,dhk->bthk", h, p["wk"]))
    v = jnp.einsum("btd,dhk->bthk", h, p["wv"])
    y = attend(q, k, v).reshape(*x.shape[:2], HEADS, SIZE)
    x = x + jnp.einsum("bthk,hkd->btd", y, p["wo"])
    h = rms_norm(p["post_norm"], x)
    return x + (jax.nn.silu(h @ p["w_gate"]) * (h @ p["w_up"])) @ p["w_down"]


def fused_layer(p, x):
    """One kernel (out, in) for q, k and v; one for gate and up; norms of q and k."""
    h = gemma_norm(p["input_norm"], x)
    qkv = h @ p["qkv_proj"].T
    q, k, v = jnp.split(qkv, [HEADS * SIZE, (HEADS + GROUPS) * SIZE], axis=-1)
    split = (*x.shape[:2], -1, SIZE)
    q = rotary(gemma_norm(p["q_norm"], q.reshape(split)))
    k = rotary(gemma_norm(p["k_norm"], k.reshape(split)))
    y = attend(q, k, v.reshape(split), cap=50.0)
    x = x + y.reshape(*x.shape[:2], -1) @ p["o_proj"].T
    h = gemma_norm(p["post_norm"], x)
    gate, up = jnp.split(h @ p["gate_up_proj"].T, 2, axis=-1)
    return x + (jax.nn.gelu(gate) * up) @ p["down_proj"].T


def forward(one, norm, params, ids):
    x = params["embed"][ids]
    for p in params["layers"]:
        x = one(p, x)
    return norm(params["norm"], x) @ params["lm_head"]


def library_attention(p, x):
    """Attention by jax.nn.dot_product_attention, and one checkpointed block."""
    h = rms_norm(p["input_norm"], x)
    q, k, v = (jnp.einsum("btd,dhk->bthk", h, p[n]) for n in ("wq", "wk", "wv"))
    y = jax.nn.dot_product_attention(rotary(q), rotary(k), v, is_causal=True)
    x = x + jnp.einsum("bthk,hkd->btd", y, p["wo"])
    h = rms_norm(p["post_norm"], x)
    return x + (jax.nn.silu(h @ p["w_gate"]) * (h @ p["w_up"])) @ p["w_down"]


def packed(params, ids, positions, segments):
    """Positions and a mask of packed sequences are inputs, as in training code."""
    same = segments[:, :, None] == segments[:, None, :]
    mask = same & (positions[:, :, None] >= positions[:, None, :])
    rates = 10000.0 ** (-jnp.arange(0, SIZE, 2) / SIZE)
    angles = positions[..., None, None] * rates

    def rotate(x):
        first, second = jnp.split(x, 2, axis=-1)
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        turned = first * cos - second * sin, second * cos + first * sin
        return jnp.concatenate(turned, axis=-1)

    def one(p, x):
        h = rms_norm(p["input_norm"], x)
        q, k, v = (jnp.einsum("btd,dhk->bthk", h, p[n]) for n in ("wq", "wk", "wv"))
        q, k = rotate(q).reshape(*x.shape[:2], GROUPS, -1, SIZE), rotate(k)
        logits = jnp.einsum("btgrd,bsgd->bgrts", q, k) / jnp.sqrt(SIZE)
        logits = logits + jnp.where(mask, 0.0, -1e9)[:, None, None]
        y = jnp.einsum("bgrts,bsgd->btgrd", jax.nn.softmax(logits), v)
        y = y.reshape(*x.shape[:2], HEADS, SIZE)
        x = x + jnp.einsum("bthk,hkd->btd", y, p["wo"])
        h = rms_norm(p["post_norm"], x)
        return x + (jax.nn.silu(h @ p["w_gate"]) * (h @ p["w_up"])) @ p["w_down"]

    return forward(one, rms_norm, params, ids)


def scanned(params, ids):
    x = params["embed"][ids]
    body = jax.checkpoint(lambda x, p: (layer(p, x), None))
    x, _ = jax.lax.scan(body, x, params["layers"])
    return rms_norm(params["norm"], x) @ params["lm_head"]


def separate():
    return {
        "input_norm": dense(WIDTH),
        "wq": dense(WIDTH, HEADS, SIZE),
        "wk": dense(WIDTH, GROUPS, SIZE),
        "wv": dense(WIDTH, GROUPS, SIZE),
        "wo": dense(HEADS, SIZE, WIDTH),
        "post_norm": dense(WIDTH),
        "w_gate": dense(WIDTH, HIDDEN),
        "w_up": dense(WIDTH, HIDDEN),
        "w_down": dense(HIDDEN, WIDTH),
    }


def fused():
    return {
        "input_norm": dense(WIDTH),
        "qkv_proj": dense((HEADS + 2 * GROUPS) * SIZE, WIDTH),
        "q_norm": dense(SIZE),
        "k_norm": dense(SIZE),
        "o_proj": dense(WIDTH, HEADS * SIZE),
        "post_norm": dense(WIDTH),
        "gate_up_proj": dense(2 * HIDDEN, WIDTH),
        "down_proj": dense(WIDTH, HIDDEN),
    }


def whole(layers):
    return {
        "embed": dense(VOCABULARY, WIDTH),
        "layers": layers,
        "norm": dense(WIDTH),
        "lm_head": dense(WIDTH, VOCABULARY),
    }


ENDS = """
embed      io   .   .  embedding        # embed[ids]
norm       none .   .  scale
lm_head    io  32  40  readout          # h W: logits
"""

SEPARATE = (
    ENDS
    + """
layers/{0,1}/{input,post}_norm  none .   .  scale
layers/{0,1}/wq      ioo  32  32  query    # btd,dhk->bthk
layers/{0,1}/wk      ioo  32  16  key      # two groups of size 8
layers/{0,1}/wv      ioo  32  16  value
layers/{0,1}/wo      iio  32  32  attention_output residual_output  # bthk,hkd->btd
layers/{0,1}/w_gate  io   32  24  gate     # silu(h W)
layers/{0,1}/w_up    io   32  24  up
layers/{0,1}/w_down  io   24  32  residual_output
"""
)

FUSED = (
    ENDS
    + """
layers/{0,1}/{input,post}_norm  none .   .  scale
layers/{0,1}/{q,k}_norm         none .   .  scale
layers/{0,1}/qkv_proj      oi  32  64  query key value  # h W.T contracts axis 1
layers/{0,1}/o_proj        oi  32  32  attention_output residual_output
layers/{0,1}/gate_up_proj  oi  32  48  gate up
layers/{0,1}/down_proj     oi  24  32  residual_output
"""
)

SCANNED = (
    ENDS
    + """
layers/{input,post}_norm  none .   .  scale
layers/wq      bioo  32  32  query    # axis 0 is scanned over
layers/wk      bioo  32  16  key
layers/wv      bioo  32  16  value
layers/wo      biio  32  32  attention_output residual_output
layers/w_gate  bio   32  24  gate
layers/w_up    bio   32  24  up
layers/w_down  bio   24  32  residual_output
"""
)


def stacked(tree, number):
    return jax.tree.map(lambda a: dense(number, *a.shape), tree)


def of(one, norm, params):
    return functools.partial(forward, one, norm), whole([params(), params()]), IDS


IDS = tokens(2, LENGTH)
MODELS = {
    "llama": lambda: known(*of(layer, rms_norm, separate), table=SEPARATE, depth=4),
    "llama, remat": lambda: known(
        *of(jax.checkpoint(layer), rms_norm, separate), table=SEPARATE, depth=4
    ),
    "llama, jax.nn attention": lambda: known(
        *of(library_attention, rms_norm, separate), table=SEPARATE, depth=4
    ),
    "llama, fused, (out, in)": lambda: known(
        *of(fused_layer, gemma_norm, fused), table=FUSED, depth=4
    ),
    # A mask and positions are no features: nothing behind them reads the data.
    "llama, packed sequences": lambda: known(
        packed,
        whole([separate(), separate()]),
        IDS,
        IDS,
        IDS,
        table=SEPARATE,
        depth=4,
    ),
    "llama, scanned": lambda: known(
        scanned, whole(stacked(separate(), 3)), IDS, table=SCANNED, depth=6
    ),
}
