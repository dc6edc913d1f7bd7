"""Time the start of whole models, each in a fresh process: jinit, jit, eager, torch.

python -m benchmarks.models --help
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import _report

ROOT = pathlib.Path(__file__).resolve().parent.parent
WAYS = ("materialize", "plan", "jit", "eager", "torch")


class Run(NamedTuple):
    """A model, a way to start it, and how often."""

    model: str
    how: str
    setting: dict[str, Any]
    times: int


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="small, for CI")
    parser.add_argument(
        "--out", default="results/models", help="the folder of the results"
    )
    arguments = parser.parse_args(argv)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    rows = measure(list(_quick() if arguments.quick else _full()), console)
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    report = {"environment": _report.environment(), "rows": rows}
    (out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    console.print(table(rows))
    console.print(f"{out}/results.json", soft_wrap=True)
    return 0


def measure(runs: list[Run], console: Console) -> list[dict[str, Any]]:
    """One row per model and way: medians of rounds in which all take turns."""
    rounds = max(run.times for run in runs)
    turns = [run for turn in range(rounds) for run in runs if turn < run.times]
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in track(
        turns, "starting", console=console, transient=True,
        disable=not console.is_terminal,
    ):  # fmt: skip
        found = _in_a_fresh_process(run)
        if found is not None:
            results.setdefault((run.model, run.how), []).append(found)
    return [
        {"model": model, "how": how, "times": len(found)} | _medians(found)
        for (model, how), found in results.items()
    ]


def _medians(found: list[dict[str, Any]]) -> dict[str, Any]:
    names = found[0]
    return {
        name: None
        if found[0][name] is None
        else statistics.median(result[name] for result in found)
        for name in names
    }


def _in_a_fresh_process(run: Run) -> dict[str, Any] | None:
    """What the worker says; None for torch where it is not installed."""
    setting = json.dumps({"how": run.how} | run.setting)
    command = [sys.executable, "-m", "benchmarks._model_worker", setting]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        if run.how == "torch" and "No module named 'torch'" in result.stderr:
            return None
        raise RuntimeError(f"{run.model}, {run.how}: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def table(rows: list[dict[str, Any]]) -> Table:
    """Seconds, how many times faster materialize is, and memory."""
    result = Table(title="Starting a model in a fresh process", title_justify="left")
    for name in ("model", "how"):
        result.add_column(name, no_wrap=True)
    for name in ("s", "/ materialize", "again, s", "peak above parameters, MiB"):
        result.add_column(name, justify="right")
    ours = {r["model"]: r["seconds"] for r in rows if r["how"] == "materialize"}
    for row in rows:
        extra = row["peak_above_parameters"]
        result.add_row(
            row["model"],
            row["how"],
            f"{row['seconds']:.2f}",
            f"{row['seconds'] / ours[row['model']]:.1f}",
            f"{row['again']:.2f}",
            "-" if extra is None else f"{extra / 2**20:.0f}",
        )
    return result


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
            times = 1 if (layers, how) == (96, "jit") else 3
            name = f"{layers} layers, width 256"
            yield Run(name, how, _setting(layers, 256), times)
    for dtype in ("float32", "bfloat16"):
        for how in ("materialize", "eager", "torch"):
            setting = _setting(18, 2048, dtype)
            yield Run(f"10^9 parameters, {dtype}", how, setting, 1)


def _quick() -> Iterator[Run]:
    for how in WAYS:
        yield Run("2 layers, width 32", how, _setting(2, 32), 1)


if __name__ == "__main__":
    sys.exit(main())
