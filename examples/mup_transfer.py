"""Tune the learning rate on a narrow network, and train a wide one with it.

A perceptron on digits is trained with Adam at many rates and width 64, which is cheap.
Under muP the best of these rates is also the best at width 1024, so that one run
replaces a sweep. The run is compared with a sweep over the wide network in the standard
parametrization, and with that network at the rate of the narrow one.

    python -m examples.mup_transfer --help
"""

import dataclasses
import pathlib
import sys
import time
from typing import Any, NamedTuple

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import jinit
from examples import _cli, _data
from examples._cli import option, parse


@dataclasses.dataclass(frozen=True)
class Options:
    """Tune on a narrow network, train a wide one at the same rate."""

    narrow: int = option(64, "the width at which rates are tuned")
    wide: int = option(1024, "the width that is trained")
    steps: int = option(150, "steps of Adam")
    batch_size: int = option(64, "images of a step")
    seeds: int = option(2, "seeds of each run")
    seed: int = option(0, "seed of all keys", least=0)
    out: str = option("results/mup_transfer", "the folder of the results")


# Powers of two: one step of this grid is what a practitioner's sweep would resolve.
EXPONENTS = range(-13, -2)


class Perceptron(nn.Module):
    """The model has two relu layers, and a readout of ten classes."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width, kernel_init=jinit.he())(x))
        return nn.Dense(10, name="readout")(x)


class Problem(NamedTuple):
    """A problem holds inputs, their integer labels, and the length of the training."""

    x: jax.Array
    y: jax.Array
    test_x: jax.Array
    test_y: jax.Array
    batch_size: int
    steps: int


class Curves(NamedTuple):
    """The curves hold the loss of each step, and the accuracy at the end."""

    loss: Any  # (seeds, rates, steps)
    accuracy: Any  # (seeds, rates)


def shapes(model: nn.Module, problem: Problem) -> Any:
    """Return the variables of a model, as shapes without arrays."""
    return jax.eval_shape(model.init, jax.random.key(0), problem.x[:1])


def train(
    model: nn.Module, p: Any, problem: Problem, rates: Any, key: jax.Array, seeds: int
) -> Curves:
    """Train with Adam under a parametrization: all rates and seeds at once.

    The parametrization acts in three places: p.init, p.readout_scale, p.optimizer.
    """
    # Adam's update is proportional to its rate, so that one optimizer serves all.
    tx = p.optimizer(optax.adam(1.0))

    def logits(params: Any, x: jax.Array) -> jax.Array:
        # The scale multiplies the readout's bias, too, which moves less for it. To
        # leave out the bias, multiply the input of the readout instead.
        return p.readout_scale * model.apply(params, x)

    def loss(params: Any, rows: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(
            logits(params, problem.x[rows]), problem.y[rows]
        ).mean()

    def one_seed(key: jax.Array) -> Curves:
        draw_key, train_key = jax.random.split(key)
        params = p.init(model.init(draw_key, problem.x[:1]))
        keys = jax.random.split(train_key, problem.steps)

        def one_rate(rate: jax.Array) -> Curves:
            def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
                params, opt_state = state
                size = (problem.batch_size,)
                rows = jax.random.randint(key, size, 0, len(problem.x))
                value, gradient = jax.value_and_grad(loss)(params, rows)
                updates, opt_state = tx.update(gradient, opt_state, params)
                params = optax.apply_updates(params, optax.tree.scale(rate, updates))
                return (params, opt_state), value

            state = params, tx.init(params)
            (trained, _), losses = jax.lax.scan(step, state, keys)
            right = logits(trained, problem.test_x).argmax(-1) == problem.test_y
            return Curves(losses, right.mean())

        return jax.vmap(one_rate)(jnp.asarray(rates, jnp.float32))

    # More devices than seeds would repeat the work of the others.
    devices = jax.local_devices()[:seeds]
    return Curves(*map(np.asarray, jinit.sweep(one_seed, key, seeds, devices=devices)))


def score(losses: Any) -> np.ndarray:
    """Return the mean loss over a run, infinite if it diverged; smaller is faster."""
    means = np.asarray(losses, np.float64).mean(axis=-1)
    return np.where(np.isfinite(means), means, np.inf)


def images(data: _data.Images, batch_size: int, steps: int) -> Problem:
    """Return the problem of classifying images."""
    x, y, test_x, test_y = map(jnp.asarray, data)
    return Problem(x, y, test_x, test_y, batch_size, steps)


def main(argv: list[str] | None = None) -> int:
    """Tune narrow, train wide, tune wide; print a table, write a figure."""
    options = parse(Options, argv)
    console = _cli.console()
    problem = images(_data.digits(), options.batch_size, options.steps)
    narrow, wide = Perceptron(options.narrow), Perceptron(options.wide)
    base, target = shapes(narrow, problem), shapes(wide, problem)
    standard = jinit.mup.infer(target, target)  # equal shapes change nothing
    mup = jinit.mup.infer(base, target)
    console.print(mup)
    rates = 2.0 ** np.array(EXPONENTS)
    rows = [
        _sweep(
            "both, tuned",
            narrow,
            jinit.mup.infer(base, base),
            problem,
            rates,
            options,
        )
    ]
    rate = [rows[0]["rate"]]
    rows += [
        _sweep("muP, the narrow one's rate", wide, mup, problem, rate, options),
        _sweep(
            "standard, the narrow one's rate", wide, standard, problem, rate, options
        ),
        _sweep("standard, tuned", wide, standard, problem, rates, options),
    ]
    console.print(_table(rows))
    _write(rows, options, console)
    return 0


def _sweep(
    name: str,
    model: Perceptron,
    p: Any,
    problem: Problem,
    rates: Any,
    options: Options,
) -> dict[str, Any]:
    """Train at several rates; return the best one, its curve, and the cost of all."""
    begun = time.perf_counter()
    key = jax.random.key(options.seed)
    curves = train(model, p, problem, rates, key, options.seeds)
    scores = score(curves.loss).mean(axis=0)
    best = int(np.argmin(scores))
    return {
        "name": name,
        "width": model.width,
        "rate": float(rates[best]),
        "loss": float(scores[best]),
        "accuracy": float(curves.accuracy[:, best].mean()),
        "runs": curves.accuracy.size,
        "seconds": round(time.perf_counter() - begun, 1),
        "curve": curves.loss[:, best].mean(axis=0).tolist(),
        "rates": list(map(float, rates)),
        "losses": [float(s) if np.isfinite(s) else None for s in scores],
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        title="Tune narrow, train wide", title_justify="left", caption_justify="left",
        caption="The loss is the mean over all steps; both are means over seeds.",
    )  # fmt: skip
    table.add_column("network", no_wrap=True)
    for name in ("width", "rate", "runs", "s", "loss", "test acc. %"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["name"], str(row["width"]), f"2^{np.log2(row['rate']):.0f}",
            str(row["runs"]), f"{row['seconds']:.1f}", f"{row['loss']:.3f}",
            f"{100 * row['accuracy']:.1f}",
        )  # fmt: skip
    return table


def _write(rows: list[dict[str, Any]], options: Options, console: Console) -> None:
    figure, (sweeps, training) = plt.subplots(
        1, 2, figsize=(10, 3.8), layout="constrained"
    )
    for row in rows:
        losses = np.array(row["losses"], np.float64)
        label = f"{row['name']} ({row['width']})"
        sweeps.plot(row["rates"], losses, "o-", label=label)
        # The noise of a batch would hide the curves, so ten steps are averaged.
        smooth = np.convolve(row["curve"], np.full(10, 0.1), "valid")
        training.plot(smooth, linewidth=1, label=label)
    sweeps.set(yscale="log", xlabel="learning rate", ylabel="mean loss")
    sweeps.set_xscale("log", base=2)
    training.set(yscale="log", xlabel="step", ylabel="loss")
    sweeps.legend(fontsize=7)
    _cli.write(options.out, rows, figure, console)


if __name__ == "__main__":
    sys.exit(main())
