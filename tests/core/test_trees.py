"""Paths: with Linen's collection and without it."""

import jax.numpy as jnp
import pytest

from jinit._core import trees
from jinit._core.trees import Leaf, strip_collection


@pytest.mark.parametrize(
    ("parts", "stripped"),
    [
        (("params", "Dense_0", "kernel"), ("Dense_0", "kernel")),
        (("Dense_0", "kernel"), ("Dense_0", "kernel")),
        (["params", "a"], ("a",)),
        (("a", "params"), ("a", "params")),
        (("params",), ()),
        ((), ()),
    ],
)
def test_strip_collection(parts, stripped):
    assert strip_collection(parts) == stripped
    assert Leaf(tuple(parts), 0).module_path == "/".join(stripped)


def test_parameters_are_those_of_one_collection():
    params = {"n": jnp.ones(2, int), "w": jnp.ones(2)}
    leaves = trees.leaves({"batch_stats": {"mean": jnp.ones(2)}, "params": params})
    assert trees.parameters_in(leaves) == (1, 2)
    assert trees.trained_in(leaves) == (2,)
    assert trees.parameters_in(leaves[:1]) == (0,)
