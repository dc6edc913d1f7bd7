"""Plans: what is drawn, from which keys, where; what is shown, saved and refused."""

import copy
import dataclasses
import functools
import json
import pickle

import flax.core
import flax.linen as nn
import jax
import jax.nn.initializers as jax_initializers
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jinit
from jinit._core import trees
from jinit._initializer.foreign import BoundInitializer as Sampler
from tests.contract.test_sharding import make_mesh
from tests.plan.test_rules import Module
from tests.support import laws
from tests.support.counting import count_compilations
from tests.support.split import slow_unless


class Block(nn.Module):
    """A part of a transformer, with a kernel that knows its axes."""

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x))
        boxed = nn.with_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        return nn.Dense(64, kernel_init=boxed)(x)


class Transformer(nn.Module):
    depth: int = 2

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(40, 32)(tokens)
        for _ in range(self.depth):
            x = nn.Dense(32)(Block()(x))
        return x


# Flax 0.12.1 asks JAX for its mesh in a way that JAX has deprecated since.
pytestmark = pytest.mark.filterwarnings("ignore:jax.interpreters.pxla.thread")

TOKENS = jnp.zeros((1, 3), int)
RULES = [
    ("**/embedding", jinit.normal(0.02)),
    ("**/scale", jinit.ones),
    ("**/bias", jinit.zeros),
    ("**/MultiHead*/out/kernel", 0.5 * jinit.lecun(layout="iio")),
    ("**/MultiHead*/*/kernel", jinit.xavier(layout="ioo")),
    ("**/kernel", jinit.he_normal()),
]


def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0), TOKENS)


@pytest.fixture(scope="module")
def plan():
    return jinit.plan(shapes_of(Transformer()), RULES)


def assert_trees_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def by_path(tree):
    return {leaf.path: leaf.value for leaf in trees.leaves(tree)}


