"""Between calls traces are kept: none is compiled twice, and none is stale."""

import gc
import types
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import jinit
from jinit._network import behavior, kept
from tests.support.counting import count_compilations, count_traces

KEY = jax.random.key(3)
X = jax.random.normal(KEY, (8, 6))
WEIGHTS = {"first": jinit.he()(KEY, (6, 6)), "last": jinit.lecun()(KEY, (6, 6))}
GAIN = 1.0
CALLS = []


class MLP(nn.Module):
    width: object = 6
    kernel: object = jinit.he()
    slope: object = 1.0

    @nn.compact
    def __call__(self, x, scale=1.0):
        x = nn.relu(nn.Dense(self.width, kernel_init=self.kernel)(x * scale))
        return GAIN * nn.Dense(6)(self.slope * x)


class Net(nnx.Module):
    def __init__(self, rngs, kernel=jinit.he()):  # noqa: B008
        self.first = nnx.Linear(6, 6, kernel_init=kernel, rngs=rngs)
        self.last = nnx.Linear(6, 6, rngs=rngs)
        self.slope = 1.0

    def __call__(self, x):
        return self.last(self.slope * nnx.relu(self.first(x)))


def plain(weights, x):
    x = jax.nn.relu(checkpoint_name(x @ weights["first"], "first"))
    return checkpoint_name(GAIN * x @ weights["last"], "last")


MODEL = MLP()
VARIABLES = MODEL.init(KEY, X)
LINEN, FUNCTION, NNX = (MODEL, VARIABLES, X), (plain, WEIGHTS, X), (Net(nnx.Rngs(0)), X)
KEYS = jax.random.split(KEY, 2)


def loss(y):
    return jnp.mean(y**2)


def coordinates(make, **options):
    return lambda: jinit.mup.coordinate_check(
        make, [4, 8], [(X, X)] * 2, lambda p: p.optimizer(optax.sgd(0.1)),
        loss=lambda y, target: jnp.mean((y - target) ** 2), seeds=2, **options,
    )  # fmt: skip


def widths(width, rngs):
    one, two = nnx.Linear(6, width, rngs=rngs), nnx.Linear(width, 6, rngs=rngs)
    return nnx.Sequential(one, nnx.relu, two)


CASES = {
    "probe": lambda: jinit.probe(*LINEN),
    "probe of a function": lambda: jinit.probe(*FUNCTION),
    "probe of NNX": lambda: jinit.nnx.probe(*NNX),
    "probe with all options": lambda: jinit.probe(
        *LINEN, loss=lambda y: loss(y), jacobian=True, scale=2.0
    ),
    "compare": lambda: jinit.compare(
        lambda kernel: MLP(kernel=kernel), ["he", "xavier"], X, KEYS
    ),
    "compare functions": lambda: jinit.compare(
        lambda kernel: (
            lambda key, x: {name: kernel(key, (6, 6)) for name in WEIGHTS}, plain
        ),
        ["he"], X, KEYS,
    ),
    "compare NNX": lambda: jinit.nnx.compare(
        lambda kernel, rngs: Net(rngs, kernel), ["he", "xavier"], X, KEYS
    ),
    "lsuv": lambda: jinit.lsuv(*LINEN),
    "lsuv of a function": lambda: jinit.lsuv(*FUNCTION),
    "lsuv of NNX": lambda: jinit.nnx.lsuv(*NNX),
    "data_dependent": lambda: jinit.data_dependent(*LINEN, loss=loss),
    "data_dependent of NNX": lambda: jinit.nnx.data_dependent(*NNX),
    "weight_norm_init": lambda: jinit.weight_norm_init(*LINEN),
    "autoinit": lambda: jinit.autoinit(MODEL, VARIABLES, batch=X),
    "autoinit without a batch": lambda: jinit.autoinit(MODEL, VARIABLES),
    "autoinit of NNX": lambda: jinit.nnx.autoinit(NNX[0], batch=X),
    "coordinate_check": coordinates(lambda width: MLP(width)),
    "coordinate_check of NNX": coordinates(widths),
    "coordinate_check with refined": coordinates(widths, refined=True),
}  # fmt: skip


def numbers(result):
    """Return everything that a call returned in a form that can be compared."""
    if isinstance(result, tuple):
        return jax.device_get(jax.tree.leaves(_pure(result[0]))), result[1].rows
    if isinstance(result, jinit.Comparison):
        return result.to_dict()
    return (result.to_dict() if hasattr(result, "to_dict") else None), repr(result)


