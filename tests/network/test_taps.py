"""The values that are looked at are those that a reader of the model expects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit

KEY = jax.random.key(3)
X = jax.random.normal(KEY, (8, 5, 16))
PARAMS = {
    name: jinit.lecun()(key, (16, 16))
    for name, key in zip("qkvo", jax.random.split(KEY, 4), strict=True)
}
CAUSAL = np.tril(np.ones((1, 5, 5), bool))
LEAST = np.finfo(np.float32).min

# The ways to mask logits: (logits, mask) -> masked logits.
MASKS = {
    "chosen": lambda s, mask: jnp.where(mask, s, LEAST),
    "infinite": lambda s, mask: jnp.where(mask, s, -jnp.inf),
    "added": lambda s, mask: s + jnp.where(mask, 0, LEAST),
    "added_1e9": lambda s, mask: s - 1e9 * (1 - mask.astype(np.float32)),
    "capped": lambda s, mask: jnp.where(mask, 9 * jnp.tanh(s / 9), LEAST),
    "chosen_by_data": lambda s, mask: jnp.where(
        mask & (jnp.cumsum(s[:1] * 0, 2) < 1), s, LEAST
    ),
}


def attention(masked):
    def model(p, x, mask=CAUSAL):
        q, k, v = (x @ p[name] for name in "qkv")
        logits = masked(jnp.einsum("btd,bsd->bts", q, k) / 4, jnp.asarray(mask))
        weights = jax.nn.softmax(logits)
        return jnp.einsum("bts,bsd->btd", weights, v) @ p["o"]

    return model


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("is_input", [False, True])
def test_logits_are_those_before_the_mask(mask, is_input):
    arguments = (jnp.asarray(np.repeat(CAUSAL, 8, 0)),) if is_input else ()
    rows = jinit.probe(attention(MASKS[mask]), PARAMS, X, *arguments).rows
    q, k = (np.asarray(X @ PARAMS[name]) for name in "qk")
    logits = np.einsum("btd,bsd->bts", q, k) / 4
    if mask == "capped":
        logits = 9 * np.tanh(logits / 9)
    (row,) = (row for row in rows if row["path"] == "softmax")
    assert row["std"] == pytest.approx(logits.std(), rel=1e-4)


def test_a_bias_of_attention_counts():
    params = PARAMS | {"bias": 3 * jnp.eye(5)[None]}
    model = attention(lambda s, mask: s)

    def biased(p, x):
        q, k, v = (x @ p[name] for name in "qkv")
        logits = jnp.einsum("btd,bsd->bts", q, k) / 4 + p["bias"]
        return jnp.einsum("bts,bsd->btd", jax.nn.softmax(logits), v) @ p["o"]

    plain = jinit.probe(model, PARAMS, X).rows[3]
    row = jinit.probe(biased, params, X).rows[3]
    assert row["path"] == plain["path"] == "softmax"
    assert row["mean"] == pytest.approx(plain["mean"] + 3 / 5, abs=1e-4)


def test_a_vmap_without_a_name_is_no_part_of_a_name():
    model = jax.vmap(lambda w, x: jax.nn.relu(x @ w), (None, 0))
    rows = jinit.probe(model, PARAMS["q"], X).rows
    assert [row["path"] for row in rows] == ["kernel", "relu"]