def struct(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


def test_a_linen_model_runs_on_what_a_plan_draws(plan, key):
    variables = plan.init(key)
    assert jax.tree.structure(variables) == jax.tree.structure(shapes_of(Transformer()))
    assert np.isfinite(Transformer().apply(variables, TOKENS)).all()
    box = variables["params"]["Block_0"]["Dense_0"]["kernel"]
    assert isinstance(box, nn.Partitioned) and box.names == ("embed", "mlp")
    assert plan.shapes == shapes_of(Transformer())


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
    assert by_path(jinit.plan(abstract, plan_rules()).init(key)).keys() == own


def plan_rules():
    return [("**/kernel", jinit.he()), ("**", jinit.zeros)]


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


# Of the standard deviation that the rows give, not of the code that draws.
WIDE = {
    "dense": (struct(200, 300), jinit.he(), 3),
    "conv": (struct(3, 3, 40, 60), jinit.xavier(gain="tanh"), 3),
    "torch": (struct(60, 40, 3, 3), jinit.lecun(layout="oikk"), 3),
    "query": (struct(128, 8, 64), jinit.he_uniform(-3, (-2, -1)), 1.8),
    "scaled": (struct(200, 300), 0.1 * jinit.normal(2.0), 3),
    "half": (struct(200, 300, dtype="bfloat16"), jinit.he(), 3),
}


@pytest.mark.parametrize("wrong", [1.0, 1.03])
@pytest.mark.parametrize("name", WIDE)
def test_rows_predict_the_std(name, wrong, key):
    leaf, init, kurtosis = WIDE[name]
    plan = jinit.plan({name: leaf}, [(name, init)])
    check = functools.partial(
        laws.assert_moments, plan.init(key)[name], 0.0, kurtosis=kurtosis
    )
    if wrong == 1.0:
        check(plan.rows[0]["std"])
    else:
        with pytest.raises(AssertionError):
            check(plan.rows[0]["std"] * wrong)


def test_rows():
    tree = {
        "a": struct(3, 3, 8, 16),
        "b": struct(16, dtype="bfloat16"),
        "c": struct(16, 4),
        "d": struct(8, 2, 4),
        "e": struct(40, 8),
        "f": struct(7),
    }
    rules = [
        ("a", 0.5 * jinit.he()),
        ("b", jinit.zeros),
        ("c", jax_initializers.normal(0.1)),
        ("d", jinit.xavier(layout="ioo")),
        ("e", jinit.variance_scaling(1.0, "fan_in", "normal", out_axis=0)),
        ("f", jinit.lecun(fan_in=10)),
    ]
    rows = jinit.plan(tree, rules).rows
    keys = "path shape dtype layout fan_in fan_out initializer std parameters".split()
    assert all(list(row) == keys for row in rows)
    std = 0.5 * (2 / 72) ** 0.5
    expected = [
        ["a", (3, 3, 8, 16), "float32", "kkio", 72, 144, "0.5 * jinit.he()", std, 1152],
        ["b", (16,), "bfloat16", None, None, None, "jinit.zeros", 0.0, 16],
        ["c", (16, 4), "float32", None, None, None, "normal.<locals>.init", None, 64],
        ["d", (8, 2, 4), "float32", "ioo", 8, 8, "jinit.xavier(layout='ioo')"],
        # JAX's idiom for embeddings: one axis is input and output.
        ["e", (40, 8), "float32", None, 8, 8],
        ["f", (7,), "float32", None, 10, None, "jinit.lecun(fan_in=10)", 0.1**0.5, 7],
    ]
    for row, values in zip(rows, expected, strict=True):
        found = list(row.values())[: len(values)]
        assert found == [pytest.approx(v) if type(v) is float else v for v in values]


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
    for name in small:
        np.testing.assert_array_equal(first[name], second[name])
    # A plan for more layers begins with the plan for fewer.
    few, many = (
        by_path(jinit.plan(shapes_of(Transformer(depth)), RULES).init(key))
        for depth in (1, 3)
    )
    for path, value in few.items():
        np.testing.assert_array_equal(value, many[path])


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
    assert_trees_equal(jax.jit(plan.init)(key), eager)
    assert_trees_equal(plan.init(jax.random.key_data(key)), eager)
    keys = jnp.stack([key, jax.random.fold_in(key, 1)])
    many = jax.vmap(plan.init)(keys)
    assert_trees_equal(jax.tree.map(lambda x: x[0], many), eager)


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
        own = trees.key_of(key, ("w",))
        same = jax.jit(lambda k: init(k, (8, 16), dtype))(own)
        np.testing.assert_array_equal(drawn, same)


MESHES = [((1,), P("x")), ((2,), P("x")), ((4,), P(None, "x")), ((8,), P("x"))]
MESHES += [((2, 4), P("x", "y")), ((4, 2), P(None, ("x", "y")))]


ON_MESHES = [(*mesh, AxisType.Auto) for mesh in MESHES]
ON_MESHES += [(*mesh, AxisType.Explicit) for mesh in MESHES[-3:-1]]


# One axis and two axes, one axis cut by two, and both kinds of axes.
SOME = [ON_MESHES[index] for index in (2, 5, 7)]


@pytest.mark.parametrize("sizes, spec, kind", slow_unless(SOME, ON_MESHES))
def test_values_are_the_same_on_every_mesh(sizes, spec, kind, key):
    tree = {"a": struct(16, 8), "b": {"c": struct(8, 24), "d": struct(8)}}
    rules = [("a", jax_initializers.he_normal()), ("**/c", jinit.he())]
    plan = jinit.plan(tree, [*rules, ("**", jinit.normal())])
    whole = plan.init(key)
    mesh = make_mesh(sizes, kind)
    sharding = NamedSharding(mesh, spec)

    def placed(path, leaf):
        assert isinstance(leaf, jax.ShapeDtypeStruct)
        return sharding if len(leaf.shape) == 2 else None

    assert_trees_equal(plan.init(key, placed), whole)
    jitted = jax.jit(functools.partial(plan.init, shardings=placed))(key)
    assert_trees_equal(jitted, whole)
    with jax.set_mesh(mesh):
        specs = {"a": spec, "b": {"c": spec, "d": P()}}
        found = plan.init(key, specs)
        assert_trees_equal(plan.init(key), whole)
    assert_trees_equal(found, whole)
    assert found["a"].sharding.is_equivalent_to(sharding, 2)


def test_shardings_are_a_prefix(plan, key):
    whole = NamedSharding(make_mesh((8,)), P())
    rows = NamedSharding(make_mesh((8,)), P("x"))
    # A plain dict serves a FrozenDict and boxes; a sharding a whole branch.
    shardings = {"params": {"Embed_0": rows, "Block_0": whole, "Block_1": None}}
    shardings["params"] |= {"Dense_0": {"kernel": rows, "bias": rows}, "Dense_1": None}
    drawn = plan.init(key, shardings)["params"]
    assert drawn["Embed_0"]["embedding"].sharding == rows
    assert drawn["Block_0"]["Dense_0"]["kernel"].value.sharding == whole
    assert not drawn["Block_1"]["Dense_0"]["kernel"].value.committed
    single = jax.sharding.SingleDeviceSharding(jax.devices()[3])
    leaf = plan.init(key, single)["params"]["Dense_0"]["bias"]
    assert leaf.devices() == {jax.devices()[3]}


def test_shardings_from_the_shapes(key):
    sharding = NamedSharding(make_mesh((8,)), P("x"))
    tree = {"w": jax.ShapeDtypeStruct((8, 2), "float32", sharding=sharding)}
    plan = jinit.plan(tree, [("w", jinit.he())])
    drawn = plan.init(key, lambda path, leaf: leaf.sharding)
    assert drawn["w"].sharding == sharding


def test_structs_say_where_they_live(key):
    mesh = make_mesh((8,))
    rows, whole = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())
    tree = {
        "w": jax.ShapeDtypeStruct((8, 2), "float32", sharding=rows),
        "b": struct(8),
    }
    plan = jinit.plan(tree, [("w", jinit.he()), ("b", jinit.zeros)])
    assert plan.init(key)["w"].sharding == rows
    assert not plan.init(key)["b"].committed
    assert jax.jit(plan.init)(key)["w"].sharding == rows
    # What is said at the call wins; None says nothing.
    assert plan.init(key, whole)["w"].sharding == whole
    placed = plan.init(key, {"w": None, "b": rows})
    assert placed["w"].sharding == rows == placed["b"].sharding
    assert plan.init(key, {"w": tree["w"], "b": tree["b"]})["w"].sharding == rows
    assert plan.reinit(key, tree)["w"].sharding == rows
    wrong = jax.ShapeDtypeStruct((4, 2), "float32", sharding=whole)
    with pytest.raises(ValueError, match=r"has for 'w' \(8, 2\) a struct of shape"):
        plan.init(key, {"w": wrong, "b": None})


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_metadata(kind, key):
    boxed = nn.with_partitioning(nn.initializers.ones, ("x", "y"))
    logical = nn.with_logical_partitioning(nn.initializers.ones, ("in", "out"))
    model = nn.Sequential(
        [nn.Dense(16, kernel_init=boxed), nn.Dense(4, True, kernel_init=logical)]
    )
    shapes = jax.eval_shape(model.init, key, jnp.ones((1, 8)))
    plan = jinit.plan(shapes, [("**/kernel", jinit.he_uniform()), ("**", jinit.zeros)])
    wanted = plan.init(key)
    with jax.set_mesh(make_mesh((2, 4), kind)):
        with nn.logical_axis_rules([("in", "y"), ("out", None)]):
            got = plan.init(key, "metadata")
            filled = jinit.fill_missing({}, shapes, plan, key, shardings="metadata")
    for tree in (got, filled):
        assert_trees_equal(tree, wanted)
        kernels = [tree["params"][f"layers_{i}"]["kernel"].value for i in (0, 1)]
        assert [k.sharding.spec for k in kernels] == [P("x", "y"), P("y", None)]
    with pytest.raises(ValueError, match="jax.set_mesh"):
        plan.init(key, "metadata")
    with pytest.raises(ValueError, match="'metadata'"):
        plan.init(key, "meta")


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_metadata_of_nnx(kind, key):
    from flax import nnx

    def make():
        init = nnx.with_partitioning(nnx.initializers.ones, (None, "x"))
        return nnx.Linear(8, 16, kernel_init=init, rngs=nnx.Rngs(0))

    with jax.set_mesh(make_mesh((8,), kind)):
        for tree in (nnx.eval_shape(make), nnx.state(nnx.eval_shape(make))):
            drawn = jinit.plan(tree, plan_rules()).init(key, "metadata")
            kernel = by_path(drawn)["kernel"]
            assert kernel.sharding.spec == P(None, "x")
            assert len(kernel.sharding.device_set) == 8


