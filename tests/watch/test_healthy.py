"""A watch is silent on kinds of healthy training for which no rule was tuned."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from sklearn.datasets import load_digits

import jinit

pytestmark = pytest.mark.slow
KEYS = jax.random.split(jax.random.key(0), 4)


class BatchNormalized(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x.reshape(-1, 8, 8, 1)
        for channels in (8, 16):
            x = nn.Conv(channels, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
        return nn.Dense(10)(x.mean((1, 2)))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(
            nn.RNN(nn.OptimizedLSTMCell(32))(x.reshape(-1, 8, 8))[:, -1]
        )


def of_model(model):
    """Return the first parameters of a model, and its logits as a function of them."""
    variables = model.init(KEYS[0], jnp.ones((2, 64)))
    params, others = variables["params"], {**variables}
    del others["params"]

    def logits(params, x):
        return model.apply({"params": params, **others}, x, mutable=["batch_stats"])[0]

    return params, logits


def low_rank():
    """Return a frozen perceptron with matrices of rank 4 beside its kernels."""
    he = jinit.he()
    base = {"up": he(KEYS[0], (64, 64)), "down": he(KEYS[1], (64, 10))}
    more = {
        "a": he(KEYS[2], (64, 4)), "b": jnp.zeros((4, 64)),
        "c": he(KEYS[3], (64, 4)), "d": jnp.zeros((4, 10)),
    }  # fmt: skip

    def logits(params, x):
        base, more = params["base"], params["more"]
        h = jax.nn.relu(x @ (base["up"] + more["a"] @ more["b"]))
        return h @ (base["down"] + more["c"] @ more["d"])

    return {"base": base, "more": more}, logits


def frozen_base():
    parts = {"frozen": optax.set_to_zero(), "trained": optax.adam(3e-3)}
    return optax.partition(parts, {"base": "frozen", "more": "trained"})


def clipped():
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))


RUNS = {
    "batch norm, large batch": (
        lambda: of_model(BatchNormalized()), lambda: optax.sgd(0.1, 0.9), 512, 60, 1,
    ),
    "LSTM, clipped": (lambda: of_model(Recurrent()), clipped, 64, 120, 2),
    "LoRA": (low_rank, frozen_base, 64, 120, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_healthy_training_has_no_finding(name):
    make, make_tx, rows, steps, every = RUNS[name]
    params, logits = make()
    x, y = load_digits(return_X_y=True)
    x, y = jnp.asarray(x / 16 - 0.5, jnp.float32), jnp.asarray(y)
    tx = jinit.watch(make_tx(), every=every)

    def loss(params, x, y):
        costs = optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y)
        return costs.mean()

    @jax.jit
    def step(params, state, key):
        batch = jax.random.randint(key, (rows,), 0, len(x))
        value, grads = jax.value_and_grad(loss)(params, x[batch], y[batch])
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state, losses = tx.init(params), []
    for number in range(1, steps + 1):
        params, state, value = step(params, state, jax.random.key(number))
        losses.append(float(value))
        if number in (5, 10, 20, 40, steps):
            jinit.watched(state).check()
    assert losses[-1] < 0.8 * losses[0]