def _pure(variables):
    is_nnx = isinstance(variables, nnx.Module)
    return nnx.to_pure_dict(nnx.state(variables)) if is_nnx else variables


@pytest.mark.parametrize("name", CASES)
def test_a_second_call_traces_and_compiles_nothing(name):
    run = CASES[name]
    first = numbers(run())
    with count_compilations() as compilations, count_traces() as traced:
        second = numbers(run())
        assert compilations() == 0 and traced() == 0
    np.testing.assert_equal(second, first)


@pytest.mark.parametrize("look", [jinit.probe, jinit.lsuv, jinit.data_dependent])
def test_a_model_may_count_its_traces(look):
    def counted(weights, x):
        CALLS.append(1)
        return plain(weights, x)

    look(counted, WEIGHTS, X)
    before = len(CALLS)
    look(counted, WEIGHTS, X)
    assert len(CALLS) == before


@pytest.mark.parametrize("make", [lambda: lambda w, x: plain(w, x), lambda: Opaque()])
def test_a_function_that_is_made_anew_compiles_nothing(make):
    first = jinit.probe(make(), WEIGHTS, X, loss=lambda y: loss(y))
    with count_compilations() as compilations:
        second = jinit.probe(make(), WEIGHTS, X, loss=lambda y: loss(y))
        assert compilations() == 0
    assert first.rows == second.rows


class Opaque:
    """This function has a state that no key can describe."""

    def __init__(self):
        self.table = iter(())

    def __call__(self, weights, x):
        return plain(weights, x)


