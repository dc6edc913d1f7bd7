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
from .._network.kept import program
from .._network.layers import (
    as_output,
    from_output,
    layers_of,
    path_of,
    placed,
    times,
    with_taps,
)
from .._network.reader.records import Adjustable, Part
from .._network.record import Network
from .._network.taps import Tapped


class Rescaling(NamedTuple):
    """A rescaling changes a layer's output: y -> (y - bias) factor + new bias.

    All arrays but those of `report` have as many axes as the output.
    """

    # The factor is one number, or one for each member, or for each of their units.
    # `bias` is the new bias.
    factor: jax.Array
    bias: jax.Array
    # For each member: how far the output was from its target, and whether no factor
    # reaches the target.
    error: jax.Array
    is_impossible: jax.Array
    # The statistics of the output that a history shows, for each member.
    report: dict[str, jax.Array]


# rescale(output, bias, layer, rounding_error) -> Rescaling. The output, and its bias or
# 0, come in float32 or wider. The rounding error is that of the narrower of the dtypes
# that the two have in the model, relative to 1.
Rescale = Callable[[jax.Array, jax.Array, Adjustable, float], Rescaling]


class CannotSet(ValueError):
    """A CannotSet error has the paths of the layers that cannot be set."""

    def __init__(self, message: str, layers: Sequence[str]) -> None:
        super().__init__(message)
        self.layers = frozenset(layers)


class LayerwiseTask(NamedTuple):
    """A task holds a network, its layers, and the rule that rescales a layer.

    `layerwise_pass` runs the traced model and calls `rescale` at the output of each
    layer, with the inputs that the layers before it give after their own rescaling.
    """

    tapped: Tapped
    layers: tuple[Adjustable, ...]
    rescale: Rescale
    # Everything that `rescale` closes over, so that equal tasks share a program.
    settings: Hashable

    @property
    def key(self) -> Hashable:
        """Return a key that two tasks share if they compute the same."""
        return self.tapped.form, self.layers, self.settings

    @property
    def bare(self) -> "LayerwiseTask":
        """Return the task without the constants, which kept programs must not hold."""
        return self._replace(tapped=self.tapped.bare)


def task_of(
    net: Network, rescale: Rescale, settings: Hashable, skip: PatternLike
) -> LayerwiseTask:
    """Choose the layers of a network.

    Raises:
      ValueError: if the network has no layers, or one has an empty output.
    """
    return task_for(net, layers_of(net, skip), rescale, settings)


def task_for(
    net: Network, layers: Sequence[Adjustable], rescale: Rescale, settings: Hashable
) -> LayerwiseTask:
    """Return the task of rescaling some layers of a network.

    Raises:
      ValueError: if a layer has an empty output.
    """
    layers, taps = with_taps(net, layers)
    for layer in layers:
        if 0 in taps[layer.taps[0]].shape:
            raise ValueError(
                f"the output of {layer.path} is empty, because the batch is empty; "
                "pass a batch with at least one example."
            )
    return LayerwiseTask(
        Tapped(net._read.trace, taps), tuple(layers), rescale, settings
    )


