"""LSUV gives the output of every layer a chosen standard deviation."""

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
from .layerwise import Rescaling, repeat_passes, task_of
from .stacks import axes_of, in_front, put_back


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
    """Scale every kernel until its layer's output has the std that you ask for.

    In the order of execution, W <- s W with s > 0 such that std(s W x + b) =
    `target_std`, over all entries of the output for the batch. Layers are the modules
    with a kernel: dense layers, convolutions, the projections of an attention.
    Embeddings and norms are not layers.

    A layer is linear in its kernel, so one pass sets all layers: each output is scaled
    where it is computed, and the layers behind it receive the scaled output. A second
    pass verifies the result. Weights that are used several times are scaled for their
    first use, and each step of a scanned stack is scaled by itself. Where the steps of
    a scan share their weights, as in a recurrent cell, the layers behind the scan take
    one more pass. A layer with a kernel for each member of a `vmap` is an error: set
    the members one by one. `history.left` names the weights that belong to no layer.

    Args:
      model: a Linen module, or a function of (variables, batch), whose layers are the
        outputs that `jax.ad_checkpoint.checkpoint_name` names by the paths of their
        weights. For an NNX model call `jinit.nnx.lsuv`.
      variables: the variables of the Linen module, or the function's tree.
      batch: the input, an array, or a tuple of several inputs.
      target_std: the standard deviation to reach, positive.
      tol: the relative error of a std that is accepted. Layers within it stay as they
        are, so that a second call changes nothing.
      max_iter: the largest number of passes that change something.
      orthonormal: whether to start from the nearest orthonormal kernel, the polar
        factor of the kernel that was drawn, as the paper does.
      skip: patterns of the paths of layers to leave as they are, such as "**/output".
      rngs: for a Linen module, the keys of its streams, such as dropout's.
      **options: more arguments of the model, such as `train=True`.

    Returns:
      New variables, and a `History` of the std and the factor of each layer.

    Raises:
      TypeError: if `model` is neither a Linen module nor a function.
      ValueError: if a layer cannot be scaled (zeros, NaN, a member of a vmap), or the
        model has no layers. The text names the layer, and nothing is changed.

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
    target = checks.real("target_std", target_std, positive=True)
    tol = checks.real("tol", tol, positive=True)

    def rescale(output: jax.Array, bias: jax.Array, *_: Any) -> Rescaling:
        return _to_std(output, bias, target, tol)

    task = task_of(called, rescale, ("lsuv", target, tol), skip)
    start = called.variables
    if checks.boolean("orthonormal", orthonormal):
        start = _orthonormal(start, task.layers)
    variables, rows = repeat_passes(task, called, start, tol, max_iter)
    left = left_by(task.layers, variables)
    return variables, History("lsuv", rows, ("std",), left)


def _to_std(output: jax.Array, bias: jax.Array, target: float, tol: float) -> Rescaling:
    """Return the s > 0 with var(s u + b) = target^2, for an output u + b.

    s is the positive root of s^2 var u + 2 s cov(u, b) + var b = target^2.
    """
    bias_all = jnp.broadcast_to(bias, output.shape)
    free = output - bias_all
    # The square of the largest entry may overflow, so u is divided by it.
    unit = jnp.max(jnp.abs(free))
    unit = jnp.where(unit > 0, unit, 1)
    u, b = _centred(free / unit), _centred(bias_all)
    a, c = jnp.mean(u**2), jnp.mean(u * b)
    # A bias alone may vary more than the target; then no factor reaches it, and the
    # root is NaN.
    root = jnp.sqrt(c**2 + a * (target**2 - jnp.mean(b**2)))
    factor = (root - c) / jnp.where(a > 0, a, 1) / unit
    std = unit * jnp.sqrt(jnp.mean((u + b / unit) ** 2))
    error = jnp.abs(std / target - 1)
    # A layer within the tolerance stays as it is, so a second call changes nothing.
    is_set = error <= tol
    factor = jnp.where(is_set, 1, factor)
    is_impossible = ~is_set & ((a == 0) | ~(factor > 0) | ~jnp.isfinite(factor))
    return Rescaling(factor, bias, error, is_impossible, {"std": std, "factor": factor})


def _centred(x: jax.Array) -> jax.Array:
    return x - jnp.mean(x)


def _orthonormal(variables: Any, layers: Sequence[Layer]) -> Any:
    """Replace each kernel, a (fan_in, units) matrix U S V^T, by its polar factor U V^T.

    The axes of scans are independent matrices.
    """
    flat, tree = jax.tree.flatten(variables)
    for layer in layers:
        kernel = flat[layer.kernel]
        front, count = in_front(kernel, layer), len(axes_of(layer))
        lengths, inside = front.shape[:count], front.shape[count:]
        units = max(1, len(layer.units))
        rows = math.prod(inside[: len(inside) - units])
        matrix = front.reshape(*lengths, rows, -1).astype(np.float32)
        u, _, vt = jnp.linalg.svd(matrix, full_matrices=False)
        factor = (u @ vt).reshape(front.shape).astype(kernel.dtype)
        flat[layer.kernel] = placed(put_back(factor, layer), kernel)
    return jax.tree.unflatten(tree, flat)
