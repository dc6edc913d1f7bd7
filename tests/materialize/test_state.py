"""materialize of states of training: optimizers, leaves of a checkpoint, shardings."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import jinit
from tests.support.meshes import make_mesh
from tests.support.trees import assert_equal, by_path

MODEL = nn.Sequential([nn.Dense(32), nn.gelu, nn.Dense(16)])
X = jnp.ones((1, 8))


def average():
    """The state is a copy of the weights, as that of an average of them is."""
    return optax.GradientTransformation(lambda p: p, lambda u, s, p=None: (u, s))


OPTIMIZERS = {
    "adamw": optax.adamw(1e-3),
    "in bfloat16": optax.adamw(1e-3, mu_dtype=jnp.bfloat16),
    "adafactor": optax.adafactor(1e-3),
    "schedule_free": optax.contrib.schedule_free_adamw(1e-3),
    "muon": optax.contrib.muon(1e-3),
    "prodigy": optax.contrib.prodigy(1e-3),
    "lbfgs": optax.lbfgs(),
    "noise": optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(1)), optax.sgd(0.1)),
    "averaged": optax.chain(optax.adam(1e-3), average()),
    "scheduled": optax.inject_hyperparams(optax.adamw)(optax.constant_schedule(1)),
    "several steps": optax.MultiSteps(optax.adamw(1e-3), 4),
    "masked": optax.masked(
        optax.adam(1e-3), lambda p: jax.tree.map(lambda x: x.ndim > 1, p)
    ),
}  # fmt: skip


def make(tx, key, model=MODEL):
    params = model.init(key, X)["params"]
    return TrainState.create(apply_fn=model.apply, params=params, tx=tx)


def synchronized(key):
    params = optax.LookaheadParams.init_synced(MODEL.init(key, X)["params"])
    tx = optax.lookahead(optax.adam(1e-3), 5, 0.5)
    return {"params": params, "opt_state": tx.init(params)}


def words(x):
    is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if is_key else x


@pytest.mark.parametrize("name", [*OPTIMIZERS, "lookahead"])
def test_the_state_of_an_optimizer_is_that_of_a_jit(name, key):
    init = synchronized
    if name != "lookahead":
        init = functools.partial(make, OPTIMIZERS[name])
    got, wanted = jinit.materialize(init)(key), jax.jit(init)(key)
    for new, old in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        # The step count of a TrainState stays a Python number, as in an eager call.
        assert type(new) is int or new.dtype == old.dtype
        assert np.array_equal(*map(words, (new, old)))
    arrays = [words(x) for x in jax.tree.leaves(got) if isinstance(x, jax.Array)]
    assert len({x.unsafe_buffer_pointer() for x in arrays}) == len(arrays)


def test_a_state_with_copies_of_the_weights_may_be_donated(key):
    state = jinit.materialize(functools.partial(make, OPTIMIZERS["averaged"]))(key)
    step = jax.jit(lambda s: s.apply_gradients(grads=s.params), donate_argnums=0)
    assert step(state).step == 1


def test_restored_parameters_are_passed_through(key):
    params = MODEL.init(key, X)["params"]

    def start(params):
        return {"params": params, "average": params}

    got = jinit.materialize(start)(params)
    assert_equal(got, start(params))
    # One of the two has the caller's memory, and the other one has its own.
    pointers = [
        {x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)}
        for tree in (got["average"], got["params"])
    ]
    assert pointers[0] == {x.unsafe_buffer_pointer() for x in jax.tree.leaves(params)}
    assert pointers[0].isdisjoint(pointers[1])


SKIPS = [
    "params/layers_0/**",
    ["params/layers_0/kernel", "params/layers_0/bias"],
    lambda path, leaf: "params/layers_0" in path and leaf.ndim > 0,
]


@pytest.mark.parametrize("skip", SKIPS)
def test_skipped_leaves_are_structs_and_the_others_do_not_change(skip, key):
    init = functools.partial(make, OPTIMIZERS["adamw"])
    got = by_path(jinit.materialize(init, skip=skip)(key))
    whole = by_path(init(key))
    device = SingleDeviceSharding(jax.local_devices()[0])
    for path, leaf in got.items():
        if path.startswith("params/layers_0/"):
            assert leaf == jax.ShapeDtypeStruct(
                whole[path].shape, whole[path].dtype, sharding=device
            )
        else:
            assert np.array_equal(leaf, whole[path])
    assert list(got) == list(whole)


def test_skipped_leaves_are_not_drawn(key):
    drawn = []

    def kernel_init(key, shape, dtype):
        jax.debug.callback(lambda: drawn.append(None))
        return jax.random.normal(key, shape, dtype)

    def init(key):
        return {name: kernel_init(key, (3,), jnp.float32) for name in ("a", "b")}

    units = []
    for skip in ("a", ["a", "b"]):
        got = jinit.materialize(init, skip=skip)(key)
        units.append(sum(isinstance(x, jax.Array) for x in got.values()))
    assert units == [1, 0] and len(drawn) == 0
    # Nothing is drawn if all leaves are skipped, not even for a function of structs.
    abstract = jinit.materialize(init, skip="**")(jax.eval_shape(jax.random.key, 0))
    assert abstract["b"].shape == (3,)


def test_numbers_may_be_skipped_and_texts_stay(key):
    def init(key):
        return {"step": 0, "name": "m", "w": jax.random.normal(key), "n": np.ones(2)}

    got = jinit.materialize(init, skip="**")(key)
    assert got["name"] == "m" and got["step"].dtype == jnp.int32
    assert got["w"].shape == () and got["n"].dtype == jnp.float32


def test_boxes_stay_around_skipped_leaves(key):
    boxed = nn.with_partitioning(nn.initializers.ones, (None, "x"))
    model = nn.Dense(16, kernel_init=boxed)
    mesh = make_mesh((8,))
    with jax.set_mesh(mesh):
        init = jinit.materialize(model.init, shardings="metadata", skip="**/kernel")
        kernel = init(key, X)["params"]["kernel"]
    assert kernel.names == (None, "x")
    assert kernel.value.sharding == NamedSharding(mesh, P(None, "x"))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_skipped_leaves_have_the_sharding_of_the_drawn_ones(kind, key):
    with jax.set_mesh(make_mesh((8,), kind)):
        for shardings in (P("x"), None):
            whole = jinit.materialize(MODEL.init, shardings=shardings)(key, X)
            skipping = jinit.materialize(MODEL.init, shardings=shardings, skip="**")
            for struct, array in zip(
                jax.tree.leaves(skipping(key, X)), jax.tree.leaves(whole), strict=True
            ):
                # JAX leaves small constants, here the biases, on one device.
                if shardings is None and array.ndim < 2:
                    continue
                assert struct.sharding.is_equivalent_to(array.sharding, array.ndim)


def test_what_is_made_of_a_skipped_leaf_is_an_error(key):
    for name in ("averaged", "schedule_free"):
        init = functools.partial(make, OPTIMIZERS[name])
        message = r"opt_state/.*kernel' .* is computed from 'params/layers_0/kernel' "
        with pytest.raises(ValueError, match=message):
            jinit.materialize(init, skip="params/*/kernel")(key)
        skip = ["params/*/kernel", "opt_state/**/kernel"]
        got = jinit.materialize(init, skip=skip)(key)
        assert isinstance(got.params["layers_2"]["bias"], jax.Array)

    def tied(key):
        table = jax.jit(jax.random.normal, static_argnums=1)(key, (4, 3))
        return {"key": key, "table": table, "readout": 2 * table.T}

    with pytest.raises(ValueError, match="'readout' .* computed from 'table' .*4, 3"):
        jinit.materialize(tied, skip="table")(key)
    # The key that all are drawn with is no such leaf.
    assert_equal(jinit.materialize(tied, skip="key")(key)["table"], tied(key)["table"])


def test_a_misspelled_skip_is_an_error(key):
    with pytest.raises(ValueError, match="'params/layer_0/.*nearest paths"):
        jinit.materialize(MODEL.init, skip="params/layer_0/**")(key, X)
    with pytest.raises(TypeError, match="`skip` is 3"):
        jinit.materialize(MODEL.init, skip=3)
    assert_equal(jinit.materialize(MODEL.init, skip=())(key, X), MODEL.init(key, X))


def where(mesh):
    return lambda path, leaf: (
        NamedSharding(mesh, P(None, "x"))
        if path.startswith("params/") and path.endswith("kernel")
        else None
    )


def test_the_state_of_an_optimizer_follows_its_parameters(key):
    mesh = make_mesh((8,))
    init = functools.partial(make, OPTIMIZERS["averaged"])
    got = jinit.materialize(init, shardings=where(mesh))(key)
    assert_equal(got.opt_state, init(key).opt_state)
    states = by_path(got.opt_state)
    kernels = [leaf for path, leaf in states.items() if path.endswith("kernel")]
    assert len(kernels) == 6
    for leaf in kernels:
        assert leaf.sharding == NamedSharding(mesh, P(None, "x"))
    assert all(not x.committed for path, x in states.items() if "bias" in path)


def test_entries_of_none_follow_and_other_entries_hold(key):
    mesh = make_mesh((8,))
    split, whole = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())

    def init(key):
        params = {"a": {"w": jax.random.normal(key, (8, 8)), "b": jnp.zeros(8)}}
        params["c"] = {"w": jnp.ones((8, 8))}
        adam = optax.scale_by_adam().init(params)
        masked = {"inner": {"a": {"w": jnp.zeros((8, 8))}}}
        rest = {"inner": {"a": {"w": jnp.zeros((4, 4))}, "c": {"w": jnp.zeros((8, 8))},
                          "d": {"w": jnp.zeros((8, 8))}}}  # fmt: skip
        return {"params": params, "adam": adam, "masked": masked, "rest": rest}

    shardings = {"params": split, "adam": optax.ScaleByAdamState(None, None, whole),
                 "masked": None, "rest": None}  # fmt: skip
    got = jinit.materialize(init, shardings=shardings)(key)
    assert {x.sharding for x in jax.tree.leaves(got["adam"].mu)} == {split}
    assert {x.sharding for x in jax.tree.leaves(got["adam"].nu)} == {whole}
    # A part of the parameters is enough.
    assert got["masked"]["inner"]["a"]["w"].sharding == split
    # This tree has a layer that the parameters do not have, so it is another one.
    assert not any(x.committed for x in jax.tree.leaves(got["rest"]))


def test_layers_of_a_model_do_not_follow_each_other(key):
    mesh = make_mesh((8,))

    def init(key):
        names = ("encoder", "decoder")
        return {name: {"dense": {"w": jnp.zeros((8, 8))}} for name in names}

    for root in ((), ("params",)):
        prefix = "".join(f"{part}/" for part in root)

        def sharding(path, leaf, prefix=prefix):
            is_first = path == f"{prefix}encoder/dense/w"
            return NamedSharding(mesh, P("x")) if is_first else None

        def nested(key, root=root):
            return {root[0]: init(key)} if root else init(key)

        got = by_path(jinit.materialize(nested, shardings=sharding)(key))
        assert got[f"{prefix}encoder/dense/w"].committed
        assert not got[f"{prefix}decoder/dense/w"].committed


TX = optax.adamw(1e-3)


class Model(nnx.Module):
    def __init__(self, rngs, kernel_init=nnx.initializers.lecun_normal()):  # noqa: B008
        self.first = nnx.Linear(8, 16, kernel_init=kernel_init, rngs=rngs)
        self.second = nnx.Linear(16, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def both(rngs, **options):
    model = Model(rngs, **options)
    return model, nnx.Optimizer(model, TX, wrt=nnx.Param)


def test_a_model_of_nnx_with_its_optimizer():
    got, wanted = jinit.nnx.materialize(both, 0), both(nnx.Rngs(0))
    assert nnx.split(got)[0] == nnx.split(wanted)[0]
    assert_equal(nnx.state(got), nnx.state(wanted))
    model, optimizer = got
    gradients = nnx.grad(lambda model: model.second(model.first(X)).sum())(model)
    optimizer.update(model, gradients)
    assert optimizer.step[...] == 1


def test_an_optimizer_of_nnx_follows_its_model():
    mesh = make_mesh((8,))

    def sharding(path, leaf):
        return NamedSharding(mesh, P("x")) if path.endswith("0/first/kernel") else None

    _, optimizer = jinit.nnx.materialize(both, 0, shardings=sharding)
    states = by_path(nnx.state(optimizer))
    assert states["opt_state/0/mu/first/kernel"].sharding == NamedSharding(mesh, P("x"))
    boxed = nnx.with_partitioning(nnx.initializers.ones, (None, "x"))
    annotated = functools.partial(both, kernel_init=boxed)
    with jax.set_mesh(mesh):
        _, optimizer = jinit.nnx.materialize(annotated, 0, shardings="metadata")
    states = by_path(nnx.state(optimizer))
    assert states["opt_state/0/nu/first/kernel"].sharding.spec == P(None, "x")


def test_a_model_of_nnx_that_a_checkpoint_fills():
    wanted = nnx.state(Model(nnx.Rngs(7)))
    model = jinit.nnx.materialize(Model, 0, skip="first/**")
    structs = jax.tree.leaves(nnx.state(model.first))
    assert [type(x) for x in structs] == [jax.ShapeDtypeStruct] * 2
    nnx.update(model.first, wanted["first"])
    assert_equal(nnx.state(model.first), wanted["first"])
    assert_equal(nnx.state(model.second), nnx.state(Model(nnx.Rngs(0)).second))
    with pytest.raises(ValueError, match="matches no leaf"):
        jinit.nnx.materialize(Model, 0, skip="rngs/**")


@flax.struct.dataclass
class Two:
    params: Any
    opt_state: Any


def test_no_device_holds_more_than_its_part_of_a_state(key):
    mesh = make_mesh((8,))

    def init(key):
        params = {"a": {"w": jax.random.normal(key, (512, 512))}}
        return Two(params, optax.adam(1e-3).init(params))

    place = NamedSharding(mesh, P("x"))
    state = jinit.materialize(init, shardings=Two(place, None))(key)
    large = [x for x in jax.tree.leaves(state) if x.ndim]
    assert len(large) == 3
    for leaf in large:
        parts = [shard.data.shape for shard in leaf.addressable_shards]
        assert parts == [(64, 512)] * 8
