"""Make, list and compare trees of parameters."""

import chex
import jax
import jax.numpy as jnp

from jinit._core.trees import leaves


def struct(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


def by_path(tree):
    """Return the leaves of a tree under their paths."""
    return {leaf.path: leaf.value for leaf in leaves(tree)}


def rows_by_path(result):
    """Return the rows of a report or a table under their paths inside `params`."""
    return {row["path"].removeprefix("params/"): row for row in result.rows}


def same(a, b, rtol=0.0):
    """Tell whether two trees have equal leaves, up to a relative and absolute error."""
    close = jax.tree.map(lambda u, v: bool(jnp.allclose(u, v, rtol, rtol)), a, b)
    return jax.tree.all(close)


def assert_equal(a, b):
    """Check structures, dtypes and values of two trees, whose leaves may be keys."""
    chex.assert_trees_all_equal_dtypes(a, b)
    chex.assert_trees_all_equal(*(jax.tree.map(_words, tree) for tree in (a, b)))


def _words(leaf):
    # Before 0.1.92 chex could not compare keys.
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf
