"""WeightNorm's scales are set so that a model starts as the one without it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _checks, _paths
from ._weights import placed

_SCALE = "/scale"


def weight_norm_scales(
    params: Any, *, feature_axes: int | tuple[int, ...] | None = -1
) -> Any:
    """Set every scale of `flax.linen.WeightNorm` to the norm of its kernel: g = |v|.

    A layer inside of WeightNorm has the kernel g v / |v|, and Flax starts g at 1, which
    throws away the scale of v's initializer. With g = |v| the model starts as the one
    without WeightNorm. Draw v by a plan: Flax's `init` returns v / |v|, whose norm is
    1. To set g from a batch, use `jinit.weight_norm_init`.

    Args:
      params: the variables or the parameters of a Linen model, drawn by a plan.
      feature_axes: the argument of the same name of WeightNorm.

    Returns:
      A new tree: `params` with the new scales.

    Raises:
      ValueError: for a tree without such scales, a scale without its kernel, or shapes
        that do not agree with `feature_axes`.

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
      accelerate training of deep neural networks", 2016.
    """
    leaves = _paths.leaves(params)
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


def _is_scale(leaf: _paths.Leaf) -> bool:
    """Tell whether a leaf is a scale: its last part is the whole path of a kernel."""
    name = leaf.parts[-1] if leaf.parts else ""
    return name.endswith(_SCALE) and name.count("/") > 1


def _kernel_of(leaf: _paths.Leaf, numbers: dict[str, int]) -> int:
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
    kept = sorted(_checks.axes("feature_axes", features, kernel.ndim, kernel.shape))
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
