"""materialize on a mesh: drawn where it lives, and the values of one device."""

import dataclasses
import itertools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jinit
from jinit._materialize import executables
from tests.support.everything import INIT, X, everything
from tests.support.meshes import COLLECTIVES, divided, make_mesh
from tests.support.split import slow_unless
from tests.support.trees import assert_equal

KINDS = [AxisType.Auto, AxisType.Explicit]


# A mesh takes a compilation of the whole model. By default: one device, one axis and
# both orders of two axes, each kind of axes twice.
SIZES = [(1,), (2,), (4,), (8,), (2, 4), (4, 2)]
MESHES = slow_unless(
    [
        ((1,), AxisType.Auto),
        ((8,), AxisType.Explicit),
        ((2, 4), AxisType.Auto),
        ((4, 2), AxisType.Explicit),
    ],
    list(itertools.product(SIZES, KINDS)),
)


@pytest.mark.parametrize("sizes, kind", MESHES)
def test_equal_on_every_mesh(sizes, kind):
    sharding = divided(make_mesh(sizes, kind))
    got = jinit.materialize(INIT, shardings=sharding)(jax.random.key(3), X)
    assert_equal(got, everything())
    for path, leaf in jax.tree_util.tree_leaves_with_path(got):
        wanted = sharding(path, leaf)
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim), path


def model_of_width(width):
    return nn.Dense(width, kernel_init=nn.initializers.lecun_normal())


def test_a_tree_a_prefix_and_one_sharding(key):
    mesh = make_mesh((2, 4))
    x = jnp.ones((1, 8))
    kernel, bias = NamedSharding(mesh, P("x", "y")), NamedSharding(mesh, P("y"))
    tree = {"params": {"kernel": kernel, "bias": bias}}
    for shardings in (tree, {"params": bias}, bias, {"params": {**tree["params"]}}):
        got = jinit.materialize(model_of_width(16).init, shardings=shardings)(key, x)
        assert_equal(got, model_of_width(16).init(key, x))
        is_tree = isinstance(shardings, dict) and shardings["params"] is not bias
        wanted = kernel if is_tree else bias
        assert got["params"]["kernel"].sharding.is_equivalent_to(wanted, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_specs_in_the_mesh_of_the_context(kind, key):
    x = jnp.ones((1, 8))
    wanted = model_of_width(16).init(key, x)
    with jax.set_mesh(make_mesh((2, 4), kind)):
        shardings = {"params": {"kernel": P("x", "y"), "bias": None}}
        got = jinit.materialize(model_of_width(16).init, shardings=shardings)(key, x)
    assert got["params"]["kernel"].sharding.spec == P("x", "y")
    assert_equal(got, wanted)


def test_the_empty_spec_copies_to_all_devices(key):
    # The value of a bias is drawn without a program, and PartitionSpec() is false.
    mesh = make_mesh((2, 4))
    for shardings in (
        P(),
        {"params": P()},
        {"params": {"kernel": P("x"), "bias": P()}},
    ):
        with jax.set_mesh(mesh):
            got = jinit.materialize(nn.Dense(4).init, shardings=shardings)(key, X)
        assert got["params"]["bias"].sharding == NamedSharding(mesh, P())


def test_an_annotation_without_axes_needs_no_mesh(key):
    scale = nn.with_partitioning(jinit.ones, ())
    model = nn.LayerNorm(use_bias=False, scale_init=scale)
    got = jinit.materialize(model.init, shardings="metadata")(key, jnp.ones((1, 4)))
    assert isinstance(got["params"]["scale"].value, jax.Array)


def test_specs_follow_the_mesh_and_not_its_names(key):
    x = jnp.ones((1, 8))
    for sizes in ((2, 4), (4, 2), (1, 8)):
        mesh = make_mesh(sizes)
        with jax.set_mesh(mesh):
            got = jinit.materialize(model_of_width(16).init, shardings=P("y"))(key, x)
        kernel = got["params"]["kernel"]
        assert kernel.sharding.is_equivalent_to(NamedSharding(mesh, P("y")), 2)


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_of_linen(kind, key):
    boxed = nn.with_partitioning(nn.initializers.lecun_normal(), ("x", "y"))
    logical = nn.with_logical_partitioning(nn.initializers.normal(0.1), ("in", "out"))
    model = nn.Sequential(
        [nn.Dense(16, kernel_init=boxed), nn.Dense(4, True, kernel_init=logical)]
    )
    x = jnp.ones((1, 8))
    wanted = model.init(key, x)
    axes = nn.logical_axis_rules([("in", "y"), ("out", None)])
    with jax.set_mesh(make_mesh((2, 4), kind)), axes:
        got = jinit.materialize(model.init, shardings="metadata")(key, x)
    assert_equal(got, wanted)
    kernels = [got["params"][f"layers_{i}"]["kernel"].value for i in (0, 1)]
    assert [k.sharding.spec for k in kernels] == [P("x", "y"), P("y", None)]


class Annotated(nnx.Module):
    def __init__(self, rngs):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "x"))
        self.first = nnx.Linear(8, 16, kernel_init=init, rngs=rngs)
        self.second = nnx.Linear(16, 4, rngs=rngs)


