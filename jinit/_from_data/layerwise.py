"""Layers are rescaled one after another, each on the output of those before it.

A layer's output y = W x + b is linear in W, so the output after a rescaling is known
without running the layer again. One pass through the model multiplies every layer's
output where it is computed, and the layers behind it receive the new output. One pass
therefore sets all layers; the next pass verifies them.
"""

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._core.patterns import PatternLike
from .._core.results import Row
from .._network.kept import Traced, program
from .._network.layers import Layer, layers_of, placed
from .._network.network import Called, module_calls
from .._network.taps import Tapped, tapped
from .stacks import axes_of, in_front, path_of, put_back, times


class Rescaling(NamedTuple):
    """A rescaling changes a layer's output: y -> (y - bias) factor + new bias."""

    # The factor is one number, or one for each unit. `bias` is the new bias.
    factor: jax.Array
    bias: jax.Array
    # How far the output was from its target, and whether no factor reaches the target.
    error: jax.Array
    is_impossible: jax.Array
    # The statistics of the output that a history shows.
    report: dict[str, jax.Array]


# rescale(output, bias, layer, rounding_error) -> Rescaling. The output, and its bias or
# 0, come in float32 or wider. The rounding error is that of the narrower of the dtypes
# that the two have in the model, relative to 1.
Rescale = Callable[[jax.Array, jax.Array, Layer, float], Rescaling]


class LayerwiseTask(NamedTuple):
    """A task holds a traced model, its layers, and the rule that rescales a layer.

    `layerwise_pass` runs the traced model and calls `rescale` at the output of each
    layer, with the inputs that the layers before it give after their own rescaling.
    """

    trace: Traced
    tapped: Tapped
    layers: tuple[Layer, ...]
    rescale: Rescale
    # Everything that `rescale` closes over, so that equal tasks share a program.
    settings: Hashable

    @property
    def key(self) -> Hashable:
        """Return a key that two tasks share if they compute the same."""
        return self.trace.form, self.layers, self.settings

    @property
    def bare(self) -> "LayerwiseTask":
        """Return the task without the constants, which kept programs must not hold."""
        return self._replace(trace=self.trace.bare)


def task_of(
    called: Called, rescale: Rescale, settings: Hashable, skip: PatternLike
) -> LayerwiseTask:
    """Trace a model and find its layers.

    Raises:
      ValueError: if a layer has an empty output, or a kernel for each member of a vmap.
    """
    trace = called.traced()
    taps = tapped(trace)
    layers = layers_of(taps, called.variables, module_calls(trace), skip)
    for layer in layers:
        if 0 in taps.taps[layer.taps[0]].shape:
            raise ValueError(
                f"the output of {layer.path} is empty, because the batch is empty; "
                "pass a batch with at least one example."
            )
        if layer.is_mapped:
            raise ValueError(
                f"{layer.path} has one kernel for each member of a vmap, and its "
                "output holds those of all members; set each member as a model by "
                f"itself, or leave the layer out by skip=[{layer.path!r}]."
            )
    return LayerwiseTask(trace, taps, tuple(layers), rescale, settings)


def repeat_passes(
    task: LayerwiseTask, called: Called, variables: Any, tol: float, max_iter: int
) -> tuple[Any, tuple[Row, ...]]:
    """Rescale all layers until the error of each is at most `tol`.

    Raises:
      ValueError: if a layer cannot be set, or is not set after `max_iter` passes.
    """
    max_iter = checks.count("max_iter", max_iter) or 1
    bare = task.bare
    step = program(
        ("layerwise", task.key), lambda: functools.partial(layerwise_pass, bare)
    )
    history: list[Row] = []
    start = variables
    # One pass more than `max_iter` verifies the last change.
    for number in range(1, max_iter + 2):
        changed, rescalings = step(task.trace.consts, variables, called.beside)
        measured = list(_measured(task, jax.device_get(rescalings), number))
        _check(measured)
        history += [one.row for one in measured]
        unset = [one for one in measured if one.error > tol]
        if not unset:
            # A compiled program may return arrays in other shardings than it took.
            return jax.tree.map(placed, variables, start), tuple(history)
        variables = changed
    layers = ", ".join(f"{one.row['path']} ({one})" for one in unset[:3])
    raise ValueError(
        f"after {max_iter} passes {len(unset)} layers are not set: {layers}. Their "
        "outputs do not follow their kernels. Leave such layers out by skip=[...], or "
        "try a larger `max_iter` or `tol`. Nothing was changed."
    )


class _Measured(NamedTuple):
    """A _Measured is the rescaling of one layer, or one step of a stack, in numbers."""

    row: Row
    error: float
    is_impossible: bool

    def __str__(self) -> str:
        hidden = ("step", "path", "factor")
        shown = (name for name in self.row if name not in hidden)
        return ", ".join(
            f"{name.replace('_', ' ')} {self.row[name]:.4g}" for name in shown
        )


def _check(measured: Sequence[_Measured]) -> None:
    """Raise for the first layer that cannot be set."""
    for one in measured:
        if not np.isfinite(one.error):
            raise ValueError(
                f"the output of {one.row['path']} is not finite ({one}); look at "
                "the batch and at the layers before this one. Nothing was changed."
            )
        if one.is_impossible:
            raise ValueError(
                f"{one.row['path']} cannot be scaled ({one}): its weights or its "
                "input are 0 or do not vary over the batch, or its bias alone exceeds "
                "the target. skip=[...] leaves it out. Nothing was changed."
            )


