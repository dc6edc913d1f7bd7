"""Layer-sequential unit variance: every layer's output has the std that is wanted."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._core.patterns import PatternLike
from .._network import network
from .._network.layers import Layer, left_by, placed
from .history import History
from .layerwise import Settled, settle, task_of


@network.function_of_a_model
def lsuv(
    model: Any,
    variables: Any,
    batch: Any,
    *,
    target_std: float = 1.0,
    tol: float = 0.02,
    max_iter: int = 10,
    orthonormal: bool = False,
    skip: PatternLike = (),
    rngs: Any = None,
    **options: Any,
) -> tuple[Any, History]:
    """Scale every kernel until its layer's output has the std that is wanted.

    In the order of execution, W <- s W with s > 0 such that std(s W x + b) =
    `target_std`, over all entries of the batch's output. Layers are the modules with a
    kernel: dense layers, convolutions, the projections of an attention; not embeddings
    and norms. In a function a layer is an output that is named, by
    `jax.ad_checkpoint.checkpoint_name`, by the path of its weight.

    A layer is linear in its kernel, so one pass sets all of them: an output is scaled
    where it is met, and the layers behind it see that. A second pass looks whether it
    holds. Weights that are used several times are scaled for their first use, and
    each step of a scanned stack by itself; where steps share their weights (as in a
    recurrent cell) the layers behind them take a pass more. The members of a vmap are
    to be set one by one. `history.left` names the weights that are no layer's.

    Args:
      model: a Linen module, or a function of (variables, batch). For NNX there is
        `jinit.nnx.lsuv`.
      variables: what it takes: Linen's variables, or any tree.
      batch: its input, an array, or a tuple of several.
      target_std: the std that is wanted, positive.
      tol: how far from it, relative to it, an output may stay: such layers are left
        as they are, so a second call changes nothing.
      max_iter: passes that may change something.
      orthonormal: whether to start from the nearest orthonormal kernel, the polar
        factor of the one that was drawn, as the paper does.
      skip: patterns of paths to leave as they are, such as "*/output".
      rngs: for a Linen module, the keys of dropout and the like.
      **options: more arguments of the model, as `train=True`.

    Returns:
      New variables, and a `History` of std and factor by layer.

    Raises:
      TypeError: for something that is neither a module nor a function.
      ValueError: for a layer that cannot be scaled (zeros, NaN, one of a vmap), by
        its name, with nothing changed; or for a model without layers.

    Example:
      >>> import flax.linen as nn, jax, jinit
      >>> model = nn.Sequential(sum(([nn.Dense(64), nn.silu] for _ in range(20)), []))
      >>> x = jax.random.normal(jax.random.key(0), (128, 32))
      >>> variables = model.init(jax.random.key(1), x)
      >>> jinit.probe(model, variables, x).rows[-1]["std"] < 1e-4
      True
      >>> variables, history = jinit.lsuv(model, variables, x)
      >>> round(jinit.probe(model, variables, x).rows[-2]["std"], 2)
      1.0

    References:
      Mishkin and Matas, "All you need is a good init", ICLR 2016.
    """
    called = network.called(model, variables, batch, rngs, options, "lsuv")
    return scaled(called, target_std, tol, max_iter, orthonormal, skip)


def scaled(
    called: network.Called,
    target_std: float,
    tol: float,
    max_iter: int,
    orthonormal: bool,
    skip: PatternLike,
) -> tuple[Any, History]:
    """Run `lsuv` on a model whose layers' outputs are named."""
    target = checks.real("target_std", target_std, positive=True)
    tol = checks.real("tol", tol, positive=True)

    def solve(value: jax.Array, bias: jax.Array, layer: Layer, grain: float) -> Settled:
        return _to_std(value, bias, target, tol)

    task = task_of(called, solve, ("lsuv", target, tol), skip)
    variables = called.variables
    if checks.boolean("orthonormal", orthonormal):
        variables = _orthonormal(variables, task.layers)
    variables, rows = settle(task, variables, called.beside, tol, max_iter)
    left = left_by(task.layers, variables)
    return variables, History("lsuv", rows, ("std",), left)


def _to_std(value: jax.Array, bias: jax.Array, target: float, tol: float) -> Settled:
    """The s > 0 with var(s u + b) = target^2, of an output u + b.

    s^2 var u + 2 s cov(u, b) + var b = target^2. u is divided by its largest entry,
    whose square may be out of range.
    """
    bias_all = jnp.broadcast_to(bias, value.shape)
    free = value - bias_all
    unit = jnp.max(jnp.abs(free))
    unit = jnp.where(unit > 0, unit, 1)
    u, b = _centred(free / unit), _centred(bias_all)
    a, c = jnp.mean(u**2), jnp.mean(u * b)
    root = jnp.sqrt(c**2 + a * (target**2 - jnp.mean(b**2)))
    factor = (root - c) / jnp.where(a > 0, a, 1) / unit
    std = unit * jnp.sqrt(jnp.mean((u + b / unit) ** 2))
    off = jnp.abs(std / target - 1)
    right = off <= tol
    factor = jnp.where(right, 1, factor)
    fails = ~right & ((a == 0) | ~(factor > 0) | ~jnp.isfinite(factor))
    return Settled(factor, bias, off, fails, {"std": std, "factor": factor})


def _centred(x: jax.Array) -> jax.Array:
    return x - jnp.mean(x)


def _orthonormal(variables: Any, layers: Sequence[Layer]) -> Any:
    """Kernels as their polar factors, (fan_in, units) matrices with U V^T = U S V^T."""
    flat, tree = jax.tree.flatten(variables)
    for layer in layers:
        kernel = flat[layer.kernel]
        stacked = [axis for axis in layer.axes if axis is not None]
        front = jnp.moveaxis(kernel, stacked, range(len(stacked)))
        units = max(1, len(layer.units))
        lengths, inside = front.shape[: len(stacked)], front.shape[len(stacked) :]
        rows = math.prod(inside[: len(inside) - units])
        matrix = front.reshape(*lengths, rows, -1).astype(np.float32)
        u, _, vt = jnp.linalg.svd(matrix, full_matrices=False)
        factor = (u @ vt).reshape(front.shape).astype(kernel.dtype)
        factor = jnp.moveaxis(factor, range(len(stacked)), stacked)
        flat[layer.kernel] = placed(factor, kernel)
    found: Any = jax.tree.unflatten(tree, flat)
    return found
