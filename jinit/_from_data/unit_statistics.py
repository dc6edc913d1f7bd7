"""`data_dependent` gives every unit mean 0 and variance 1 over a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._core.patterns import PatternLike
from .._network import network
from .._network.layers import Layer, left_by
from .._network.losses import direction, loss_of
from .._network.network import Called
from .balance import balanced
from .history import History
from .layerwise import LayerwiseTask, Rescaling, repeat_passes, task_of
from .stacks import units_of

# The columns of the history that `plot` draws.
DRAWN = ("largest_mean", "least_std", "largest_std")


@network.function_of_a_model
def data_dependent(
    model: Any,
    variables: Any,
    batch: Any,
    *,
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
    Layers are those of `jinit.lsuv`, and one pass sets them all.

    With a loss, the layers' relative gradients C = rms(dloss/dW) / rms(W) are then made
    equal: W <- r W with r = (C / C_mean)^(1/2), where C_mean is the geometric mean of
    all C, so that the product of all r is 1, and b <- b times the product of r up to
    its layer. In a chain of layers and relus the function stays the same. Other models
    are not homogeneous, and the step is repeated with a damped power. Balancing changes
    the variance of the units by one factor for each layer.

    Args:
      model: a Linen module, or a function of (variables, batch). For an NNX model call
        `jinit.nnx.data_dependent`.
      variables: the variables of the Linen module, or the function's tree.
      batch: the input, an array, or a tuple of several inputs.
      loss: a function of the output that returns a scalar.
      balance: whether to balance the gradients; by default if there is a loss. With
        True and no loss, the loss is a random direction in the output, as in the paper.
      tol: the error of a unit's mean and std that is accepted.
      max_iter: the largest number of passes that change something.
      skip: patterns of the paths of layers to leave as they are.
      rngs: for a Linen module, the keys of its streams, such as dropout's.
      **options: more arguments of the model, such as `train=True`.

    Returns:
      New variables, and a `History`: the largest mean and the extreme stds among the
      units of each layer, then the ratio C of each layer.

    Raises:
      TypeError: if `model` is neither a Linen module nor a function.
      ValueError: if a layer cannot be scaled. The text names the layer, and nothing is
        changed.

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
    called = network.called(model, variables, batch, rngs, options, "data_dependent")
    balances = loss is not None
    if balance is not None:
        balances = checks.boolean("balance", balance)
    task = task_of_units(called, tol, skip)
    variables, rows = repeat_passes(task, called, called.variables, tol, max_iter)
    drawn: tuple[str, ...] = DRAWN
    if balances:
        scalar_loss = loss_of(loss or direction, task.trace)
        variables, ratios = balanced(task, variables, called.beside, scalar_loss)
        rows, drawn = (*rows, *ratios), (*DRAWN, "ratio")
    left = left_by(task.layers, variables)
    return variables, History("data_dependent", rows, drawn, left)


def task_of_units(called: Called, tol: float, skip: PatternLike) -> LayerwiseTask:
    """Return the task of giving every unit of a model mean 0 and std 1.

    Raises:
      ValueError: if the output of a layer does not end in the units of its kernel.
    """
    tol = checks.real("tol", tol, positive=True)

    def rescale(
        output: jax.Array, bias: jax.Array, layer: Layer, rounding_error: float
    ) -> Rescaling:
        return _to_units(output, bias, len(layer.units), tol, rounding_error)

    task = task_of(called, rescale, ("units", tol), skip)
    flat = jax.tree.leaves(called.variables)
    for layer in task.layers:
        tap = task.tapped.taps[layer.taps[0]]
        units = units_of(flat[layer.scale], layer)
        if tap.shape[max(tap.scans, len(tap.shape) - len(units)) :] != units:
            raise ValueError(
                f"the output of {layer.path}, of shape {tap.shape[tap.scans :]}, does "
                f"not end in the units of its kernel, {units}; skip=[{layer.path!r}] "
                "leaves it out."
            )
    return task


def _to_units(
    output: jax.Array, bias: jax.Array, axes: int, tol: float, rounding_error: float
) -> Rescaling:
    """Return the rescaling to (u - mean u) / std u for each unit of an output u + b.

    The units lie along the last `axes` axes. Without a bias the result is u / std u.
    """
    over = tuple(range(output.ndim - axes))
    free = output - jnp.broadcast_to(bias, output.shape)
    # The square of the largest entry may overflow, so u is divided by it.
    unit = jnp.max(jnp.abs(free))
    unit = jnp.where(unit > 0, unit, 1)
    u = free / unit
    mean, std = jnp.mean(u, over), jnp.std(u, over)
    has_bias = bias.ndim > 0
    full_mean = unit * mean + bias
    std_error = jnp.abs(unit * std - 1)
    # An offset smaller than the rounding error of the bias counts as zero.
    mean_error = jnp.abs(full_mean) - rounding_error * jnp.abs(bias)
    error = jnp.max(jnp.maximum(std_error, mean_error) if has_bias else std_error)
    is_set = error <= tol
    inverse = 1 / jnp.where(std > 0, std, 1)
    factor = jnp.where(is_set, jnp.ones_like(std), inverse / unit)
    new = jnp.where(is_set, bias, -mean * inverse) if has_bias else bias
    # A unit whose variance is lost in the rounding of its mean does not vary.
    eps = np.finfo(std.dtype).eps
    is_constant = (std <= 4 * eps * jnp.abs(mean)) | (std == 0)
    report = {
        "largest_mean": jnp.max(jnp.abs(full_mean)),
        "least_std": unit * jnp.min(std),
        "largest_std": unit * jnp.max(std),
    }
    return Rescaling(factor, new, error, ~is_set & jnp.any(is_constant), report)
