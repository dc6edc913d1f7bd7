"""Types of array arguments and results, in jaxtyping's words, checked by calls.

jaxtyping and beartype are packages for tests, so that the annotations lie here. A name
of an axis stands for one size in a whole call, and a name of a structure for one tree.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from beartype import beartype
from jaxtyping import Array, Float, Key, PyTree, TypeCheckError, UInt, jaxtyped

import jinit
from tests.support import entry_points
from tests.support.cases import CASES

typed = jaxtyped(typechecker=beartype)
Draw = Key[Array, ""] | UInt[Array, "2"]


@functools.cache
def batch() -> jax.Array:
    return jnp.asarray(entry_points.inputs())


@typed
def drawn(init: Any, key: Draw, like: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Draw an array of the shape and the dtype of another one."""
    result = init(key, like.shape, like.dtype)
    assert result.dtype == like.dtype
    return result


@typed
def kept(function: Any, tree: PyTree[Float[Array, "..."], "T"]) -> PyTree[Any, "T"]:
    """Call a function that returns new parameters for the parameters of a model."""
    new = function(tree)
    jax.tree.map(drawn_alike, tree, new)
    return new


@typed
def drawn_alike(old: Float[Array, "*s"], new: Float[Array, "*s"]) -> None:
    assert old.dtype == new.dtype


@pytest.mark.parametrize("name", CASES)
def test_a_draw_has_the_shape_and_the_dtype_of_the_call(name, key):
    case = CASES[name]
    for dtype in ("float32", "bfloat16"):
        if dtype == "float32" or not case.single:
            drawn(case.init, key, jnp.zeros(case.shape, dtype))


@pytest.mark.parametrize("name", ["normal", "truncated_normal", "uniform"])
@pytest.mark.parametrize("legacy", [False, True])
def test_samplers_take_both_kinds_of_keys(name, legacy):
    key = jax.random.PRNGKey(0) if legacy else jax.random.key(0)
    sample = {
        "normal": lambda k, s, d: jinit.random.normal(k, s, d),
        "uniform": lambda k, s, d: jinit.random.uniform(k, s, d),
        "truncated_normal": lambda k, s, d: jinit.random.truncated_normal(
            k, -2.0, 2.0, s, d
        ),
    }[name]
    drawn(sample, key, jnp.zeros((3, 4)))


def test_bits_are_unsigned():
    @typed
    def bits(key: Draw, like: UInt[Array, "*s"]) -> UInt[Array, "*s"]:
        return jinit.random.bits(key, like.shape, like.dtype)

    for dtype in ("uint8", "uint16", "uint32"):
        bits(jax.random.key(0), jnp.zeros((2, 3), dtype))


def test_a_plan_draws_a_tree_of_its_structure(key):
    rules = entry_points.RULES
    tree = entry_points.params()
    plan = jinit.plan(tree, rules)
    kept(lambda _: plan.init(key), tree)
    kept(lambda tree: jinit.fill_missing({}, tree, plan, key), tree)
    kept(lambda tree: jinit.perturb(tree, key, 0.1, plan), tree)


@pytest.mark.parametrize("name", ["lsuv", "data_dependent"])
def test_what_sets_from_data_keeps_the_structure_of_the_parameters(name):
    method = getattr(jinit, name)
    start = jax.tree.map(lambda x: x.astype("float32"), entry_points.variables())
    kept(lambda v: method(entry_points.linen(), v, batch())[0], start)


def test_a_sweep_has_one_row_for_each_seed(key):
    @typed
    def swept(key: Draw, like: Float[Array, "n *s"]) -> Float[Array, "n *s"]:
        draw = functools.partial(jinit.he(), shape=like.shape[1:])
        return jinit.sweep(lambda k: draw(k), key, len(like))

    swept(key, jnp.zeros((3, 4, 5)))


def test_the_check_can_fail(key):
    wrong = jinit.transposed(jinit.he())
    with pytest.raises(TypeCheckError, match="return value"):
        drawn(lambda k, shape, dtype: wrong(k, shape, dtype).T, key, jnp.zeros((2, 3)))
