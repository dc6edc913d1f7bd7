"""Time several calls in turns, so that their medians compare under equal load."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """A timing holds the median of the rounds and the quartiles, in seconds."""

    median: float
    low: float
    high: float


def interleaved(
    calls: Mapping[str, Callable[[], Any]], rounds: int, repeat: int = 1
) -> dict[str, Timing]:
    """Time each call once per round, all in turn, so that drift hits all alike.

    Each call runs once before the rounds, to compile. In a round its result is waited
    for, and freed before the next call. Of `repeat` calls in a row only the last is
    waited for, which measures the cost of one call to a program that makes many.
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