def refused(mesh):
    rows = NamedSharding(mesh, P("x"))
    return [
        (rows, ValueError, r"sharding of 'b/c' \(15, 8\).*multiple of its devices"),
        ({"a": None}, ValueError, r"says nothing of 'b/c'"),
        ({"a": None, "b": None, "e": rows}, ValueError, "an entry at 'e', where"),
        ({"a": "x", "b": None}, TypeError, r"sharding of 'a' \(16, 8\) is 'x'"),
        (lambda path, leaf: 3, TypeError, "sharding of 'a'.* is 3, of type int"),
        (P("x"), ValueError, "sharding of 'a'.*no mesh"),
    ]


@pytest.mark.parametrize("number", range(6))
def test_shardings_are_refused_before_anything_is_drawn(number, key, monkeypatch):
    shardings, error, match = refused(make_mesh((8,)))[number]
    tree = {"a": struct(16, 8), "b": {"c": struct(15, 8)}}
    plan = jinit.plan(tree, [("**", jinit.he())])
    monkeypatch.setattr(Sampler, "__call__", None)
    with pytest.raises(error, match=match):
        plan.init(key, shardings)


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
    ({"a": jnp.tanh}, jinit.he(), TypeError, "leaf at 'a' .*equinox.is_array"),
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


def test_a_key_is_a_key(plan):
    with pytest.raises(TypeError, match="must be a PRNG key"):
        plan.init(0)
    with pytest.raises(ValueError, match="batch of keys"):
        plan.init(jax.random.split(jax.random.key(0), 3))


