"""Plans: what is drawn for which tree, and what is refused."""

import functools
import json
import pickle

import chex
import flax.core
import flax.linen as nn
import jax
import jax.nn.initializers as jax_initializers
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jinit
from jinit._core.trees import key_of
from tests.support.counting import count_compilations
from tests.support.meshes import make_mesh
from tests.support.models import Module, Transformer
from tests.support.plans import KERNELS_AND_ZEROS, SHAPES, TOKENS
from tests.support.trees import by_path, struct


def test_a_linen_model_runs_on_what_a_plan_draws(plan, key):
    variables = plan.init(key)
    assert jax.tree.structure(variables) == jax.tree.structure(SHAPES)
    chex.assert_tree_all_finite(Transformer().apply(variables, TOKENS))
    box = variables["params"]["Block_0"]["Dense_0"]["kernel"]
    assert isinstance(box, nn.Partitioned) and box.names == ("embed", "mlp")
    assert plan.shapes == SHAPES


def test_an_nnx_model_runs_on_what_a_plan_draws(key):
    nnx = pytest.importorskip("flax.nnx", exc_type=ImportError)

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(4, 8, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.first(x))

    model = Model(nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    plan = jinit.plan(params, [("**/kernel", jinit.he()), ("**", jinit.zeros)])
    drawn = plan.init(key)
    assert isinstance(drawn, nnx.State)
    assert nnx.merge(graph, drawn, rest)(jnp.ones((2, 4))).shape == (2, 8)
    # The module itself is a tree too; what is no parameter is kept.
    own = {row["path"] for row in plan.rows}
    rules = [(lambda path, _: path not in own, jinit.keep)]
    rules += [("**/kernel", jinit.he()), ("**", jinit.zeros)]
    whole = jinit.plan(model, rules).init(key)
    assert isinstance(whole, Model)
    np.testing.assert_array_equal(
        whole.first.kernel[...], drawn["first"]["kernel"][...]
    )
    # And the shapes are enough: no parameter is ever made twice.
    abstract = nnx.eval_shape(lambda: nnx.state(Model(nnx.Rngs(0)), nnx.Param))
    assert by_path(jinit.plan(abstract, KERNELS_AND_ZEROS).init(key)).keys() == own


@pytest.mark.parametrize(
    "tree",
    [
        Module(struct(3, 4), [Module(struct(4, 2), [])]),
        flax.core.freeze({"a": {"b": struct(3, 4)}}),
        [struct(3, 4), (struct(2, 2), {"x": struct(2, 3)})],
        struct(3, 4),
        {"none": None, "w": struct(2, 2)},
        {"w": np.ones((2, 3))},
        {"w": struct(0, 3), "b": struct(2, 3, dtype="bfloat16")},
    ],
)
def test_any_tree(tree, key):
    drawn = jinit.plan(tree, [("**", jinit.he())]).init(key)
    assert jax.tree.structure(drawn) == jax.tree.structure(tree)
    for new, old in zip(jax.tree.leaves(drawn), jax.tree.leaves(tree), strict=True):
        assert isinstance(new, jax.Array) and new.shape == old.shape
        assert new.dtype == jax.dtypes.canonicalize_dtype(old.dtype)


def test_an_empty_tree():
    assert jinit.plan({}, []).init(jax.random.key(0)) == {}


def fresh(path, leaf):
    """A new closure for every leaf, as JAX's makers return them."""
    return jax_initializers.variance_scaling(
        2.0, "fan_in", "truncated_normal", in_axis=0, out_axis=-1
    )


def test_each_distinct_sampler_is_compiled_once(key):
    tree = {f"layer_{i}": {"w": struct(5, 7), "v": struct(7, 5)} for i in range(9)}
    plan = jinit.plan(tree, [("**", fresh)])
    jinit.plan({"w": struct(2)}, [("w", jinit.normal())]).init(key)
    with count_compilations() as count:
        jax.block_until_ready(plan.init(key))
    assert count() == 2
    with count_compilations() as count:
        plan.init(jax.random.fold_in(key, 1))
    assert count() == 0


def test_closures_that_differ_are_not_shared(key):
    def constant(value):
        return lambda key, shape, dtype: jnp.full(shape, value, dtype)

    values = [1, 1.0, 2.0, -0.0, 0.0, True, jnp.ones(3), np.full(3, 7.0)]
    tree = [struct(3) for _ in values]
    plan = jinit.plan(tree, [("*", lambda path, _: constant(values[int(path)]))])
    for drawn, value in zip(plan.init(key), values, strict=True):
        np.testing.assert_array_equal(drawn, np.broadcast_to(value, 3))
        assert np.signbit(drawn).all() == np.signbit(value).all()


INITIALIZERS = {
    "jinit": jinit.he_normal(),
    "scaled": -0.5 * jinit.he_normal(),
    "jax": jax_initializers.he_normal(),
    "two arguments": lambda key, shape: jax.random.normal(key, shape),
    "by keyword": lambda key, shape, *, dtype: jax.random.normal(key, shape, dtype),
    "any": lambda *args: jax.random.normal(*args),
    "partial": functools.partial(jax_initializers.he_normal(), dtype="float16"),
    "numpy": lambda key, shape, dtype: np.ones(shape, dtype),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_of_any_origin(name, dtype, key):
    init = INITIALIZERS[name]
    plan = jinit.plan({"w": struct(8, 16, dtype=dtype)}, [("w", init)])
    drawn = plan.init(key)["w"]
    assert isinstance(drawn, jax.Array)
    assert drawn.shape == (8, 16) and drawn.dtype == dtype
    sharding = NamedSharding(make_mesh((2, 4)), P("x", "y"))
    placed = plan.init(key, sharding)["w"]
    assert placed.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_array_equal(placed, drawn)
    if name == "jax":
        own = key_of(key, ("w",))
        same = jax.jit(lambda k: init(k, (8, 16), dtype))(own)
        np.testing.assert_array_equal(drawn, same)


def test_kept_leaves(key):
    tree = {"a": jnp.ones((8, 2)), "b": jnp.ones((2, 2)), "c": np.ones(3)}
    plan = jinit.plan(tree, [("b", jinit.he()), ("**", jinit.keep)])
    drawn = plan.init(key)
    assert drawn["a"] is tree["a"] and drawn["c"] is tree["c"]
    assert drawn["b"] is not tree["b"]
    sharding = NamedSharding(make_mesh((8,)), P("x"))
    placed = plan.init(key, {"a": sharding, "b": None, "c": None})
    assert placed["a"].sharding == sharding
    abstract = jinit.plan(
        jax.eval_shape(lambda: tree), [("b", jinit.he()), ("**", jinit.keep)]
    )
    with pytest.raises(ValueError, match=r"keeps 2 leaves .*\n  'a' \(8, 2\)\n  'c'"):
        abstract.init(key)


def test_kept_leaves_may_be_anything(key):
    tree = {"w": struct(4, 2), "step": 0, "f": jnp.tanh, "name": "x", "flag": True}
    plan = jinit.plan(tree, [("w", jinit.he()), ("**", jinit.keep)])
    drawn = plan.init(key)
    assert drawn["w"].shape == (4, 2)
    assert {name: drawn[name] for name in tree if name != "w"} == {
        name: tree[name] for name in tree if name != "w"
    }
    assert type(drawn["step"]) is int
    rows = {row["path"]: row for row in plan.rows}
    assert rows["step"]["shape"] == () and rows["step"]["dtype"] == "int32"
    assert rows["f"]["shape"] is None and rows["f"]["parameters"] == 0
    assert "jinit.keep" in repr(plan)
    # A number that is given a sharding is an array, as under jit.
    whole = NamedSharding(make_mesh((8,)), P())
    placed = plan.init(key, {"w": None, "step": whole, "f": whole, "name": None,
                             "flag": None})  # fmt: skip
    assert placed["step"].sharding == whole and placed["f"] is jnp.tanh
    # The values are not recorded in a configuration; `shapes` gives them back.
    config = json.loads(json.dumps(plan.to_config()))
    assert jinit.Plan.from_config(config, tree).init(key)["f"] is jnp.tanh
    with pytest.raises(ValueError, match="keeps 4 leaves whose values it does not"):
        jinit.Plan.from_config(config).init(key)
    copied = pickle.loads(pickle.dumps(jinit.plan(
        {"w": struct(4, 2), "name": "x"}, [("w", jinit.he()), ("**", jinit.keep)]
    )))  # fmt: skip
    assert copied.init(key)["name"] == "x"


def test_no_tracer_outlives_a_check():
    with jax.checking_leaks():
        jinit.plan({"w": struct(4, 2)}, [("w", jax_initializers.he_normal())])


BAD_LEAVES = [
    ({"a": {"b": 3.0}}, jinit.he(), TypeError, "leaf at 'a/b' is 3.0, of type float"),
    ({"a": {"b": "x"}}, jinit.zeros, TypeError, "leaf at 'a/b' is 'x', of type str"),
    ({"a": jnp.tanh}, jinit.he(), TypeError, "leaf at 'a' .*equinox.filter"),
    ({"a": {"b": struct(3)}}, jinit.he(), ValueError,
     r"jinit.he\(\) does not fit the leaf 'a/b' \(3,\).*\('a/b', jinit.zeros\).*"
     r"layout='o'.*fan_in="),
    ({"a": struct()}, jax_initializers.he_normal(), ValueError,
     r"fit the leaf 'a' \(\).*layout='o'"),
    ({"a": struct(3, 4)}, jinit.he(layout="oikk"), ValueError, "leaf 'a'.*4 letters"),
    ({"a": struct(3, 4, dtype="int32")}, jinit.he(), TypeError, "'a'.*int32"),
    ({"a": struct(2, 3)}, lambda k, s, d: jnp.ones((3,)), ValueError,
     r"leaf 'a'.*returned an array of shape \(3,\) .*must have shape \(2, 3\)"),
    ({"a": struct(2, 3, dtype="bfloat16")}, lambda k, s, d: jnp.ones(s), ValueError,
     "leaf 'a'.*dtype float32; it must have .*bfloat16"),
    ({"a": struct(2, 3)}, lambda k, s, d: None, TypeError, "returned None, which is"),
    ({"a": struct(2, 3)}, lambda k, s, d: 1 / 0, ValueError, "'a'.*division by zero"),
]  # fmt: skip


@pytest.mark.parametrize("tree, init, error, match", BAD_LEAVES)
def test_leaves_that_do_not_fit(tree, init, error, match):
    # When the plan is made: nothing is ever half-initialized.
    with pytest.raises(error, match=match):
        jinit.plan(tree, [("**", init)])


def test_a_leaf_of_another_size_is_sent_to_fill_missing(key):
    body = jax.numpy.ones((4, 4))
    old = {"body": body, "head": jax.numpy.ones((4, 10))}
    shapes = {"body": struct(4, 4), "head": struct(4, 7)}
    plan = jinit.plan(shapes, [("**", jinit.lecun())])
    with pytest.raises(ValueError, match=r"jinit\.fill_missing\(params, shapes, plan"):
        plan.reinit(key, old, only="head")
    with pytest.raises(
        ValueError, match=r"from `params`, or put `\.\.\.` in its place"
    ):
        jinit.fill_missing(old, shapes, plan, key)
    for checkpoint in ({"body": body}, {**old, "head": ...}):
        grown = jinit.fill_missing(checkpoint, shapes, plan, key)
        assert grown["body"] is body and grown["head"].shape == (4, 7)
