"""LSUV gives the output of every layer a chosen standard deviation."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._core.patterns import PatternLike
from .._network.calling import network_of, rebuilt
from .._network.layers import layers_of, placed, scan_axes
from .._network.reader.records import Adjustable
from .history import History
from .layerwise import LayerwiseTask, Rescaling, set_layers, task_for
from .left import left_of
from .troubles import LARGE_BIAS, NO_VARIATION, ZERO_OUTPUT


def lsuv(
    model: Any,
    *arguments: Any,
    target_std: float = 1.0,
    tol: float = 0.02,
    max_iter: int = 10,
    orthonormal: bool = False,
    skip: PatternLike = (),
    rngs: Any = None,
    **options: Any,
) -> tuple[Any, History]:
    """Scale every kernel until its layer's output has the std that you ask for.

    In the order of execution, W <- s W with s > 0 such that std(s W x + b) =
    `target_std`, over all entries of the output for the batch. Layers are the products
    and convolutions of data with a parameter, in any library. Embeddings, tables that
    are added, and norms are not layers.

    A layer is linear in its kernel, so one pass sets all layers: each output is scaled
    where it is computed, and the layers behind it receive the scaled output. A second
    pass verifies the result. Weights that are used several times are scaled for their
    first use, and each step of a scanned stack is scaled by itself. Where the steps of
    a scan share their weights, as in a recurrent cell, the layers behind the scan take
    one more pass. Experts, and the members of a `vmap`, are scaled one by one.
    A weight that cannot be set stays as it is: a kernel of 0, an expert that gets no
    tokens, a kernel whose output does not vary or does not follow it. `history.left`
    names these weights and those that belong to no layer, `history.reasons` says why.

    Args:
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`.
      target_std: the standard deviation to reach, positive.
      tol: the relative error of a std that is accepted. Layers within it stay as they
        are, so that a second call changes nothing.
      max_iter: the largest number of passes that change something.
      orthonormal: whether to start from the nearest orthonormal kernel, the polar
        factor of the kernel that was drawn, as the paper does.
      skip: patterns of the paths of layers to leave as they are, such as "**/output".
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      The variables, or the model, with new numbers, and a `History` of the std and the
      factor of each layer.

    Raises:
      TypeError: as for `jinit.network`, or if shapes came where numbers are needed.
      ValueError: if no layer can be scaled, a layer's output is not finite, or the
        model has no layers. The message names the layer, and nothing is changed.

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
    net = network_of(model, arguments, rngs, options, "lsuv")
    target = checks.real("target_std", target_std, positive=True)
    tol = checks.real("tol", tol, positive=True)

    def rescale(
        output: jax.Array, bias: jax.Array, layer: Adjustable, _: float
    ) -> Rescaling:
        return _to_std(output, bias, layer.members, target, tol)

    def task_of(layers: Sequence[Adjustable]) -> LayerwiseTask:
        return task_for(net, layers, rescale, ("lsuv", target, tol))

    is_orthonormal = checks.boolean("orthonormal", orthonormal)

    def start_of(layers: Sequence[Adjustable]) -> Any:
        return _orthonormal(net.params, layers) if is_orthonormal else net.params

    layers = layers_of(net, skip)
    task, passed = set_layers(
        net, layers, task_of, start_of, tol, max_iter, leaves=True
    )
    left = left_of(net, task.layers, passed.reasons)
    history = History("lsuv", passed.rows, ("std",), tuple(left), left)
    return rebuilt(net, passed.params), history


def _to_std(
    output: jax.Array, bias: jax.Array, members: Sequence[int], target: float,
    tol: float,
) -> Rescaling:  # fmt: skip
    """Return the s > 0 with var(s u + b) = target^2, for an output u + b.

    s is the positive root of s^2 var u + 2 s cov(u, b) + var b = target^2. There is one
    for each index of the dimensions `members`.
    """
    over = tuple(dim for dim in range(output.ndim) if dim not in members)
    bias_all = jnp.broadcast_to(bias, output.shape)
    free = output - bias_all
    # The square of the largest entry may overflow, so u is divided by it.
    unit = jnp.max(jnp.abs(free), over, keepdims=True)
    unit = jnp.where(unit > 0, unit, 1)
    mean = functools.partial(jnp.mean, axis=over, keepdims=True)
    u, b = free / unit, bias_all
    u, b = u - mean(u), b - mean(b)
    a, c = mean(u**2), mean(u * b)
    # A bias alone may vary more than the target; then no factor reaches it, and the
    # root is NaN.
    root = jnp.sqrt(c**2 + a * (target**2 - mean(b**2)))
    factor = (root - c) / jnp.where(a > 0, a, 1) / unit
    std = unit * jnp.sqrt(mean((u + b / unit) ** 2))
    error = jnp.abs(std / target - 1)
    # A layer within the tolerance stays as it is, so a second call changes nothing.
    is_set = error <= tol
    # `check` raises a separate error for NaN in the weights or in the input.
    no_factor = ~(factor > 0) | ~jnp.isfinite(factor)
    trouble = _trouble(free, a, no_factor, over)
    trouble = jnp.where(is_set | ~jnp.isfinite(error), 0, trouble)
    factor = jnp.where(is_set | (trouble > 0), 1, factor)
    error, trouble, std, shown = (
        jnp.squeeze(x, over) for x in (error, trouble, std, factor)
    )
    return Rescaling(factor, bias, error, trouble, {"std": std, "factor": shown})


def _trouble(
    free: jax.Array, variance: jax.Array, no_factor: jax.Array, over: Sequence[int]
) -> jax.Array:
    """Return the number of the trouble of each member, or 0.

    `variance` is that of the output over its largest entry.
    """
    is_zero = jnp.all(free == 0, tuple(over), keepdims=True)
    # The mean of equal numbers differs from them by a rounding, which no factor may
    # take for a signal.
    is_constant = variance <= (4 * jnp.finfo(free.dtype).eps) ** 2
    trouble = jnp.where(no_factor, LARGE_BIAS, 0)
    trouble = jnp.where(is_constant, NO_VARIATION, trouble)
    return jnp.where(is_zero, ZERO_OUTPUT, trouble)


def _orthonormal(params: Any, layers: Sequence[Adjustable]) -> Any:
    """Replace each kernel, a (fan_in, units) matrix U S V^T, by its polar factor U V^T.

    Members and the steps of scans are independent matrices.
    """
    flat, tree = jax.tree.flatten(params)
    for layer in layers:
        kernel = flat[layer.kernel.number]
        # A kernel that starts at 0 on purpose has no nearest orthonormal one.
        if not jnp.any(kernel):
            continue
        flat[layer.kernel.number] = placed(_polar_factor(kernel, layer), kernel)
    return jax.tree.unflatten(tree, flat)


def _polar_factor(kernel: jax.Array, layer: Adjustable) -> jax.Array:
    axes = dict(layer.kernel.dims)
    copies = [*scan_axes(layer.kernel), *(axes[dim] for dim in layer.members)]
    units = [axes[dim] for dim in layer.units or ()]
    if layer.units is None:
        raise ValueError(
            f"the units of {layer.path} cannot be told, so no nearest orthonormal "
            f"kernel is known; skip=[{layer.path!r}] leaves the layer out."
        )
    inputs = [axis for axis in range(kernel.ndim) if axis not in (*copies, *units)]
    order = [*copies, *inputs, *units]
    front = jnp.transpose(kernel, order)
    lengths = front.shape[: len(copies)]
    rows = math.prod(kernel.shape[axis] for axis in inputs)
    matrix = front.reshape(*lengths, rows, -1).astype(np.float32)
    u, _, vt = jnp.linalg.svd(matrix, full_matrices=False)
    factor = (u @ vt).reshape(front.shape).astype(kernel.dtype)
    return jnp.transpose(factor, np.argsort(order).tolist())
