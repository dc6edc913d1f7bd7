"""Time the start of a large model against plain draws of as many numbers.

    python -m benchmarks.large --rounds 3      # two minutes; 8 GiB of memory; --quick

The ways take turns in one process, and each frees its arrays before the next one
starts. A plain draw makes arrays of 2^26 numbers, as many as the model has parameters.
"""

import argparse
import gc
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import jinit

from ._model_zoo import LENGTH, Size, Transformer

# 18 layers of width 2048 and two tables of 20,000 words have 10^9 parameters.
_SIZES = {False: Size(18, 2048, 16, 20_000), True: Size(2, 256, 4, 2_000)}
_PIECE = 1 << 26

Way = Callable[[int], Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every way of every dtype, and print medians, least times and ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a small model, for CI")
    parser.add_argument(
        "--dtype", nargs="*", default=["float32", "bfloat16"],
        help="the dtypes of the parameters",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    for dtype in arguments.dtype:
        size = _SIZES[arguments.quick]._replace(dtype=dtype)
        Console(width=100).print(_table(size, arguments.rounds))
    return 0


def _table(size: Size, rounds: int) -> Table:
    model, tokens = Transformer(size), jnp.zeros((1, LENGTH), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    init = jinit.materialize(model.init)
    ways: dict[str, Way] = {
        "jinit.materialize": lambda seed: init(jax.random.key(seed), tokens),
        **_plain_draws(count, size.dtype),
    }
    first = {name: _timed(way, 0) for name, way in ways.items()}
    later: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(1, rounds + 1):
        for name, way in ways.items():
            later[name].append(_timed(way, seed))
    title = f"{count:,} parameters in {size.dtype}, seconds"
    table = Table(
        "", "first", "later, median", "later, least", "materialize / this", title=title
    )
    start = statistics.median(later["jinit.materialize"])
    for name, seconds in later.items():
        median = statistics.median(seconds)
        times = (first[name], median, min(seconds), start / median)
        table.add_row(name, *(f"{value:.2f}" for value in times))
    return table


def _plain_draws(count: int, dtype: str) -> dict[str, Way]:
    """Return the ways to draw `count` normal numbers in large arrays."""
    sizes = [_PIECE] * (count // _PIECE) + [count % _PIECE]
    # Rows of 2^13 numbers, as the kernels of a large model have.
    shapes = [(-(-size // (1 << 13)), 1 << 13) for size in sizes if size]
    theirs = jax.jit(jax.random.normal, static_argnums=(1, 2))

    def draws(draw: Callable[..., Any], seed: int) -> list[jax.Array]:
        keys = jax.random.split(jax.random.key(seed), len(shapes))
        pairs = zip(keys, shapes, strict=True)
        return [draw(key, shape, dtype) for key, shape in pairs]

    ways: dict[str, Way] = {
        "jinit.random.normal": lambda seed: draws(jinit.random.normal, seed),
        "jax.jit(jax.random.normal)": lambda seed: draws(theirs, seed),
    }
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return ways
    kind = getattr(torch, dtype)
    ways["torch.Tensor.normal_"] = lambda seed: [
        torch.empty(shape, dtype=kind).normal_() for shape in shapes
    ]
    return ways


def _timed(way: Way, seed: int) -> float:
    gc.collect()
    start = time.perf_counter()
    result = way(seed)
    if isinstance(result, dict) or isinstance(result[0], jax.Array):
        jax.block_until_ready(result)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
