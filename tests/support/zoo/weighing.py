"""Weights that sum to one: attention of many forms, pooling, routing. In plain JAX."""

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known

WIDTH, HEADS, SIZE, LENGTH = 16, 2, 8, 8


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def block(attention):
    def forward(params, x):
        x = x @ params["embed"]
        x = x + attention(params["attention"], norm(x))
        return x.mean(axis=1) @ params["head"]

    return forward


def whole(**attention):
    return {
        "embed": dense(5, WIDTH),
        "attention": attention,
        "head": dense(WIDTH, 3),
    }


ENDS = """
embed  io   5  16  input
head   io  16   3  readout
"""
HEAD = dense(WIDTH, HEADS, SIZE)
OUT = dense(HEADS, SIZE, WIDTH)
FOUR = {"q": HEAD, "k": HEAD, "v": HEAD, "o": OUT}
COMMON = (
    ENDS
    + """
attention/q  ioo  16  16  query
attention/k  ioo  16  16  key
attention/v  ioo  16  16  value
attention/o  iio  16  16  attention_output residual_output
"""
)


def projected(p, x):
    return (jnp.einsum("btd,dhk->bhtk", x, p[name]) for name in "qkv")


def by_hand(p, x):
    """A softmax by hand, with ALiBi, and one more in the sum."""
    q, k, v = projected(p, x)
    distance = jnp.abs(jnp.arange(LENGTH)[:, None] - jnp.arange(LENGTH)[None, :])
    logits = q @ jnp.swapaxes(k, 2, 3) / 8**0.5 - distance * 0.5
    e = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    y = (e / (1 + jnp.sum(e, axis=-1, keepdims=True))) @ v
    return jnp.einsum("bhtk,hkd->btd", y, p["o"])


def after_the_sum(p, x):
    """The weights are divided by their sum after they met the values."""
    q, k, v = projected(p, x)
    e = jnp.exp(jnp.einsum("bhtk,bhsk->bhts", q, k))
    y = jnp.einsum("bhts,bhsk->bhtk", e, v) / e.sum(axis=-1)[..., None]
    return jnp.einsum("bhtk,hkd->btd", y, p["o"])


def mapped_heads(p, x):
    """One head is a function; vmap runs all, and their outputs are summed."""

    def head(q, k, v, o, x):
        weights = jax.nn.softmax((x @ q) @ (x @ k).T / SIZE**0.5, axis=-1)
        return weights @ (x @ v) @ o

    heads = jax.vmap(head, (0, 0, 0, 0, None))
    one = lambda x: heads(p["q"], p["k"], p["v"], p["o"], x).sum(axis=0)  # noqa: E731
    return jax.vmap(one)(x)


MAPPED = (
    ENDS
    + """
attention/q  .    16   .  query
attention/k  .    16   .  key
attention/v  .    16   .  value
attention/o  .     .  16  attention_output residual_output
"""
)


def sinks(p, x):
    """A learned logit that no value belongs to, as in gpt-oss."""
    q, k, v = projected(p, x)
    logits = q @ jnp.swapaxes(k, 2, 3) * SIZE**-0.5
    sink = jnp.broadcast_to(p["sink"][None, :, None, None], (*logits.shape[:3], 1))
    weights = jax.nn.softmax(jnp.concatenate([logits, sink], axis=-1), axis=-1)
    return jnp.einsum("bhtk,hkd->btd", weights[..., :-1] @ v, p["o"])


SINKS = (
    COMMON
    + """
attention/sink  none  .  .  other|bias
"""
)


def latent(p, x):
    """DeepSeek-V2: keys and values come from a narrow latent; keys rotate apart."""
    batch, length, _ = x.shape
    q = (norm(x @ p["q_a"]) @ p["q_b"]).reshape(batch, length, HEADS, SIZE + 4)
    compressed = x @ p["kv_a"]
    narrow, turned = compressed[..., :6], compressed[..., 6:]
    kv = (norm(narrow) @ p["kv_b"]).reshape(batch, length, HEADS, 2 * SIZE)
    k, v = jnp.split(kv, 2, axis=-1)
    turned = jnp.broadcast_to(turned[:, :, None, :], (batch, length, HEADS, 4))
    k = jnp.concatenate([k, turned], axis=-1)
    logits = jnp.einsum("bthk,bshk->bhts", q, k) * 12**-0.5
    y = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(logits), v)
    return y.reshape(batch, length, -1) @ p["o"]


LATENT = (
    ENDS
    + """
attention/q_a   io  16   6
attention/q_b   io   6  24  query
attention/kv_a  io  16  10  key       # a part of its outputs are keys
attention/kv_b  io   6  32  key value
attention/o     io  16  16  attention_output residual_output
"""
)


def pooled(params, x):
    """Attention pooling: a score for each place. Places are no experts."""
    x = jnp.tanh(x @ params["embed"])
    weights = jax.nn.softmax(jnp.tanh(x @ params["hidden"]) @ params["score"], axis=1)
    return (weights * x).sum(axis=1) @ params["head"]


POOLED = """
embed   io   5  16  input
hidden  io  16   9
score   io   9   1
head    io  16   3  readout
"""


