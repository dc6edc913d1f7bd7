"""Parameters that exist already: parts drawn again, missing ones, shrunk and noisy."""

import functools
import re

import chex
import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jinit
from jinit._core.trees import key_of
from jinit._initializer.foreign import BoundInitializer as Sampler
from tests.support import laws
from tests.support.meshes import make_mesh
from tests.support.models import Module
from tests.support.trees import by_path, struct


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(8, name="body")(x))
        return nn.Dense(3, name="head")(nn.BatchNorm(use_running_average=True)(x))


RULES = [
    ("batch_stats/**", jinit.keep),
    ("**/scale", jinit.ones),
    ("**/kernel", jinit.he()),
    ("**/bias", jinit.normal(0.1)),
]


@pytest.fixture
def params(key):
    return Net().init(key, jnp.ones((1, 4)))


@pytest.fixture
def plan(params):
    return jinit.plan(jax.eval_shape(lambda: params), RULES)


def changed(new, old):
    """The paths whose arrays are others; all else must be the very same buffers."""
    new, old = by_path(new), by_path(old)
    assert new.keys() == old.keys()
    for path in new:
        assert new[path].shape == old[path].shape
    return {path for path in new if new[path] is not old[path]}


def test_a_new_head(params, plan, key):
    other = jax.random.fold_in(key, 1)
    new = plan.reinit(other, params, only="**/head/*")
    assert changed(new, params) == {"params/head/bias", "params/head/kernel"}
    # The values of the whole plan.
    kernel = jinit.he()(key_of(other, ("params", "head", "kernel")), (8, 3))
    np.testing.assert_array_equal(new["params"]["head"]["kernel"], kernel)
    chex.assert_tree_all_finite(Net().apply(new, jnp.ones((1, 4))))


def test_all_that_is_not_kept(params, plan, key):
    new = plan.reinit(key, params)
    kept = {"batch_stats/BatchNorm_0/mean", "batch_stats/BatchNorm_0/var"}
    assert changed(new, params) == set(by_path(params)) - kept


PATTERNS = [
    ("params/body/kernel", {"params/body/kernel"}),
    (re.compile("head/k"), {"params/head/kernel"}),
    (lambda path, x: x.shape == (8, 3), {"params/head/kernel"}),
    # Kept leaves stay, also where the pattern matches them.
    ("**/BatchNorm_0/*", {f"params/BatchNorm_0/{x}" for x in ("bias", "scale")}),
]


@pytest.mark.parametrize("only, expected", PATTERNS)
def test_patterns(only, expected, params, plan, key):
    assert changed(plan.reinit(key, params, only=only), params) == expected


@pytest.mark.parametrize("box", [flax.core.freeze, dict])
def test_trees_keep_their_kind(box, params, plan, key):
    # Paths are compared, not containers.
    new = plan.reinit(key, box(params), only="**/head/kernel")
    assert type(new) is type(box(params))
    boxed = {"w": nn.Partitioned(jnp.ones((4, 4)), ("a", "b")), "v": jnp.ones(2)}
    own = jinit.plan(boxed, [("w", jinit.he()), ("v", jinit.zeros)])
    new = own.reinit(key, boxed, only="w")
    assert new["w"].names == ("a", "b") and new["v"] is boxed["v"]
    module = Module(jnp.ones((3, 4)), [Module(jnp.ones((4, 2)), [])])
    own = jinit.plan(module, [("**", jinit.he())])
    new = own.reinit(key, module, only="weight")
    assert new.activation is module.activation
    assert new.layers[0].weight is module.layers[0].weight
    assert new.weight is not module.weight


def test_nnx(key):
    nnx = pytest.importorskip("flax.nnx", exc_type=ImportError)
    model = nnx.Linear(4, 8, rngs=nnx.Rngs(0))
    state = nnx.state(model)
    plan = jinit.plan(state, [("kernel", jinit.he()), ("bias", jinit.zeros)])
    new = plan.reinit(key, state, only="kernel")
    assert changed(new, state) == {"kernel"}
    nnx.update(model, new)
    np.testing.assert_array_equal(model.kernel[...], new["kernel"][...])
    missing = jinit.fill_missing({"kernel": state["kernel"]}, state, plan, key)
    assert changed(missing, state) == {"bias"}
    noise = jinit.perturb(state, key, 0.5, plan)
    np.testing.assert_allclose(noise["bias"][...], 0.0)


def test_dead_units_under_jit(params, plan, key):
    new = jax.jit(functools.partial(plan.reinit, only="**/head/kernel"))(key, params)
    eager = plan.reinit(key, params, only="**/head/kernel")
    chex.assert_trees_all_equal(new, eager)