def repeat_passes(
    task: LayerwiseTask, net: Network, params: Any, tol: float, max_iter: int
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
    start = params
    # One pass more than `max_iter` verifies the last change.
    for number in range(1, max_iter + 2):
        changed, rescalings = step(task.tapped.trace.consts, params, net.inputs)
        measured = list(_measured(task, jax.device_get(rescalings), number))
        _check(measured)
        history += [one.row for one in measured]
        unset = [one for one in measured if one.error > tol]
        if not unset:
            # A compiled program may return arrays in other shardings than it took.
            return jax.tree.map(placed, params, start), tuple(history)
        params = changed
    layers = ", ".join(f"{one.row['path']} ({one})" for one in unset[:3])
    raise CannotSet(
        f"after {max_iter} passes {len(unset)} layers are not set: {layers}. Their "
        "outputs do not follow their kernels. Leave such layers out by skip=[...], or "
        "try a larger `max_iter` or `tol`. Nothing was changed.",
        [one.layer for one in unset],
    )


class _Measured(NamedTuple):
    """A _Measured is the rescaling of one layer, or one step of a stack, in numbers."""

    layer: str
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
        # The layers behind a layer that cannot be set are not finite, either.
        if one.is_impossible:
            raise CannotSet(
                f"{one.row['path']} cannot be scaled ({one}): its weights or its input "
                "are 0 or do not vary over the batch, or its bias alone exceeds the "
                "target. skip=[...] leaves it out. Nothing was changed.",
                [one.layer for one in measured if one.is_impossible],
            )
        if not np.isfinite(one.error):
            raise ValueError(
                f"the output of {one.row['path']} is not finite ({one}); look at "
                "its weights, the batch and the layers before it. Nothing was changed."
            )


def _measured(
    task: LayerwiseTask, rescalings: Sequence[Rescaling], number: int
) -> Iterator[_Measured]:
    """Yield one measurement for each layer, and for each step of a stacked one."""
    for layer, rescaling in zip(task.layers, rescalings, strict=True):
        for index in np.ndindex(*np.shape(rescaling.error)):
            report = {name: float(x[index]) for name, x in rescaling.report.items()}
            yield _Measured(
                layer.path,
                {"step": number, "path": path_of(layer, index), **report},
                float(rescaling.error[index]),
                bool(rescaling.is_impossible[index]),
            )


def layerwise_pass(
    task: LayerwiseTask, consts: Sequence[Any], params: Any, inputs: tuple[Any, ...]
) -> tuple[Any, list[Rescaling]]:
    """Run the model once; return parameters with every layer set, and rescalings."""
    flat, tree = jax.tree.flatten(params)
    biases = [_bias(task, flat, number) for number in range(len(task.tapped.taps))]
    handler = _Handler(task)
    _, out = task.tapped.run(consts, (params, inputs), biases, handler)
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
            is_alike = rescaling is not None and rescaling.factor.ndim == output.ndim
            if rescaling is None or not is_alike:
                return output, ()
            return _changed(output, _fitting(bias, wide), rescaling), ()
        layer, rounding_error = self.first[tap], _rounding_error(output, bias)
        bias = _fitting(bias, wide)
        rescaling = self.rescale(wide, bias, layer, rounding_error)
        if layer.is_shared:
            # The steps of the scan share the weights, and each step asks for another
            # factor. The factor of one step is chosen after the pass.
            return output, rescaling
        if not layer.kernel.scans:
            self.rescalings[layer.path] = rescaling
        return _changed(output, bias, rescaling), rescaling


def _rounding_error(*arrays: Any) -> float:
    dtypes = [x.dtype for x in arrays if isinstance(x, jax.Array)]
    return max(float(np.asarray(jnp.finfo(dtype).eps)) for dtype in dtypes)


def _fitting(bias: Any, output: jax.Array) -> jax.Array:
    """Return a layer's bias in the dtype of its output, or 0 without a bias."""
    if isinstance(bias, jax.Array):
        return bias.astype(output.dtype)
    return jnp.zeros((1,) * output.ndim, output.dtype)


def _changed(output: jax.Array, bias: jax.Array, rescaling: Rescaling) -> jax.Array:
    """Return the output that the rescaled layer would have given."""
    wide = jnp.asarray(output, jnp.promote_types(output.dtype, np.float32))
    changed = (wide - bias) * rescaling.factor + rescaling.bias
    return changed.astype(output.dtype)


def _bias(task: LayerwiseTask, flat: Sequence[Any], number: int) -> Any:
    """Return the bias of a tap's layer, with an axis for each scan in front, or ()."""
    tap = task.tapped.taps[number]
    layer = next(layer for layer in task.layers if number in layer.taps)
    if layer.bias is None:
        return ()
    ndim, lengths = len(tap.shape) - tap.scans, tap.shape[: tap.scans]
    if number != layer.taps[0] and (lengths or layer.bias.scans):
        return ()
    bias = as_output(flat[layer.bias.number], layer.bias, ndim)
    scans = zip(lengths, layer.bias.scans, strict=True)
    spread = [n if axis is not None else 1 for n, axis in scans]
    inner = bias.shape[bias.ndim - ndim :]
    return jnp.broadcast_to(bias.reshape(*spread, *inner), (*lengths, *inner))


def _one_of_shared(layer: Adjustable, rescaling: Rescaling) -> Rescaling:
    """Return, of the steps that share weights, the first that can be set."""
    for scan, axis in reversed(list(enumerate(layer.kernel.scans))):
        if axis is None:
            rescaling = jax.tree.map(lambda x, s=scan: jnp.moveaxis(x, s, 0), rescaling)
            failing = rescaling.is_impossible
            step = jnp.argmin(failing.reshape(len(failing), -1).any(1))
            rescaling = jax.tree.map(lambda x, i=step: x[i], rescaling)
    return rescaling


def _apply(layer: Adjustable, rescaling: Rescaling, flat: list[Any]) -> None:
    """Multiply a layer's scale, and put its new bias in place."""
    scale, bias = layer.scale, layer.bias
    flat[scale.number] = times(flat[scale.number], scale, rescaling.factor)
    if bias is not None and is_set_with(layer, bias):
        flat[bias.number] = from_output(rescaling.bias, flat[bias.number], bias)


def is_set_with(layer: Adjustable, bias: Part) -> bool:
    """Tell whether the steps of scans share a bias where they share the kernel."""
    kernel = [axis is None for axis in layer.kernel.scans]
    return kernel == [axis is None for axis in bias.scans]
