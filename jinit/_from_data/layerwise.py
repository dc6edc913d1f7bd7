"""Layers are set one after another, each on the output of those before it, in a pass.

A layer's output y = W x + b is linear in W, so what a scale does to it is known without
running the layer again: the output is changed where it is met, the layers behind it see
the change, and one pass sets all. The next pass looks whether it holds.
"""

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._network.kept import Traced, program
from .._network.layers import Layer, layers_of, placed
from .._network.network import Called, module_calls
from .._network.taps import Tapped, tapped
from .history import Row


class Settled(NamedTuple):
    """How a layer's output is changed: y -> (y - bias) factor + new bias."""

    # One number, or one for each unit.
    factor: jax.Array
    bias: jax.Array
    # How far the output was off, and whether it can be set at all.
    off: jax.Array
    fails: jax.Array
    # What a history shows.
    told: dict[str, jax.Array]


# An output and its bias (0 where there is none), in float32, its layer, and how far
# apart numbers near 1 are in the type that the output or the bias came in.
Solve = Callable[[jax.Array, jax.Array, Layer, float], Settled]


class Task(NamedTuple):
    """A traced model, its layers, and how one of them is set."""

    trace: Traced
    tapped: Tapped
    layers: tuple[Layer, ...]
    solve: Solve
    # The settings that `solve` closes over, as a key of what it does.
    settings: Hashable

    @property
    def key(self) -> Hashable:
        """Return a key that tasks share if they do the same."""
        return self.trace.form, self.layers, self.settings

    @property
    def bare(self) -> "Task":
        """Return the task without the constants, which kept programs must not hold."""
        return self._replace(trace=self.trace.bare)


def task_of(
    called: Called, solve: Solve, settings: Hashable, skip: Sequence[str]
) -> Task:
    """Trace a model, and find its layers."""
    trace = called.traced()
    taps = tapped(trace)
    layers = layers_of(taps, called.variables, module_calls(trace), skip)
    for layer in layers:
        if 0 in taps.taps[layer.taps[0]].shape:
            raise ValueError(f"the output of {layer.path} is empty: so is the batch.")
        if layer.is_mapped:
            raise ValueError(
                f"{layer.path} has a kernel for each member of a vmap, and its output "
                "those of all: set the members one by one, as models of their own, or "
                f"leave them out by skip=[{layer.path!r}]."
            )
    return Task(trace, taps, tuple(layers), solve, settings)


def settle(
    task: Task, variables: Any, beside: tuple[Any, ...], tol: float, max_iter: int
) -> tuple[Any, tuple[Row, ...]]:
    """Set every layer, and look whether it is set, until all are.

    Raises:
      ValueError: for a layer that cannot be set; it is named.
    """
    max_iter = checks.count("max_iter", max_iter) or 1
    bare = task.bare
    step = program(("settle", task.key), lambda: functools.partial(_pass, bare))
    rows: list[Row] = []
    start = variables
    for number in range(1, max_iter + 2):
        changed, told = step(task.trace.consts, variables, beside)
        told = jax.device_get(told)
        now = list(_rows(task, told, number))
        _check(now)
        rows += [
            {name: value for name, value in row.items() if name[0] != "_"}
            for row in now
        ]
        late = [row for row in now if row["_off"] > tol]
        if not late:
            return jax.tree.map(placed, variables, start), tuple(rows)
        variables = changed
    text = ", ".join(f"{row['path']} ({_said(row)})" for row in late[:3])
    raise ValueError(
        f"after {max_iter} passes {len(late)} layers are not set: {text}. Their "
        "outputs do not follow their kernels: skip=[...] leaves a layer out, a larger "
        "`max_iter` or `tol` may do. Nothing was changed."
    )


def _check(rows: Sequence[Row]) -> None:
    """Raise for the first layer that cannot be set."""
    for row in rows:
        if not np.isfinite(row["_off"]):
            raise ValueError(
                f"the output of {row['path']} is not finite ({_said(row)}); look at "
                "the batch and at what is before this layer. Nothing was changed."
            )
        if row["_fails"]:
            raise ValueError(
                f"{row['path']} cannot be scaled ({_said(row)}): its weights or its "
                "input are 0 or do not vary over the batch, or its bias alone is more "
                "than what is wanted. skip=[...] leaves it out. Nothing was changed."
            )


def _said(row: Row) -> str:
    shown = (n for n in row if n not in ("step", "path", "factor") and n[0] != "_")
    return ", ".join(f"{name} {row[name]:.4g}" for name in shown)


def _rows(task: Task, told: Sequence[Settled], number: int) -> Iterator[Row]:
    """One for each layer, for a stacked one each of its steps, in plain numbers."""
    for layer, settled in zip(task.layers, told, strict=True):
        for index in np.ndindex(*np.shape(settled.off)):
            suffix = "".join(f"[{i}]" for i in index)
            yield {
                "step": number,
                "path": layer.path + suffix,
                **{name: float(value[index]) for name, value in settled.told.items()},
                "_off": float(settled.off[index]),
                "_fails": bool(settled.fails[index]),
            }


