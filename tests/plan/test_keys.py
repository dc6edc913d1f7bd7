"""Plans: the key of a parameter comes from its path; values are a contract."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support.models import Transformer, shapes_of
from tests.support.plans import RULES, TOKENS
from tests.support.trees import by_path, struct


def test_the_key_of_a_leaf_is_its_path(key):
    tree = {"params": {"Dense_0": {"kernel": struct(4, 3)}}}
    init = jinit.he()
    drawn = jinit.plan(tree, [("**", init)]).init(key)
    # The digest that tests/plan/test_rules.py pins.
    own = functools.reduce(jax.random.fold_in, (3119031497, 33602192), key)
    np.testing.assert_array_equal(
        drawn["params"]["Dense_0"]["kernel"], init(own, (4, 3))
    )


def test_values_are_a_contract():
    """Whoever saved a key saved the parameters: these numbers may never change."""
    tree = {"params": {"Dense_0": {"kernel": struct(3), "bias": struct(2)}}}
    drawn = jinit.plan(tree, [("**", jinit.normal(1.0))]).init(jax.random.key(7))
    layer = drawn["params"]["Dense_0"]
    kernel, bias = [0.254202664, 1.39286959, -1.51733303], [1.26013339, 1.75758278]
    np.testing.assert_allclose(layer["kernel"], kernel, rtol=1e-6)
    np.testing.assert_allclose(layer["bias"], bias, rtol=1e-6)


def test_other_layers_change_nothing(key):
    rule = [("**", jinit.normal(1.0))]
    small = {"a": struct(3), "c": struct(3)}
    first = jinit.plan(small, rule).init(key)
    others = {"z": struct(2), "c": struct(3), "b": {"a": struct(3)}, "a": struct(3)}
    second = jinit.plan(others, rule).init(key)
    chex.assert_trees_all_equal(first, {name: second[name] for name in small})
    # A plan for more layers begins with the plan for fewer.
    few, many = (
        by_path(jinit.plan(shapes_of(Transformer(depth), TOKENS), RULES).init(key))
        for depth in (1, 3)
    )
    chex.assert_trees_all_equal(few, {path: many[path] for path in few})


def test_no_two_leaves_share_values(key):
    tree = {"ab": {"c": struct(4)}, "a": {"bc": struct(4), "b/c": struct(4)}}
    tree["a"]["b"] = {"c": struct(4)}
    tree["layers"] = [struct(4) for _ in range(50)]
    leaves = jax.tree.leaves(jinit.plan(tree, [("**", jinit.normal())]).init(key))
    flat = np.stack(leaves)
    assert len(np.unique(flat)) == flat.size
    other = jax.random.fold_in(key, 1)
    again = jax.tree.leaves(jinit.plan(tree, [("**", jinit.normal())]).init(other))
    assert not (flat == np.stack(again)).any()


def test_jit_vmap_and_legacy_keys(plan, key):
    eager = plan.init(key)
    chex.assert_trees_all_equal(jax.jit(plan.init)(key), eager)
    chex.assert_trees_all_equal(plan.init(jax.random.key_data(key)), eager)
    keys = jnp.stack([key, jax.random.fold_in(key, 1)])
    many = jax.vmap(plan.init)(keys)
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[0], many), eager)


def test_a_key_is_a_key(plan):
    with pytest.raises(TypeError, match="must be a PRNG key"):
        plan.init(0)
    with pytest.raises(ValueError, match="batch of keys"):
        plan.init(jax.random.split(jax.random.key(0), 3))
