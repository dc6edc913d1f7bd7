"""Gains of weight-normalized layers are set from a batch, or from kernels' norms."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks, trees
from .._core.patterns import PatternLike
from .._network.calling import network_of, rebuilt
from .._network.layers import layers_of, placed, scan_axes
from .._network.reader.records import Adjustable
from .._schemes.distributions import normal
from .history import History
from .left import left_of
from .unit_statistics import DRAWN, set_units

# The std of directions v in the paper.
_V_STD = 0.05


def weight_norm_init(
    model: Any,
    *arguments: Any,
    key: Any = None,
    tol: float = 0.01,
    max_iter: int = 10,
    skip: PatternLike = (),
    rngs: Any = None,
    **options: Any,
) -> tuple[Any, History]:
    """Set gains and biases of weight-normalized layers from a batch.

    For a unit with weights w = g v / |v|, and t = v x / |v|: g = 1 / std(t) and b =
    -mean(t) / std(t), so that the unit has mean 0 and variance 1 over this batch. In a
    layer inside of `flax.linen.WeightNorm` the gain g is its scale. In any other layer
    the product g v / |v| becomes the kernel. Pass more than a few examples, since the
    statistics are those of the batch.

    Args:
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`.
      key: a key to draw v from N(0, 0.05^2), as the paper does; by default v stays as
        it was drawn.
      tol: the error of a unit's mean and std that is accepted.
      max_iter: the largest number of passes that change something.
      skip: patterns of the paths of layers to leave as they are.
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      The variables, or the model, with new numbers, and a `History`: means, stds, and
      the least and largest gain g.

    Raises:
      TypeError: as for `jinit.network`, or if shapes came where numbers are needed.
      ValueError: if no layer can be set, or a layer's output is not finite. The text
        names the layer, and nothing is changed.

    Example:
      >>> import flax.linen as nn, jax, jinit
      >>> class Net(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x):
      ...         return nn.WeightNorm(nn.Dense(8))(x)
      >>> x = 3 + jax.random.normal(jax.random.key(0), (256, 16))
      >>> variables = Net().init(jax.random.key(1), x)
      >>> variables, history = jinit.weight_norm_init(Net(), variables, x)
      >>> bool((abs(Net().apply(variables, x).std(0) - 1) < 0.01).all())
      True

    References:
      Salimans and Kingma, "Weight normalization: a simple reparameterization to
        accelerate training of deep neural networks", NeurIPS 2016.
    """
    net = network_of(model, arguments, rngs, options, "weight_norm_init")
    start = net.params
    if key is not None:
        checks.key(key)
        start = _redrawn(start, layers_of(net, skip), key)
    task, passed = set_units(net, start, tol, max_iter, skip)
    params, rows = passed.params, passed.rows
    gains = (
        {"step": rows[-1]["step"], "path": layer.path, **_gain(layer, params)}
        for layer in task.layers
    )
    left = left_of(net, task.layers, passed.reasons)
    history = History("weight_norm_init", (*rows, *gains), DRAWN, tuple(left), left)
    return rebuilt(net, params), history


def _redrawn(params: Any, layers: Sequence[Adjustable], key: jax.Array) -> Any:
    """Draw every kernel from N(0, 0.05^2), with the key of its path."""
    leaves, (flat, tree) = trees.leaves(params), jax.tree.flatten(params)
    for layer in layers:
        number = layer.kernel.number
        kernel = flat[number]
        kernel_key = trees.key_of(key, leaves[number].parts)
        drawn = normal(_V_STD)(kernel_key, kernel.shape, kernel.dtype)
        flat[number] = placed(drawn, kernel)
    return jax.tree.unflatten(tree, flat)


def _gain(layer: Adjustable, params: Any) -> dict[str, float]:
    """Return the least and the largest gain g of a layer.

    Without a WeightNorm the gains are the norms of the kernel's columns.
    """
    leaf = jax.tree.leaves(params)[layer.scale.number]
    scale = jnp.asarray(leaf, np.float32)
    if layer.scale == layer.kernel:
        kept = {axis for _, axis in layer.kernel.dims} | set(scan_axes(layer.kernel))
        others = tuple(axis for axis in range(scale.ndim) if axis not in kept)
        scale = jnp.sqrt(jnp.sum(scale**2, others))
    return {"least_gain": float(scale.min()), "largest_gain": float(scale.max())}


_SCALE = "/scale"


def weight_norm_scales(
    params: Any, *, feature_axes: int | tuple[int, ...] | None = -1
) -> Any:
    """Set every scale of `flax.linen.WeightNorm` to the norm of its kernel: g = |v|.

    A layer inside of WeightNorm has the kernel g v / |v|, and Flax starts g at 1, which
    loses the scale of v's initializer. With g = |v| the model starts as the same model
    without WeightNorm. Draw v by a plan: Flax's `init` returns v / |v|, whose norm is
    1. To set g from a batch, call `jinit.weight_norm_init`.

    Args:
      params: the variables or the parameters of a Linen model, drawn by a plan.
      feature_axes: the argument of WeightNorm with the same name.

    Returns:
      A new tree: `params` with the new scales.

    Raises:
      ValueError: if the tree has no such scales, a scale has no kernel, or the shapes
        do not agree with `feature_axes`.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> layer, x, key = nn.Dense(8), jnp.ones((2, 16)), jax.random.key(0)
      >>> model = nn.WeightNorm(layer)
      >>> shapes = jax.eval_shape(model.init, key, x)
      >>> plan = jinit.plan(shapes, [("**/kernel", jinit.he()), ("**", jinit.ones)])
      >>> variables = jinit.weight_norm_scales(plan.init(key))
      >>> same = layer.apply({"params": variables["params"]["layer_instance"]}, x)
      >>> bool(jnp.allclose(model.apply(variables, x), same, rtol=1e-5))
      True

    References:
      Salimans and Kingma, "Weight normalization: a simple reparameterization to
        accelerate training of deep neural networks", NeurIPS 2016.
    """
    leaves = trees.leaves(params)
    numbers = {leaf.path: number for number, leaf in enumerate(leaves)}
    flat, tree = jax.tree.flatten(params)
    scales = [n for n, leaf in enumerate(leaves) if _is_scale(leaf)]
    if not scales:
        raise ValueError(
            "`params` has no scale of a flax.linen.WeightNorm: a leaf beside the layer "
            "with a name such as 'Dense_0/kernel/scale'."
        )
    for number in scales:
        leaf = leaves[number]
        kernel = leaves[_kernel_of(leaf, numbers)]
        norm = _norm(kernel.path, kernel.value, leaf.value, feature_axes)
        flat[number] = placed(norm, flat[number])
    return jax.tree.unflatten(tree, flat)


def _is_scale(leaf: trees.Leaf) -> bool:
    """Tell whether a leaf is a scale: its last part is the whole path of a kernel."""
    name = leaf.parts[-1] if leaf.parts else ""
    return name.endswith(_SCALE) and name.count("/") > 1


def _kernel_of(leaf: trees.Leaf, numbers: dict[str, int]) -> int:
    """Return the number of the leaf that is the kernel of a scale.

    The layer lies beside the WeightNorm, whose name is the last part but one. It lies
    inside if the WeightNorm is the whole model, or got its layer in `setup`.
    """
    name = leaf.parts[-1].removesuffix(_SCALE)
    beside = ["/".join((*leaf.parts[:end], name)) for end in (-1, -2)]
    paths = list(dict.fromkeys(beside))
    kernels = [numbers[path] for path in paths if path in numbers]
    if len(kernels) != 1:
        raise ValueError(
            f"`params` has the scale {leaf.path!r}, which is the norm of the kernel at "
            f"{' or '.join(map(repr, paths))}, and {len(kernels)} of these; pass the "
            "whole tree of one model."
        )
    return kernels[0]


def _norm(path: str, kernel: Any, scale: Any, feature_axes: Any) -> jax.Array:
    """Return the norm of each unit of a kernel, in the dtype of its scale."""
    features = () if feature_axes is None else feature_axes
    # Flax takes the sizes in the order of the kernel's axes.
    kept = sorted(checks.axes("feature_axes", features, kernel.ndim, kernel.shape))
    sizes = tuple(kernel.shape[axis] for axis in kept)
    if sizes != tuple(scale.shape):
        raise ValueError(
            f"`feature_axes` is {feature_axes!r}, by which the scale of {path!r}, of "
            f"shape {kernel.shape}, would have shape {sizes}, and it has shape "
            f"{scale.shape}; pass the `feature_axes` of the WeightNorm."
        )
    others = tuple(axis for axis in range(kernel.ndim) if axis not in kept)
    kernel = jnp.asarray(kernel)
    wide = jnp.abs(kernel.astype(jnp.promote_types(kernel.dtype, np.float32)))
    # The square of the largest entry may overflow, so the kernel is divided by it.
    largest = jnp.max(wide, others, keepdims=True, initial=0)
    unit = jnp.where(largest > 0, largest, 1)
    norm = jnp.sqrt(jnp.sum((wide / unit) ** 2, others)) * unit.reshape(sizes)
    return norm.astype(scale.dtype)
