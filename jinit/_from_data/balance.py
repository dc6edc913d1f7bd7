"""Layers are scaled until their relative gradients agree: then all learn alike."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.results import Row
from .._network.kept import Traced, program
from .._network.layers import in_front, path_of, scan_axes, times
from .._network.reader.records import Adjustable, Part
from .._network.taps import groups
from .layerwise import LayerwiseTask

_STEPS = 40
# Logarithms of ratios whose spread is at most this count as equal.
_EQUAL = 0.01
# The search ends below this power.
_LEAST_POWER = 1 / 64


def balanced(
    task: LayerwiseTask, params: Any, inputs: tuple[Any, ...], loss: Traced
) -> tuple[Any, list[Row]]:
    """Scale layers until C = rms(dloss/dW) / rms(W) is the same for all.

    W <- r W with r = (C / C_mean)^(power / 2), where C_mean is the geometric mean of
    all C. In a chain of layers and relus a power of 1 needs one step. A step that makes
    the spread of C larger is taken back, and the power is halved.
    """
    trace = task.tapped.trace
    bare = task.layers, trace.bare, loss.bare
    ratios = program(
        ("balance", task.key, loss.form), lambda: functools.partial(_ratios, *bare)
    )
    consts = trace.consts, loss.consts
    logs = _logs(task, jax.device_get(ratios(consts, params, inputs)))
    rows = list(_rows(task, logs, 0))
    power = 1.0
    for step in range(1, _STEPS):
        if _spread(logs) <= _EQUAL or power < _LEAST_POWER:
            break
        mean = np.mean(np.concatenate([log.ravel() for log in logs]))
        changed = _scaled(task, params, [power * (x - mean) / 2 for x in logs])
        new_logs = _logs(task, jax.device_get(ratios(consts, changed, inputs)))
        if _spread(new_logs) < _spread(logs):
            params, logs = changed, new_logs
            rows += _rows(task, logs, step)
        else:
            power /= 2
    return params, rows


def _ratios(
    layers: Sequence[Adjustable],
    trace: Traced,
    loss: Traced,
    consts: tuple[Any, Any],
    params: Any,
    inputs: tuple[Any, ...],
) -> list[jax.Array]:
    """Return C for each layer, and for each step of a stacked one."""
    flat, tree = jax.tree.flatten(params)

    def run(scales: list[jax.Array]) -> Any:
        values = list(flat)
        for layer, scale in zip(layers, scales, strict=True):
            values[layer.scale.number] = scale
        output = trace.run(consts[0], jax.tree.unflatten(tree, values), inputs)
        return loss.run(consts[1], output)

    scales = [flat[layer.scale.number] for layer in layers]
    slopes = jax.grad(run)(scales)
    return [
        jnp.sqrt(_square(slope, layer.scale) / _square(scale, layer.scale))
        for layer, slope, scale in zip(layers, slopes, scales, strict=True)
    ]


def _square(leaf: jax.Array, part: Part) -> jax.Array:
    """Return the sum of squares of a parameter, for each step of a stack."""
    front = in_front(leaf, part).astype(np.float32)
    return jnp.sum(front**2, tuple(range(len(scan_axes(part)), front.ndim)))


def _logs(task: LayerwiseTask, ratios: Sequence[np.ndarray]) -> list[np.ndarray]:
    for layer, ratio in zip(task.layers, ratios, strict=True):
        if not (np.isfinite(ratio).all() and (ratio > 0).all()):
            raise ValueError(
                f"the gradient of {layer.path} is 0 or not finite, so the layer cannot "
                "be balanced with the others. skip=[...] leaves it out, balance=False "
                "leaves out the balancing. Nothing was changed."
            )
    return [np.log(np.asarray(ratio, np.float64)) for ratio in ratios]


def _spread(logs: Sequence[np.ndarray]) -> float:
    return float(np.ptp(np.concatenate([log.ravel() for log in logs])))


def _scaled(task: LayerwiseTask, params: Any, logs: Sequence[np.ndarray]) -> Any:
    """Multiply kernels by r, and biases by the product of the r up to their layer."""
    flat, tree = jax.tree.flatten(params)
    total, sums = 0.0, [np.zeros_like(log) for log in logs]
    # A layer's output grows by the factors of all layers up to it, and in a chain of
    # relus the function stays the same if its bias grows with it.
    for number, index in _order(task):
        total += logs[number][index]
        sums[number][index] = total
    for layer, log, below in zip(task.layers, logs, sums, strict=True):
        r, product = (jnp.asarray(np.exp(x), np.float32) for x in (log, below))
        parts = ((layer.scale, r), (layer.bias, product))
        for part, factor in ((p, f) for p, f in parts if p is not None):
            flat[part.number] = times(flat[part.number], part, factor)
    return jax.tree.unflatten(tree, flat)


def _order(task: LayerwiseTask) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield layers, and the steps of their stacks, in the order of execution."""
    numbers = {layer.taps[0]: i for i, layer in enumerate(task.layers)}
    taps = task.tapped.taps
    for group in groups(taps):
        for step in np.ndindex(*taps[group[0]].shape[: taps[group[0]].scans]):
            for number in (numbers[tap] for tap in group if tap in numbers):
                axes = task.layers[number].kernel.scans
                pairs = list(zip(step, axes, strict=True))
                # Weights that the steps of a scan share belong to its first step.
                if not any(i for i, axis in pairs if axis is None):
                    yield number, tuple(i for i, axis in pairs if axis is not None)


def _rows(task: LayerwiseTask, logs: Sequence[np.ndarray], step: int) -> Iterator[Row]:
    for layer, log in zip(task.layers, logs, strict=True):
        for index in np.ndindex(*log.shape):
            path, ratio = path_of(layer, index), float(np.exp(log[index]))
            yield {"step": step, "path": path, "ratio": ratio}
