"""`data_dependent` gives every unit mean 0 and variance 1 over a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._core.patterns import PatternLike
from .._network.calling import network_of, rebuilt
from .._network.layers import layers_of
from .._network.losses import direction, loss_of
from .._network.reader.records import Adjustable
from .._network.record import Network
from .balance import balanced
from .history import History
from .layerwise import (
    LayerwiseTask,
    Passed,
    Rescaling,
    is_set_with,
    set_layers,
    task_for,
)
from .left import left_of
from .troubles import NO_VARIATION, ZERO_OUTPUT, Reasons

# The columns of the history that `plot` draws.
DRAWN = ("largest_mean", "least_std", "largest_std")


def data_dependent(
    model: Any,
    *arguments: Any,
    loss: Callable[[Any], Any] | None = None,
    balance: bool | None = None,
    tol: float = 0.01,
    max_iter: int = 10,
    skip: PatternLike = (),
    rngs: Any = None,
    **options: Any,
) -> tuple[Any, History]:
    """Give every unit mean 0 and std 1 over a batch, then balance the layers.

    For unit k of each layer, in the order of execution, with u = W x: W_k <- W_k /
    std(u_k), b_k <- -mean(u_k) / std(u_k). A layer without a bias keeps its mean.
    Layers are those of `jinit.lsuv`, and one pass sets them all. A layer that cannot be
    set stays as it is, and `history.left` names its weights: a kernel of zeros, a unit
    that does not vary, units that cannot be told in the output.

    With a loss, the layers' relative gradients C = rms(dloss/dW) / rms(W) are then made
    equal: W <- r W with r = (C / C_mean)^(1/2), where C_mean is the geometric mean of
    all C, so that the product of all r is 1, and b <- b times the product of r up to
    its layer. In a chain of layers and relus the function stays the same. Other models
    are not homogeneous, and the step is repeated with a damped power. Balancing changes
    the variance of the units by one factor for each layer.

    Args:
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`.
      loss: a function of the output that returns a scalar.
      balance: whether to balance the gradients; by default if there is a loss. With
        True and no loss, the loss is a random direction in the output, as in the paper.
      tol: the error of a unit's mean and std that is accepted.
      max_iter: the largest number of passes that change something.
      skip: patterns of the paths of layers to leave as they are.
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      The variables, or the model, with new numbers, and a `History`: the largest mean
      and the extreme stds among the units of each layer, then the ratio C of each
      layer.

    Raises:
      TypeError: as for `jinit.network`, or if shapes came where numbers are needed.
      ValueError: if no layer can be set, or a layer's output is not finite. The text
        names the layer, and nothing is changed.

    Example:
      >>> import flax.linen as nn, jax, jinit
      >>> model = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(8)])
      >>> x = 3 + jax.random.normal(jax.random.key(0), (256, 16))
      >>> variables = model.init(jax.random.key(1), x)
      >>> variables, history = jinit.data_dependent(model, variables, x)
      >>> y = model.apply(variables, x)
      >>> bool((abs(y.mean(0)) < 0.01).all()), bool((abs(y.std(0) - 1) < 0.01).all())
      (True, True)

    References:
      Krähenbühl, Doersch, Donahue and Darrell, "Data-dependent initializations of
        convolutional neural networks", ICLR 2016.
    """
    net = network_of(model, arguments, rngs, options, "data_dependent")
    balances = loss is not None
    if balance is not None:
        balances = checks.boolean("balance", balance)
    task, passed = set_units(net, net.params, tol, max_iter, skip)
    params, rows = passed.params, passed.rows
    drawn: tuple[str, ...] = DRAWN
    if balances:
        scalar_loss = loss_of(loss or direction, net._read.trace)
        params, ratios = balanced(task, params, net.inputs, scalar_loss)
        rows, drawn = (*rows, *ratios), (*DRAWN, "ratio")
    left = left_of(net, task.layers, passed.reasons)
    history = History("data_dependent", rows, drawn, tuple(left), left)
    return rebuilt(net, params), history


def set_units(
    net: Network, params: Any, tol: float, max_iter: int, skip: PatternLike
) -> tuple[LayerwiseTask, Passed]:
    """Give every unit mean 0 and std 1; leave the layers that cannot be set.

    Returns:
      The task with the layers that are set, and the result of the passes.

    Raises:
      ValueError: if no layer can be set, or a layer's output is not finite.
    """
    every = layers_of(net, skip)
    layers = [layer for layer in every if layer.units is not None]
    if not layers:
        raise ValueError(
            "no layer shows its units in its output, so no layer can be set. "
            "Call jinit.lsuv, which scales each layer as a whole."
        )
    task, passed = set_layers(
        net,
        layers,
        lambda some: task_of_units(net, some, tol),
        lambda _: params,
        tol,
        max_iter,
    )
    unknown: Reasons = {
        (layer.path, ()): "its output does not show its units"
        for layer in every
        if layer.units is None
    }
    return task, passed._replace(reasons=unknown | passed.reasons)


def task_of_units(
    net: Network, layers: Sequence[Adjustable], tol: float
) -> LayerwiseTask:
    """Return the task of giving every unit of some layers mean 0 and std 1."""
    tol = checks.real("tol", tol, positive=True)

    def rescale(
        output: jax.Array, bias: jax.Array, layer: Adjustable, rounding_error: float
    ) -> Rescaling:
        return _to_units(output, bias, layer, tol, rounding_error)

    return task_for(net, layers, rescale, ("units", tol))


def _to_units(
    output: jax.Array, bias: jax.Array, layer: Adjustable, tol: float,
    rounding_error: float,
) -> Rescaling:  # fmt: skip
    """Return the rescaling to (u - mean u) / std u for each unit of an output u + b.

    Without a bias the result is u / std u.
    """
    assert layer.units is not None
    kept = (*layer.members, *layer.units)
    over = tuple(dim for dim in range(output.ndim) if dim not in kept)
    free = output - jnp.broadcast_to(bias, output.shape)
    # The square of the largest entry may overflow, so u is divided by it.
    unit = jnp.max(jnp.abs(free))
    unit = jnp.where(unit > 0, unit, 1)
    u = free / unit
    mean, std = jnp.mean(u, over, keepdims=True), jnp.std(u, over, keepdims=True)
    has_bias = layer.bias is not None and is_set_with(layer, layer.bias)
    full_mean = unit * mean + bias
    std_error = jnp.abs(unit * std - 1)
    # An offset smaller than the rounding error of the bias counts as zero.
    mean_error = jnp.abs(full_mean) - rounding_error * jnp.abs(bias)
    inside = tuple(dim for dim in range(output.ndim) if dim not in layer.members)
    error = jnp.max(
        jnp.maximum(std_error, mean_error) if has_bias else std_error,
        inside,
        keepdims=True,
    )
    is_set = error <= tol
    inverse = 1 / jnp.where(std > 0, std, 1)
    factor = jnp.where(is_set, jnp.ones_like(std), inverse / unit)
    new_bias = jnp.where(is_set, bias, -mean * inverse) if has_bias else bias
    # A unit whose variance is lost in the rounding of its mean does not vary.
    eps = np.finfo(std.dtype).eps
    is_constant = (std <= 4 * eps * jnp.abs(mean)) | (std == 0)
    report = {
        "largest_mean": jnp.max(jnp.abs(full_mean), inside),
        "least_std": unit * jnp.min(std, inside),
        "largest_std": unit * jnp.max(std, inside),
    }
    is_set, error = jnp.squeeze(is_set, inside), jnp.squeeze(error, inside)
    is_zero = jnp.all(u == 0, tuple(d for d in range(u.ndim) if d not in layer.members))
    reason = jnp.where(is_zero, ZERO_OUTPUT, NO_VARIATION)
    trouble = jnp.where(~is_set & jnp.any(is_constant, inside), reason, 0)
    return Rescaling(factor, new_bias, error, trouble, report)
