"""Time things beside each other: round robin, medians, ratios of the same run."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """Seconds: the median of the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float


def interleaved(
    calls: Mapping[str, Callable[[], Any]], rounds: int, repeat: int = 1
) -> dict[str, Timing]:
    """Time each call once per round, all in turn, so that drift hits all alike.

    A call is run once before, to compile; its result is waited for, and freed before
    the next. Of `repeat` calls in a row only the last is waited for: that measures what
    a call costs the program that makes many of them.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    samples: dict[str, list[float]] = {name: [] for name in calls}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in calls.items():
                samples[name].append(_timed(call, repeat))
    finally:
        gc.enable()
    return {name: _summary(values) for name, values in samples.items()}


def _timed(call: Callable[[], Any], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat - 1):
        call()
    jax.block_until_ready(call())
    return (time.perf_counter() - start) / repeat


def _summary(values: list[float]) -> Timing:
    if len(values) == 1:
        return Timing(*values * 3)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median, low, high)
