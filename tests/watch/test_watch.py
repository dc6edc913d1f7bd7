"""A watched optimizer trains bit for bit as before, wherever it stands."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, serialization
from flax.training.train_state import TrainState

import jinit
from tests.support.split import slow_unless

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.fold_in(KEY, 1), (16, 8))
Y = jax.random.normal(jax.random.fold_in(KEY, 2), (16, 3))
OPTIMIZERS = {
    "sgd": lambda: optax.sgd(0.1),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "adam": lambda: optax.adam(1e-2),
    "adamw": lambda: optax.adamw(1e-2),
    "lion": lambda: optax.lion(1e-3),
    "adafactor": lambda: optax.adafactor(1e-2),
    "muon": lambda: optax.contrib.muon(1e-2),
    "chain and schedule": lambda: optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.cosine_decay_schedule(1e-2, 50)),
    ),
    "several steps": lambda: optax.MultiSteps(
        optax.adam(1e-2), 2
    ).gradient_transformation(),
    "partition": lambda: optax.partition(
        {"a": optax.adam(1e-2), "b": optax.sgd(0.1)}, {"up": "a", "down": "b"}
    ),
}

BY_DEFAULT = [("momentum",), ("adam",), ("chain and schedule",)]


def parameters(dtype=jnp.float32):
    up, down = jax.random.split(KEY)
    he = jinit.he(dtype=dtype)
    return {
        "up": {"kernel": he(up, (8, 32)), "bias": jnp.zeros(32, dtype)},
        "down": {"kernel": he(down, (32, 3)), "bias": jnp.zeros(3, dtype)},
    }


def loss(params, x=X, y=Y):
    hidden = jax.nn.gelu(x @ params["up"]["kernel"] + params["up"]["bias"][None])
    output = hidden @ params["down"]["kernel"] + params["down"]["bias"][None]
    # The decay stands in the loss, where XLA fuses it with the optimizer.
    return jnp.mean((output - y) ** 2) + 1e-3 * optax.tree.norm(params, squared=True)


def step(tx, params, state):
    grads = jax.grad(loss)(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def trained(tx, params, steps=6):
    """Train by a jitted step, and by a scan, and return the parameters of both."""
    one = jax.jit(lambda params, state: step(tx, params, state))
    carry = params, tx.init(params)
    for _ in range(steps):
        carry = one(*carry)

    @jax.jit
    def scanned(params, state):
        def body(carry, _):
            return step(tx, *carry), None

        return jax.lax.scan(body, (params, state), length=steps)[0]

    return carry, scanned(params, tx.init(params))


@pytest.mark.parametrize(
    "name", slow_unless(BY_DEFAULT, [(name,) for name in OPTIMIZERS])
)
def test_bits_are_those_of_the_optimizer(name):
    tx, params = OPTIMIZERS[name](), parameters()
    plain = trained(tx, params)
    for every in (1, 4):
        watched = trained(jinit.watch(tx, every=every), params)
        for (expected, inner), (weights, state) in zip(plain, watched, strict=True):
            chex.assert_trees_all_equal(weights, expected)
            chex.assert_trees_all_equal(state.inner, inner)


def test_bits_in_bfloat16():
    tx, params = optax.adam(1e-2), parameters(jnp.bfloat16)
    for plain, watched in zip(
        trained(tx, params), trained(jinit.watch(tx), params), strict=True
    ):
        chex.assert_trees_all_equal(watched[0], plain[0])
        assert watched[0]["up"]["kernel"].dtype == jnp.bfloat16


def inside(make):
    """Return the report of a watch that stands inside of another optimizer."""
    return jinit.watched(trained(make(jinit.watch(optax.adam(1e-2))), parameters())[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda tx: optax.chain(optax.clip_by_global_norm(1.0), tx),
        lambda tx: optax.MultiSteps(tx, 2),
        lambda tx: optax.apply_if_finite(tx, 3),
        lambda tx: optax.inject_hyperparams(lambda rate: tx)(rate=0.1),
    ],
    ids=["chain", "MultiSteps", "apply_if_finite", "inject_hyperparams"],
)
def test_a_watch_is_found_inside_of_other_optimizers(make):
    report = inside(make)
    assert [row["path"] for row in report.rows] == [
        "down/bias", "down/kernel", "up/bias", "up/kernel",
    ]  # fmt: skip


def test_watches_of_several_parts_are_one_report():
    watched = {name: jinit.watch(optax.adam(1e-2)) for name in ("a", "b")}
    tx = optax.partition(watched, {"up": "a", "down": "b"})
    report = jinit.watched(trained(tx, parameters())[0])
    assert len(report.rows) == 4 and report.step == 6


def test_extra_arguments_pass_through():
    tx = jinit.watch(optax.polyak_sgd())
    params = parameters()
    value, grads = jax.value_and_grad(loss)(params)
    updates, _ = tx.update(grads, tx.init(params), params, value=value)
    chex.assert_tree_all_finite(updates)


def test_in_the_optimizer_of_nnx():
    model = nnx.Linear(8, 3, rngs=nnx.Rngs(0))
    plain = nnx.Linear(8, 3, rngs=nnx.Rngs(0))
    tx = optax.adam(1e-2)
    pairs = [
        (plain, nnx.Optimizer(plain, tx, wrt=nnx.Param)),
        (model, nnx.Optimizer(model, jinit.watch(tx), wrt=nnx.Param)),
    ]
    train = nnx.jit(
        lambda model, optimizer: optimizer.update(
            model, nnx.grad(lambda m: jnp.mean((m(X) - Y) ** 2))(model)
        )
    )
    for _ in range(3):
        for pair in pairs:
            train(*pair)
    chex.assert_trees_all_equal(nnx.state(model), nnx.state(plain))
    for holder in (pairs[1][1], pairs[1][1].opt_state):
        report = jinit.watched(holder)
        assert [row["path"] for row in report.rows] == ["bias", "kernel"]
        assert report.step == 3


def test_in_a_train_state():
    state = TrainState.create(
        apply_fn=loss, params=parameters(), tx=jinit.watch(optax.adam(1e-2))
    )
    state = state.apply_gradients(grads=jax.grad(loss)(state.params))
    assert jinit.watched(state).step == jinit.watched(state.opt_state).step == 1


def test_the_state_is_donated_and_restored():
    tx, params = jinit.watch(optax.adam(1e-2)), parameters()
    one = jax.jit(lambda p, s: step(tx, p, s), donate_argnums=(0, 1))
    params, state = one(jax.tree.map(jnp.copy, params), tx.init(params))
    data = serialization.to_bytes(state)
    restored = serialization.from_bytes(tx.init(parameters()), data)
    assert jinit.watched(restored).rows == jinit.watched(state).rows


def test_seeds_under_vmap_are_read_one_by_one():
    tx = jinit.watch(optax.adam(1e-2))

    def train(key):
        params = {"kernel": jinit.he()(key, (8, 3))}
        grads = {"kernel": jnp.ones((8, 3))}
        return tx.update(grads, tx.init(params), params)[1]

    states = jax.jit(jax.vmap(train))(jax.random.split(KEY, 4))
    with pytest.raises(ValueError, match=r"\(4,\) trainings.*tree\.map"):
        jinit.watched(states)
    report = jinit.watched(jax.tree.map(lambda x: x[2], states))
    assert report.rows[0]["path"] == "kernel" and report.step == 1


def test_a_traced_state_has_no_report():
    tx = jinit.watch(optax.sgd(0.1))
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda: jinit.watched(tx.init(parameters())).step)()


def test_a_state_of_shapes_has_no_report():
    tx = jinit.watch(optax.adam(0.1))
    state = jax.eval_shape(tx.init, {"w": jnp.ones((3, 3))})
    with pytest.raises(TypeError, match="has shapes in the place of arrays"):
        jinit.watched(state)


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_every_is_a_positive_integer(every):
    with pytest.raises((TypeError, ValueError), match="`every`"):
        jinit.watch(optax.sgd(0.1), every=every)


def test_a_state_of_other_parameters():
    tx = jinit.watch(optax.sgd(0.1))
    params, other = parameters(), {"z": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"other parameters.*down/bias.*z\. Call"):
        tx.update(params, tx.init(other), params)
    with pytest.raises(TypeError, match=r"the init of this jinit\.watch"):
        tx.update(params, optax.sgd(0.1).init(params), params)


def test_gradients_of_another_tree():
    tx = jinit.watch(optax.GradientTransformation(lambda p: (), lambda g, s, p: (g, s)))
    params = parameters()
    with pytest.raises(ValueError, match="have no down/bias"):
        tx.update({"up": params["up"]}, tx.init(params), params)


def test_the_fast_weights_of_a_lookahead():
    params = optax.LookaheadParams.init_synced(parameters())
    tx = jinit.watch(optax.lookahead(optax.sgd(0.01), 2, 0.5))
    state = tx.init(params)
    for _ in range(6):
        updates, state = tx.update(jax.grad(loss)(params.fast), state, params)
        params = optax.apply_updates(params, updates)
    report = jinit.watched(state)
    assert len(report.rows) == 4 and report.findings == []


def test_leaves_that_are_no_weights():
    params = {"w": jnp.ones((3, 3)), "none": None, "count": jnp.zeros(3, jnp.int32)}
    tx = jinit.watch(optax.sgd(0.1))
    updates, state = tx.update(params, tx.init(params), params)
    assert updates["none"] is None
    assert [row["path"] for row in jinit.watched(state).rows] == ["w"]


def copies(tx):
    """Count the arrays of the parameters that a step with donated arrays copies."""
    params = {"w": jnp.ones((96, 80)), "v": jnp.ones((80, 96))}

    def one(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(one, donate_argnums=(0, 1))
    text = jitted.lower(params, tx.init(params), params).compile().as_text()
    return sum(text.count(f"f32[{shape}]{{1,0}} copy(") for shape in ("96,80", "80,96"))


def test_no_parameter_is_copied_for_steps_that_measure_nothing():
    assert copies(jinit.watch(optax.adam(0.1), every=10)) <= copies(optax.adam(0.1))


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match="Optax transformation"):
        jinit.watch(1e-3)


def test_a_network_is_a_network():
    with pytest.raises(TypeError, match="must be a Network"):
        jinit.watch(optax.sgd(0.1), network="mlp")


def test_a_state_without_a_watch():
    with pytest.raises(ValueError, match=r"no jinit\.watch is in it"):
        jinit.watched(optax.adam(1e-3).init(parameters()))


def test_parameters_are_needed():
    tx = jinit.watch(optax.adam(1e-3))
    params = parameters()
    with pytest.raises(ValueError, match="tx.update"):
        tx.update(params, tx.init(params))


@pytest.mark.parametrize("only", ["**/kernels", ["**/kernel", "missing"]])
def test_a_pattern_must_match(only):
    with pytest.raises(ValueError, match="matches no leaf"):
        jinit.watch(optax.adam(1e-3), only=only).init(parameters())


def test_a_tree_without_weights():
    with pytest.raises(ValueError, match="nothing to watch"):
        jinit.watch(optax.sgd(0.1)).init({"step": jnp.zeros((), int)})


def test_only_selects():
    state = jinit.watch(optax.adam(1e-3), only="**/kernel").init(parameters())
    paths = [row["path"] for row in jinit.watched(state).rows]
    assert paths == ["down/kernel", "up/kernel"]
    assert np.asarray(state.table).shape[0] == 2


def test_an_array_without_entries_is_left_out():
    params = {"w": jnp.ones((3, 3)), "none": jnp.ones((0, 3))}
    tx = jinit.watch(optax.adam(1e-3))
    updates, state = tx.update(params, tx.init(params), params)
    assert updates["none"].shape == (0, 3)
    assert [row["path"] for row in jinit.watched(state).rows] == ["w"]


def test_a_watch_of_a_watch_is_one_report():
    tx = jinit.watch(jinit.watch(optax.adam(1e-2)))
    assert len(jinit.watched(tx.init(parameters())).rows) == 4


def test_a_report_before_the_first_step_says_so():
    state = jinit.watch(optax.adam(1e-2)).init(parameters())
    assert "nothing was measured yet" in str(jinit.watched(state))


def test_a_group_without_parameters_is_watched_in_silence():
    groups = {"a": jinit.watch(optax.sgd(0.1)), "b": jinit.watch(optax.adam(0.1))}
    params = {"kernel": jnp.ones(3)}
    tx = optax.multi_transform(groups, {"kernel": "a"})
    updates, state = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1, rtol=1e-6)
    assert [row["path"] for row in jinit.watched(state).rows] == ["kernel"]


def test_a_network_of_another_model():
    net = jinit.network(lambda p, x: x @ p["w"], {"w": jnp.ones((3, 3))}, jnp.ones(3))
    tx = jinit.watch(optax.sgd(0.1), network=net)
    with pytest.raises(ValueError, match="`network` has no parameter"):
        tx.init(parameters())


def test_a_watch_stands_around_the_optimizer_of_a_parametrization():
    shapes = [{"w": jax.ShapeDtypeStruct((n, n), jnp.float32)} for n in (4, 16)]
    p, params = jinit.mup.infer(*shapes), {"w": jnp.ones((16, 16))}
    with pytest.raises(ValueError, match=r"jinit\.watch\(p\.optimizer\(tx\)\)"):
        p.optimizer(jinit.watch(optax.adam(0.1))).init(params)
    assert jinit.watch(p.optimizer(optax.adam(0.1))).init(params).table.shape[0] == 1
