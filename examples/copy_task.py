"""Train LSTMs on the copy task, where the biases decide how long they remember.

The network sees a few symbols, then nothing for many steps, then a sign, and has to
repeat the symbols. It cannot learn symbols that it cannot hold that long, so its loss
stays at log 8 nats, that of guessing, until some unit keeps its state. The biases
decide how long units keep their state at the start: about two steps with zero biases,
about four with a forget bias of 1, and all times up to t_max with chrono biases.

    python -m examples.copy_task --help
"""

import dataclasses
import math
import pathlib
import sys
from typing import Any

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jinit
from examples import _cli
from examples._cli import option, parse

SYMBOLS = 8
BLANK, SIGN = SYMBOLS, SYMBOLS + 1


@dataclasses.dataclass(frozen=True)
class Options:
    """Train LSTMs to remember, with three sets of biases."""

    lag: int = option(100, "steps between showing and asking", least=0)
    length: int = option(5, "symbols to remember")
    units: int = option(64, "units of the LSTM")
    batch_size: int = option(32, "sequences of a step")
    steps: int = option(1500, "steps of Adam")
    rate: float = option(3e-3, "learning rate of Adam")
    seeds: int = option(3, "networks that train together")
    seed: int = option(0, "seed of all keys", least=0)
    out: str = option("results/copy_task", "the folder of the results")


class Copier(nn.Module):
    """The model runs an LSTM over the symbols, and gives logits at each step."""

    units: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = jax.nn.one_hot(tokens, SYMBOLS + 2)
        return nn.Dense(SYMBOLS)(nn.RNN(nn.OptimizedLSTMCell(self.units))(x))


def biases(t_max: float) -> dict[str, list[Any]]:
    """Return the rules for the LSTM's biases by name."""
    return {
        "zero": [],
        "unit forget": jinit.recurrent.unit_forget_rules(),
        "chrono": jinit.recurrent.chrono_rules(t_max),
    }


def sequences(key: jax.Array, batch: int, length: int, lag: int) -> tuple[Any, Any]:
    """Return tokens, and the symbols that the last `length` steps have to repeat."""
    shown = jax.random.randint(key, (batch, length), 0, SYMBOLS)
    blanks = jnp.full((batch, lag), BLANK)
    asked = jnp.full((batch, length), BLANK).at[:, 0].set(SIGN)
    return jnp.concatenate([shown, blanks, asked], axis=1), shown


def main(argv: list[str] | None = None) -> int:
    """Train with each set of biases from several seeds; write a table and a figure."""
    options = parse(Options, argv)
    console = _cli.console(100)
    t_max = options.lag + 2 * options.length
    losses = {
        name: train(rules, options, f"{name} biases", console)
        for name, rules in biases(t_max).items()
    }
    console.print(_table(losses, options))
    _write(losses, options, console)
    return 0


def train(
    rules: list[Any], options: Options, title: str, console: Console
) -> np.ndarray:
    """Train all seeds together; return their losses in nats per symbol, by step."""
    model, length = Copier(options.units), options.length
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(options.rate))
    window = jax.ShapeDtypeStruct((1, 2 * length + options.lag), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), window)
    rest = [
        ("**/h*/kernel", jinit.orthogonal()),
        ("**/kernel", jinit.lecun()),
        ("**/bias", jinit.zeros),
    ]
    plan = jinit.plan(shapes, [*rules, *rest])

    def loss(params: Any, key: jax.Array) -> jax.Array:
        tokens, shown = sequences(key, options.batch_size, length, options.lag)
        logits: Any = model.apply(params, tokens)
        asked = logits[:, -length:]
        return optax.softmax_cross_entropy_with_integer_labels(asked, shown).mean()

    def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    keys = jax.random.split(jax.random.key(options.seed), options.seeds)
    carry = jax.vmap(lambda key: (p := plan.init(key), tx.init(p)))(keys)
    chunk = math.gcd(options.steps, 50)
    run = jax.jit(jax.vmap(lambda c, key: jax.lax.scan(
        step, c, jax.random.split(key, chunk))))  # fmt: skip
    chunks = []
    for number in track(
        range(options.steps // chunk), title, console=console, transient=True,
        disable=not console.is_terminal,
    ):  # fmt: skip
        chunk_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        carry, values = run(carry, chunk_keys)
        chunks.append(np.asarray(values))
    return np.concatenate(chunks, axis=1)


def _last(losses: np.ndarray) -> np.ndarray:
    """Return the mean loss of each seed's last steps."""
    return losses[:, -min(50, losses.shape[1]) :].mean(axis=1)


def _table(losses: dict[str, np.ndarray], options: Options) -> Table:
    table = Table(
        title=f"{options.length} symbols over {options.lag} steps; guessing costs "
        f"{math.log(SYMBOLS):.2f} nats"
    )
    for heading in ("biases", "median loss", "loss of each seed"):
        table.add_column(heading)
    for name, values in losses.items():
        last = np.sort(_last(values))
        seeds = ", ".join(f"{value:.2f}" for value in last)
        table.add_row(name, f"{np.median(last):.3f}", seeds)
    return table


def _write(losses: dict[str, np.ndarray], options: Options, console: Console) -> None:
    record = {name: _last(values).tolist() for name, values in losses.items()}
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for name, values in losses.items():
        axes.plot(np.median(values, axis=0), linewidth=1, label=name)
    axes.axhline(math.log(SYMBOLS), color="gray", linestyle=":", label="guessing")
    axes.set(xlabel="step", ylabel="loss, nats per symbol", title="copy task")
    axes.legend()
    _cli.write(options.out, record, figure, console)


if __name__ == "__main__":
    sys.exit(main())
