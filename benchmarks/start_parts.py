"""Time the parts of a model's first start by `jinit.materialize`, in a fresh process.

python -m benchmarks.start_parts --layers 96

The seconds are those of the processor, since a second core hides what the compiler
does. The forward pass is traced a second time alone, as `model.apply` of abstract
parameters, to see what of the trace it takes. With `--profile` the trace runs under a
profiler, which slows it down, and the shares of the packages are printed.
"""

import argparse
import cProfile
import gc
import os
import pathlib
import pstats
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import jinit
from benchmarks import _model_zoo as zoo
from jinit._core.erf_inv import is_exact
from jinit._materialize.call import Traces
from jinit._materialize.schedule import Schedule, schedule_of

T = TypeVar("T")


def main(argv: list[str] | None = None) -> int:
    """Time each part once, and print a table with the time for each layer."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.start_parts", description=__doc__
    )
    parser.add_argument("--layers", type=int, default=96)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--scanned", action="store_true", help="layers in nn.scan")
    parser.add_argument("--quick", action="store_true", help="two small layers, for CI")
    parser.add_argument("--profile", action="store_true", help="shares of the packages")
    options = parser.parse_args(argv)
    layers, width = (2, 32) if options.quick else (options.layers, options.width)
    model = zoo.Transformer(
        zoo.Size(layers, width, max(2, width // 32), 1000, scanned=options.scanned)
    )
    tokens = jax.ShapeDtypeStruct((1, zoo.LENGTH), jnp.int32)
    # What is needed once in a process, whatever the model is.
    jax.block_until_ready(jax.random.fold_in(jax.random.key(0), 0))
    is_exact()
    console = Console() if sys.stdout.isatty() else Console(width=100)
    table = Table("part", "processor, s", "for each layer, ms")
    for name, seconds in _parts(model, tokens):
        table.add_row(name, f"{seconds:.3f}", f"{1e3 * seconds / layers:.2f}")
    console.print(f"{layers} layers of width {width}, jax {jax.__version__}")
    console.print(table)
    if options.profile:
        console.print(_shares(model, tokens))
    return 0


def _parts(model: Any, tokens: Any) -> Iterator[tuple[str, float]]:
    key = jax.block_until_ready(jax.random.key(1))
    traces = Traces(model.init)
    (call, _), seconds = _timed(lambda: traces.of((key, tokens), {}))
    yield "trace, drop the forward pass, cut into units", seconds
    variables = jax.eval_shape(model.init, key, tokens)
    _, seconds = _timed(lambda: jax.eval_shape(model.init, key, tokens))
    yield "... the trace alone, with caches of its own", seconds
    _, seconds = _timed(lambda: jax.eval_shape(model.apply, variables, tokens))
    yield "... the trace of the forward pass alone", seconds
    where = [None] * len(call.shapes)
    schedule, seconds = _timed(lambda: schedule_of(call, where, [key]))
    yield "schedule: which units share a program", seconds
    yield "lower and compile the programs", _timed(lambda: _compile(schedule))[1]
    draw = jinit.materialize(model.init)
    jax.block_until_ready(draw(key, tokens))
    _, seconds = _timed(lambda: jax.block_until_ready(draw(key, tokens)))
    yield "a later call: keys, draws, memory", seconds


def _compile(schedule: Schedule) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        schedule.compile(pool)


def _timed(function: Callable[[], T]) -> tuple[T, float]:
    # `materialize` pauses the garbage collector, too.
    gc.disable()
    begun = time.process_time()
    result = function()
    seconds = time.process_time() - begun
    gc.enable()
    return result, seconds


def _shares(model: Any, tokens: Any) -> Table:
    """Return the share of each package in the time of a trace, under a profiler."""
    key = jax.random.key(1)
    profile = cProfile.Profile()
    profile.runcall(jax.eval_shape, model.init, key, tokens)
    seconds: dict[str, float] = {}
    stats: Any = pstats.Stats(profile)
    for (file, _, _), (_, _, own, _, _) in stats.stats.items():
        parts = pathlib.PurePath(file).parts
        names = [x for x in ("jax", "flax", "jinit", "numpy") if x in parts]
        name = str(names[0]) if names else "Python and its built-in functions"
        seconds[name] = seconds.get(name, 0.0) + own
    table = Table("package", "share of the trace")
    total = sum(seconds.values())
    for name, own in sorted(seconds.items(), key=lambda pair: -pair[1]):
        table.add_row(name, f"{100 * own / total:.0f} %")
    return table


if __name__ == "__main__":
    sys.exit(main())
