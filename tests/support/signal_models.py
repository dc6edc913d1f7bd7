"""Small models whose layers' outputs are named, as functions of parameters and inputs.

A model gets `named`, a function that names the output of a layer and returns it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ROWS, LENGTH, WIDTH, VOCABULARY = 8, 16, 32, 50
EXPERTS = {"r": (WIDTH, 4), "wi": (4, WIDTH, 64), "wo": (4, 64, WIDTH)}
HEAD = {"head": (WIDTH, 24)}


def rms(x):
    """Divide by the root of the mean square."""
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def attention(params, named, tokens, *, norms_queries=False):
    """Two blocks of causal attention and a gated MLP."""
    length, x = tokens.shape[1], params["tokens"][tokens]
    x = x + params["positions"][:length]
    for i in "01":
        h = rms(x)
        q, k, v = (
            named(n + i, h @ params[n + i]).reshape(*tokens.shape, 2, 16) for n in "qkv"
        )
        if norms_queries:
            q, k = rms(q), rms(k)
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) / 4
        mask = jnp.tril(jnp.ones((length, length), bool))
        weights = jax.nn.softmax(jnp.where(mask, logits, -1e30))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
        x = x + named("o" + i, mixed @ params["o" + i])
        gate, up = jnp.split(named("u" + i, rms(x) @ params["u" + i]), 2, -1)
        x = x + named("d" + i, (jax.nn.silu(gate) * up) @ params["d" + i])
    return named("head", rms(x) @ params["head"])


def _attention_shapes():
    shapes = {"tokens": (VOCABULARY, WIDTH), "positions": (LENGTH, WIDTH), **HEAD}
    for i in "01":
        shapes |= {n + i: (WIDTH, WIDTH) for n in "qkvo"}
        shapes |= {"u" + i: (WIDTH, 128), "d" + i: (64, WIDTH)}
    return shapes


def experts_in_an_einsum(params, named, x):
    """Every token goes to all experts, weighed by a softmax."""
    x = rms(x)
    weights = jax.nn.softmax(named("r", x @ params["r"]))
    h = jax.nn.silu(named("wi", jnp.einsum("btd,edm->btem", x, params["wi"])))
    y = named("wo", jnp.einsum("btem,bte,emd->btd", h, weights, params["wo"]))
    return named("head", rms(x + y) @ params["head"])


def experts_by_dispatch(params, named, x):
    """The two largest weights route a token to places in its experts' buffers."""
    x = rms(x)
    weights, places = lax.top_k(jax.nn.softmax(named("r", x @ params["r"])), 2)
    chosen = jax.nn.one_hot(places, 4)
    order = jnp.cumsum(chosen.sum(2), 1)
    combine = jnp.einsum("btk,btke->bte", weights, chosen) * (order <= 12)
    sent = jnp.einsum("bte,btd->ebtd", (combine > 0).astype(x.dtype), x)
    h = jax.nn.gelu(named("wi", jnp.einsum("ebtd,edm->ebtm", sent, params["wi"])))
    y = named("wo", jnp.einsum("ebtm,emd->ebtd", h, params["wo"]))
    y = jnp.einsum("bte,ebtd->btd", combine, y)
    return named("head", rms(x + y) @ params["head"])


def experts_that_are_looked_up(params, named, x):
    """The kernels of the two best experts are gathered for each token."""
    x = rms(x)
    weights, places = lax.top_k(jax.nn.softmax(named("r", x @ params["r"])), 2)
    h = jnp.einsum("btd,btkdm->btkm", x, params["wi"][places])
    h = jax.nn.gelu(named("wi", h))
    y = named("wo", jnp.einsum("btkm,btkmd->btkd", h, params["wo"][places]))
    return named("head", rms(x + (weights[..., None] * y).sum(2)) @ params["head"])


def experts_of_ragged_groups(params, named, x):
    """Tokens are sorted by their expert, and multiplied in groups."""
    x = rms(x).reshape(-1, WIDTH)
    weights = jax.nn.softmax(named("r", x @ params["r"]))
    expert = weights.argmax(-1)
    order, sizes = jnp.argsort(expert), jnp.bincount(expert, length=4)
    h = jax.nn.gelu(named("wi", lax.ragged_dot(x[order], params["wi"], sizes)))
    y = named("wo", lax.ragged_dot(h, params["wo"], sizes))
    y = jnp.zeros_like(y).at[order].set(y) * weights.max(-1, keepdims=True)
    return named("head", rms(x + y) @ params["head"])


def experts_by_vmap(params, named, x):
    """The members of a vmap have kernels of their own."""
    x = rms(x)
    h = jax.vmap(lambda w: x @ w)(params["wi"])
    h = jax.nn.gelu(named("wi", h))
    y = named("wo", jax.vmap(lambda h, w: h @ w)(h, params["wo"]))
    weights = jax.nn.softmax(named("r", x @ params["r"]))
    return named("head", rms(jnp.einsum("ebtd,bte->btd", y, weights)) @ params["head"])