@pytest.mark.parametrize("shardings", [None, "metadata"])
@pytest.mark.parametrize("kind", KINDS)
def test_metadata_of_nnx(kind, shardings):
    with jax.set_mesh(make_mesh((8,), kind)):
        got = jinit.nnx.materialize(Annotated, 0, shardings=shardings)
        wanted = Annotated(nnx.Rngs(0))
        assert nnx.split(got)[0] == nnx.split(wanted)[0]
        assert_equal(nnx.state(got), nnx.state(wanted))
    state = nnx.to_pure_dict(nnx.state(got))
    assert state["first"]["kernel"].sharding.spec == P(None, "x")


@flax.struct.dataclass
class State:
    """This state is like a TrainState: not all leaves are arrays."""

    params: Any
    step: Any = 0
    name: Any = "model"
    ema: Any = None
    apply_fn: Any = flax.struct.field(pytree_node=False, default=nn.relu)


WHERE = [
    lambda s: s,
    lambda s: jax.tree.map(lambda _: s, jax.eval_shape(numbers, jax.random.key(0))),
    lambda s: State(s, s, ema=s, name=None),
    lambda s: State({"w": s, "given": s}, s, name=s),
    lambda s: lambda path, leaf: s if leaf.shape in ((), (8,), (16,)) else None,
    lambda s: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(numbers, jax.random.key(0)),
    ),
]


def numbers(key):
    w = jax.random.normal(key, (8,))
    return State({"w": w, "given": np.ones(16, np.float32)}, name=None)


@pytest.mark.parametrize("where", WHERE)
def test_trees_that_are_not_all_arrays(where, key):
    sharding = NamedSharding(make_mesh((8,)), P())
    got = jinit.materialize(numbers, shardings=where(sharding))(key)
    # As under jit: what is given a sharding is an array that lives there.
    wanted = jax.jit(numbers, out_shardings=sharding)(key)
    assert_equal(got, wanted)
    for new, old in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert new.sharding == sharding and new.weak_type == old.weak_type
    assert got.apply_fn is nn.relu and got.ema is None


def test_what_is_given_no_sharding_stays_what_it_is(key):
    sharding = NamedSharding(make_mesh((8,)), P("x"))

    def init(key):
        return State({"w": jax.random.normal(key, (8,))})

    for shardings in (
        State({"w": sharding}, None),
        State(sharding, None, sharding, sharding),
        lambda path, leaf: sharding if path == "params/w" else None,
    ):
        got = jinit.materialize(init, shardings=shardings)(key)
        assert got.params["w"].sharding == sharding
        assert type(got.step) is int and got.name == "model" and got.ema is None
    with pytest.raises(ValueError, match="says nothing of 'step'"):
        jinit.materialize(init, shardings={"params": sharding})(key)
    with pytest.raises(ValueError, match="has for 'params/w' .*struct of shape"):
        struct = jax.ShapeDtypeStruct((16,), "float32", sharding=sharding)
        jinit.materialize(init, shardings=State(struct, None))(key)


def test_a_callable_tree_is_a_tree(key):
    sharding = NamedSharding(make_mesh((8,)), P())

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Module:
        w: Any

        def __call__(self, x):
            return self.w @ x

    draw = jinit.materialize(
        lambda key: Module(jax.random.normal(key, (4,))), shardings=Module(sharding)
    )
    assert draw(key).w.sharding == sharding