def _pass(
    task: Task, consts: Sequence[Any], variables: Any, beside: tuple[Any, ...]
) -> tuple[Any, list[Settled]]:
    """The variables with every layer set, and how each was."""
    flat, tree = jax.tree.flatten(variables)
    first = {layer.taps[0]: layer for layer in task.layers}
    again = {tap: layer for layer in task.layers for tap in layer.taps[1:]}
    met: dict[str, Settled] = {}

    def meet(number: int, value: jax.Array, bias: Any) -> tuple[Any, Any]:
        layer = first.get(number) or again.get(number)
        if layer is None:
            return value, ()
        wide = jnp.asarray(value, jnp.promote_types(value.dtype, np.float32))
        grain = _grain(value, bias)
        bias = _fitting(bias, wide)
        if number in again:
            settled = met.get(layer.path)
            return (value if settled is None else _changed(value, bias, settled)), ()
        settled = task.solve(wide, bias, layer, grain)
        if layer.is_shared:  # What one step wants is not what the others get.
            return value, settled
        if not layer.axes:
            met[layer.path] = settled
        return _changed(value, bias, settled), settled

    biases = [_bias(task, flat, number) for number in range(len(task.tapped.taps))]
    _, out = task.tapped.run(consts, (variables, beside), biases, meet)
    told = [_chosen(layer, out[layer.taps[0]]) for layer in task.layers]
    for layer, settled in zip(task.layers, told, strict=True):
        _apply(layer, settled, flat)
    return jax.tree.unflatten(tree, flat), told


def _grain(*arrays: Any) -> float:
    kinds = [x.dtype for x in arrays if isinstance(x, jax.Array)]
    return max(float(jnp.finfo(kind).eps) for kind in kinds)


def _fitting(bias: Any, value: jax.Array) -> jax.Array:
    """A layer's bias, or 0 where it has none that lies along its last axes."""
    if (
        isinstance(bias, jax.Array)
        and value.shape[value.ndim - bias.ndim :] == bias.shape
    ):
        return bias.astype(value.dtype)
    return jnp.zeros((), value.dtype)


def _changed(value: jax.Array, bias: jax.Array, settled: Settled) -> jax.Array:
    """The output as it is with the factor and the new bias."""
    wide = jnp.asarray(value, jnp.promote_types(value.dtype, np.float32))
    bias, factor, new = (
        jnp.expand_dims(x, tuple(range(value.ndim - x.ndim)))
        for x in (bias, settled.factor, settled.bias)
    )
    return ((wide - bias) * factor + new).astype(value.dtype)


def _bias(task: Task, flat: Sequence[Any], number: int) -> Any:
    """The bias that a tap's steps meet, beginning with the scans around it."""
    tap = task.tapped.taps[number]
    for layer in task.layers:
        if number in layer.taps and layer.bias is not None:
            bias = _in_front(flat[layer.bias], layer)
            lengths = tap.shape[: tap.scans]
            if number == layer.taps[0]:
                shape = bias.shape[_stacked(layer) :]
                spread = [
                    n if axis is not None else 1
                    for n, axis in zip(lengths, layer.axes, strict=True)
                ]
                return jnp.broadcast_to(
                    bias.reshape(*spread, *shape), (*lengths, *shape)
                )
            return () if lengths else bias
    return ()


def _stacked(layer: Layer) -> int:
    return sum(axis is not None for axis in layer.axes)


def _in_front(leaf: jax.Array, layer: Layer) -> jax.Array:
    """A parameter with the axes of the scans before its others."""
    axes = [axis for axis in layer.axes if axis is not None]
    return jnp.moveaxis(leaf, axes, range(len(axes)))


def _back(leaf: jax.Array, layer: Layer) -> jax.Array:
    axes = [axis for axis in layer.axes if axis is not None]
    return jnp.moveaxis(leaf, range(len(axes)), axes)


def _chosen(layer: Layer, settled: Settled) -> Settled:
    """Of the steps that share weights the first whose output can be set."""
    for scan, axis in reversed(list(enumerate(layer.axes))):
        if axis is None:
            settled = jax.tree.map(lambda x, s=scan: jnp.moveaxis(x, s, 0), settled)
            step = jnp.argmin(settled.fails.reshape(len(settled.fails), -1).any(1))
            settled = jax.tree.map(lambda x, i=step: x[i], settled)
    return settled


def _apply(layer: Layer, settled: Settled, flat: list[Any]) -> None:
    """Multiply a layer's scale, and put its new bias in place."""
    count = _stacked(layer)
    flat[layer.scale] = times(flat[layer.scale], layer, settled.factor)
    if layer.bias is not None and settled.bias.ndim > count:
        new = settled.bias.reshape(_in_front(flat[layer.bias], layer).shape)
        flat[layer.bias] = _back(new.astype(flat[layer.bias].dtype), layer)


def times(leaf: jax.Array, layer: Layer, factor: jax.Array) -> jax.Array:
    """A layer's parameter times a factor for each step of its stack, or each unit."""
    front, count = _in_front(leaf, layer), _stacked(layer)
    inside = front.ndim - count
    units = {axis % inside for axis in layer.units} if factor.ndim > count else set()
    shape = [front.shape[count + i] if i in units else 1 for i in range(inside)]
    factor = factor.reshape(*front.shape[:count], *shape)
    return _back((front * factor).astype(leaf.dtype), layer)


def units_of(leaf: jax.Array, layer: Layer) -> tuple[int, ...]:
    """The lengths of a scale's axes of units."""
    inside = _in_front(leaf, layer).shape[_stacked(layer) :]
    return tuple(inside[axis] for axis in layer.units)
