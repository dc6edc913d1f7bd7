"""Time the start of whole models, each in a fresh process: jinit, jit, eager, torch.

The way "draw" is one fused draw of as many numbers as the model has: a bound.

python -m benchmarks.models --help
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track

from benchmarks import _model_page, _model_report, _page, _report

ROOT = pathlib.Path(__file__).resolve().parent.parent
WAYS = ("materialize", "plan", "jit", "eager", "torch", "draw")


class Run(NamedTuple):
    """A run is a model, a way to start it, and the number of its starts."""

    model: str
    how: str
    setting: dict[str, Any]
    times: int


def main(argv: list[str] | None = None) -> int:
    """Measure all starts; print tables; write JSON and a figure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="run a small size, for CI")
    parser.add_argument(
        "--out", default="results/models", help="the folder of the results"
    )
    parser.add_argument(
        "--only", default="", help="measure the models whose names contain this text"
    )
    _page.add_option(parser)
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    every = list(_quick() if arguments.quick else _full())
    runs = [run for run in every if arguments.only in run.model]
    if not runs:
        names = ", ".join(dict.fromkeys(repr(run.model) for run in every))
        parser.error(f"no model has {arguments.only!r} in its name; they are {names}")
    rows = measure(runs, console, out / "starts.jsonl")
    bounds = _model_report.bounds(rows)
    environment = _report.environment()
    report = {
        "environment": environment,
        "rows": rows,
        "bounds": [bound.record() for bound in bounds],
    }
    (out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    _model_report.figure(rows, out / "figure.png")
    if docs:
        _model_page.write(docs, rows, [(run.model, run.how) for run in every])
    for name, value in environment.items():
        console.print(f"{name}: {value}", highlight=False)
    console.print(_model_report.table(rows))
    console.print(_model_report.bounds_table(bounds))
    console.print(f"{out}/results.json, {out}/figure.png", soft_wrap=True)
    return 0


def measure(
    runs: list[Run], console: Console, log: pathlib.Path
) -> list[dict[str, Any]]:
    """Return one row per model and way: medians of rounds in which all take turns.

    The rounds take minutes, so each start is logged as soon as it is done.
    """
    rounds = max(run.times for run in runs)
    turns = [run for turn in range(rounds) for run in runs if turn < run.times]
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    log.write_text("")
    for run in track(
        turns, "starting", console=console, transient=True,
        disable=not console.is_terminal,
    ):  # fmt: skip
        result = _in_a_fresh_process(run)
        if result is not None:
            results.setdefault((run.model, run.how), []).append(result)
            with log.open("a") as lines:
                about = {"model": run.model, "how": run.how}
                lines.write(json.dumps(about | result) + "\n")
    return [
        _row(run, results[run.model, run.how])
        for run in runs
        if (run.model, run.how) in results
    ]


def _row(run: Run, starts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of several starts, and the range of their times."""
    medians = {
        name: None
        if starts[0][name] is None
        else statistics.median(start[name] for start in starts)
        for name in starts[0]
    }
    seconds = [start["seconds"] for start in starts]
    about = {"model": run.model, "how": run.how, "times": len(starts)}
    return about | run.setting | medians | {"range": [min(seconds), max(seconds)]}


def _in_a_fresh_process(run: Run) -> dict[str, Any] | None:
    """Return the worker's results, or None if torch is asked for and not installed."""
    setting = json.dumps({"how": run.how} | run.setting)
    command = [sys.executable, "-m", "benchmarks._model_worker", setting]
    load = os.getloadavg()[0]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        if run.how == "torch" and "No module named 'torch'" in result.stderr:
            return None
        raise RuntimeError(f"{run.model}, {run.how}: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1]) | {"load": load}


def _setting(layers: int, width: int, dtype: str = "float32") -> dict[str, Any]:
    return {
        "layers": layers,
        "width": width,
        "heads": max(2, width // 32),
        "vocabulary": 1000 if width < 1024 else 32_000,
        "dtype": dtype,
    }


def _full() -> Iterator[Run]:
    for layers in (24, 96):
        for how in WAYS:
            # A jitted init of 96 layers compiles for minutes.
            times = {(24, "jit"): 2, (96, "jit"): 1}.get((layers, how), 5)
            name = f"{layers} layers, width 256"
            yield Run(name, how, _setting(layers, 256), times)
    yield from _whole(24, 256, 3)
    for dtype in ("float32", "bfloat16"):
        for how in ("materialize", "plan", "eager", "torch", "draw"):
            setting = _setting(18, 2048, dtype)
            if _fits(10**9 * (2 if dtype == "bfloat16" else 4)):
                times = 1 if how == "eager" else 3
                yield Run(f"10^9 parameters, {dtype}", how, setting, times)


def _whole(layers: int, width: int, times: int) -> Iterator[Run]:
    """Yield starts of a whole state with an optimizer, and of stacked layers."""
    for how in ("materialize", "jit", "eager"):
        setting = _setting(layers, width) | {"optimizer": "adamw"}
        name = f"{layers} layers, width {width}, AdamW's state too"
        yield Run(name, how, setting, times)
    for how in ("materialize", "jit", "eager"):
        setting = _setting(layers // 2, 2 * width) | {"scanned": True}
        name = f"{layers // 2} layers, width {2 * width}, in a scan along axis 1"
        yield Run(name, how, setting, times)


def _fits(parameters: int) -> bool:
    """Tell whether the machine has memory for twice the parameters."""
    info = pathlib.Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    free = [int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")]
    return not free or 2 * parameters < free[0]


def _quick() -> Iterator[Run]:
    for how in WAYS:
        yield Run("2 layers, width 32", how, _setting(2, 32), 1)
    yield from _whole(4, 16, 1)


if __name__ == "__main__":
    sys.exit(main())
