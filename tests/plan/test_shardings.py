"""Plans: parameters are drawn where they live, with the same values on every mesh."""

import functools

import chex
import flax.linen as nn
import jax
import jax.nn.initializers as jax_initializers
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jinit
from jinit._initializer.foreign import BoundInitializer as Sampler
from tests.support.meshes import make_mesh
from tests.support.plans import KERNELS_AND_ZEROS
from tests.support.split import slow_unless
from tests.support.trees import by_path, struct

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

    chex.assert_trees_all_equal(plan.init(key, placed), whole)
    jitted = jax.jit(functools.partial(plan.init, shardings=placed))(key)
    chex.assert_trees_all_equal(jitted, whole)
    with jax.set_mesh(mesh):
        specs = {"a": spec, "b": {"c": spec, "d": P()}}
        found = plan.init(key, specs)
        chex.assert_trees_all_equal(plan.init(key), whole)
    chex.assert_trees_all_equal(found, whole)
    assert found["a"].sharding.is_equivalent_to(sharding, 2)


def test_shardings_are_a_prefix(plan, key):
    whole = NamedSharding(make_mesh((8,)), P())
    rows = NamedSharding(make_mesh((8,)), P("x"))
    # A plain dict serves a FrozenDict and boxes; a sharding a whole branch.
    shardings = {"params": {"Embed_0": rows, "Block_0": whole, "Block_1": None}}
    shardings["params"] |= {"head": {"kernel": rows, "bias": rows}}
    shardings["params"] |= {"LayerNorm_0": None, "pos": None}
    drawn = plan.init(key, shardings)["params"]
    assert drawn["Embed_0"]["embedding"].sharding == rows
    assert drawn["Block_0"]["Dense_0"]["kernel"].value.sharding == whole
    assert not drawn["Block_1"]["Dense_0"]["kernel"].value.committed
    single = jax.sharding.SingleDeviceSharding(jax.devices()[3])
    leaf = plan.init(key, single)["params"]["head"]["bias"]
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
    axes = nn.logical_axis_rules([("in", "y"), ("out", None)])
    with jax.set_mesh(make_mesh((2, 4), kind)), axes:
        got = plan.init(key, "metadata")
        filled = jinit.fill_missing({}, shapes, plan, key, shardings="metadata")
    for tree in (got, filled):
        chex.assert_trees_all_equal(tree, wanted)
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
            drawn = jinit.plan(tree, KERNELS_AND_ZEROS).init(key, "metadata")
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