def _measured(
    task: LayerwiseTask, rescalings: Sequence[Rescaling], number: int
) -> Iterator[_Measured]:
    """Yield one measurement for each layer, and for each step of a stacked one."""
    for layer, rescaling in zip(task.layers, rescalings, strict=True):
        for index in np.ndindex(*np.shape(rescaling.error)):
            report = {name: float(x[index]) for name, x in rescaling.report.items()}
            yield _Measured(
                {"step": number, "path": path_of(layer, index), **report},
                float(rescaling.error[index]),
                bool(rescaling.is_impossible[index]),
            )


def layerwise_pass(
    task: LayerwiseTask, consts: Sequence[Any], variables: Any, beside: tuple[Any, ...]
) -> tuple[Any, list[Rescaling]]:
    """Run the model once; return variables with every layer set, and the rescalings."""
    flat, tree = jax.tree.flatten(variables)
    biases = [_bias(task, flat, number) for number in range(len(task.tapped.taps))]
    handler = _Handler(task)
    _, out = task.tapped.run(consts, (variables, beside), biases, handler)
    rescalings = [_one_of_shared(layer, out[layer.taps[0]]) for layer in task.layers]
    for layer, rescaling in zip(task.layers, rescalings, strict=True):
        _apply(layer, rescaling, flat)
    return jax.tree.unflatten(tree, flat), rescalings


class _Handler:
    """This handler rescales the output of each layer, and records the rescaling.

    It is called with the number of a tap, the layer's output and its bias, and returns
    the output that goes on, and the record.
    """

    def __init__(self, task: LayerwiseTask) -> None:
        self.rescale = task.rescale
        self.first = {layer.taps[0]: layer for layer in task.layers}
        self.again = {tap: layer for layer in task.layers for tap in layer.taps[1:]}
        self.rescalings: dict[str, Rescaling] = {}

    def __call__(self, tap: int, output: jax.Array, bias: Any) -> tuple[Any, Any]:
        # The mean of many entries needs more digits than bfloat16 has.
        wide = jnp.asarray(output, jnp.promote_types(output.dtype, np.float32))
        if tap in self.again:
            # Weights that are used again are scaled for their first use.
            rescaling = self.rescalings.get(self.again[tap].path)
            if rescaling is None:
                return output, ()
            return _changed(output, _fitting(bias, wide), rescaling), ()
        if tap not in self.first:
            return output, ()
        layer, rounding_error = self.first[tap], _rounding_error(output, bias)
        bias = _fitting(bias, wide)
        rescaling = self.rescale(wide, bias, layer, rounding_error)
        if layer.is_shared:
            # The steps of the scan share the weights, and each step asks for another
            # factor. The factor of one step is chosen after the pass.
            return output, rescaling
        if not layer.axes:
            self.rescalings[layer.path] = rescaling
        return _changed(output, bias, rescaling), rescaling


def _rounding_error(*arrays: Any) -> float:
    dtypes = [x.dtype for x in arrays if isinstance(x, jax.Array)]
    return max(float(np.asarray(jnp.finfo(dtype).eps)) for dtype in dtypes)


def _fitting(bias: Any, output: jax.Array) -> jax.Array:
    """Return a layer's bias, or 0 if no bias lies along the output's last axes."""
    if (
        isinstance(bias, jax.Array)
        and output.shape[output.ndim - bias.ndim :] == bias.shape
    ):
        return bias.astype(output.dtype)
    return jnp.zeros((), output.dtype)


def _changed(output: jax.Array, bias: jax.Array, rescaling: Rescaling) -> jax.Array:
    """Return the output that the rescaled layer would have given."""
    wide = jnp.asarray(output, jnp.promote_types(output.dtype, np.float32))
    bias, factor, new = (
        jnp.expand_dims(x, tuple(range(output.ndim - x.ndim)))
        for x in (bias, rescaling.factor, rescaling.bias)
    )
    return ((wide - bias) * factor + new).astype(output.dtype)


def _bias(task: LayerwiseTask, flat: Sequence[Any], number: int) -> Any:
    """Return the bias of a tap's layer, with an axis for each scan in front, or ()."""
    tap = task.tapped.taps[number]
    for layer in task.layers:
        if number in layer.taps and layer.bias is not None:
            bias = in_front(flat[layer.bias], layer)
            lengths = tap.shape[: tap.scans]
            if number == layer.taps[0]:
                shape = bias.shape[len(axes_of(layer)) :]
                spread = [
                    n if axis is not None else 1
                    for n, axis in zip(lengths, layer.axes, strict=True)
                ]
                return jnp.broadcast_to(
                    bias.reshape(*spread, *shape), (*lengths, *shape)
                )
            return () if lengths else bias
    return ()


def _one_of_shared(layer: Layer, rescaling: Rescaling) -> Rescaling:
    """Return, of the steps that share weights, the first that can be set."""
    for scan, axis in reversed(list(enumerate(layer.axes))):
        if axis is None:
            rescaling = jax.tree.map(lambda x, s=scan: jnp.moveaxis(x, s, 0), rescaling)
            failing = rescaling.is_impossible
            step = jnp.argmin(failing.reshape(len(failing), -1).any(1))
            rescaling = jax.tree.map(lambda x, i=step: x[i], rescaling)
    return rescaling


def _apply(layer: Layer, rescaling: Rescaling, flat: list[Any]) -> None:
    """Multiply a layer's scale, and put its new bias in place."""
    flat[layer.scale] = times(flat[layer.scale], layer, rescaling.factor)
    if layer.bias is not None and rescaling.bias.ndim > len(axes_of(layer)):
        new = rescaling.bias.reshape(in_front(flat[layer.bias], layer).shape)
        flat[layer.bias] = put_back(new.astype(flat[layer.bias].dtype), layer)
