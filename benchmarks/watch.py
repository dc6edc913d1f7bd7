"""Time what a watch costs: a training step with `jinit.watch` over a plain one.

python -m benchmarks.watch --help

A step is one of a user's training: the loss, its gradient, the optimizer and the new
parameters under one `jax.jit`, with the parameters and the state donated. The plain
step and those with a watch run in turns, some steps in a row at a time, so that steps
which measure and steps which do not are in their true proportion. Medians are divided.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from rich import box
from rich.console import Console
from rich.table import Table

import jinit
from benchmarks import _page, _timing
from examples.transformer import Transformer


class Size(NamedTuple):
    """A size describes both models, and says how many rounds of steps are timed."""

    layers: int
    width: int
    batch: int
    rounds: int


FULL, QUICK = Size(4, 256, 8, 15), Size(1, 16, 1, 1)
# The steps in a row of each round: the number must be a multiple of every `every`.
_STEPS = 10
_EVERY = (1, 10)
OPTIMIZERS = {
    "sgd": lambda: optax.sgd(1e-2),
    "adam": lambda: optax.adam(1e-4),
    "adamw": lambda: optax.adamw(1e-4),
}


class Model(NamedTuple):
    """A model has its first parameters, and a loss of them."""

    params: Any
    loss: Callable[[Any], jax.Array]


def main(argv: list[str] | None = None) -> int:
    """Time plain and watched steps of each model; print their ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.watch", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="run a small size, for CI")
    parser.add_argument(
        "--optimizer", choices=list(OPTIMIZERS), default="adamw",
        help="the optimizer that is watched",
    )  # fmt: skip
    parser.add_argument("names", nargs="*", help="the models; all by default")
    _page.add_option(parser)
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
    size = QUICK if arguments.quick else FULL
    ratios = [f"every={every}" for every in _EVERY]
    table = Table("model", "parameters", "plain step", *ratios, box=box.SIMPLE)
    for name, make in MODELS.items():
        if not arguments.names or name in arguments.names:
            cells = _timed(make(size), OPTIMIZERS[arguments.optimizer], size.rounds)
            table.add_row(name, *cells)
    Console(width=110).print(table)
    if docs:
        _write(docs, table, arguments.optimizer)
    return 0


_ABOUT = """\
A jitted training step with donated parameters and state is timed in turns with the same
step around `jinit.watch`, ten steps in a row at a time. The columns say what a watch
that looks at every step, or at every tenth step, adds to the time of a step. The
transformer has four layers of width 256 and 512 tokens in a batch; the perceptron has
four hidden layers of width 512 and 512 rows. On a machine with other work the noise is
two or three percent."""


def _write(docs: pathlib.Path, table: Table, optimizer: str) -> None:
    head = ("model", "optimizer", "parameters", "plain step",
            *(f"`every={every}`" for every in _EVERY))  # fmt: skip
    rows = [(row[0], optimizer, *row[1:]) for row in _page.rows_of(table)]
    order = [(model, tx) for model in MODELS for tx in OPTIMIZERS]
    text = _page.merged(docs, "diagnosis", "watch", head, rows, keys=2, order=order,
                        left=2).text  # fmt: skip
    part = _page.Part(
        "diagnosis", "watch", "Cost of a watch", "python -m benchmarks.watch", _ABOUT,
        [text],
    )  # fmt: skip
    _page.write(docs, part)


def _timed(model: Model, make_tx: Callable[[], Any], rounds: int) -> list[str]:
    """Return the cells of a row: the size, milliseconds, and what a watch adds."""
    calls = {"plain": _training(model, make_tx())}
    for every in _EVERY:
        calls[f"{every}"] = _training(model, jinit.watch(make_tx(), every=every))
    timings = _timing.interleaved(calls, rounds, repeat=_STEPS)
    plain = timings["plain"].median
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    more = [timings[f"{every}"].median / plain - 1 for every in _EVERY]
    return [f"{count:,}", f"{1e3 * plain:.1f} ms", *(f"{x:+.1%}" for x in more)]


def _training(model: Model, tx: Any) -> Callable[[], Any]:
    """Return a function without arguments that makes one step of its own training."""

    def step(params: Any, state: Any) -> tuple[Any, Any]:
        updates, state = tx.update(jax.grad(model.loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    run = jax.jit(step, donate_argnums=(0, 1))
    now = [(jax.tree.map(jnp.copy, model.params), tx.init(model.params))]

    def call() -> Any:
        now[0] = run(*now[0])
        return now[0]

    return call


def _transformer(size: Size) -> Model:
    """Return a decoder on sequences of 64 tokens."""
    model = Transformer(96, size.layers, size.width, 4)
    tokens = jax.random.randint(jax.random.key(0), (size.batch, 64), 0, 96)
    variables = jax.jit(model.init)(jax.random.key(1), tokens)
    labels = jnp.roll(tokens, -1, 1)

    def loss(variables: Any) -> jax.Array:
        logits = model.apply(variables, tokens)
        costs = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return costs.mean()

    return Model(variables, loss)


def _perceptron(size: Size) -> Model:
    """Return a perceptron of twice the width, on 64 times as many rows."""
    width = 2 * size.width
    sizes = [784, *[width] * size.layers, 10]
    keys = jax.random.split(jax.random.key(0), len(sizes) + 1)
    x = jax.random.normal(keys[-1], (64 * size.batch, sizes[0]))
    labels = jnp.arange(len(x)) % 10
    params = [
        {"kernel": jinit.he()(key, (before, after)), "bias": jnp.zeros(after)}
        for key, before, after in zip(keys, sizes[:-1], sizes[1:], strict=False)
    ]

    def loss(params: Any) -> jax.Array:
        h = x
        for layer in params[:-1]:
            h = jax.nn.relu(h @ layer["kernel"] + layer["bias"][None])
        logits = h @ params[-1]["kernel"] + params[-1]["bias"][None]
        costs = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return costs.mean()

    return Model(params, loss)


MODELS = {"transformer": _transformer, "perceptron": _perceptron}


if __name__ == "__main__":
    sys.exit(main())
