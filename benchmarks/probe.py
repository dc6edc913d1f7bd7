"""Time the functions that look at a model, as a user waits for them.

python -m benchmarks.probe --help

Each function is called as a user calls it. The time of the first call, with nothing
compiled, is divided by that of the first call of `jax.value_and_grad` of the same model
under `jax.jit`. Later calls are divided by plain passes forward and back, in turns.
`models` is the number of models that a call runs: a comparison of two schemes with two
seeds runs four.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from rich import box
from rich.console import Console
from rich.table import Table

import jinit
from benchmarks import _page, _timing
from examples.transformer import Transformer
from jinit._network import kept, losses


class Size(NamedTuple):
    """A size describes the models, and says how many later calls are timed."""

    layers: int
    width: int
    batch: int
    rounds: int


FULL, QUICK = Size(12, 48, 16, 9), Size(1, 16, 2, 1)


class Case(NamedTuple):
    """A case holds a call of jinit, plain passes of its model, and its model count."""

    call: Callable[[], Any]
    plain: Callable[[], Callable[[], Any]]
    models: int = 1


class Perceptron(nn.Module):
    """The residual layers take their kernels from one initializer, for `compare`."""

    layers: int
    width: int
    kernel: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.layers):
            y = nn.relu(nn.Dense(4 * self.width, kernel_init=self.kernel)(x))
            x = nn.LayerNorm()(x + nn.Dense(self.width, kernel_init=self.kernel)(y))
        return x


class Stack(nnx.Module):
    """The stack has the layers of `Perceptron` in NNX."""

    def __init__(self, layers: int, width: int, rngs: nnx.Rngs) -> None:
        self.parts = nnx.List(
            [
                nnx.Sequential(
                    nnx.Linear(width, 4 * width, rngs=rngs),
                    nnx.relu,
                    nnx.Linear(4 * width, width, rngs=rngs),
                    nnx.LayerNorm(width, rngs=rngs),
                )
                for _ in range(layers)
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for part in self.parts:
            x = x + part(x)
        return x


def main(argv: list[str] | None = None) -> int:
    """Time first and later calls of each function; print the ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.probe", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="run a small size, for CI")
    parser.add_argument(
        "names", nargs="*", help="the functions to time; all by default"
    )
    _page.add_option(parser)
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
    size = QUICK if arguments.quick else FULL
    table = Table("function", "value_and_grad", "first call", "ratio", "pass",
                  "later call", "models", "passes", box=box.SIMPLE)  # fmt: skip
    cases = _cases(size)
    for name, case in cases.items():
        if not arguments.names or name in arguments.names:
            table.add_row(name, *_timed(case, size.rounds))
    Console(width=110).print(table)
    if docs:
        _write(docs, table, list(cases))
    return 0


_ABOUT = """\
The functions are timed as users call them. The first call, with all caches empty,
stands beside the plain one: the first call of `jax.jit(jax.value_and_grad(...))` of the
same model. A later call stands beside a plain pass forward and back, in turns. "Models"
is the number of models that a call runs: a comparison of two schemes with two seeds
runs four. The decoder has 12 layers of width 48; `compare` is of a residual perceptron
with LayerNorm, and so are the rows of NNX.

Both ratios are costs: a call is slower than a plain pass by so many times. On models of
a few milliseconds a pass, Python and the dispatch of many small programs cost more than
the pass. `mup.coordinate_check` compiles a step of training, two measurements and the
draws for each of its widths."""


def _write(docs: pathlib.Path, table: Table, names: list[str]) -> None:
    head = ("function", "plain, first call", "first call", "ratio",
            "plain pass", "later call", "models", "passes")  # fmt: skip
    rows = _page.rows_of(table)
    order = [(name,) for name in names]
    text = _page.merged(docs, "diagnosis", "probe", head, rows, order=order).text
    part = _page.Part(
        "diagnosis", "probe", "Cost of the functions that look at a model",
        "python -m benchmarks.probe", _ABOUT, [text],
    )  # fmt: skip
    _page.write(docs, part)


def _timed(case: Case, rounds: int) -> list[str]:
    """Return the cells of a row: seconds, milliseconds, and their ratios."""
    plain = case.plain()
    compilation = _first(plain)
    first = _first(case.call)
    later = _timing.interleaved({"plain": plain, "jinit": case.call}, rounds)
    one, call = (later[name].median for name in ("plain", "jinit"))
    return [
        f"{compilation:.2f} s", f"{first:.2f} s", f"{first / compilation:.2f}",
        f"{1e3 * one:.1f} ms", f"{1e3 * call:.1f} ms", str(case.models),
        f"{call / one:.2f}",
    ]  # fmt: skip