def test_functions_of_paths_for_nnx():
    mesh, paths = make_mesh((8,)), []

    def sharding(path, leaf):
        paths.append(path)
        return NamedSharding(mesh, P("x")) if path == "linear/kernel" else None

    def make(rngs):
        return nnx.Dict(linear=nnx.Linear(16, 3, rngs=rngs))

    got = jinit.nnx.materialize(make, 0, shardings=sharding)
    kernel = nnx.to_pure_dict(nnx.state(got))["linear"]["kernel"]
    assert kernel.sharding.spec == P("x")
    assert paths == ["linear/bias", "linear/kernel"]
    tree = {"linear": {"kernel": NamedSharding(mesh, P("x")), "bias": None}}
    again = jinit.nnx.materialize(make, 0, shardings=tree)
    assert_equal(nnx.state(again), nnx.state(got))


def test_no_device_holds_more_than_its_part_and_nothing_is_sent(key):
    executables.PROGRAMS.clear()
    mesh = make_mesh((8,))

    def init(key):
        qkv = nn.initializers.lecun_normal()(key, (1024, 4096)).reshape(1024, 32, 128)
        return {"qkv": qkv, "bias": jnp.zeros((4096,))}

    where = {
        "qkv": NamedSharding(mesh, P(None, "x")),
        "bias": NamedSharding(mesh, P("x")),
    }
    jax.block_until_ready(jinit.materialize(init, shardings=where)(key))
    part = 1024 * 4096 * 4 // 8
    for program in executables.PROGRAMS.values():
        compiled = program.executable.result()
        memory = compiled.memory_analysis()
        assert memory.output_size_in_bytes <= part + 1024
        assert memory.temp_size_in_bytes < part // 4
        assert not COLLECTIVES.search(compiled.as_text())


def test_inside_a_jit(key):
    mesh = make_mesh((8,))
    init = jinit.materialize(
        model_of_width(16).init, shardings=NamedSharding(mesh, P("x"))
    )
    got = jax.jit(lambda key: init(key, jnp.ones((1, 8))))(key)
    assert got["params"]["kernel"].sharding.is_equivalent_to(
        NamedSharding(mesh, P("x")), 2
    )


ERRORS = [
    (lambda m: NamedSharding(m, P("x")), ValueError, "params/bias.*does not fit"),
    (
        lambda m: NamedSharding(m, P(None, None, "x")),
        ValueError,
        r"params/bias.*has 3 entries, and shape \(\d+,\) has 1 axes",
    ),
    (lambda m: {"params": None, "extra": None}, ValueError, "entry at 'extra'"),
    (lambda m: {"params": {"bias": None}}, ValueError, "nothing of 'params/kernel'"),
    (lambda m: {"params": "x"}, TypeError, "must be a jax.sharding.Sharding"),
    (lambda m: P("x"), ValueError, "no mesh"),
    (lambda m: lambda path, leaf: path, TypeError, "sharding of 'params/bias'"),
    (lambda m: m, TypeError, r"is Mesh.* such as NamedSharding\(mesh, spec\)"),
    (lambda m: "meta", ValueError, "'metadata'"),
]


@pytest.mark.parametrize("make, error, text", ERRORS)
def test_errors_come_before_anything_is_drawn(make, error, text, key):
    drawn = []

    def kernel_init(key, shape, dtype):
        jax.debug.callback(lambda: drawn.append(None))
        return jnp.zeros(shape, dtype)

    shardings = make(make_mesh((8,)))
    model = nn.Dense(9, kernel_init=kernel_init)
    with pytest.raises(error, match=text):
        jinit.materialize(model.init, shardings=shardings)(key, jnp.ones((1, 8)))
    assert not drawn


def test_metadata_without_a_mesh_is_an_error(key):
    boxed = nn.with_partitioning(nn.initializers.ones, ("x", "y"))
    init = jinit.materialize(nn.Dense(3, kernel_init=boxed).init, shardings="metadata")
    with pytest.raises(ValueError, match="jax.set_mesh"):
        init(key, np.ones((1, 2)))
