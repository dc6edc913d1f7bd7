"""Mixtures of experts in plain JAX, each in a residual block between two matrices."""

import functools

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known

INPUTS, WIDTH, HIDDEN, EXPERTS, OUTPUTS, TOKENS = 6, 12, 20, 4, 3, 10


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def mixed(p, x):
    """Every expert runs; the last einsum sums over experts and hidden units."""
    weights = jax.nn.softmax(x @ p["gate"], axis=-1)
    h = jax.nn.silu(jnp.einsum("bd,edm->bem", x, p["wi_0"]))
    h = h * jnp.einsum("bd,edm->bem", x, p["wi_1"])
    return jnp.einsum("bem,emd,be->bd", h, p["wo"], weights)


def mapped(p, x):
    """Every expert runs, as one function under vmap."""

    def expert(wi, wo, x):
        return jax.nn.relu(x @ wi) @ wo

    y = jax.vmap(expert, (0, 0, None))(p["wi"], p["wo"], x)
    weights = jax.nn.softmax(x @ p["router"]["kernel"])
    return jnp.einsum("ebd,be->bd", y, weights)


def dispatched(p, x):
    """One expert for each token, by one-hot masks with a capacity (Switch, GShard)."""
    capacity = TOKENS
    probabilities = jax.nn.softmax((x @ p["router"]).astype(jnp.float32), axis=-1)
    index = jnp.argmax(probabilities, axis=-1)
    mask = jax.nn.one_hot(index, EXPERTS)
    place = (jnp.cumsum(mask, axis=0) - 1) * mask
    gate = jnp.sum(probabilities * mask, axis=-1)
    dispatch = (
        mask[..., None]
        * jax.nn.one_hot(place.sum(-1).astype(jnp.int32), capacity)[:, None, :]
    )
    combine = gate[:, None, None] * dispatch
    chosen = jnp.einsum("tec,td->ecd", dispatch, x)
    h = jax.nn.relu(jnp.einsum("ecd,edm->ecm", chosen, p["wi"]))
    y = jnp.einsum("ecm,emd->ecd", h, p["wo"])
    return jnp.einsum("tec,ecd->td", combine, y)


def ragged(p, x):
    """Two experts for each token, tokens sorted by expert (Mixtral, MegaBlox)."""
    k = 2
    weights, experts = jax.lax.top_k(jax.nn.softmax(x @ p["router"]), k)
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    order = jnp.argsort(experts.reshape(-1))
    sizes = jnp.bincount(experts.reshape(-1), length=EXPERTS)
    rows = jnp.repeat(x, k, axis=0)[order]
    h = jax.nn.silu(jax.lax.ragged_dot(rows, p["w1"], sizes))
    h = h * jax.lax.ragged_dot(rows, p["w3"], sizes)
    y = jax.lax.ragged_dot(h, p["w2"], sizes)
    y = y[jnp.argsort(order)].reshape(x.shape[0], k, -1)
    return jnp.einsum("tkd,tk->td", y, weights)


def forward(block, params, x):
    x = x @ params["inputs"]
    for p in params["blocks"]:
        x = x + block(p, norm(x))
    return norm(x) @ params["outputs"]


ENDS = """
inputs   io   6  12  input
outputs  io  12   3  readout
"""

MIXED = (
    ENDS
    + """
blocks/{0,1}/gate  io   12   4  router
blocks/{0,1}/wi_0  bio  12  20  expert gate   # e is a batch axis of everything after it
blocks/{0,1}/wi_1  bio  12  20  expert up
blocks/{0,1}/wo    bio  20  12  expert residual_output  # e: weights of a softmax
"""
)

MAPPED = (
    ENDS
    + """
blocks/{0,1}/router/kernel io 12 4 router
blocks/{0,1}/wi    bio  12  20  expert
blocks/{0,1}/wo    bio  20  12  expert residual_output
"""
)

DISPATCHED = (
    ENDS
    + """
blocks/{0,1}/router io  12   4  router
blocks/{0,1}/wi    bio  12  20  expert
blocks/{0,1}/wo    bio  20  12  expert residual_output
"""
)

RAGGED = (
    ENDS
    + """
blocks/{0,1}/router io  12   4  router
blocks/{0,1}/w1    bio  12  20  expert gate   # rows of one group meet one matrix
blocks/{0,1}/w3    bio  12  20  expert up
blocks/{0,1}/w2    bio  20  12  expert residual_output
"""
)


def up(*names):
    return {name: dense(EXPERTS, WIDTH, HIDDEN) for name in names}


def down(name):
    return {name: dense(EXPERTS, HIDDEN, WIDTH)}


ROUTER = dense(WIDTH, EXPERTS)


def of(block, parameters, table):
    params = {
        "inputs": dense(INPUTS, WIDTH),
        "blocks": [parameters, parameters],
        "outputs": dense(WIDTH, OUTPUTS),
    }
    return functools.partial(
        known,
        functools.partial(forward, block),
        params,
        floats(TOKENS, INPUTS),
        table=table,
        depth=2,
    )


MODELS = {
    "experts, mixed in one einsum": of(
        mixed, {"gate": ROUTER, **up("wi_0", "wi_1"), **down("wo")}, MIXED
    ),
    "experts, mapped": of(
        mapped, {"router": {"kernel": ROUTER}, **up("wi"), **down("wo")}, MAPPED
    ),
    "experts, dispatched": of(
        dispatched, {"router": ROUTER, **up("wi"), **down("wo")}, DISPATCHED
    ),
    "experts, ragged": of(
        ragged, {"router": ROUTER, **up("w1", "w3"), **down("w2")}, RAGGED
    ),
}