def state_space(params, named, x):
    """A diagonal recurrence of complex numbers, by an associative scan."""
    rates = jnp.exp(-jnp.exp(params["rates"]) + 1j * jnp.exp(params["phases"]))
    u = named("in", x @ params["in"]).astype(jnp.complex64)
    _, h = lax.associative_scan(
        lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]),
        (jnp.broadcast_to(rates, u.shape), u),
        axis=1,
    )
    y = named("out", jnp.concatenate([h.real, h.imag], -1) @ params["out"])
    gated = jax.nn.glu(named("gate", jax.nn.gelu(y) @ params["gate"]))
    return named("head", gated @ params["head"])


def fourier(params, named, x):
    """A transform over positions and features mixes them, in the place of attention."""
    h = rms(x + jnp.fft.fft2(x, axes=(1, 2)).real)
    h = jax.nn.gelu(named("up", h @ params["up"]))
    return named("down", h @ params["down"])


def recurrent(params, named, x):
    """A gated recurrence that reads its own layer."""

    def step(h, x):
        gate, value = jnp.split(x, 2, -1)
        h = jax.nn.sigmoid(gate) * h + jnp.tanh(value)
        return h, h

    x = jnp.swapaxes(named("in", x @ params["in"]), 0, 1)
    _, h = lax.scan(step, jnp.zeros((ROWS, WIDTH)), x, reverse=True)
    return named("head", h @ params["head"])


def bag(params, named, tokens):
    """An average over the vectors of tokens, of which some are equal."""
    return named("head", params["tokens"][tokens].mean(1) @ params["head"])


def one_hot(params, named, tokens):
    """Tokens are multiplied as vectors with a single one."""
    h = named("in", jax.nn.one_hot(tokens, VOCABULARY) @ params["in"])
    return named("head", jnp.tanh(h) @ params["head"])


def scaled(params, named, x):
    """Kernels are multiplied by numbers before their product, and transposed."""
    h = jax.nn.relu(named("a", x @ (params["a"] * 0.25)))
    return named("head", h @ (-params["head"] / np.sqrt(WIDTH)))


def counted(params, named, x):
    """A loop of a fixed length applies one layer again and again."""
    h = named("w", named("in", x @ params["in"]) @ params["w"])
    h = lax.fori_loop(0, jnp.int32(3), lambda i, h: jnp.tanh(h @ params["w"]), h)
    return named("head", h @ params["head"])


def branching(params, named, x):
    """A known number chooses a branch, and data choose another."""
    h = named("in", x @ params["in"])
    h = lax.switch(jnp.int32(1), [jnp.sin, lambda h: rms(h), jnp.cos], h)
    is_positive = h[0, 0, 0] > 0
    h = lax.cond(
        is_positive, lambda h: 2**0.5 * jax.nn.relu(h), lambda h: jnp.abs(h), h
    )
    return named("head", h @ params["head"])


_RATES = {"rates": (64,), "phases": (64,)}
_SEQUENCE = jax.ShapeDtypeStruct((ROWS, LENGTH, WIDTH), jnp.float32)
_TOKENS = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)
_STATE = {**_RATES, "in": (WIDTH, 64), "out": (128, WIDTH), "gate": (WIDTH, 64), **HEAD}


def _with_norms(params, named, tokens):
    return attention(params, named, tokens, norms_queries=True)


# A model, the shapes of its parameters, its input.
MODELS = {
    "attention": (attention, _attention_shapes(), _TOKENS),
    "attention, norms of queries": (_with_norms, _attention_shapes(), _TOKENS),
    "experts, einsum": (experts_in_an_einsum, {**EXPERTS, **HEAD}, _SEQUENCE),
    "experts, dispatch": (experts_by_dispatch, {**EXPERTS, **HEAD}, _SEQUENCE),
    "experts, gather": (experts_that_are_looked_up, {**EXPERTS, **HEAD}, _SEQUENCE),
    "experts, ragged": (experts_of_ragged_groups, {**EXPERTS, **HEAD}, _SEQUENCE),
    "experts, vmap": (experts_by_vmap, {**EXPERTS, **HEAD}, _SEQUENCE),
    "state space": (state_space, _STATE, _SEQUENCE),
    "fourier": (fourier, {"up": (WIDTH, 64), "down": (64, WIDTH)}, _SEQUENCE),
    "recurrent": (recurrent, {"in": (WIDTH, 64), **HEAD}, _SEQUENCE),
    "bag": (bag, {"tokens": (VOCABULARY, WIDTH), **HEAD}, _TOKENS),
    "one-hot": (one_hot, {"in": (VOCABULARY, WIDTH), **HEAD}, _TOKENS),
    "scaled": (scaled, {"a": (WIDTH, WIDTH), **HEAD}, _SEQUENCE),
    "counted": (
        counted,
        {"in": (WIDTH, WIDTH), "w": (WIDTH, WIDTH), **HEAD},
        _SEQUENCE,
    ),
    "branching": (branching, {"in": (WIDTH, WIDTH), **HEAD}, _SEQUENCE),
}


def drawn(shapes, key):
    """Return normal parameters of these shapes."""
    keys = jax.random.split(key, len(shapes))
    pairs = zip(shapes.items(), keys, strict=True)
    return {name: jax.random.normal(key, shape) for (name, shape), key in pairs}
