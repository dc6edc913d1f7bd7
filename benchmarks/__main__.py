"""Time jinit against jax.nn.initializers, torch.nn.init and numpy.

python -m benchmarks --help
"""

import argparse
import math
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
from rich.console import Console
from rich.progress import track

from benchmarks import _cases, _page, _report, _speed_page, _timing


def main(argv: list[str] | None = None) -> int:
    """Measure all cases; print a table; write JSON and a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run a small size, for CI")
    parser.add_argument(
        "--out", default="results/benchmarks", help="the folder of the results"
    )
    parser.add_argument(
        "--backend", choices=("cpu", "gpu", "tpu"), help="the backend; by default JAX's"
    )
    parser.add_argument(
        "--only", default="", help="measure the rows whose names begin with this text"
    )
    _page.add_option(parser)
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
    _choose(arguments.backend)
    console = Console() if sys.stdout.isatty() else Console(width=170)
    every = _quick() if arguments.quick else _full()
    plan = [row for row in every if row[0].what.startswith(arguments.only)]
    if not plan:
        parser.error(f"no row has a name that begins with {arguments.only!r}")
    rows = [
        _measured(case, rounds)
        for case, rounds in track(
            plan, "measuring", console=console, transient=True,
            disable=not console.is_terminal,
        )
    ]  # fmt: skip
    out = pathlib.Path(arguments.out)
    memory = _cases.memory([(256, 256)] if arguments.quick else _SIZES)
    _report.write(rows, memory, out)
    if docs:
        _speed_page.write(docs, rows, memory)
    for name, value in _report.environment().items():
        console.print(f"{name}: {value}", highlight=False)
    console.print(_report.table(rows))
    beside = max((row["beside"] for row in memory), default=math.nan) / 2**20
    console.print(f"Memory beside the result of a draw: at most {beside:.1f} MiB.")
    console.print(f"{out}/results.json, {out}/figure.png", soft_wrap=True)
    return 0


# Side by side: arrays with room beside them for their bits, and larger ones.
_SIZES = [(1024, 1024), (2048, 2048), (4096, 4096), (16384, 4096)]


def _choose(backend: str | None) -> None:
    """Let JAX use one backend; exit if it is not there."""
    if backend is None:
        return
    jax.config.update("jax_platforms", backend)
    try:
        chosen = jax.default_backend()
    except RuntimeError as error:
        raise SystemExit(f"There is no backend {backend!r} here: {error}") from None
    # Once JAX has a backend it keeps it.
    if chosen != backend:
        raise SystemExit(f"`--backend` is {backend}, but JAX uses {chosen} already.")


def _measured(case: _cases.Case, rounds: int) -> dict[str, Any]:
    timings = _timing.interleaved(case.calls, rounds, case.repeat)
    return {
        "what": case.what,
        "scheme": case.scheme,
        "shape": list(case.shape),
        "dtype": case.dtype,
        "rounds": rounds,
        "seconds": {name: timing._asdict() for name, timing in timings.items()},
    }


def _full() -> Iterator[tuple[_cases.Case, int]]:
    schemes = list(_cases.SCHEMES)
    large = ["normal", "he_normal", "he_uniform"]
    for case in _cases.draws([(1024, 1024)], ["float32", "bfloat16", "float16"], large):
        yield case, 51
    for case in _cases.draws([(4096, 4096)], ["float32"], large):
        yield case, 15
    matrices = [(1024, 1024), (2048, 2048), (4096, 512)]
    for case in _cases.draws(matrices, ["float32"], ["orthogonal"]):
        yield case, 7
    for case in _cases.sweeps((256, 256), [1, 16, 64], ["he_normal", "he_uniform"]):
        yield case, 31
    for case in _cases.sweeps((256, 256), [64], ["orthogonal"]):
        yield case, 5
    for case in _cases.overhead(schemes):
        yield case, 51
    for case in _cases.compilations([(32, 32), (1024, 1024)], large):
        yield case, 7
    yield _cases.imports(), 11


def _quick() -> Iterator[tuple[_cases.Case, int]]:
    for case in _cases.draws([(256, 256)], ["float32", "bfloat16"], ["he_normal"]):
        yield case, 3
    for case in _cases.sweeps((64, 64), [1, 4], ["he_uniform"]):
        yield case, 3
    for case in _cases.overhead(["normal"]):
        yield case, 3
    for case in _cases.compilations([(32, 32)], ["normal"]):
        yield case, 1
    yield _cases.imports(), 1


if __name__ == "__main__":
    sys.exit(main())