def test_donation_deletes_what_is_replaced(params, plan, key):
    new = plan.reinit(key, params, only="**/head/*", donate=True)
    for path in changed(new, params):
        assert by_path(params)[path].is_deleted()
        assert not by_path(new)[path].is_deleted()
    rest = set(by_path(params)) - changed(new, params)
    assert not any(by_path(params)[path].is_deleted() for path in rest)


def test_donation_comes_before_the_draw(key, monkeypatch):
    params = {"a": jnp.ones((4, 4)), "b": jnp.ones((4, 4))}
    plan = jinit.plan(params, [("*", jinit.he())])
    alive = []
    draw = Sampler.__call__

    def watched(self, *args):
        alive.append(sum(not x.is_deleted() for x in params.values()))
        return draw(self, *args)

    monkeypatch.setattr(Sampler, "__call__", watched)
    plan.reinit(key, params, donate=True)
    # One goes, its successor comes: never one array more than there were.
    assert alive == [1, 0]


def test_tied_arrays_are_not_given_away(key):
    tied = jnp.ones((4, 4))
    params = {"embedding": tied, "head": tied}
    plan = jinit.plan(params, [("*", jinit.he())])
    new = plan.reinit(key, params, only="head", donate=True)
    assert new["embedding"] is tied and not tied.is_deleted()
    new = plan.reinit(key, params, donate=True)
    assert tied.is_deleted() and not np.array_equal(new["head"], new["embedding"])


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_new_values_live_where_the_old_did(kind, key):
    mesh = make_mesh((2, 4), kind)
    sharding = NamedSharding(mesh, P("x", "y"))
    params = {"a": jax.device_put(jnp.ones((8, 8)), sharding), "b": jnp.ones((8, 8))}
    params["c"] = jax.device_put(jnp.ones((2, 2)), jax.devices()[3])
    plan = jinit.plan(params, [("*", jinit.he())])
    new = plan.reinit(key, params)
    assert new["a"].sharding == sharding
    assert not new["b"].committed and new["c"].devices() == {jax.devices()[3]}
    for name, value in plan.init(key).items():
        np.testing.assert_array_equal(new[name], value)
    pair = {name: params[name] for name in "ab"}
    own = jinit.plan(pair, [("*", jinit.he())])
    with jax.set_mesh(mesh):
        jitted = jax.jit(own.reinit)(key, pair)
        shaken = jax.jit(functools.partial(jinit.perturb, noise_plan=own))(
            pair, key, 0.5
        )
    np.testing.assert_array_equal(jitted["a"], new["a"])
    if kind is AxisType.Explicit:
        assert jitted["a"].sharding.spec == P("x", "y")
    np.testing.assert_allclose(shaken["a"], 0.5 + new["a"], atol=1e-6)


def spoil(params, path, value):
    """A copy with another value at a path, or without one."""
    copied = jax.tree.map(lambda x: x, params)
    *above, last = path.split("/")
    node = functools.reduce(lambda node, part: node[part], above, copied)
    if value is None:
        del node[last]
    else:
        node[last] = value
    return copied


SPOILT = [
    ("params/body/bias", None, ValueError,
     r"`params` lacks 1 leaves of the plan:\n  'params/body/bias' \(8,\)"),
    ("params/extra", jnp.ones(2), ValueError,
     r"`params` has 1 leaves that the plan does not know:\n  'params/extra' \(2,\)"),
    ("params/body/bias", jnp.ones(7), ValueError,
     r"'params/body/bias' shape \(7,\).*where the plan has shape \(8,\)"),
    ("params/body/bias", jnp.ones(8, "bfloat16"), ValueError, "bfloat16.*the plan has"),
    ("params/body/bias", 3.0, TypeError, "leaf at 'params/body/bias' is 3.0"),
]  # fmt: skip


@pytest.mark.parametrize("path, value, error, match", SPOILT)
def test_trees_of_another_structure(
    path, value, error, match, params, plan, key, monkeypatch
):
    wrong = spoil(params, path, value)
    monkeypatch.setattr(Sampler, "__call__", None)
    for call in (
        lambda: plan.reinit(key, wrong, donate=True),
        lambda: jinit.perturb(wrong, key, 0.5, plan),
    ):
        with pytest.raises(error, match=re.compile(match, re.S)):
            call()
    assert not any(x.is_deleted() for x in jax.tree.leaves(params))


