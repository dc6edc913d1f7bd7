"""Layers that learn at one rate: their relative gradients are made equal."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.results import Row
from .._network.kept import Traced, program
from .._network.layers import Layer
from .._network.taps import groups
from .layerwise import Task, times

_STEPS = 40
# The spread of the logarithms that counts as equal, and the least power tried.
_EQUAL, _LEAST = 0.01, 1 / 64


def balanced(
    task: Task, variables: Any, beside: tuple[Any, ...], loss: Traced
) -> tuple[Any, list[Row]]:
    """Scale layers until C = rms(dloss/dW) / rms(W) is the same for all.

    W <- r W, r = (C / C_mean)^(power / 2), C_mean the geometric mean. In a chain of
    layers and relus a power of 1 does it at once; where a step makes it worse it is
    taken back, and the power is halved.
    """
    bare = task.layers, task.bare.trace, loss.bare
    ratios = program(
        ("balance", task.key, loss.form), lambda: functools.partial(_ratios, *bare)
    )
    consts = task.trace.consts, loss.consts
    logs = _logs(task, jax.device_get(ratios(consts, variables, beside)))
    rows = list(_rows(task, logs, 0))
    power = 1.0
    for step in range(1, _STEPS):
        if _spread(logs) <= _EQUAL or power < _LEAST:
            break
        mean = np.mean(np.concatenate([log.ravel() for log in logs]))
        changed = _scaled(task, variables, [power * (x - mean) / 2 for x in logs])
        found = _logs(task, jax.device_get(ratios(consts, changed, beside)))
        if _spread(found) < _spread(logs):
            variables, logs = changed, found
            rows += _rows(task, logs, step)
        else:
            power /= 2
    return variables, rows


def _ratios(
    layers: Sequence[Layer],
    trace: Traced,
    loss: Traced,
    consts: tuple[Any, Any],
    variables: Any,
    beside: tuple[Any, ...],
) -> list[jax.Array]:
    """C of each layer, for a stacked one each of its steps."""
    flat, tree = jax.tree.flatten(variables)

    def run(scales: list[jax.Array]) -> jax.Array:
        values = list(flat)
        for layer, scale in zip(layers, scales, strict=True):
            values[layer.scale] = scale
        output = trace.run(consts[0], jax.tree.unflatten(tree, values), beside)
        loss_value: jax.Array = loss.run(consts[1], output)
        return loss_value

    scales = [flat[layer.scale] for layer in layers]
    slopes = jax.grad(run)(scales)
    return [
        jnp.sqrt(_square(slope, layer) / _square(scale, layer))
        for layer, slope, scale in zip(layers, slopes, scales, strict=True)
    ]


def _square(leaf: jax.Array, layer: Layer) -> jax.Array:
    """The sum of squares, of each step of a stack."""
    axes = [axis for axis in layer.axes if axis is not None]
    front = jnp.moveaxis(leaf, axes, range(len(axes))).astype(np.float32)
    return jnp.sum(front**2, tuple(range(len(axes), front.ndim)))


def _logs(task: Task, ratios: Sequence[np.ndarray]) -> list[np.ndarray]:
    for layer, ratio in zip(task.layers, ratios, strict=True):
        if not (np.isfinite(ratio).all() and (ratio > 0).all()):
            raise ValueError(
                f"the gradient of {layer.path} is 0 or not finite: it cannot be "
                "balanced with the others. skip=[...] leaves it out, balance=False "
                "all. Nothing was changed."
            )
    return [np.log(np.asarray(ratio, np.float64)) for ratio in ratios]


def _spread(logs: Sequence[np.ndarray]) -> float:
    return float(np.ptp(np.concatenate([log.ravel() for log in logs])))


def _scaled(task: Task, variables: Any, logs: Sequence[np.ndarray]) -> Any:
    """Kernels times r, biases times the product of the r up to their layer."""
    flat, tree = jax.tree.flatten(variables)
    total, sums = 0.0, [np.zeros_like(log) for log in logs]
    for number, index in _order(task):
        total += logs[number][index]
        sums[number][index] = total
    for layer, log, below in zip(task.layers, logs, sums, strict=True):
        r, product = (jnp.asarray(np.exp(x), np.float32) for x in (log, below))
        flat[layer.scale] = times(flat[layer.scale], layer, r)
        if layer.bias is not None:
            flat[layer.bias] = times(flat[layer.bias], layer, product)
    found: Any = jax.tree.unflatten(tree, flat)
    return found


def _order(task: Task) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Layers, and the steps of their stacks, in the order of execution."""
    numbers = {layer.taps[0]: i for i, layer in enumerate(task.layers)}
    taps = task.tapped.taps
    for group in groups(taps):
        for step in np.ndindex(*taps[group[0]].shape[: taps[group[0]].scans]):
            for number in (numbers[tap] for tap in group if tap in numbers):
                axes = task.layers[number].axes
                own = [i for i, a in zip(step, axes, strict=True) if a is not None]
                shared = [i for i, a in zip(step, axes, strict=True) if a is None]
                if not any(shared):
                    yield number, tuple(own)


def _rows(task: Task, logs: Sequence[np.ndarray], step: int) -> Iterator[Row]:
    for layer, log in zip(task.layers, logs, strict=True):
        for index in np.ndindex(*log.shape):
            path = layer.path + "".join(f"[{i}]" for i in index)
            yield {"step": step, "path": path, "ratio": float(np.exp(log[index]))}
