"""`p.optimizer` around every kind of Optax transformation: rates, decay, epsilon."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jinit import mup

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(7)
SHAPES = {"bias": "d", "hidden": "dd", "input": "8d", "output": "d4", "zscalar": ""}


def tree(width):
    keys = jax.random.split(KEY, len(SHAPES))
    return {
        name: 0.3 * jax.random.normal(
            key, [width if letter == "d" else int(letter) for letter in letters])
        for key, (name, letters) in zip(keys, SHAPES.items(), strict=True)
    }  # fmt: skip


BASE, PARAMS = tree(4), tree(16)
GRADIENT = jax.tree.map(lambda w: jnp.cos(30 * w), PARAMS)
MUP = mup.infer(BASE, PARAMS)
FACTORS = {
    kind: {t.path: t.rate(kind) for t in MUP.tensors}
    for kind in ("adam", "sgd", "muon")
}
STD = {t.path: t.factors.std for t in MUP.tensors}


def updated(tx, params=PARAMS, gradient=GRADIENT, steps=3, jit=False):
    state = tx.init(params)
    update = jax.jit(tx.update) if jit else tx.update
    for _ in range(steps):
        made, state = update(gradient, state, params)
    return made


assert_close = functools.partial(chex.assert_trees_all_close, rtol=2e-5, atol=1e-9)


PLAIN = {
    "sgd": (optax.sgd(0.1), "sgd"),
    "momentum": (optax.sgd(0.1, momentum=0.9, nesterov=True), "sgd"),
    "adam": (optax.adam(0.1), "adam"),
    "lion": (optax.lion(0.1, weight_decay=0.0), "adam"),
    "rmsprop": (optax.rmsprop(0.1), "adam"),
    "sign": (optax.sign_sgd(0.1), "adam"),
    "adagrad": (optax.adagrad(0.1), "adam"),
    "adafactor": (
        optax.adafactor(0.1, multiply_by_parameter_scale=False), "adam"),
    "warm-up": (optax.adam(optax.linear_schedule(0.0, 0.1, 5)), "adam"),
    "injected": (optax.inject_hyperparams(optax.adam)(learning_rate=0.1), "adam"),
    # It begins as SGD does.
    "radam": (optax.radam(0.1), "adam"),
    "clipped": (optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1)), "sgd"),
    "gathered": (optax.MultiSteps(optax.sgd(0.1), 3).gradient_transformation(), "sgd"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_updates_have_their_factors(name):
    tx, kind = PLAIN[name]
    jit = name == "gathered"
    wanted = updated(tx, jit=jit)
    scaled = {n: FACTORS[kind][n] * u for n, u in wanted.items()}
    assert_close(updated(MUP.optimizer(tx), jit=jit), scaled)
    # The word of the user counts, and the trial agrees.
    assert_close(updated(MUP.optimizer(tx, kind), jit=jit), scaled)
    # It contradicts a wrong one.
    other = {"adam": "sgd", "sgd": "adam"}[kind]
    with pytest.raises(ValueError, match=f"says '{other}', and .* shows '{kind}'"):
        MUP.optimizer(tx, other)


def by_groups(make, kind="adam"):
    """A transformation for each tensor, with its own rate and decay: by partition."""
    txs = {name: make(factor) for name, factor in FACTORS[kind].items()}
    return optax.partition(txs, {name: name for name in txs})


DECAYED = {
    "adamw": (lambda lr, wd: optax.adamw(lr, weight_decay=wd), "adam"),
    "lion": (lambda lr, wd: optax.lion(lr, weight_decay=wd), "adam"),
    "coupled sgd": (
        lambda lr, wd: optax.chain(
            optax.add_decayed_weights(wd), optax.sgd(lr, momentum=0.9)), "sgd"),
    "coupled adam": (
        lambda lr, wd: optax.chain(
            optax.add_decayed_weights(wd), optax.adam(lr)), "adam"),
}  # fmt: skip


@pytest.mark.parametrize("name", DECAYED)
def test_decay_is_that_of_parameter_groups(name):
    make, kind = DECAYED[name]
    found = updated(MUP.optimizer(make(0.1, 0.2)))
    assert_close(found, updated(by_groups(lambda f: make(0.1 * f, 0.2 / f), kind)))
    scaled = updated(MUP.optimizer(make(0.1, 0.2), weight_decay="scaled"))
    assert_close(scaled, updated(by_groups(lambda f: make(0.1 * f, 0.2), kind)))
    with pytest.raises(AssertionError):
        assert_close(found, scaled)


def test_decoupled_decay_does_not_depend_on_the_factor():
    still = jax.tree.map(jnp.zeros_like, PARAMS)
    found = updated(MUP.optimizer(optax.adamw(0.1, weight_decay=0.5)), gradient=still)
    assert_close(found, jax.tree.map(lambda w: -0.05 * w, PARAMS))


def test_a_decay_that_is_masked_stays_so():
    def mask(params):
        return jax.tree.map(lambda w: w.ndim > 1, params)

    found = updated(MUP.optimizer(optax.adamw(0.1, weight_decay=0.2, mask=mask)))
    wanted = updated(optax.adam(0.1))
    np.testing.assert_allclose(found["bias"], wanted["bias"], rtol=1e-5)
    assert not np.allclose(found["input"], wanted["input"], rtol=1e-3)


def test_adafactor_in_units_of_the_weights():
    """Its rate is relative to the weights, which had 1 / std more at the base width."""
    tx = optax.adafactor(0.1)
    wanted = updated(tx)
    scaled = {n: FACTORS["adam"][n] / STD[n] * u for n, u in wanted.items()}
    assert_close(updated(MUP.optimizer(tx)), scaled)
    assert FACTORS["adam"]["hidden"] / STD["hidden"] == 0.5
    decayed = optax.adafactor(0.1, weight_decay_rate=0.01)
    with pytest.raises(ValueError, match="chain optax.add_decayed_weights"):
        MUP.optimizer(decayed).init(PARAMS)
    outside = optax.chain(MUP.optimizer(tx), optax.add_decayed_weights(-0.01))
    assert_close(updated(outside), {n: u - 0.01 * PARAMS[n] for n, u in scaled.items()})


def test_muon_has_its_own_factors_and_adam_for_the_rest():
    tx = optax.contrib.muon(0.1)
    kinds = dict.fromkeys(PARAMS, "muon") | {"bias": "adam", "zscalar": "adam"}
    wanted = updated(tx, jit=True)
    scaled = {n: FACTORS[kinds[n]][n] * u for n, u in wanted.items()}
    assert_close(updated(MUP.optimizer(tx), jit=True), scaled)
    # Its updates have norm sqrt(max(1, out / in)) already; the hidden one is right.
    assert FACTORS["muon"]["hidden"] == 1
    # (8, 4) -> (8, 16): wanted 2, Optax gives sqrt(2).
    assert FACTORS["muon"]["input"] == pytest.approx(2**0.5)
    assert FACTORS["muon"]["output"] == 2


def test_partitions_and_frozen_tensors():
    labels = {n: "a" if n in ("hidden", "output") else "b" for n in PARAMS}
    tx = optax.partition({"a": optax.adam(0.1), "b": optax.sgd(0.1)}, labels)
    wanted = updated(tx)
    kind = {"a": "adam", "b": "sgd"}
    scaled = {n: FACTORS[kind[labels[n]]][n] * u for n, u in wanted.items()}
    assert_close(updated(MUP.optimizer(tx)), scaled)
    frozen = optax.partition({"a": optax.adam(0.1), "b": optax.set_to_zero()}, labels)
    found = updated(MUP.optimizer(frozen))
    assert not np.any(found["input"])
    assert_close(found["hidden"], scaled["hidden"])


def test_epsilon_follows_the_gradient():
    p = mup.infer(BASE, PARAMS, depth=(1, 2), depth_rule="completep")
    epsilons = {t.path: t.factors.epsilon for t in p.tensors}
    rates = {t.path: t.rate("adam") for t in p.tensors}
    txs = {n: optax.adam(0.1 * rates[n], eps=0.01 * e) for n, e in epsilons.items()}
    wanted = updated(optax.partition(txs, {n: n for n in txs}))
    tx = optax.adam(0.1, eps=0.01)
    assert_close(updated(p.optimizer(tx, "adam")), wanted)
    plain = {n: FACTORS["adam"][n] * u for n, u in updated(tx).items()}
    assert_close(updated(MUP.optimizer(tx, "adam")), plain)
    # SGD has none: its step grows with the gradient.
    plain = updated(p.optimizer(optax.sgd(0.1)))
    rates = {t.path: t.rate("sgd") for t in p.tensors}
    assert_close(plain, {n: -0.1 * rates[n] * g for n, g in GRADIENT.items()})


@pytest.mark.parametrize(
    "tx, text",
    [
        (optax.lbfgs(0.1), "ScaleByLBFGSState.*Hessian"),
        (optax.contrib.prodigy(), "ProdigyState.*one learning rate"),
        (optax.contrib.schedule_free_adamw(0.1), "averages hold parameters"),
        (optax.lamb(0.1, weight_decay=0.1), "bias.*decays them too"),
        (optax.adam(0.1, eps=0.05), "kind of `tx` is unclear"),
        (optax.set_to_zero(), "changed nothing.*kind="),
        (
            optax.chain(optax.normalize_by_update_norm(), optax.sgd(0.1)),
            "(?s)5 of 5 tensors:\n  bias: .* gradients of other tensors.*kind='sgd'",
        ),
    ],
)
def test_optimizers_that_cannot_be_scaled_or_told(tx, text):
    with pytest.raises(ValueError, match=text):
        MUP.optimizer(tx).init(PARAMS)


def test_a_kind_is_asked_for_where_a_trial_fails():
    def update(updates, state, params=None, *, value):
        return jax.tree.map(lambda u: -value * u, updates), state

    tx = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)
    with pytest.raises(ValueError, match="could not be tried.*kind='sgd'"):
        MUP.optimizer(tx).init(PARAMS)
    given = MUP.optimizer(tx, "sgd")
    found, _ = given.update(GRADIENT, given.init(PARAMS), PARAMS, value=2.0)
    assert_close(found, {n: -2 * FACTORS["sgd"][n] * g for n, g in GRADIENT.items()})


def test_other_bad_input():
    with pytest.raises(TypeError, match="must be an Optax transformation"):
        MUP.optimizer(0.1)
    with pytest.raises(ValueError, match="`kind` is 'adamm'.*Did you mean 'adam'"):
        MUP.optimizer(optax.adam(0.1), "adamm")
    with pytest.raises(ValueError, match="`weight_decay` is 0.1"):
        MUP.optimizer(optax.adam(0.1), weight_decay=0.1)
    with pytest.raises(ValueError, match="`kind` is 'adamm'; .*'adam', 'sgd', 'muon'"):
        MUP.optimizer(optax.adam(0.1), [("**", "adamm")])
    with pytest.raises(ValueError, match="other shapes"):
        MUP.optimizer(optax.adam(0.1)).init(BASE)
    with pytest.raises(ValueError, match="does not know"):
        MUP.optimizer(optax.adam(0.1)).init({**PARAMS, "more": jnp.ones(3)})


def test_at_the_base_width_it_is_the_transformation():
    """Even one that could not be scaled."""
    tx = mup.infer(PARAMS, PARAMS).optimizer(optax.contrib.prodigy())
    found, wanted = updated(tx), updated(optax.contrib.prodigy())
    assert all(np.array_equal(found[n], wanted[n]) for n in wanted)


def test_a_long_warm_up_needs_a_kind():
    tx = optax.sgd(optax.piecewise_constant_schedule(0.0, {100: 1.0}))
    with pytest.raises(ValueError, match="changed nothing"):
        MUP.optimizer(tx).init(PARAMS)
    MUP.optimizer(tx, "sgd").init(PARAMS)


def test_the_state_is_that_of_the_transformation():
    """So a checkpoint of one is read by the other."""
    tx = optax.adamw(0.1)
    ours, theirs = MUP.optimizer(tx).init(PARAMS), tx.init(PARAMS)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    assert type(ours) is type(theirs)
    # An update in a process that ran no init, inside of a program.
    fresh = MUP.optimizer(tx)
    found = jax.jit(fresh.update)(GRADIENT, theirs, PARAMS)[0]
    assert_close(found, jax.jit(MUP.optimizer(tx).update)(GRADIENT, ours, PARAMS)[0])


def test_jit_vmap_and_scan():
    tx = MUP.optimizer(optax.adam(0.1))
    alone = tx.update(GRADIENT, tx.init(PARAMS), PARAMS)[0]
    many = jax.tree.map(lambda w: jnp.stack([w, w]), PARAMS)

    @jax.jit
    def program(params):
        def one(params):
            fresh = MUP.optimizer(optax.adam(0.1))
            return fresh.update(GRADIENT, fresh.init(params), params)[0]

        return jax.vmap(one)(params)

    found = program(many)
    assert_close({n: u[1] for n, u in found.items()}, alone)


def test_sharding_stays():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))
    placed = {
        n: jax.device_put(
            w, NamedSharding(mesh, P("x") if w.shape[:1] == (16,) else P())
        )
        for n, w in PARAMS.items()
    }
    tx = MUP.optimizer(optax.sgd(0.1, 0.9))
    state = jax.jit(tx.init)(placed)
    updates, state = jax.jit(tx.update)(placed, state, placed)
    plain = optax.sgd(0.1, 0.9)
    wanted, _ = jax.jit(plain.update)(placed, jax.jit(plain.init)(placed), placed)
    for name in PARAMS:
        assert updates[name].sharding.is_equivalent_to(
            wanted[name].sharding, updates[name].ndim)  # fmt: skip


def test_types_stay():
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), PARAMS)
    found = updated(MUP.optimizer(optax.sgd(0.1, 0.9)), half, half)
    assert {u.dtype.name for u in found.values()} == {"bfloat16"}


def test_nnx_optimizer():
    def model(width):
        return nnx.Linear(width, width, rngs=nnx.Rngs(0))

    wide = model(16)
    p = mup.infer(nnx.state(model(4), nnx.Param), nnx.state(wide, nnx.Param))
    optimizer = nnx.Optimizer(wide, p.optimizer(optax.sign_sgd(1.0)), wrt=nnx.Param)
    before = wide.kernel[...]
    grads = jax.tree.map(jnp.ones_like, nnx.state(wide, nnx.Param))
    optimizer.update(wide, grads)
    np.testing.assert_allclose(wide.kernel[...], before - 0.25, rtol=1e-5)