ONLY = [
    ("**/hed/*", ValueError, "matches no leaf.*\n  'params/head"),
    ("batch_stats/**", ValueError, "the plan keeps all that it matches"),
    (3, TypeError, "`only` is 3, of type int; it must be a glob"),
    ("a**", ValueError, "within the part"),
]


@pytest.mark.parametrize("only, error, match", ONLY)
def test_patterns_that_are_refused(only, error, match, params, plan, key):
    with pytest.raises(error, match=match):
        plan.reinit(key, params, only=only)


def test_missing_parameters_are_drawn(params, plan, key):
    checkpoint = {"params": {"body": params["params"]["body"]}}
    checkpoint["batch_stats"] = params["batch_stats"]
    full = jinit.fill_missing(checkpoint, jax.eval_shape(lambda: params), plan, key)
    assert jax.tree.structure(full) == jax.tree.structure(params)
    drawn = {path for path in by_path(full) if "head" in path or "params/Batch" in path}
    assert changed(full, params) == drawn
    fresh = by_path(jinit.plan(params, RULES).init(key))
    for path in drawn:
        np.testing.assert_array_equal(by_path(full)[path], fresh[path])


def test_holes_are_missing_too(params, plan, key):
    holes = spoil(params, "params/head/kernel", struct(8, 3))
    full = jinit.fill_missing(holes, params, plan, key)
    assert changed(full, params) == {"params/head/kernel"}
    # Nothing missing, nothing drawn.
    assert changed(jinit.fill_missing(params, params, plan, key), params) == set()


def test_placeholders_of_orbax_are_missing(params, plan, key):
    shapes = jax.eval_shape(lambda: params)
    holes = spoil(params, "params/head/kernel", ...)
    full = jinit.fill_missing(holes, shapes, plan, key)
    assert changed(full, params) == {"params/head/kernel"}
    # One may stand above several leaves.
    full = jinit.fill_missing(spoil(params, "params/head", ...), shapes, plan, key)
    assert changed(full, params) == {"params/head/bias", "params/head/kernel"}
    with pytest.raises(ValueError, match="does not know:\n  'params/old'"):
        jinit.fill_missing(spoil(params, "params/old", ...), shapes, plan, key)


def test_states_that_are_not_all_arrays(key):
    def create(key):
        params = nn.Dense(3).init(key, jnp.ones((1, 4)))["params"]
        return {"step": 0, "params": params, "f": nn.relu, "ema": None}

    state = create(key)
    rules = [("params/kernel", jinit.he()), ("params/bias", jinit.zeros)]
    plan = jinit.plan(state, [*rules, ("**", jinit.keep)])
    fresh = plan.init(key)
    part = {"params": {"kernel": state["params"]["kernel"], "bias": ...}, "step": 7}
    full = jinit.fill_missing(part, state, plan, key)
    assert full["params"]["kernel"] is state["params"]["kernel"]
    assert full["step"] == 7 and full["f"] is nn.relu and full["ema"] is None
    for new in (plan.reinit(key, state), jinit.perturb(state, key, 0.5, plan)):
        assert new["step"] == 0 and new["f"] is nn.relu
        assert changed({"params": new["params"]}, {"params": state["params"]})
    np.testing.assert_array_equal(
        plan.reinit(key, state)["params"]["kernel"], fresh["params"]["kernel"]
    )
    # `jax.eval_shape` makes an array of a number; both stand for each other.
    numbers = {name: state[name] for name in ("step", "params")}
    abstract = jax.eval_shape(lambda: numbers)
    plan = jinit.plan(abstract, [*rules, ("step", jinit.keep)])
    assert jinit.fill_missing(numbers, abstract, plan, key)["step"] == 0
    assert plan.reinit(key, numbers)["step"] == 0


def test_missing_parameters_are_drawn_where_structs_live(params, key):
    rows = NamedSharding(make_mesh((8,)), P("x"))
    whole = NamedSharding(make_mesh((8,)), P())
    placed = {"w": jax.ShapeDtypeStruct((8, 3), "float32", sharding=rows)}
    plan = jinit.plan(placed, [("w", jinit.he())])
    fill = functools.partial(jinit.fill_missing, plan=plan, key=key)
    assert fill({}, placed)["w"].sharding == rows
    assert fill({}, {"w": struct(8, 3)})["w"].sharding == rows  # as the plan says
    assert fill({}, placed, shardings=whole)["w"].sharding == whole


