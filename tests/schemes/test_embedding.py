"""Embeddings: Flax's values, and a padding row that is zero."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support import laws

KEY = jax.random.key(5)


def test_an_embedding_has_flax_s_values():
    theirs = nn.Embed(50, 32).init(KEY, jnp.zeros(1, int))["params"]["embedding"]
    ours = nn.Embed(50, 32, embedding_init=jinit.embedding())
    found = ours.init(KEY, jnp.zeros(1, int))["params"]["embedding"]
    assert abs(np.asarray(found - theirs)).max() <= np.spacing(np.float32(1))
    laws.assert_law(jinit.embedding()(KEY, (900, 100)), laws.normal(0.1))


@pytest.mark.parametrize("row", [0, 4, -1])
def test_a_padding_row_is_zero_and_no_other(row):
    table = jinit.embedding(padding_row=row)(KEY, (5, 8))
    plain = jinit.embedding()(KEY, (5, 8))
    others = np.arange(5) != row % 5
    assert not table[row].any()
    np.testing.assert_array_equal(table[others], plain[others])
    with pytest.raises(ValueError, match="a table of shape"):
        jinit.embedding(padding_row=5)(KEY, (5, 8))


@pytest.mark.parametrize("row", [1.5, True, (1, 2)])
def test_a_padding_row_is_one_integer(row):
    with pytest.raises(TypeError, match="`padding_row` is .* must be an integer"):
        jinit.embedding(row)