def test_configurations(plan, key):
    config = json.loads(json.dumps(plan.to_config()))
    again = jinit.Plan.from_config(config)
    assert again.rows == plan.rows and again.to_config() == plan.to_config()
    assert by_path(again.init(key)).keys() == by_path(plan.init(key)).keys()
    # In the containers of the model.
    same = jinit.Plan.from_config(config, shapes=shapes_of(Transformer()))
    assert same == plan and hash(same) == hash(plan)
    assert_trees_equal(same.init(key), plan.init(key))


@pytest.mark.parametrize(
    "tree",
    [{"a": {"b": struct(3, 4), "c": struct(2)}, "d/e": struct(1)}, struct(3), {}],
)
def test_configurations_of_dicts(tree):
    rules = [("a/c", jinit.keep), ("**", 0.5 * jinit.normal(0.1, "bfloat16"))]
    plan = jinit.plan(tree, rules, allow_unused=True)
    config = json.loads(json.dumps(plan.to_config()))
    assert jinit.Plan.from_config(config) == plan


def test_configurations_that_are_none(plan):
    with pytest.raises(TypeError, match="must be what plan.to_config"):
        jinit.Plan.from_config({"name": "he"})
    entry = plan.to_config()["leaves"][0]
    with pytest.raises(ValueError, match=r"without \['dtype'\]"):
        jinit.Plan.from_config(
            {"leaves": [{k: entry[k] for k in entry if k != "dtype"}]}
        )
    with pytest.raises(ValueError, match="where another one lies"):
        jinit.Plan.from_config({"leaves": [entry, entry]})
    with pytest.raises(ValueError, match="`shapes` lacks 1 leaves.*\n.*Dense_0/bias"):
        jinit.Plan.from_config({"leaves": [entry]}, shapes={})
    with pytest.raises(ValueError, match="one of.*'he'"):
        wrong = entry | {"initializer": {"name": "hee"}}
        jinit.Plan.from_config({"leaves": [wrong]})
    foreign = jinit.plan({"w": struct(2, 3)}, [("w", jax_initializers.he_normal())])
    with pytest.raises(TypeError, match="initializer of 'w'.*only jinit's own"):
        foreign.to_config()


def test_a_plan_is_a_value(plan, key):
    assert plan == jinit.plan(shapes_of(Transformer()), RULES)
    assert plan != jinit.plan(shapes_of(Transformer()), [("**", jinit.zeros)])
    for other in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        assert other == plan and hash(other) == hash(plan)
        assert_trees_equal(other.init(key), plan.init(key))
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.leaves = ()


def test_the_table(plan):
    lines = str(plan).splitlines()
    assert repr(plan) == str(plan)
    assert lines[0].split() == (
        "path shape dtype layout fans initializer std parameters".split()
    )
    assert len(lines) == 2 + len(plan.rows) + 2
    for row, line in zip(plan.rows, lines[2:], strict=False):
        assert row["path"] in line and row["initializer"] in line
    query = next(line for line in lines if "query/kernel" in line)
    assert query.split() == [
        "params/Block_0/MultiHeadDotProductAttention_0/query/kernel",
        "(32,", "4,", "8)", "float32", "ioo", "32", "->", "32",
        "jinit.xavier(layout='ioo')", "0.1768", "1,024",
    ]  # fmt: skip
    total = sum(x.size for x in jax.tree.leaves(plan.shapes))
    assert lines[-1].split() == ["total", f"{total:,}"]


def test_the_table_shows_brackets():
    plan = jinit.plan({"[red]a": struct(3)}, [("**", jinit.constant([1, 2, 3]))])
    assert "[red]a" in str(plan)


def test_a_plan_in_rich():
    rich_table = pytest.importorskip("rich.table")
    plan = jinit.plan({"w": struct(2, 3)}, [("w", jinit.he())])
    assert isinstance(plan.__rich__(), rich_table.Table)