def test_missing_parameters_are_drawn_where_they_live(params, plan, key):
    sharding = NamedSharding(make_mesh((8,)), P("x"))
    holes = spoil(params, "params/head/kernel", None)

    def place(path, leaf):
        return sharding if path == "params/head/kernel" else None

    full = jinit.fill_missing(holes, params, plan, key, shardings=place)
    assert full["params"]["head"]["kernel"].sharding == sharding
    assert changed(full, params) == {"params/head/kernel"}


def test_what_a_checkpoint_may_not_be(params, plan, key, monkeypatch):
    monkeypatch.setattr(Sampler, "__call__", None)
    fill = functools.partial(jinit.fill_missing, shapes=params, plan=plan, key=key)
    with pytest.raises(
        ValueError, match=r"has 1 leaves that `shapes` .*\n  'params/old'"
    ):
        fill(spoil(params, "params/old", jnp.ones(2)))
    with pytest.raises(ValueError, match=r"'params/body/bias' shape \(7,\).*`shapes`"):
        fill(spoil(params, "params/body/bias", jnp.ones(7)))
    with pytest.raises(TypeError, match="leaf at 'params/body/bias' is 'x'"):
        fill(spoil(params, "params/body/bias", "x"))
    with pytest.raises(ValueError, match=r"keeps 1 leaves.*\n.*'batch_stats/.*/mean'"):
        fill(spoil(params, "batch_stats/BatchNorm_0/mean", None))
    small = jinit.plan(params["params"], [("**", jinit.zeros)])
    with pytest.raises(ValueError, match=r"missing, and `plan` does not .*\n  'params"):
        fill(spoil(params, "params/body/bias", None), plan=small)
    with pytest.raises(TypeError, match="`plan` is .*; it must be what jinit.plan"):
        fill(params, plan=RULES)


@pytest.mark.parametrize("wrong", [1.0, 1.05])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shrink_and_perturb(dtype, wrong, key):
    params = {"w": jnp.full((200, 300), 2.0, dtype), "b": jnp.full(3, 2.0, dtype)}
    params["kept"] = jnp.ones(2, "int32")
    rules = [("w", 0.1 * jinit.he()), ("b", jinit.zeros), ("kept", jinit.keep)]
    plan = jinit.plan(params, rules)
    new = jinit.perturb(params, key, 0.4, plan)
    assert new["kept"] is params["kept"]
    assert new["b"].dtype == new["w"].dtype == dtype
    np.testing.assert_array_equal(new["b"], jnp.full(3, 0.8, dtype))
    noise = np.asarray(new["w"], np.float64) - 0.8
    if wrong == 1.0:
        laws.assert_moments(noise, 0.0, 0.1 * (2 / 200) ** 0.5, 3)
    else:
        with pytest.raises(AssertionError):
            laws.assert_moments(noise, 0.0, wrong * 0.1 * (2 / 200) ** 0.5, 3)
    if dtype == "float32":
        drawn = plan.init(key)["w"]
        np.testing.assert_allclose(new["w"], 0.4 * params["w"] + drawn, atol=1e-6)


def test_sixteen_bits_are_rounded_once(key):
    """The noise is far below the spacing of bfloat16 at 1: it must still count."""
    params = {"w": jnp.full((300, 300), 1.0, "bfloat16")}
    plan = jinit.plan(params, [("w", jinit.normal(0.004))])
    new = np.asarray(jinit.perturb(params, key, 1.0, plan)["w"], np.float32)
    own = key_of(key, ("w",))
    wide = 1 + np.asarray(jinit.normal(0.004)(own, (300, 300), "float32"))
    np.testing.assert_array_equal(new, wide.astype(jnp.bfloat16).astype(np.float32))


SHRINKS = [
    (1.5, ValueError, r"must lie in \[0, 1\]"),
    (-0.1, ValueError, "at least 0"),
    (float("nan"), ValueError, "finite"),
    ("x", TypeError, "must be a real number"),
]


@pytest.mark.parametrize("shrink, error, match", SHRINKS)
def test_shrinks_that_are_refused(shrink, error, match, params, plan, key):
    with pytest.raises(error, match=match):
        jinit.perturb(params, key, shrink, plan)


def test_what_cannot_be_perturbed(key):
    params = {"count": jnp.ones(2, "int32")}
    plan = jinit.plan(params, [("count", jinit.zeros)])
    with pytest.raises(TypeError, match="'count' numbers of dtype int32.*keep them"):
        jinit.perturb(params, key, 0.5, plan)
    with pytest.raises(TypeError, match="`noise_plan` is 0.1"):
        jinit.perturb(params, key, 0.5, 0.1)
    with pytest.raises(TypeError, match="must be a PRNG key"):
        jinit.perturb(params, 0, 0.5, plan)
