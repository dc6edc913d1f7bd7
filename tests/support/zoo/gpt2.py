"""GPT-2 in plain JAX: Conv1D kernels (in, out), one kernel for q, k and v, tied logits.

The names are those of the published checkpoints.
"""

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, known, tokens

WIDTH, HEADS, VOCABULARY, POSITIONS, LENGTH = 16, 2, 40, 12, 6


def conv1d(p, x):
    return x @ p["weight"] + p["bias"]


def layer_norm(p, x, eps=1e-5):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + eps) * p["weight"] + p["bias"]


def attention(p, x):
    def heads(y):
        return y.reshape(*y.shape[:2], HEADS, -1).transpose(0, 2, 1, 3)

    q, k, v = map(heads, jnp.split(conv1d(p["c_attn"], x), 3, axis=-1))
    logits = q @ jnp.swapaxes(k, -1, -2) / jnp.sqrt(q.shape[-1])
    mask = jnp.tril(jnp.ones(logits.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(mask, logits, -1e10), axis=-1)
    y = (weights @ v).transpose(0, 2, 1, 3).reshape(x.shape)
    return conv1d(p["c_proj"], y)


def mlp(p, x):
    return conv1d(p["c_proj"], jax.nn.gelu(conv1d(p["c_fc"], x)))


def forward(params, ids, attention=attention, mlp=mlp):
    p = params["transformer"]
    x = p["wte"][ids] + p["wpe"][jnp.arange(ids.shape[1])]
    for block in p["h"]:
        x = x + attention(block["attn"], layer_norm(block["ln_1"], x))
        x = x + mlp(block["mlp"], layer_norm(block["ln_2"], x))
    return layer_norm(p["ln_f"], x) @ p["wte"].T


def kernel(n, m):
    return {"weight": dense(n, m), "bias": dense(m)}


def norm():
    return {"weight": dense(WIDTH), "bias": dense(WIDTH)}


def block():
    return {
        "ln_1": norm(),
        "attn": {
            "c_attn": kernel(WIDTH, 3 * WIDTH),
            "c_proj": kernel(WIDTH, WIDTH),
        },
        "ln_2": norm(),
        "mlp": {
            "c_fc": kernel(WIDTH, 4 * WIDTH),
            "c_proj": kernel(4 * WIDTH, WIDTH),
        },
    }


PARAMS = {
    "transformer": {
        "wte": dense(VOCABULARY, WIDTH),
        "wpe": dense(POSITIONS, WIDTH),
        "h": [block(), block()],
        "ln_f": norm(),
    }
}

TABLE = """
transformer/wte io . . embedding readout # wte[ids], h wte.T
transformer/wpe                       .     .   .  embedding|bias      # wpe[0..T]
transformer/h/{0,1}/ln_{1,2}/weight   none  .   .  scale
transformer/h/{0,1}/ln_{1,2}/bias     none  .   .  bias
transformer/h/{0,1}/attn/c_attn/weight io 16 48 query key value  # split into 3
transformer/h/{0,1}/attn/c_attn/bias  none  .   .  bias
transformer/h/{0,1}/attn/c_proj/weight io 16 16 attention_output residual_output
transformer/h/{0,1}/attn/c_proj/bias  none  .   .  bias
transformer/h/{0,1}/mlp/c_fc/weight   io   16  64                      # LN(x) W
transformer/h/{0,1}/mlp/c_fc/bias     none  .   .  bias
transformer/h/{0,1}/mlp/c_proj/weight io   64  16  residual_output     # x + gelu(h) W
transformer/h/{0,1}/mlp/c_proj/bias   none  .   .  bias
transformer/ln_f/weight               none  .   .  scale
transformer/ln_f/bias                 none  .   .  bias
"""


def jitted(params, ids):
    """Run blocks that are jitted one by one: two calls of one compiled function."""
    return forward(params, ids, jax.jit(attention), jax.jit(mlp))


IDS = tokens(2, LENGTH)
MODELS = {
    "gpt2": lambda: known(forward, PARAMS, IDS, table=TABLE, depth=4),
    "gpt2, jitted blocks": lambda: known(jitted, PARAMS, IDS, table=TABLE, depth=4),
}