def _first(call: Callable[[], Any]) -> float:
    """Return the seconds of a call for which nothing is traced or compiled yet."""
    jax.clear_caches()
    kept.forget()
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def _cases(size: Size) -> dict[str, Case]:
    """Return the case of each function by its name."""
    return {**_decoder_cases(size), **_perceptron_cases(size), **_nnx_cases(size)}


def _decoder_cases(size: Size) -> dict[str, Case]:
    model = Transformer(96, size.layers, size.width, 4)
    tokens = jnp.tile(jnp.arange(64) % 96, (size.batch, 1))
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    arguments = model, variables, tokens

    def function(variables: Any, tokens: jax.Array) -> jax.Array:
        return jax.ad_checkpoint.checkpoint_name(model.apply(variables, tokens), "out")

    def loss(logits: jax.Array) -> jax.Array:
        labels = jnp.roll(tokens, 1, 1)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def coordinate_check() -> Any:
        return jinit.mup.coordinate_check(
            lambda width: Transformer(96, size.layers, width, 4),
            [size.width // 2, size.width], [(tokens, tokens)] * 2, optax.adam(1e-3),
            loss=lambda logits, _: loss(logits), seeds=2,
        )  # fmt: skip

    def plain(loss: Callable[[Any], jax.Array]) -> Callable[[], Callable[[], Any]]:
        return lambda: _passes(lambda v: loss(model.apply(v, tokens)), variables)

    by_default, by_loss = plain(losses.direction), plain(loss)
    return {
        "probe": Case(lambda: jinit.probe(*arguments), by_default),
        "probe, with a loss": Case(lambda: jinit.probe(*arguments, loss=loss), by_loss),
        "probe, a new lambda each time": Case(
            lambda: jinit.probe(lambda v, x: function(v, x), variables, tokens),
            by_default,
        ),
        "lsuv": Case(lambda: jinit.lsuv(*arguments), by_default),
        "data_dependent": Case(lambda: jinit.data_dependent(*arguments), by_default),
        "autoinit": Case(
            lambda: jinit.autoinit(model, variables, batch=tokens), by_default
        ),
        # Two widths, two seeds, two steps of training and two measurements.
        "mup.coordinate_check": Case(coordinate_check, by_loss, 2 * 2 * 4),
    }


def _perceptron_cases(size: Size) -> dict[str, Case]:
    x = jax.random.normal(jax.random.key(0), (64 * size.batch, size.width))
    keys = jax.random.split(jax.random.key(1), 2)
    model = Perceptron(size.layers, size.width, jinit.he())
    variables = model.init(keys[0], x)

    def compare(number: int) -> Any:
        return jinit.compare(
            lambda init: Perceptron(size.layers, size.width, init),
            {f"gain {i}": jinit.he(gain=1 + i / 10) for i in range(number)}, x, keys,
        )  # fmt: skip

    def plain() -> Callable[[], Any]:
        return _passes(lambda v: losses.direction(model.apply(v, x)), variables)

    return {
        "compare": Case(lambda: compare(2), plain, 2 * 2),
        # All schemes share the programs, so the first call is hardly longer.
        "compare, eight schemes": Case(lambda: compare(8), plain, 8 * 2),
    }


def _nnx_cases(size: Size) -> dict[str, Case]:
    x = jax.random.normal(jax.random.key(0), (64 * size.batch, size.width))
    model = Stack(size.layers, size.width, nnx.Rngs(0))
    graph, params = nnx.split(model)

    def plain() -> Callable[[], Any]:
        return _passes(lambda p: losses.direction(nnx.merge(graph, p)(x)), params)

    return {
        "nnx.probe": Case(lambda: jinit.nnx.probe(model, x), plain),
        "nnx.lsuv": Case(lambda: jinit.nnx.lsuv(model, x), plain),
    }


def _passes(loss: Callable[[Any], jax.Array], variables: Any) -> Callable[[], Any]:
    """Return a plain pass forward and back, compiled when it is first called."""
    run = jax.jit(jax.value_and_grad(loss))
    return lambda: run(variables)


if __name__ == "__main__":
    sys.exit(main())
