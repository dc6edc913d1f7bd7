"""Tallec and Ollivier 2018: chrono biases make an LSTM remember for long.

LSTMs that differ only in their biases learn the copy task of `examples.copy_task`. The
biases are zero, a forget bias of 1, or chrono's, which give the units memories of all
lengths up to that of the task.
"""

import math

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.papers._result import Result, panels
from examples import copy_task
from examples._data import Images

GUESS = math.log(copy_task.SYMBOLS)


def run(quick: bool, images: Images) -> Result:
    """Train with each set of biases, and compare the losses of the last steps."""
    del images
    task = _task(quick)
    console = Console(quiet=True)
    losses = {
        name: copy_task.train(rules, task, name, console)
        for name, rules in copy_task.biases(task.lag + 2 * task.length).items()
        if not quick or name != "unit forget"
    }
    ends = {name: float(np.median(_last(values))) for name, values in losses.items()}
    rest = min(value for name, value in ends.items() if name != "chrono")
    listed = ", ".join(f"{name} {value:.3f}" for name, value in ends.items())
    return Result(
        "Tallec and Ollivier 2018",
        "chrono biases learn the copy task where zero biases and a forget bias of 1 "
        "stay at guessing",
        f"{task.length} symbols over {task.lag} steps, loss after {task.steps} steps: "
        f"{listed} (guessing {GUESS:.2f})",
        {"settings": vars(task), "loss": ends, "losses": losses},
        {
            "chrono is below half of guessing": ends["chrono"] < 0.5 * GUESS,
            "chrono is the lowest": ends["chrono"] < rest - 0.1,
            "the others stay near guessing": rest > 0.8 * GUESS,
        },
        _figure(losses),
    )


def _task(quick: bool) -> copy_task.Options:
    """Return settings in the form of `python -m examples.copy_task`."""
    sizes = (
        {"lag": 30, "length": 2, "units": 32, "batch_size": 16, "steps": 200}
        if quick
        else {"lag": 100, "length": 3, "units": 64, "batch_size": 32, "steps": 600}
    )
    return copy_task.Options(**sizes, rate=5e-3, seeds=1 if quick else 3, out="")


def _last(losses: np.ndarray) -> np.ndarray:
    return losses[:, -50:].mean(axis=1)


def _figure(losses: dict[str, np.ndarray]) -> Figure:
    figure, (axes,) = panels(["copy task"], ["step"], ["loss, nats per symbol"])
    for name, values in losses.items():
        axes.plot(np.median(values, axis=0), lw=1, label=name)
    axes.axhline(GUESS, color="gray", lw=0.8, label="guessing")
    axes.legend()
    return figure
