"""The first layer of a model whitens what it is given."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks, trees
from .._network import calls, network
from .._network.layers import Layer, layers_of, placed
from .._network.taps import tapped
from .._schemes.whitening import images_of, patches_of, whitening_filters
from .history import History
from .layerwise import units_of


@network.function_of_a_model
def whiten_first_layer(
    model: Any,
    variables: Any,
    batch: Any,
    *,
    eps: float = 5e-4,
    signs: bool = True,
    rngs: Any = None,
    **options: Any,
) -> tuple[Any, History]:
    """Set the first layer to whiten its input: responses uncorrelated, of variance 1.

    The second moments of the layer's inputs, for a convolution of their patches, about
    zero, have eigenvectors E with eigenvalues lambda, the largest first. The first
    filters become E / sqrt(lambda + eps), followed by the same with the other sign, for
    relu; the bias becomes 0. Where the layer has fewer units than that, the leading
    directions are kept; where it has more, the others stay as they were drawn.

    Args:
      model: a Linen module, or a function of (variables, batch).
      variables: what it takes.
      batch: its input, an array, or a tuple of several; at least as many inputs, or
        patches, as each has values, and better many times that.
      eps: what is added to the eigenvalues: smaller ones are noise.
      signs: whether every filter comes with both signs.
      rngs: for a Linen module, the keys of dropout and the like.
      **options: more arguments of the model, as `train=True`.

    Returns:
      New variables, and a `History` of the eigenvalue that each filter whitens.

    Raises:
      TypeError: for something that is neither a module nor a function.
      ValueError: for too few inputs, a first layer that is dilated, grouped or inside
        of a scan, or one whose input cannot be seen, as in a function.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> x = jax.random.normal(jax.random.key(0), (512, 8))
      >>> x = x @ jnp.diag(jnp.arange(1, 9))
      >>> model = nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(4)])
      >>> variables = model.init(jax.random.key(1), x)
      >>> variables, history = jinit.whiten_first_layer(model, variables, x, eps=0)
      >>> y = x @ variables["params"]["layers_0"]["kernel"][:, :8]
      >>> bool(jnp.allclose(y.T @ y / 512, jnp.eye(8), atol=1e-3))
      True

    References:
      Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024. Coates and Ng,
      "Learning feature representations with K-means", 2012.
    """
    called = network.called(
        model, variables, batch, rngs, options, "whiten_first_layer"
    )
    return whitened(called, eps, signs)


def whitened(called: network.Called, eps: float, signs: bool) -> tuple[Any, History]:
    """Run `whiten_first_layer` on a model whose layers' outputs are named."""
    eps = checks.real("eps", eps, minimum=0.0)
    signs = checks.boolean("signs", signs)
    variables, trace = called.variables, called.traced()
    layer = layers_of(tapped(trace), variables, network.module_calls(trace), ())[0]
    name = trees.leaves(variables)[layer.kernel].parts[-1]
    rows = _inputs(layer, name, called, network.module_calls(trace))
    flat, tree = jax.tree.flatten(variables)
    kernel = flat[layer.kernel]
    (units,) = units_of(kernel, layer)
    filters = whitening_filters(rows, eps)
    filters = filters[:, : units // 2 if signs else units]
    both = np.concatenate([filters, -filters], 1) if signs else filters
    new = np.array(kernel, np.float64).reshape(-1, units)
    new[:, : both.shape[1]] = both
    whole = jnp.asarray(new.reshape(kernel.shape), kernel.dtype)
    flat[layer.kernel] = placed(whole, kernel)
    if layer.bias is not None:
        flat[layer.bias] = jnp.zeros_like(flat[layer.bias])
    values = np.mean((rows @ filters) ** 2, 0)
    told = ({"step": i + 1, "variance": float(value)} for i, value in enumerate(values))
    variables = jax.tree.unflatten(tree, flat)
    return variables, History("whiten_first_layer", tuple(told), ("variance",))


def _inputs(
    layer: Layer, name: str, called: network.Called, traced: dict[str, calls.ModuleCall]
) -> np.ndarray:
    """What the first layer is given, as rows, each as long as a filter."""
    if _is_hidden(layer, traced):
        raise ValueError(
            f"the first layer, {layer.path}, is one of a function, of a scan or "
            "a vmap, or has a weight norm: its input or its filters cannot be set so. "
            "Use jinit.whitening_conv(patches)."
        )
    called.calls.clear()
    called.forward(called.variables, called.beside)
    met = called.calls[layer.path]
    if not met.inputs:
        raise ValueError(
            f"the first layer, {layer.path}, is called inside of a jit, where its "
            "input cannot be seen. Use jinit.whitening_conv(patches)."
        )
    x = np.asarray(met.inputs[0], np.float64)
    shape = met.shapes[name]
    if len(shape) == 2 and x.shape[-1] == shape[0]:
        return _finite(x.reshape(-1, shape[0]))
    is_image = len(shape) == 4 and x.ndim == 4 and x.shape[-1] == shape[2]
    if not (is_image and met.is_plain):
        raise ValueError(
            f"the first layer, {layer.path}, has a kernel of shape {shape} and an "
            f"input of shape {x.shape}; whitening is for dense layers and convolutions "
            "of images (batch, height, width, channels) without dilation and groups, "
            "not transposed."
        )
    patches = patches_of(images_of(x), (shape[0], shape[1]))
    return patches.reshape(len(patches), -1)


def _is_hidden(layer: Layer, seen: dict[str, calls.ModuleCall]) -> bool:
    is_alone = not layer.axes and not layer.is_mapped
    return layer.path not in seen or not is_alone or layer.scale != layer.kernel


def _finite(x: np.ndarray) -> np.ndarray:
    if not np.isfinite(x).all():
        raise ValueError("the first layer's input has values that are not finite.")
    return x
