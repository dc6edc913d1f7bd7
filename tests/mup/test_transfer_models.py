"""Models of each kind are started and trained at each rate as a loop would do it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jinit import mup

pytestmark = pytest.mark.usefixtures("quick_compilation")


class MLP(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width)(x))
        x = nn.relu(nn.Dense(self.width)(x))
        return 16 / self.width * nn.Dense(4)(x)


X = jax.random.normal(jax.random.key(3), (5, 8, 6))
PAIRS = [(x, x[:, :4]) for x in X]


def squares(y, target):
    return jnp.mean((y - target) ** 2)


def trained(make, tx, **options):
    options = {"loss": squares, "seeds": 1, **options}
    return mup.transfer_check(make, [16, 32], [0.001, 0.01, 0.1], PAIRS, tx, **options)


def first_losses(report):
    """Return the score of the first step, at the smallest rate of each width."""
    return [row["score"] for row in report.rows if row["rate"] == 0.001]


def first(losses):
    return losses[0]


def test_models_start_from_the_parametrization_if_tx_reads_it():
    key = jax.random.split(jax.random.key(0), 1)[0]

    def by_hand(width, p):
        params = MLP(width).init(key, X[0])
        params = params if p is None else p.init(params)
        return squares(MLP(width).apply(params, X[0]), PAIRS[0][1])

    shapes = [jax.eval_shape(MLP(n).init, key, X[0]) for n in (16, 32)]
    p = mup.infer(*shapes)
    read = trained(MLP, lambda rate, p: p.optimizer(optax.adam(rate)), score=first)
    unread = trained(MLP, lambda rate, p: optax.adam(rate), score=first)
    named = trained(
        MLP, lambda rate, p: p.optimizer(optax.adam(rate)), score=first,
        init=lambda p, params: params,
    )  # fmt: skip
    assert read.is_parametrized and not unread.is_parametrized
    drawn = [by_hand(width, None) for width in (16, 32)]
    np.testing.assert_allclose(first_losses(unread), drawn, rtol=1e-4)
    drawn[1] = by_hand(32, p)
    np.testing.assert_allclose(first_losses(read), drawn, rtol=1e-4)
    assert first_losses(named) == pytest.approx(first_losses(unread))


def test_the_losses_are_those_of_a_loop():
    tx = lambda rate, p: p.optimizer(optax.adam(rate))  # noqa: E731
    report = trained(MLP, tx, score=lambda losses: losses[-1])
    key = jax.random.split(jax.random.key(0), 1)[0]
    shapes = [jax.eval_shape(MLP(n).init, key, X[0]) for n in (16, 32)]
    p = mup.infer(*shapes)
    params = p.init(MLP(32).init(key, X[0]))
    optimizer = p.optimizer(optax.adam(0.01))

    @jax.jit
    def by_hand(params):
        state = optimizer.init(params)
        for x, y in PAIRS:
            value, gradient = jax.value_and_grad(
                lambda w, x=x, y=y: squares(MLP(32).apply(w, x), y)
            )(params)
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        return value

    (row,) = (r for r in report.rows if (r["width"], r["rate"]) == (32, 0.01))
    assert row["score"] == pytest.approx(float(by_hand(params)), rel=1e-3)


def test_a_parametrization_that_nobody_reads_is_not_inferred():
    def refuse(base, target):
        raise ValueError("ambiguous")

    trained(MLP, lambda rate, p: optax.adam(rate), parametrize=refuse)
    with pytest.raises(ValueError, match="ambiguous"):
        trained(MLP, lambda rate, p: p.optimizer(optax.adam(rate)), parametrize=refuse)
    seen = []

    def note(rate, p):
        seen.append((isinstance(p, mup.Parametrization), p.readout_scale))
        return p.optimizer(optax.adam(rate))

    trained(MLP, note)
    assert set(seen) == {(True, 1.0), (True, 0.5)}


def test_nnx_models_and_options():
    class Model(nnx.Module):
        def __init__(self, width, *, rngs):
            self.hidden = nnx.Linear(6, width, rngs=rngs)
            self.readout = nnx.Linear(width, 4, rngs=rngs)
            self.scale = 16 / width

        def __call__(self, x, factor=1.0):
            return factor * self.scale * self.readout(nnx.relu(self.hidden(x)))

    tx = lambda rate, p: p.optimizer(optax.adam(rate))  # noqa: E731
    report = trained(Model, tx, score=first)
    other = trained(Model, tx, score=first, factor=0.5)
    assert report.is_one_program and first_losses(report) != first_losses(other)


def test_functions_that_do_not_fit():
    with pytest.raises(ValueError, match="must return a scalar"):
        trained(MLP, lambda rate, p: optax.adam(rate), loss=lambda y, t: y - t)
    with pytest.raises(TypeError, match="Linen module or a pair"):
        trained(lambda width: None, lambda rate, p: optax.adam(rate))


@pytest.mark.parametrize("tx", [optax.adam(0.1), lambda rate: optax.adam(rate)])
def test_an_optimizer_is_a_function_of_two(tx):
    with pytest.raises(TypeError, match="function of the rate and the parametrization"):
        trained(MLP, tx)


def test_models_that_ignore_their_width():
    with pytest.raises(ValueError, match="ignore its width"):
        trained(lambda width: MLP(16), lambda rate, p: optax.adam(rate))
    with pytest.raises(ValueError, match="ignore its width"):
        mup.coordinate_check(
            lambda width: MLP(16), [16, 32], PAIRS, optax.adam(0.1), loss=squares
        )
