"""Coordinates keep their size over widths, where the classes come from networks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jinit
from jinit import mup

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(14)
SIZE, KV, VOCABULARY, EXPERTS, LENGTH = 8, 2, 20, 4, 12
BASE, WIDE = 64, 256
SEEDS = 4


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def transformer(p, ids, scale=1.0):
    """Return logits and inner values: grouped queries, experts, a tied embedding.

    Weights are (outputs, inputs), as no convention of names or axes would have them.
    """
    x = p["embed"][ids]
    h = norm(x)
    q = (h @ p["wq"].T).reshape(LENGTH, KV, -1, SIZE)
    k, v = ((h @ p[name].T).reshape(LENGTH, KV, SIZE) for name in ("wk", "wv"))
    logits = jnp.einsum("tgrd,sgd->grts", q, k) / SIZE**0.5
    y = jnp.einsum("grts,sgd->tgrd", jax.nn.softmax(logits), v)
    x = x + y.reshape(LENGTH, -1) @ p["wo"].T
    h = norm(x)
    router = h @ p["router"].T
    up = jax.nn.relu(jnp.einsum("td,efd->tef", h, p["up"]))
    weights = jax.nn.softmax(router)
    x = x + jnp.einsum("tef,edf,te->td", up, p["down"], weights)
    out = scale * norm(x) @ p["embed"].T
    return out, {"k": k, "v": v, "attention": logits, "router": router, "out": out}


def drawn(key, width):
    """Draw every matrix with 1 / sqrt(inputs), and the embedding with 1."""
    shapes = {
        "wq": (width, width), "wk": (KV * SIZE, width), "wv": (KV * SIZE, width),
        "wo": (width, width), "router": (EXPERTS, width),
        "up": (EXPERTS, width, width), "down": (EXPERTS, width, width),
    }  # fmt: skip
    keys = dict(zip([*shapes, "embed"], jax.random.split(key, 8), strict=True))
    params = {
        name: jax.random.normal(keys[name], shape) * shape[-1] ** -0.5
        for name, shape in shapes.items()
    }
    return params | {"embed": jax.random.normal(keys["embed"], (VOCABULARY, width))}


def network(width):
    ids = jax.ShapeDtypeStruct((LENGTH,), jnp.int32)
    return jinit.network(lambda p, ids: transformer(p, ids)[0], drawn(KEY, width), ids)


def sizes(p, tx, width, scale):
    """Return the rms of every value at the start, and of its change by two steps."""
    ids = jax.random.randint(KEY, (LENGTH,), 0, VOCABULARY)

    def loss(params):
        out, _ = transformer(params, ids, scale)
        labels = jnp.roll(ids, 1)
        losses = optax.softmax_cross_entropy_with_integer_labels(out, labels)
        return losses.mean()

    @jax.jit
    def one(params):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (after, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=2)
        return transformer(params, ids, scale)[1], transformer(after, ids, scale)[1]

    pairs = [
        one(p.init(drawn(key, width)) if p else drawn(key, width))
        for key in jax.random.split(KEY, SEEDS)
    ]

    def rms(x):
        return float(np.sqrt(np.mean(np.square(x))))

    return {
        name: (
            np.mean([rms(before[name]) for before, _ in pairs]),
            np.mean([rms(after[name] - before[name]) for before, after in pairs]),
        )
        for name in pairs[0][0]
    }


def grown(wide, base):
    """Return the factor by which each value, and each change, grows with the width."""
    return {
        name: (wide[name][0] / base[name][0], wide[name][1] / base[name][1])
        for name in base
    }


def test_grouped_queries_routers_and_tied_logits_learn_at_every_width():
    """With 4 times the width no value grows, and every change keeps its size.

    The mean over four seeds of a change varies by less than a factor 1.5, and a factor
    that is forgotten would be 4.
    """
    rate = 0.01
    noop = mup.infer(network(BASE), network(BASE))
    p = mup.infer(network(BASE), network(WIDE))
    base = sizes(None, noop.optimizer(optax.adam(rate)), BASE, noop.readout_scale)
    wide = sizes(p, p.optimizer(optax.adam(rate)), WIDE, p.readout_scale)
    ratios = grown(wide, base)
    assert max(start for start, _ in ratios.values()) < 1.5
    assert all(1 / 2 < change < 2 for _, change in ratios.values()), ratios

    # As 0.1 had it: k, v and the router are "outputs", whose multiplier nobody applies.
    factors = {
        tensor.path: tensor.factors._replace(std=1.0, adam=1.0)
        for tensor in p.tensors if tensor.is_folded
    }  # fmt: skip
    assert set(factors) == {"wk", "wv", "router"}
    tensors = tuple(
        tensor if tensor.path not in factors
        else mup._factors.Tensor(**{**vars(tensor), "factors": factors[tensor.path]})
        for tensor in p.tensors
    )  # fmt: skip
    wrong = mup.Parametrization(tensors)
    wide = sizes(wrong, wrong.optimizer(optax.adam(rate)), WIDE, p.readout_scale)
    ratios = grown(wide, base)
    assert ratios["k"][1] > 2.5 and ratios["router"][1] > 2.5
