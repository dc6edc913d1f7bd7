"""Unit statistics: every unit has mean 0 and variance 1 over the first batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._core import checks
from .._core.patterns import PatternLike
from .._network import network
from .._network.layers import Layer, left_by
from .._network.losses import direction, loss_of
from .._network.network import Called
from .balance import balanced
from .history import History
from .layerwise import Settled, Task, settle, task_of, units_of


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

    Of each unit k of each layer, in the order of execution, with u = W x: W_k <- W_k /
    std(u_k), b_k <- -mean(u_k) / std(u_k). A layer without a bias keeps its mean.
    Layers are those of `jinit.lsuv`, and one pass sets them.

    With a loss, the layers' relative gradients C = rms(dloss/dW) / rms(W) are made
    equal then: W <- r W with r = (C / C_mean)^(1/2), C_mean their geometric mean, so
    that the product of all r is 1, and b <- b times the product of r up to its layer.
    In a chain of layers and relus the function stays as it is; in others, which are
    not homogeneous, it is repeated with a damped power. This undoes unit variance, by
    one factor for each layer.

    Args:
      model: a Linen module, or a function of (variables, batch).
      variables: what it takes.
      batch: its input, an array, or a tuple of several.
      loss: a function of the output that gives a scalar.
      balance: whether to balance the gradients; by default where there is a loss. With
        True and no loss, that is a random direction in the output, as in the paper.
      tol: how far from 0 and 1 a unit's statistics may stay.
      max_iter: passes that may change something.
      skip: patterns of paths to leave as they are.
      rngs: for a Linen module, the keys of dropout and the like.
      **options: more arguments of the model, as `train=True`.

    Returns:
      New variables, and a `History`: the largest mean and the extreme stds of a
      layer's units; then the ratio C of each layer.

    Raises:
      TypeError: for something that is neither a module nor a function.
      ValueError: for a layer that cannot be scaled, by its name, with nothing changed.

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
    return unit_statistics(called, loss, balance, tol, max_iter, skip)


def unit_statistics(
    called: Called,
    loss: Callable[[Any], Any] | None,
    balance: bool | None,
    tol: float,
    max_iter: int,
    skip: PatternLike,
) -> tuple[Any, History]:
    """Run `data_dependent` on a model whose layers' outputs are named."""
    balances = loss is not None
    if balance is not None:
        balances = checks.boolean("balance", balance)
    task = task_of_units(called, tol, skip)
    variables, rows = settle(task, called.variables, called.beside, tol, max_iter)
    if balances:
        lost = loss_of(loss or direction, task.trace)
        variables, ratios = balanced(task, variables, called.beside, lost)
        rows = (*rows, *ratios)
    drawn = (*DRAWN, "ratio") if balances else DRAWN
    left = left_by(task.layers, variables)
    return variables, History("data_dependent", rows, drawn, left)


DRAWN = ("largest_mean", "least_std", "largest_std")


def task_of_units(called: Called, tol: float, skip: PatternLike) -> Task:
    tol = checks.real("tol", tol, positive=True)

    def solve(value: jax.Array, bias: jax.Array, layer: Layer, grain: float) -> Settled:
        return _to_units(value, bias, layer, tol, grain)

    task = task_of(called, solve, ("units", tol), skip)
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
    value: jax.Array, bias: jax.Array, layer: Layer, tol: float, grain: float
) -> Settled:
    """(u - mean u) / std u of each unit of an output u + b; without a bias u / std u.

    u is divided by its largest entry, whose square may be out of range. A mean is not
    off by what its bias is rounded by.
    """
    count = len(layer.units)
    over = tuple(range(value.ndim - count))
    free = value - jnp.broadcast_to(bias, value.shape)
    unit = jnp.max(jnp.abs(free))
    unit = jnp.where(unit > 0, unit, 1)
    u = free / unit
    mean, std = jnp.mean(u, over), jnp.std(u, over)
    has_bias = bias.ndim > 0
    now = unit * mean + bias
    far = jnp.abs(unit * std - 1)
    away = jnp.abs(now) - grain * jnp.abs(bias)
    off = jnp.max(jnp.maximum(far, away) if has_bias else far)
    right = off <= tol
    inverse = 1 / jnp.where(std > 0, std, 1)
    factor = jnp.where(right, jnp.ones_like(std), inverse / unit)
    new = jnp.where(right, bias, -mean * inverse) if has_bias else bias
    # A unit whose variance is lost in the rounding of its mean does not vary.
    still = std <= 4 * jnp.finfo(std.dtype).eps * jnp.abs(mean)
    told = {
        "largest_mean": jnp.max(jnp.abs(now)),
        "least_std": unit * jnp.min(std),
        "largest_std": unit * jnp.max(std),
    }
    return Settled(factor, new, off, ~right & jnp.any(still | (std == 0)), told)
