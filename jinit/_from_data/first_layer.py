"""`whiten_first_layer` sets the first layer of a model to whiten its input."""

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
from .stacks import units_of


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

    Let E be the eigenvectors, and lambda the eigenvalues, the largest first, of the
    second moments about zero of the layer's inputs (of their patches, for a
    convolution). The first filters become E / sqrt(lambda + eps), followed by the same
    filters with the other sign, for relu. The bias becomes 0. A layer with fewer units
    keeps the leading directions; a layer with more units keeps its other filters as
    they were drawn.

    Args:
      model: a Linen module, or a function of (variables, batch). For an NNX model call
        `jinit.nnx.whiten_first_layer`.
      variables: the variables of the Linen module, or the function's tree.
      batch: the input, an array, or a tuple of several inputs. It needs at least as
        many inputs (or patches) as each has values, and better many times that.
      eps: a number that is added to the eigenvalues, since smaller ones are noise.
      signs: whether every filter comes with both signs.
      rngs: for a Linen module, the keys of its streams, such as dropout's.
      **options: more arguments of the model, such as `train=True`.

    Returns:
      New variables, and a `History` of the eigenvalue that each filter whitens.

    Raises:
      TypeError: if `model` is neither a Linen module nor a function.
      ValueError: if there are too few inputs, or the first layer is dilated, grouped,
        inside of a scan, or in a function or a jit, where its input is not visible.

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
      Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2024.
      Coates and Ng, "Learning feature representations with K-means", Neural Networks:
        Tricks of the Trade 2012.
    """
    called = network.called(
        model, variables, batch, rngs, options, "whiten_first_layer"
    )
    eps = checks.real("eps", eps, minimum=0.0)
    signs = checks.boolean("signs", signs)
    trace = called.traced()
    calls_by_path = network.module_calls(trace)
    layer = layers_of(tapped(trace), called.variables, calls_by_path, ())[0]
    rows = _inputs(layer, called, calls_by_path)
    flat, tree = jax.tree.flatten(called.variables)
    kernel = flat[layer.kernel]
    (units,) = units_of(kernel, layer)
    filters = whitening_filters(rows, eps)
    filters = filters[:, : units // 2 if signs else units]
    both = np.concatenate([filters, -filters], 1) if signs else filters
    # Units that get no filter keep the columns that were drawn.
    columns = np.array(kernel, np.float64).reshape(-1, units)
    columns[:, : both.shape[1]] = both
    whitened = jnp.asarray(columns.reshape(kernel.shape), kernel.dtype)
    flat[layer.kernel] = placed(whitened, kernel)
    if layer.bias is not None:
        flat[layer.bias] = jnp.zeros_like(flat[layer.bias])
    variances = np.mean((rows @ filters) ** 2, 0)
    history = tuple(
        {"step": i + 1, "variance": float(value)} for i, value in enumerate(variances)
    )
    variables = jax.tree.unflatten(tree, flat)
    return variables, History("whiten_first_layer", history, ("variance",))


def _inputs(
    layer: Layer, called: network.Called, calls_by_path: dict[str, calls.ModuleCall]
) -> np.ndarray:
    """Return the inputs of the first layer as rows, each as long as a filter."""
    if _is_hidden(layer, calls_by_path):
        raise ValueError(
            f"the first layer, {layer.path}, belongs to a function, a scan or a vmap, "
            "or has a weight norm, so its input or its filters cannot be reached. "
            "Use jinit.whitening_conv(patches)."
        )
    # A trace holds no arrays, so the model runs once more to see its inputs.
    called.calls.clear()
    called.forward(called.variables, called.beside)
    call = called.calls[layer.path]
    if not call.inputs:
        raise ValueError(
            f"the first layer, {layer.path}, is called inside of a jit, where its "
            "input is not visible. Use jinit.whitening_conv(patches)."
        )
    name = trees.leaves(called.variables)[layer.kernel].parts[-1]
    return _rows(layer.path, call, call.shapes[name])


def _rows(path: str, call: calls.ModuleCall, shape: tuple[int, ...]) -> np.ndarray:
    """Return the inputs of a call as rows, each as long as a filter of a kernel."""
    x = np.asarray(call.inputs[0], np.float64)
    if len(shape) == 2 and x.shape[-1] == shape[0]:
        return _finite(x.reshape(-1, shape[0]))
    is_image = len(shape) == 4 and x.ndim == 4 and x.shape[-1] == shape[2]
    if not (is_image and call.is_plain):
        raise ValueError(
            f"the first layer, {path}, has a kernel of shape {shape} and an "
            f"input of shape {x.shape}; whitening is for dense layers and convolutions "
            "of images (batch, height, width, channels) without dilation and groups, "
            "not transposed. Use jinit.whitening_conv(patches)."
        )
    patches = patches_of(images_of(x), (shape[0], shape[1]))
    return patches.reshape(len(patches), -1)


def _is_hidden(layer: Layer, calls_by_path: dict[str, calls.ModuleCall]) -> bool:
    is_alone = not layer.axes and not layer.is_mapped
    is_called = layer.path in calls_by_path
    return not is_called or not is_alone or layer.scale != layer.kernel


def _finite(x: np.ndarray) -> np.ndarray:
    if not np.isfinite(x).all():
        raise ValueError(
            "the input of the first layer has values that are not finite; look at the "
            "batch."
        )
    return x
