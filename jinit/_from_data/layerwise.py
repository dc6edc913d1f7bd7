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
from .._core.results import Row
from .._network.kept import program
from .._network.layers import (
    as_output,
    from_output,
    path_of,
    placed,
    times,
    with_taps,
)
from .._network.reader.records import Adjustable, Part
from .._network.record import Network
from .._network.taps import Tapped
from .troubles import (
    CannotSet,
    Measured,
    Reasons,
    check,
    not_set,
    reasons_of,
    warn_of,
)


class Rescaling(NamedTuple):
    """A rescaling changes a layer's output: y -> (y - bias) factor + new bias.

    All arrays but those of `report` have as many axes as the output.
    """

    # The factor is one number, or one for each member, or for each of their units.
    # `bias` is the new bias.
    factor: jax.Array
    bias: jax.Array
    # For each member: the distance of the output from its target, and the number (in
    # `TROUBLES`) of the trouble that keeps a factor from reaching the target, or 0.
    error: jax.Array
    trouble: jax.Array
    # The statistics of the output that a history shows, for each member.
    report: dict[str, jax.Array]


# rescale(output, bias, layer, rounding_error) -> Rescaling. The output, and its bias or
# 0, come in float32 or wider. The rounding error is that of the narrower of the dtypes
# that the two have in the model, relative to 1.
Rescale = Callable[[jax.Array, jax.Array, Adjustable, float], Rescaling]


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


class Passed(NamedTuple):
    """A Passed is the result of several passes: parameters, and rows of a history.

    `reasons` says why a layer, a step or a member was left as it is.
    """

    params: Any
    rows: tuple[Row, ...]
    reasons: Reasons


def set_layers(
    net: Network,
    layers: Sequence[Adjustable],
    task_of: Callable[[Sequence[Adjustable]], LayerwiseTask],
    start_of: Callable[[Sequence[Adjustable]], Any],
    tol: float,
    max_iter: int,
    *,
    leaves: bool = False,
) -> tuple[LayerwiseTask, Passed]:
    """Rescale the layers that can be set, and leave the others as they are.

    Args:
      net: the network.
      layers: the layers to try.
      task_of: returns the task of some layers.
      start_of: returns the parameters to begin with, if some layers are set.
      tol: the error that is accepted.
      max_iter: the largest number of passes that change something.
      leaves: whether steps and members that cannot be set stay as they are.

    Returns:
      The task of the layers that were set, and the result of the passes.

    Raises:
      ValueError: if no layer can be set, or a layer's output is not finite.
    """
    left: Reasons = {}
    while True:
        task = task_of(layers)
        try:
            params = start_of(layers)
            passed = repeat_passes(task, net, params, tol, max_iter, leaves=leaves)
        except CannotSet as error:
            layers = [layer for layer in layers if layer.path not in error.reasons]
            if not layers:
                raise
            left |= {(path, ()): reason for path, reason in error.reasons.items()}
        else:
            warn_of(left | passed.reasons)
            return task, passed._replace(reasons=left | passed.reasons)


def repeat_passes(
    task: LayerwiseTask, net: Network, params: Any, tol: float, max_iter: int,
    *, leaves: bool = False,
) -> Passed:  # fmt: skip
    """Rescale all layers until the error of each is at most `tol`.

    Args:
      task: the layers, and how each is rescaled.
      net: their network.
      params: the parameters to begin with.
      tol: the error that is accepted.
      max_iter: the largest number of passes that change something.
      leaves: whether steps and members that cannot be set stay as they are.

    Raises:
      CannotSet: if layers cannot be set, or are not set after `max_iter` passes.
      ValueError: if the output of a layer is not finite.
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
        check(measured, params, leaves)
        history += [one.row for one in measured]
        unset = [one for one in measured if one.error > tol and not one.trouble]
        if not unset:
            # A compiled program may return arrays in other shardings than it took.
            params = jax.tree.map(placed, params, start)
            return Passed(params, tuple(history), reasons_of(measured, params))
        params = changed
    raise not_set(unset, max_iter)


def _measured(
    task: LayerwiseTask, rescalings: Sequence[Rescaling], number: int
) -> Iterator[Measured]:
    """Yield one measurement for each layer, and for each step of a stacked one."""
    for layer, rescaling in zip(task.layers, rescalings, strict=True):
        for index in np.ndindex(*np.shape(rescaling.error)):
            report = {name: float(x[index]) for name, x in rescaling.report.items()}
            yield Measured(
                layer,
                index,
                {"step": number, "path": path_of(layer, index), **report},
                float(rescaling.error[index]),
                int(rescaling.trouble[index]),
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
            failing = rescaling.trouble > 0
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
