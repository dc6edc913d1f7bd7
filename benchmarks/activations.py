"""Train deep perceptrons of GELU and SiLU, without norms, from several schemes.

python -m benchmarks.activations --help

The table has the share of handwritten digits that a network gets right after training,
at the better of two learning rates: the median over the seeds, and their range. The
advice of `jinit.probe` on such networks follows its order.
"""

import argparse
import functools
import itertools
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich import box
from rich.console import Console
from rich.table import Table

import jinit
from benchmarks import _page
from examples import _data

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


class Size(NamedTuple):
    """A Size describes the network and its training."""

    depth: int
    width: int
    batch: int
    steps: int
    seeds: int
    rates: tuple[float, ...]


FULL = Size(20, 64, 128, 100, 6, (1e-3, 5e-4))
QUICK = Size(3, 16, 32, 10, 2, (1e-3,))


class Digits(NamedTuple):
    """A Digits has the images, as centred rows, with their labels."""

    x: jax.Array
    y: jax.Array


def main(argv: list[str] | None = None) -> int:
    """Train from all schemes; print the accuracies."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.activations", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="run a small size, for CI")
    _page.add_option(parser)
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
    size = QUICK if arguments.quick else FULL
    rows = measured(size)
    table = Table("scheme", *ACTIVATIONS, box=box.SIMPLE)
    for scheme in rows["gelu"]:
        table.add_row(scheme, *(_cell(rows[name][scheme]) for name in ACTIVATIONS))
    Console(width=100).print(table)
    if docs:
        _write(docs, table, size)
    return 0


_ABOUT = """\
Perceptrons of {depth} layers of width {width} learn scikit-learn's digits in {steps}
steps of Adam, in batches of {batch}. The numbers are shares of the training images that
are classified correctly, at the better of the rates {rates}: the median of {seeds}
seeds, with the least and the largest. `lsuv` and `data_dependent` start from the draws
of `he`.

A scheme that is derived for an activation is not the one that trains best. Behind
`kaiming(f)` two images are nearly parallel in the last hidden layer, behind `he` and
`lsuv` less so: inputs that look alike are slow to tell apart. The advice of
`jinit.probe` and the note of `jinit.compare` on such networks follow this table."""


def _write(docs: pathlib.Path, table: Table, size: Size) -> None:
    settings = size._asdict() | {"rates": " and ".join(map(str, size.rates))}
    rows = [(f"`{name}`", *cells) for name, *cells in _page.rows_of(table)]
    text = _page.table(("start", *ACTIVATIONS), rows)
    part = _page.Part(
        "diagnosis", "activations", "GELU and SiLU without norms",
        "python -m benchmarks.activations", _ABOUT.format(**settings),
        [text, _page.measured()],
    )  # fmt: skip
    _page.write(docs, part)


def measured(size: Size) -> dict[str, dict[str, np.ndarray]]:
    """Return the accuracies of the seeds, by activation and scheme."""
    images = _data.digits()
    x = images.train_x.astype(np.float32)
    digits = Digits(jnp.asarray(x - x.mean()), jnp.asarray(images.train_y))
    results = {}
    for name, function in ACTIVATIONS.items():
        one = functools.partial(_trained, function, size, digits)
        train = jax.jit(jax.vmap(one, (0, None)))
        starts = _starts(name, function, digits, size)
        results[name] = {
            scheme: _accuracies(train, params, size.rates)
            for scheme, params in starts.items()
        }
    return results


def _cell(accuracies: np.ndarray) -> str:
    low, middle, high = 100 * np.quantile(accuracies, (0, 0.5, 1))
    return f"{middle:.1f} % ({low:.1f} to {high:.1f})"


def _starts(
    name: str, function: Callable[[Any], Any], digits: Digits, size: Size
) -> dict[str, Any]:
    """Return the first parameters of each scheme, stacked over the seeds."""
    gain = jinit.gain(name)
    schemes = {
        "he()": jinit.he(),
        "orthogonal(gain(activation))": jinit.orthogonal(gain),
        "kaiming(activation)": jinit.kaiming(name),
        "xavier()": jinit.xavier(),
        "lecun()": jinit.lecun(),
    }
    keys, some = jax.random.split(jax.random.key(0), size.seeds), digits.x[: size.batch]
    draws = {
        scheme: [_drawn(init, key, digits, size) for key in keys]
        for scheme, init in schemes.items()
    }
    apply = functools.partial(perceptron, function)
    for scheme, method in (
        ("lsuv()", jinit.lsuv),
        ("data_dependent()", jinit.data_dependent),
    ):
        # These methods start from the draws of the first scheme.
        draws[scheme] = [method(apply, one, some)[0] for one in draws["he()"]]
    return {
        scheme: jax.tree.map(lambda *leaves: jnp.stack(leaves), *singles)
        for scheme, singles in draws.items()
    }


def _drawn(init: Any, key: jax.Array, digits: Digits, size: Size) -> list[Any]:
    widths = [digits.x.shape[1], *[size.width] * (size.depth - 1), 10]
    keys = jax.random.split(key, size.depth)
    return [
        {"kernel": init(one, shape), "bias": jnp.zeros(shape[1])}
        for one, shape in zip(keys, itertools.pairwise(widths), strict=True)
    ]


def perceptron(
    function: Callable[[Any], Any], params: list[Any], x: jax.Array
) -> jax.Array:
    """Return the logits of a perceptron without norms."""
    for number, layer in enumerate(params):
        x = x @ layer["kernel"] + layer["bias"][None]
        x = function(x) if number < len(params) - 1 else x
    return x


def _accuracies(
    train: Callable[..., Any], starts: Any, rates: Sequence[float]
) -> np.ndarray:
    """Return the accuracy of each seed at the rate whose median is the best."""
    accuracies = [np.asarray(train(starts, rate)) for rate in rates]
    return max(accuracies, key=lambda one: float(np.median(one)))


def _trained(
    function: Callable[[Any], Any], size: Size, digits: Digits, params: Any, rate: Any
) -> jax.Array:
    """Train by Adam, and return the share of images that are classified correctly."""
    tx = optax.adam(rate)
    order = np.random.default_rng(0)
    count = len(digits.y)
    rows = jnp.asarray(order.integers(0, count, (size.steps, size.batch)))

    def loss(params: Any, rows: jax.Array) -> jax.Array:
        logits = perceptron(function, params, digits.x[rows])
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, digits.y[rows]
        ).mean()

    def step(state: Any, rows: jax.Array) -> tuple[Any, None]:
        params, memory = state
        updates, memory = tx.update(jax.grad(loss)(params, rows), memory, params)
        return (optax.apply_updates(params, updates), memory), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), rows)
    guesses = jnp.argmax(perceptron(function, params, digits.x), -1)
    return jnp.mean(guesses == digits.y)


if __name__ == "__main__":
    sys.exit(main())
