"""The rates of real models transfer under muP, and move where something is missing."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jinit
from examples import _data, transformer
from jinit import mup

pytestmark = pytest.mark.usefixtures("quick_compilation")

BASE = 32
RATES = [2.0**k for k in range(-11, -1)]


class MLP(nn.Module):
    width: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width, kernel_init=jinit.he())(x))
        return self.scale * nn.Dense(10, name="readout")(x)


def scaled(width):
    return MLP(width, BASE / width)


def standard(rate, p):
    return optax.adam(rate)


def parametrized(rate, p):
    return p.optimizer(optax.adam(rate))


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def digits(steps):
    images = _data.digits()
    rows = np.random.default_rng(0).integers(len(images.train_x), size=(steps, 64))
    return [(images.train_x[i], images.train_y[i]) for i in rows]


def studied(make, tx, widths, steps, **options):
    return mup.transfer_check(
        make, widths, RATES, digits(steps), tx, loss=cross_entropy, **options
    )


def test_muP_is_told_from_the_standard_and_from_a_missing_multiplier():
    settings = {"widths": [32, 128, 512], "steps": 40, "score": "mean"}
    good = studied(scaled, parametrized, **settings)
    good.check()
    plain = studied(MLP, standard, **settings)
    assert plain.verdict.startswith("moves: -"), plain
    assert plain.octaves_per_doubling < -0.4
    assert "reads nothing of its parametrization" in str(plain.findings[0])
    forgotten = studied(MLP, parametrized, **settings)
    assert forgotten.verdict.startswith("moves: -"), forgotten
    assert "readout" in str(forgotten.findings[0])


@pytest.mark.slow
def test_a_perceptron_over_four_doublings_late_in_training():
    settings = {"widths": [32, 64, 128, 256, 512], "steps": 200, "seeds": 3}
    good = studied(scaled, parametrized, **settings)
    good.check()
    assert studied(MLP, standard, **settings).verdict.startswith("moves: -")


@pytest.mark.slow
def test_a_transformer():
    tokens, alphabet = transformer.text()
    starts = np.random.default_rng(0).integers(len(tokens) - 33, size=(80, 8))
    windows = jnp.asarray(tokens[starts[..., None] + np.arange(33)])
    batches = [(window[:, :-1], window[:, 1:]) for window in windows]

    def make(width, scale):
        model = transformer.Transformer(len(alphabet), 2, width, width // 16)
        return model.init, lambda w, x: scale * model.apply(w, x)

    def verdict(make, tx):
        report = mup.transfer_check(
            make, [32, 64, 128], RATES[:-1], batches, tx, loss=cross_entropy,
            seeds=3, score="mean",
        )  # fmt: skip
        return report.verdict.partition(":")[0]

    assert verdict(lambda n: make(n, 32 / n), parametrized) != "moves"
    assert verdict(lambda n: make(n, 1.0), standard) == "moves"
    assert verdict(lambda n: make(n, 1.0), parametrized) == "moves"
