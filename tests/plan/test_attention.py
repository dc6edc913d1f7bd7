"""`place_mimetic_attention`: kernels of attention in trees of Linen and of NNX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit

KEY = jax.random.key(6)


def test_a_tree_with_a_kernel_at_its_top_has_no_attention_there():
    attention = nn.MultiHeadDotProductAttention(num_heads=2)
    tree = attention.init(KEY, jnp.ones((1, 3, 8)))["params"]
    kernel = jnp.ones((3, 3))
    placed = jinit.place_mimetic_attention({**tree, "kernel": kernel}, KEY)
    assert placed["kernel"] is kernel
    assert (placed["query"]["kernel"] != tree["query"]["kernel"]).any()
    with pytest.raises(ValueError, match="no attention"):
        jinit.place_mimetic_attention({"kernel": kernel}, KEY)


def test_a_mimetic_transformer_starts_by_looking_at_like_tokens():
    model = nn.MultiHeadDotProductAttention(num_heads=2)
    x = jax.random.normal(KEY, (1, 12, 32))
    params = model.init(KEY, x)

    def on_the_diagonal(params):
        q, k = (
            jnp.einsum("btd,dhk->bthk", x, params["params"][name]["kernel"])
            for name in ("query", "key")
        )
        weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k) / 4, -1)
        return float(jnp.trace(weights.mean((0, 1))) / 12)

    placed = jinit.place_mimetic_attention(params, KEY)
    assert on_the_diagonal(placed) > 0.5 > 0.2 > on_the_diagonal(params)
    assert model.apply(placed, x).shape == x.shape
    assert placed["params"]["query"]["bias"] is params["params"]["query"]["bias"]


def test_mimetic_attention_in_nnx_and_by_pattern():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = (
                nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs) for _ in range(2)
            )

    graph, state, rest = nnx.split(Model(nnx.Rngs(0)), nnx.Param, ...)
    placed = jinit.place_mimetic_attention(state, KEY, pattern="second/**")
    merged = nnx.merge(graph, placed, rest)
    old, new = (
        m.first.query.kernel[...] for m in (nnx.merge(graph, state, rest), merged)
    )
    np.testing.assert_array_equal(old, new)
    assert merged.second(jnp.ones((1, 3, 8))).shape == (1, 3, 8)
    product = jnp.einsum(
        "dhk,hke->de", merged.second.value.kernel[...], merged.second.out.kernel[...]
    )
    assert float(jnp.trace(product)) < -1
    with pytest.raises(ValueError, match="no attention"):
        jinit.place_mimetic_attention(state, KEY, pattern="third/**")
