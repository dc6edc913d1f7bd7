"""Queries, keys, values and outputs are told by the axes of the softmax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from tests.support.networks import (
    conv,
    floats,
    layouts,
    network,
    rms,
    tokens,
    with_role,
)

HEADS = {"a": (16, 4, 4), "b": (16, 2, 4), "c": (16, 2, 4), "d": (4, 4, 16)}
FLAT = {"a": (16, 16), "b": (16, 16), "c": (16, 16), "d": (16, 16)}


def attends(net, query="a", key="b", value="c", output="d"):
    roles = {"query": query, "key": key, "value": value, "attention_output": output}
    for role, path in roles.items():
        assert with_role(net, role) == {path}, role
    assert not with_role(net, "router")


def rotated(x):
    angles = jnp.arange(x.shape[1])[:, None, None] * jnp.arange(1.0, 3.0)
    one, other = jnp.split(x, 2, axis=-1)
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    return jnp.concatenate([one * cos - other * sin, other * cos + one * sin], -1)


@pytest.mark.parametrize("implementation", ["xla", None])
def test_grouped_queries_with_rotary_embeddings_and_query_norms(implementation):
    def function(p, x):
        q, k, v = (jnp.einsum("btd,dhk->bthk", x, p[name]) for name in "abc")
        q, k = rotated(rms(q)), rotated(rms(k))
        y = jax.nn.dot_product_attention(
            q, k, v, is_causal=True, implementation=implementation
        )
        return x + jnp.einsum("bthk,hkd->btd", y, p["d"])

    net = network(function, HEADS, floats(2, 5, 16))
    attends(net)
    assert layouts(net) == {
        "a": ("ioo", 16, 16),
        "b": ("ioo", 16, 8),
        "c": ("ioo", 16, 8),
        "d": ("iio", 16, 16),
    }
    assert with_role(net, "residual_output") == {"d"}
    assert net.depth == 1


def test_the_order_of_the_operands_says_nothing():
    def function(p, x):
        q, k, v = (x @ p[name] for name in "abc")
        weights = jax.nn.softmax(jnp.einsum("bsd,btd->bst", k, q) / 4, axis=1)
        return jnp.einsum("bst,bsd->btd", weights, v) @ p["d"]

    attends(network(function, FLAT, floats(2, 5, 16)))


def test_soft_caps_masks_and_a_division_after_the_values():
    def function(p, x):
        q, k, v = (x @ p[name] for name in "abc")
        logits = 30 * jnp.tanh(q @ jnp.swapaxes(k, 1, 2) / 30)
        logits = jnp.where(jnp.tril(jnp.ones((5, 5), bool)), logits, -1e9)
        weights = jnp.exp(logits - logits.max(-1, keepdims=True))
        return (weights @ v) / weights.sum(-1, keepdims=True) @ p["d"]

    attends(network(function, FLAT, floats(2, 5, 16)))


def test_a_learned_logit_beside_those_of_the_keys():
    def function(p, x):
        q, k, v = (x @ p[name] for name in "abc")
        logits = q @ jnp.swapaxes(k, 1, 2)
        sink = jnp.broadcast_to(p["sink"], (2, 5, 1))
        weights = jax.nn.softmax(jnp.concatenate([logits, sink], -1))
        return weights[..., :-1] @ v @ p["d"]

    net = network(function, FLAT | {"sink": ()}, floats(2, 5, 16))
    attends(net)
    assert "token" in net.parameters["sink"].reason


def test_softmax_by_its_logarithm():
    def function(p, x):
        q, k, v = (x @ p[name] for name in "abc")
        weights = jnp.exp(jax.nn.log_softmax(q @ jnp.swapaxes(k, 1, 2)))
        return weights @ v @ p["d"]

    attends(network(function, FLAT, floats(2, 5, 16)))


def test_heads_that_are_folded_into_the_batch():
    def function(p, x):
        def split(name):
            heads = (x @ p[name]).reshape(2, 5, 4, 4).transpose(0, 2, 1, 3)
            return heads.reshape(8, 5, 4)

        q, k, v = map(split, "abc")
        y = jax.nn.softmax(q @ k.transpose(0, 2, 1)) @ v
        return y.reshape(2, 4, 5, 4).transpose(0, 2, 1, 3).reshape(2, 5, 16) @ p["d"]

    attends(network(function, FLAT, floats(2, 5, 16)))


def test_keys_and_values_without_heads():
    def function(p, x):
        q = jnp.einsum("btd,dhk->bthk", x, p["a"])
        k, v = x @ p["b"], x @ p["c"]
        weights = jax.nn.softmax(jnp.einsum("bthk,bsk->bhts", q, k))
        return jnp.einsum("bhts,bsk,hkd->btd", weights, v, p["d"])

    shapes = HEADS | {"b": (16, 4), "c": (16, 4)}
    attends(network(function, shapes, floats(2, 5, 16)))


def test_a_vmap_over_heads():
    def function(p, x):
        def head(q, k, v):
            return jax.nn.softmax((x @ q) @ (x @ k).T) @ (x @ v)

        y = jax.vmap(head, out_axes=1)(p["a"], p["b"], p["c"])
        return y.reshape(5, -1) @ p["d"]

    shapes = {"a": (4, 16, 4), "b": (4, 16, 4), "c": (4, 16, 4), "d": (16, 16)}
    net = network(function, shapes, floats(5, 16))
    attends(net)
    # A later kernel sums over the heads, so that they are outputs and no members.
    assert layouts(net)["a"] == ("oio", 16, 16)


def test_convolutions_of_one_pixel_attend():
    def function(p, x):
        q, k, v = (conv(x, p[name]).reshape(2, 16, 8) for name in "abc")
        y = jax.nn.softmax(jnp.einsum("bic,bjc->bij", q, k)) @ v
        return x + conv(y.reshape(2, 4, 4, 8), p["d"])

    net = network(function, dict.fromkeys("abcd", (1, 1, 8, 8)), floats(2, 4, 4, 8))
    attends(net)
    assert net.depth == 1


def test_cross_attention_of_flax():
    model = nn.MultiHeadDotProductAttention(2, normalize_qk=True)
    inputs = (floats(2, 5, 8), floats(2, 7, 8))
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    net = jinit.network(model, variables, *inputs)
    attends(net, "query/kernel", "key/kernel", "value/kernel", "out/kernel")
    assert with_role(net, "scale") == {"query_ln/scale", "key_ln/scale"}
    biases = {f"{name}/bias" for name in ("query", "key", "value", "out")}
    assert with_role(net, "bias") == biases


def test_fused_kernels_have_all_the_roles_of_their_parts():
    def function(p, x):
        heads = (x @ p["a"]).reshape(2, 5, 3, 2, 8)
        q, k, v = (heads[:, :, i] for i in range(3))
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        bias = p["table"][jnp.arange(5)[:, None] - jnp.arange(5) + 4]
        weights = jax.nn.softmax(logits + jnp.moveaxis(bias, -1, 0))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(2, 5, 16) @ p["d"]

    net = network(
        function, {"a": (16, 48), "table": (9, 2), "d": (16, 16)}, floats(2, 5, 16)
    )
    attends(net, "a", "a", "a")
    # The window's table of biases is looked up, and no readout.
    assert net.parameters["table"].roles == {"embedding"}
    assert net.parameters["table"].layout == "io"


def test_learned_queries_that_are_repeated_for_each_input():
    def function(p, x):
        latents = jnp.broadcast_to(p["latents"], (2, 3, 16))
        q, k, v = rms(latents) @ p["a"], x @ p["b"], x @ p["c"]
        y = jax.nn.softmax(q @ jnp.swapaxes(k, 1, 2)) @ v
        return latents + y @ p["d"]

    net = network(function, FLAT | {"latents": (3, 16)}, floats(2, 5, 16))
    attends(net)
    assert net.parameters["latents"].roles == {"other"}
    assert net.depth == 1


def test_attention_in_pieces():
    def function(p, x):
        q, k, v = (x @ p[name] for name in "abc")
        pieces = jnp.moveaxis(q.reshape(2, 3, 2, 16), 1, 0)
        y = jax.lax.map(lambda q: jax.nn.softmax(q @ jnp.swapaxes(k, 1, 2)) @ v, pieces)
        return jnp.moveaxis(y, 0, 1).reshape(2, 6, 16) @ p["d"]

    attends(network(function, FLAT, floats(2, 6, 16)))


@pytest.mark.parametrize("length", [1, 5])
def test_kernels_that_mix_heads_and_sequences_of_one(length):
    def function(p, x):
        q, k, v = (jnp.einsum("btd,dhk->bhtk", x, p[name]) for name in "abc")
        logits = jnp.einsum("bhts,hg->bgts", q @ jnp.swapaxes(k, 2, 3), p["before"])
        weights = jnp.einsum("bgts,gh->bhts", jax.nn.softmax(logits), p["after"])
        return jnp.einsum("bhtk,hkd->btd", weights @ v, p["d"])

    shapes = dict.fromkeys("abc", (16, 4, 4)) | {"d": (4, 4, 16)}
    shapes |= {"before": (4, 4), "after": (4, 4)}
    net = network(function, shapes, floats(2, length, 16))
    attends(net)
    assert net.parameters["before"].roles == {"hidden", "matrix"}


def test_dropout_of_attention_weights():
    model = nn.MultiHeadDotProductAttention(2, dropout_rate=0.1, deterministic=False)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    x = floats(2, 5, 8)
    net = jinit.network(
        model, jax.eval_shape(model.init, rngs, x), x, rngs={"dropout": rngs["dropout"]}
    )
    attends(net, "query/kernel", "key/kernel", "value/kernel", "out/kernel")


def test_linear_attention_claims_no_roles():
    def function(p, x):
        q, k, v = jax.nn.elu(x @ p["a"]), jax.nn.elu(x @ p["b"]), x @ p["c"]
        return (q @ (jnp.swapaxes(k, 1, 2) @ v)) @ p["d"]

    net = network(function, FLAT, floats(2, 5, 16))
    for role in ("query", "key", "value", "attention_output", "router"):
        assert not with_role(net, role)


def test_pooling_by_a_softmax_over_positions_is_no_router():
    def function(p, x):
        weights = jax.nn.softmax(x @ p["a"], axis=1)
        return (weights * (x @ p["c"])).sum(1) @ p["d"]

    net = network(
        function, {"a": (16, 1), "c": (16, 16), "d": (16, 4)}, floats(2, 5, 16)
    )
    assert not with_role(net, "router")
    assert not with_role(net, "expert")


def test_embeddings_and_readouts_around_attention():
    def function(p, ids):
        x = p["table"][ids] + p["positions"][jnp.arange(5)]
        q, k, v = (rms(x, p["norm"]) @ p[name] for name in "abc")
        x = x + jax.nn.softmax(q @ jnp.swapaxes(k, 1, 2)) @ v @ p["d"]
        return rms(x, p["last"]) @ p["table"].T

    shapes = FLAT | {
        "table": (9, 16),
        "positions": (8, 16),
        "norm": (16,),
        "last": (16,),
    }
    net = network(function, shapes, tokens(2, 5))
    attends(net)
    assert with_role(net, "embedding") == {"table", "positions"}
    assert with_role(net, "readout") == {"table"}
    assert with_role(net, "scale") == {"norm", "last"}
    assert net.parameters["a"].inputs == ("norm",)
    assert net.parameters["d"].inputs == ("c",)
    assert net.parameters["table"].inputs == ("data", "last")


def test_a_mask_of_heads_may_come_in_an_einsum():
    # BERT of Hugging Face: a product that sums nothing is one entry by entry.
    def attend(params, x, mask):
        q, k, v = (jnp.einsum("bld,dhc->blhc", x, params[name]) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("bqhc,bkhc->bhqk", q, k))
        weights = jnp.einsum("...hqk,h->...hqk", weights, mask)
        y = jnp.einsum("bhqk,bkhc->bqhc", weights, v)
        return jnp.einsum("bqhc,hcd->bqd", y, params["o"])

    shapes = dict.fromkeys("qkv", (8, 2, 4)) | {"o": (2, 4, 8)}
    attends(network(attend, shapes, floats(3, 5, 8), floats(2)), *"qkvo")


def test_a_scale_in_an_einsum_is_no_matrix():
    def scaled(params, x):
        y = rms(x @ params["w"])
        return jnp.einsum("bld,d->bld", y, params["g"]) @ params["v"]

    net = network(scaled, {"w": (8, 6), "g": (6,), "v": (6, 3)}, floats(2, 5, 8))
    assert "scale" in net.parameters["g"].roles
    assert layouts(net).keys() == {"w", "v"}
