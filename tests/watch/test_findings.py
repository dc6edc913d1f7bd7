"""A watch is silent on healthy training, and names the tensor that a fault is in."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from sklearn.datasets import load_digits

import jinit
from tests.support.split import slow_unless


@functools.cache
def digits():
    x, y = load_digits(return_X_y=True)
    return jnp.asarray(x / 16 - 0.5, jnp.float32), jnp.asarray(y)


class Mlp(nn.Module):
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            layer = nn.Dense(64, kernel_init=jinit.he(), param_dtype=self.dtype)
            x = nn.relu(layer(x))
        return nn.Dense(10, param_dtype=self.dtype)(x).astype(jnp.float32)


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x.reshape(-1, 8, 8, 1)
        for channels in (16, 32):
            x = nn.relu(nn.GroupNorm(4)(nn.Conv(channels, (3, 3))(x)))
        return nn.Dense(10)(x.mean((1, 2)))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.RNN(nn.GRUCell(32))(x.reshape(-1, 8, 8))[:, -1])


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(32)(x.reshape(-1, 8, 8))
        x = x + self.param("positions", jinit.normal(0.02), (8, 32))[None]
        for _ in range(2):
            x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x))
            x = x + nn.Dense(32)(nn.gelu(nn.Dense(64)(nn.LayerNorm()(x))))
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


class Blocked(nn.Module):
    """No gradient passes the second layer."""

    @nn.compact
    def __call__(self, x):
        x = jax.lax.stop_gradient(nn.relu(nn.Dense(64)(x)))
        return nn.Dense(10)(x)


class Run(NamedTuple):
    """A run has the losses of each step, and a report after each step asked for."""

    losses: list
    reports: dict


def train(model, tx, steps, every=1, at=(), factor=1.0, broken=None, key=0):
    """Train a model on digits by a watched optimizer."""
    x, y = digits()
    params = model.init(jax.random.key(key), x[:2])["params"]
    tx = jinit.watch(tx, every=every)

    def loss(params, x, y):
        logits = model.apply({"params": params}, x)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return factor * losses.mean()

    @jax.jit
    def step(params, state, x, y):
        value, grads = jax.value_and_grad(loss)(params, x, y)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state, run = tx.init(params), Run([], {})
    for number in range(1, steps + 1):
        rows = jax.random.randint(jax.random.key(number), (64,), 0, len(x))
        batch = x[rows]
        if broken is not None and number == broken[0]:
            batch = batch * broken[1]
        params, state, value = step(params, state, batch, y[rows])
        run.losses.append(float(value))
        if number in at or number == steps:
            run.reports[number] = jinit.watched(state)
    return run


WARM_UP = optax.warmup_cosine_decay_schedule(0, 3e-3, 10, 120)
HEALTHY = {
    "perceptron, Adam": (Mlp(), optax.adam(1e-3), 1),
    "perceptron, SGD": (Mlp(), optax.sgd(0.1), 1),
    "convolutions, momentum": (Convolutions(), optax.sgd(0.1, momentum=0.9), 1),
    "recurrent, RMSProp": (Recurrent(), optax.rmsprop(1e-3), 3),
    "transformer, AdamW": (Transformer(), optax.adamw(WARM_UP), 1),
    "transformer, Lion": (Transformer(), optax.lion(3e-4), 10),
}


BY_DEFAULT = [("perceptron, SGD",), ("recurrent, RMSProp",), ("transformer, AdamW",)]


@pytest.mark.parametrize("name", slow_unless(BY_DEFAULT, [(name,) for name in HEALTHY]))
def test_healthy_training_has_no_finding(name):
    model, tx, every = HEALTHY[name]
    run = train(model, tx, 120, every, at=(5, 20, 60))
    for report in run.reports.values():
        assert report.findings == []
        report.check()
    assert run.losses[-1] < 0.8 * run.losses[0]


def only_second(tx):
    """Train the second layer by an optimizer of its own."""

    def labels(params):
        return {name: "own" if name == "Dense_1" else "usual" for name in params}

    return optax.partition({"own": tx, "usual": optax.adam(1e-3)}, labels)


def findings_of(run, step=None):
    report = run.reports[step or max(run.reports)]
    with pytest.raises(AssertionError):
        report.check()
    return {finding.category: finding for finding in report.findings}


def test_a_batch_that_is_not_finite():
    run = train(Mlp(), optax.adam(1e-3), 25, broken=(20, jnp.inf))
    finding = findings_of(run)["not_finite"]
    assert finding.value == 20 and "step 20" in finding.message
    # Nothing else is said where nothing else means anything.
    assert len(run.reports[25].findings) == 1


def test_a_gradient_a_hundred_times_its_usual_size():
    run = train(Mlp(), optax.sgd(1e-4), 30, broken=(25, 1e4))
    finding = findings_of(run)["spike"]
    assert "at step 25" in finding.message and finding.value > 100


def test_a_rate_too_high_is_named_before_the_loss_doubles():
    run = train(Mlp(), optax.adam(0.3), 5, at=range(1, 6))
    first = min(step for step, report in run.reports.items() if report.findings)
    doubled = [i + 1 for i, loss in enumerate(run.losses) if loss > 2 * run.losses[0]]
    assert first <= min(doubled, default=5)
    assert "fast" in findings_of(run)


def test_one_layer_too_fast():
    run = train(Mlp(), only_second(optax.adam(0.3)), 20)
    assert findings_of(run)["fast"].path == "Dense_1/kernel"


def test_one_layer_does_not_move():
    run = train(Mlp(), only_second(optax.adam(1e-9)), 20)
    assert findings_of(run)["still"].path == "Dense_1/kernel"


@pytest.mark.parametrize("every", [1, 10])
def test_a_layer_that_its_optimizer_freezes_is_no_fault(every):
    run = train(Mlp(), only_second(optax.set_to_zero()), 60, every)
    report = run.reports[60]
    frozen = [row["path"] for row in report.rows if row["frozen"]]
    assert frozen == ["Dense_1/bias", "Dense_1/kernel"]
    assert report.findings == [] and "frozen" in str(report)


def test_a_rate_of_zero_freezes_everything():
    finding = findings_of(train(Mlp(), optax.adam(0.0), 10))["still"]
    assert "neither does any other tensor" in finding.message


@pytest.mark.parametrize("every", [1, 10])
def test_steps_that_gather_gradients_do_move(every):
    tx = optax.MultiSteps(optax.adam(1e-3), 32).gradient_transformation()
    run = train(Mlp(), tx, 60, every, at=(20,))
    for report in run.reports.values():
        assert report.findings == []
        assert not any(row["frozen"] for row in report.rows)


def test_a_gradient_that_is_skipped_does_no_harm():
    tx = optax.apply_if_finite(optax.adam(1e-3), 100)
    run = train(Mlp(), tx, 25, broken=(20, jnp.inf))
    assert run.reports[25].findings == []


def test_gradients_that_are_all_skipped():
    tx = optax.apply_if_finite(optax.adam(1e-3), 100)
    finding = findings_of(train(Mlp(), tx, 10, factor=jnp.inf))["skipped"]
    assert "the last 10 gradients" in finding.message


def test_no_gradient():
    finding = findings_of(train(Blocked(), optax.adam(1e-3), 10))["no_gradient"]
    assert finding.path.startswith("Dense_0/") and "10 gradients" in finding.message


def test_an_unused_tensor_is_told_apart_from_a_network_that_died():
    def loss(params, step):
        return jnp.where(step < 5, params["dead"].sum() ** 2, 0.0)

    params = {"dead": jnp.ones(4), "unused": jnp.ones(4)}
    tx = jinit.watch(optax.sgd(1e-3))
    state = tx.init(params)
    for step in range(30):
        updates, state = tx.update(jax.grad(loss)(params, step), state, params)
        params = optax.apply_updates(params, updates)
    silent = [f for f in jinit.watched(state).findings if f.category == "no_gradient"]
    assert [finding.path for finding in silent] == ["unused", "dead"]
    assert "the last 30 gradients were 0. The loss does not depend" in str(silent[0])
    assert "the last 25 gradients were 0. The loss depends no longer" in str(silent[1])


def test_updates_that_rounding_undoes():
    run = train(Mlp(jnp.bfloat16), optax.adam(1e-5), 10)
    finding = findings_of(run)["lost"]
    assert finding.path.endswith("kernel") and "16 bits" in finding.message


def test_gradients_below_epsilon():
    finding = findings_of(train(Mlp(), optax.adam(1e-3), 10, factor=1e-8))["epsilon"]
    assert finding.value > 0.5


def test_weights_that_grow_are_named_before_the_loss_doubles():
    # Decay of the wrong sign.
    tx = optax.chain(optax.adam(1e-3), optax.add_decayed_weights(0.03))
    run = train(Mlp(), tx, 100, at=range(10, 101, 5))
    first = min(step for step, report in run.reports.items() if report.findings)
    assert "grows" in findings_of(run, first)
    best = jnp.minimum.accumulate(jnp.asarray(run.losses))
    doubled = [i + 1 for i, loss in enumerate(run.losses) if loss > 2 * best[i] > 1]
    assert first <= min(doubled, default=100)


def test_steps_that_jump_across_a_valley():
    # A quadratic of curvature 1 diverges by SGD beyond a rate of 2.
    tx = jinit.watch(optax.sgd(1.9))
    params = {"w": jax.random.normal(jax.random.key(0), (16, 16))}
    state = tx.init(params)
    for _ in range(10):
        updates, state = tx.update(params, state, params)
        params = optax.apply_updates(params, updates)
    (finding,) = [x for x in jinit.watched(state).findings if x.path == "w"][-1:]
    assert "oscillates" in {x.category for x in jinit.watched(state).findings}
    assert finding.path == "w"


def test_the_cause_of_a_divergence_comes_first():
    run = train(Mlp(), optax.sgd(30.0), 12)
    report = run.reports[12]
    assert [finding.category for finding in report.findings] == ["fast", "not_finite"]


def test_gradients_that_grow_from_nothing_are_healthy():
    """A gate that starts at 0 lets the gradient of its branch through step by step."""
    tx = jinit.watch(optax.adam(optax.linear_schedule(0.0, 1e-3, 2000)))
    params = {"gate": jnp.zeros(()), "w": jax.random.normal(jax.random.key(0), (8, 8))}
    state, x = tx.init(params), jnp.ones((4, 8))

    def loss(params):
        return jnp.mean((x + params["gate"] * (x @ params["w"]) - 2) ** 2)

    step = jax.jit(tx.update)
    for _ in range(20):
        updates, state = step(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
        assert jinit.watched(state).findings == []