def additive(params, x, y):
    """Bahdanau et al. 2015: scores are v tanh(W x + U y); again over places."""
    x, y = jnp.tanh(x @ params["source"]), jnp.tanh(y @ params["target"])
    h = jnp.tanh((x @ params["W"])[:, None] + (y @ params["U"])[:, :, None])
    weights = jax.nn.softmax(jnp.einsum("btsd,d->bts", h, params["v"]), axis=-1)
    context = jnp.einsum("bts,bsd->btd", weights, x)
    return jnp.concatenate([context, y], axis=-1) @ params["head"]


ADDITIVE = """
source  io   5  16  input
target  io   4  16  input
W       io  16   9  key? query?
U       io  16   9  key? query?
v       i    9   1
head    io  32   3  readout
"""


def sigmoid_router(p, x):
    """DeepSeek-V3: sigmoids, a bias for the choice alone, and a shared expert."""
    scores = jax.nn.sigmoid(x @ p["router"])
    _, index = jax.lax.top_k(scores + p["router_bias"][None, None], 2)
    weights = jnp.take_along_axis(scores, index, axis=-1)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    full = jnp.einsum("btk,btke->bte", weights, jax.nn.one_hot(index, 4))
    h = jax.nn.silu(jnp.einsum("btd,edm->btem", x, p["gate"]))
    h = h * jnp.einsum("btd,edm->btem", x, p["up"])
    y = jnp.einsum("btem,emd->bted", h, p["down"])
    shared = (jax.nn.silu(x @ p["shared_gate"]) * (x @ p["shared_up"])) @ p[
        "shared_down"
    ]
    return shared + jnp.einsum("bted,bte->btd", y, full)


SIGMOID = (
    ENDS
    + """
attention/router        io  16   4  router
attention/router_bias   none .   .  bias|other
attention/gate          bio 16  20  expert gate
attention/up            bio 16  20  expert up
attention/down          bio 20  16  expert residual_output
attention/shared_gate   io  16  20  gate
attention/shared_up     io  16  20  up
attention/shared_down   io  20  16  residual_output
"""
)


def soft_experts(p, x):
    """Puigcerver et al. 2023: slots are mixtures of tokens, and tokens of slots."""
    logits = jnp.einsum("btd,des->btes", x, p["phi"])
    dispatch = jax.nn.softmax(logits, axis=1)
    combine = jax.nn.softmax(logits.reshape(*x.shape[:2], -1), axis=-1)
    slots = jnp.einsum("btes,btd->besd", dispatch, x)
    h = jax.nn.gelu(jnp.einsum("besd,edm->besm", slots, p["up"]))
    y = jnp.einsum("besm,emd->besd", h, p["down"])
    return jnp.einsum("btes,besd->btd", combine.reshape(logits.shape), y)


SOFT = (
    ENDS
    + """
attention/phi   ioo 16   8  router
attention/up    bio 16  20  expert
attention/down  bio 20  16  expert residual_output
"""
)

KERNELS = {
    "gate": dense(4, WIDTH, 20), "up": dense(4, WIDTH, 20), "down": dense(4, 20, WIDTH)
}  # fmt: skip
X = floats(2, LENGTH, 5)


def of(attention, table, **params):
    return lambda: known(block(attention), whole(**params), X, table=table, depth=1)


MODELS = {
    "softmax by hand": of(by_hand, COMMON, **FOUR),
    "softmax after the values": of(after_the_sum, COMMON, **FOUR),
    "heads by vmap": of(
        mapped_heads, MAPPED,
        **{name: dense(HEADS, WIDTH, SIZE) for name in "qkv"},
        o=dense(HEADS, SIZE, WIDTH),
    ),
    "attention sinks": of(sinks, SINKS, **FOUR, sink=dense(HEADS)),
    "latent attention": of(
        latent, LATENT, q_a=dense(16, 6), q_b=dense(6, 24), kv_a=dense(16, 10),
        kv_b=dense(6, 32), o=dense(16, 16),
    ),
    "attention pooling": lambda: known(
        pooled,
        {
            "embed": dense(5, 16), "hidden": dense(16, 9), "score": dense(9, 1),
            "head": dense(16, 3),
        },
        X, table=POOLED, depth=0,
    ),
    "additive attention": lambda: known(
        additive,
        {
            "source": dense(5, 16), "target": dense(4, 16), "W": dense(16, 9),
            "U": dense(16, 9), "v": dense(9), "head": dense(32, 3),
        },
        X, floats(2, 6, 4), table=ADDITIVE, depth=0,
    ),
    "experts, sigmoid router": of(
        sigmoid_router, SIGMOID, **KERNELS, router=dense(WIDTH, 4),
        router_bias=dense(4), shared_gate=dense(WIDTH, 20), shared_up=dense(WIDTH, 20),
        shared_down=dense(20, WIDTH),
    ),
    "experts, soft": of(
        soft_experts, SOFT, phi=dense(WIDTH, 4, 2), up=KERNELS["up"],
        down=KERNELS["down"],
    ),
}  # fmt: skip