def test_new_labels_and_new_dropout_compile_nothing():
    class Drop(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dropout(0.5, deterministic=False)(nn.Dense(6)(x))

    def look(seed):
        labels = jax.random.normal(jax.random.key(seed), (8, 6))
        keys = {"dropout": jax.random.key(seed)}
        return jinit.probe(
            Drop(), variables, X, rngs=keys, loss=lambda y: jnp.mean((y - labels) ** 2)
        )

    variables = Drop().init({"params": KEY, "dropout": KEY}, X)
    first = look(0)
    jax.block_until_ready(jax.random.normal(jax.random.key(1), (8, 6)))
    with count_compilations() as compilations:
        second = look(1)
        assert compilations() == 0
    for name in ("rms", "grad_rms"):
        assert first.rows[1][name] != second.rows[1][name]


def rms(report, path):
    return next(row["rms"] for row in report.rows if row["path"] == path)


def test_nothing_stale_comes_back(monkeypatch):
    """The next call must see each of these changes."""
    look = CASES["probe of a function"]
    before = look()
    monkeypatch.setitem(globals(), "GAIN", 3.0)
    assert rms(look(), "last") == pytest.approx(3 * rms(before, "last"), rel=1e-5)
    assert rms(jinit.probe(*LINEN), "Dense_0") > 0
    twice = {name: 2 * w for name, w in WEIGHTS.items()}
    after = jinit.probe(plain, twice, X)
    assert rms(after, "last") == pytest.approx(12 * rms(before, "last"), rel=1e-5)
    half = jinit.probe(plain, WEIGHTS, X[:4])
    assert half.rows[0]["shape"] == (4, 6)
    narrow = jinit.probe(plain, WEIGHTS, X.astype(jnp.bfloat16))
    assert rms(narrow, "first") != rms(before, "first")


def test_an_nnx_model_may_change():
    model = Net(nnx.Rngs(0))
    before = jinit.nnx.probe(model, X)
    model.slope = 2.0
    bias = model.last.bias[...]
    assert not bias.any()
    after = jinit.nnx.probe(model, X)
    assert rms(after, "last") == pytest.approx(2 * rms(before, "last"), rel=1e-5)
    model.slope = 1
    assert rms(jinit.nnx.probe(model, X), "last") == rms(before, "last")
    other = jinit.nnx.lsuv(model, X, target_std=2.0)[1].rows[0]["factor"]
    one = jinit.nnx.lsuv(model, X)[1].rows[0]["factor"]
    assert other == pytest.approx(2 * one, rel=1e-4)


def test_options_and_losses_are_told_apart():
    one, two = (jinit.probe(*LINEN, scale=s) for s in (1.0, 2.0))
    assert rms(two, "Dense_0") == pytest.approx(2 * rms(one, "Dense_0"), rel=1e-5)
    slopes = [
        jinit.probe(*LINEN, loss=lambda y, c=c: c * loss(y)).rows[0]["grad_rms"]
        for c in (1.0, 3.0)
    ]
    assert slopes[1] == pytest.approx(3 * slopes[0], rel=1e-5)
    loose = jinit.lsuv(*LINEN, tol=100.0)[1].steps
    assert loose == 1 < jinit.lsuv(*LINEN)[1].steps
    with jax.enable_x64(True):
        wide = jinit.probe(plain, jax.tree.map(jnp.float64, WEIGHTS), jnp.float64(X))
    assert 0 < abs(rms(wide, "last") - rms(jinit.probe(*FUNCTION), "last")) < 1e-5


def test_what_is_kept_is_bounded_and_keeps_no_large_array():
    held = []
    for i in range(kept.TRACES.size + kept.PROGRAMS.size):
        # Each of another structure, and with an array of its own in its closure.
        table = jnp.full((600, 600), i + 1.0)
        held.append(weakref.ref(table))

        def model(weights, x, table=table, i=i):
            for _ in range(i % 3):
                x = jnp.sin(x)
            return plain(weights, x * table[0, 0])

        # A trace as every function takes it, without compiling it.
        jinit.network(model, WEIGHTS, X)
        del table, model
    gc.collect()
    assert sum(ref() is not None for ref in held) <= 1
    assert all(len(store) <= store.size for store in kept._STORES)


def test_stores_forget_what_was_not_used_for_longest():
    store = kept.Kept(2)
    for key in "abac":
        store.put(key, key.upper())
        store.get("a")
    assert (len(store), store.get("a"), store.get("b")) == (2, "A", None)
    store.put(None, "nothing")
    assert len(store) == 2 and store.get(None) is None


def scaled_by(c):
    return lambda x: c * x


ALIKE = [
    lambda: MLP(kernel=jinit.he()),
    lambda: nn.Sequential([nn.Dense(3, kernel_init=nn.initializers.he_normal())]),
    lambda: scaled_by(2.0),
    lambda: nnx.split(Net(nnx.Rngs(1)))[0],
    lambda: optax.adam(1e-3),
    lambda: {"a": [1, 2.0, None], "b": np.arange(3)},
    lambda: jax.sharding.PartitionSpec("a"),
    lambda: jax.tree.structure({"a": 1}),
]


@pytest.mark.parametrize("make", ALIKE)
def test_keys_of_things_that_are_made_alike_are_equal(make):
    key = behavior.key_of(make())
    assert key is not None and key == behavior.key_of(make())


DIFFERENT = [
    (1, 1.0), (1, True), (0.0, -0.0), (np.float32(1), 1.0), ([1], (1,)),
    (MLP(width=6), MLP(width=6.0)), (MLP(slope=1), MLP(slope=True)),
    (MLP(kernel=jinit.he()), MLP(kernel=jinit.lecun())),
    (scaled_by(1), scaled_by(1.0)), (scaled_by(1), scaled_by(True)),
    (np.zeros(2), np.zeros(2, np.float32)), (np.zeros(2), np.ones(2)),
    (jnp.zeros(2), jnp.zeros(2)), (nn.relu, nn.silu), (MLP, Net),
    (types.SimpleNamespace(a=1), types.SimpleNamespace(a=1)),
]  # fmt: skip


@pytest.mark.parametrize("one, other", DIFFERENT)
def test_keys_of_different_things_differ(one, other):
    keys = behavior.key_of(one), behavior.key_of(other)
    assert keys[0] != keys[1] or keys == (None, None)


def test_a_key_sees_what_a_function_calls(monkeypatch):
    space = {"scale": 1.0, "__name__": "users"}
    exec("def inner(x): return scale * x\ndef outer(x): return inner(x)", space)
    outer = space["outer"]
    before = behavior.key_of(outer)
    assert before is not None and before == behavior.key_of(outer)
    space["scale"] = 2.0
    assert behavior.key_of(outer) != before
    space["scale"] = 1.0
    assert behavior.key_of(outer) == before
    exec("def inner(x): return scale + x", space)
    assert behavior.key_of(outer) != before


# tests/contract/test_modes.py has the others under the checker of leaks, too.
@pytest.mark.parametrize(
    "name",
    [
        "probe",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("lsuv", "compare NNX")),
    ],
)
def test_no_leaks(name):
    with jax.checking_leaks():
        CASES[name]()
