"""The weight decay of each class under both rules, and rates that are traced."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from jinit import mup

pytestmark = pytest.mark.usefixtures("quick_compilation")

RATE, DECAY, STEPS, N = 0.1, 0.2, 3, 4
SHAPES = {"bias": "d", "hidden": "dd", "input": "8d", "output": "d4", "zscalar": ""}


def tree(width):
    return {
        name: jnp.full([width if n == "d" else int(n) for n in letters], 0.5)
        for name, letters in SHAPES.items()
    }


PARAMS = tree(4 * N)
MUP = mup.infer(tree(4), PARAMS)
STILL = jax.tree.map(jnp.zeros_like, PARAMS)


def trained(tx, steps=STEPS, params=PARAMS):
    """Return the parameters after steps with gradients of 0."""
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(STILL, state, params)
        params = optax.apply_updates(params, updates)
    return params


def schedule(step):
    return RATE / (1 + step)


def matrices(params):
    return jax.tree.map(lambda w: w.ndim > 1, params)


# For each optimizer the kind of its rates, its rate at each step, and what it decays.
CONSTANT = [RATE] * STEPS
DECAYED = {
    "adamw": (optax.adamw(RATE, weight_decay=DECAY), "adam", CONSTANT, set(SHAPES)),
    "lion": (optax.lion(RATE, weight_decay=DECAY), "adam", CONSTANT, set(SHAPES)),
    "sgd": (optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE)), "sgd",
            CONSTANT, set(SHAPES)),
    "last": (optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(DECAY),
                         optax.scale_by_learning_rate(RATE)), "adam",
             CONSTANT, set(SHAPES)),
    "mask": (optax.adamw(RATE, weight_decay=DECAY, mask=matrices), "adam", CONSTANT,
             {"hidden", "input", "output"}),
    "schedule": (optax.adamw(schedule, weight_decay=DECAY), "adam",
                 [RATE, RATE / 2, RATE / 3], set(SHAPES)),
    "injected": (optax.inject_hyperparams(optax.adamw)(RATE, weight_decay=DECAY),
                 "adam", CONSTANT, set(SHAPES)),
    # Muon decays matrices; Adam, for the others, has a decay of its own, which is 0.
    "muon": (contrib.muon(RATE, weight_decay=DECAY, ns_steps=1), "muon", CONSTANT,
             {"hidden", "input", "output"}),
}  # fmt: skip


@pytest.mark.parametrize("name", DECAYED)
@pytest.mark.parametrize("rule", ["independent", "per_width"])
def test_weights_shrink_by_the_law_of_the_rule(name, rule):
    """Independent: w <- w (1 - eta lambda); per width: w (1 - f eta lambda)."""
    tx, kind, rates, names = DECAYED[name]
    weights = trained(MUP.optimizer(tx, decay=rule))
    for tensor in MUP.tensors:
        factor = tensor.rate(kind) if rule == "per_width" else 1.0
        shrunk = np.prod([1 - factor * rate * DECAY for rate in rates])
        wanted = 0.5 * shrunk if tensor.path in names else 0.5
        np.testing.assert_allclose(
            weights[tensor.path], wanted, rtol=1e-5, err_msg=tensor.path
        )


def test_hidden_weights_forget_their_start_at_one_pace():
    """Under Adam the hidden rate is 1 / n, and per width they need n times as long."""
    tx = optax.adamw(RATE, weight_decay=DECAY)
    shrunk = {
        rule: float(trained(MUP.optimizer(tx, decay=rule))["hidden"][0, 0]) / 0.5
        for rule in ("independent", "per_width")
    }
    base = (1 - RATE * DECAY) ** STEPS
    assert shrunk["independent"] == pytest.approx(base, rel=1e-5)
    slow = (1 - RATE * DECAY / N) ** STEPS
    assert shrunk["per_width"] == pytest.approx(slow, rel=1e-5)


def test_the_rules_and_their_first_names():
    tx = optax.adamw(RATE, weight_decay=DECAY)
    by_name = [
        trained(MUP.optimizer(tx, **options))["hidden"][0, 0]
        for options in (
            {}, {"decay": "independent"}, {"weight_decay": "independent"},
            {"decay": "per_width"}, {"weight_decay": "scaled"},
        )
    ]  # fmt: skip
    assert by_name[0] == by_name[1] == by_name[2] < by_name[3] == by_name[4]


def test_a_rule_for_an_optimizer_without_a_decay():
    for tx in (
        optax.adam(RATE),
        optax.sgd(RATE, 0.9),
        optax.adamw(RATE, mask=lambda w: jax.tree.map(lambda _: False, w)),
        optax.adamw(RATE, weight_decay=0.0),
    ):
        MUP.optimizer(tx).init(PARAMS)
        # The error comes with the call, and also where nothing is scaled.
        for p in (MUP, mup.infer(PARAMS, PARAMS)):
            with pytest.raises(ValueError, match="no weight decay.*optax.adamw.*leave"):
                p.optimizer(tx, decay="per_width")
        saved = mup.Parametrization.from_dict(MUP.to_dict())
        with pytest.raises(ValueError, match="no weight decay"):
            saved.optimizer(tx, decay="per_width").init(PARAMS)
    with pytest.raises(ValueError, match="`decay` is 'scaled'.*'per_width'"):
        MUP.optimizer(optax.adamw(RATE), decay="scaled")
    with pytest.raises(ValueError, match="which is 'per_width'; pass `decay` alone"):
        MUP.optimizer(optax.adamw(RATE), decay="independent", weight_decay="scaled")


def test_the_word_of_the_user_counts_where_no_trial_is_possible():
    tx = optax.chain(
        optax.add_noise(0.0, 0.5, key=0),
        optax.add_decayed_weights(DECAY),
        optax.sgd(RATE),
    )
    weights = trained(MUP.optimizer(tx, "sgd", decay="per_width"), steps=1)
    for tensor in MUP.tensors:
        wanted = 0.5 * (1 - tensor.rate("sgd") * RATE * DECAY)
        np.testing.assert_allclose(weights[tensor.path], wanted, rtol=1e-5)


TRACED = {
    "adam": optax.adam,
    "decayed": lambda rate: optax.adamw(rate, weight_decay=DECAY),
    "decay": lambda decay: optax.adamw(RATE, weight_decay=decay),
    "epsilon": lambda epsilon: optax.adam(RATE, eps=epsilon),
    "average": lambda b1: optax.adam(RATE, b1=b1),
    "sgd": lambda rate: optax.sgd(rate, 0.9),
    "schedule": lambda rate: optax.adam(optax.cosine_decay_schedule(rate, 10)),
    "injected": lambda rate: optax.inject_hyperparams(optax.adam)(learning_rate=rate),
    "muon": lambda rate: contrib.muon(rate, ns_steps=1),
}


@pytest.mark.parametrize("name", TRACED)
def test_numbers_that_are_traced(name):
    """A program that maps over rates makes the optimizer inside."""
    gradient = jax.tree.map(lambda w: 1e-2 * w, PARAMS)

    def update(number):
        tx = MUP.optimizer(TRACED[name](number))
        return tx.update(gradient, tx.init(PARAMS), PARAMS)[0]

    # Beside a larger epsilon a trial with that number could not tell Adam.
    numbers = jnp.array([1e-5, 3e-5] if name == "epsilon" else [0.01, 0.3])
    with jax.checking_leaks():
        together = jax.jit(jax.vmap(update))(numbers)
    for index, number in enumerate(numbers.tolist()):
        alone = update(number)
        for path, value in together.items():
            np.testing.assert_allclose(value[index], alone[path], rtol=1e-5, atol=1e-9)


def test_a_decay_that_is_traced_is_a_decay():
    def weights(decay):
        tx = optax.adamw(RATE, weight_decay=decay)
        return trained(MUP.optimizer(tx, decay="per_width"), steps=1)["hidden"][0, 0]

    shrunk = jax.jit(jax.vmap(weights))(jnp.array([0.1, 0.2]))
    wanted = 0.5 * (1 - RATE * np.array([0.1, 0.2]) / N)
    np.testing.assert_allclose(shrunk, wanted, rtol=1e-6)


def test_a_norm_that_is_traced_asks_for_a_kind():
    def update(norm):
        tx = optax.chain(optax.clip_by_global_norm(norm), optax.sgd(RATE))
        return MUP.optimizer(tx).init(PARAMS)

    with pytest.raises(ValueError, match="(?s)a number that is traced.*pass kind="):
        jax.vmap(update)(jnp.array([0.1, 1.0]))
