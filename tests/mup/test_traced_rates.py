"""An optimizer whose learning rate is traced, as in a sweep of rates under `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jinit import mup

PARAMS = {"w": jnp.ones((16, 16))}
P = mup.infer({"w": jnp.ones((4, 4))}, PARAMS)
RATES = jnp.array([0.1, 0.2])


def warmed(rate):
    parts = [optax.linear_schedule(0.1 * rate, rate, 3), optax.constant_schedule(rate)]
    return optax.adam(optax.join_schedules(parts, [3]))


OPTIMIZERS = {
    "adam": optax.adam,
    "adamw": lambda rate: optax.adamw(rate, weight_decay=0.1),
    "sgd": lambda rate: optax.sgd(rate, 0.9),
    "clipped": lambda rate: optax.chain(optax.clip_by_global_norm(1), optax.sgd(rate)),
    "muon": optax.contrib.muon,
    "adafactor": optax.adafactor,
    "schedule": warmed,
    "epsilon": lambda rate: optax.adam(rate, eps=1e-7 * rate),
    "injected": lambda rate: optax.inject_hyperparams(optax.adam)(learning_rate=rate),
}


def first_update(make, rate, **options):
    tx = P.optimizer(make(rate), **options)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    return updates["w"][0, 0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_traced_rate_updates_as_a_number_does(name):
    make = OPTIMIZERS[name]
    with jax.checking_leaks():
        updates = jax.jit(jax.vmap(lambda rate: first_update(make, rate)))(RATES)
    numbers = [first_update(make, float(rate)) for rate in RATES]
    np.testing.assert_allclose(updates, numbers, rtol=1e-5)


def test_a_traced_number_that_decides_the_kind_is_refused():
    """Below the norm an update grows with the gradient, and above it does not."""

    def clipped(norm):
        return optax.chain(optax.clip_by_global_norm(norm), optax.sgd(1.0))

    with pytest.raises(ValueError, match="compares with a number that is traced"):
        jax.vmap(lambda norm: first_update(clipped, norm))(RATES)
    named = jax.vmap(lambda norm: first_update(clipped, norm, kind="sgd"))(RATES)
    assert named.shape == RATES.shape
