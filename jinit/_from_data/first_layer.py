"""`whiten_first_layer` sets the first layer of a model to whiten its input."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from .._core import checks
from .._network.calling import network_of, rebuilt
from .._network.equations import CONVOLUTION
from .._network.kept import program
from .._network.layers import layers_of, placed
from .._network.reader.records import Adjustable, Tap
from .._network.record import Network
from .._network.taps import Tapped
from .._schemes.whitening import images_of, patches_of, whitening_filters
from .history import History


def whiten_first_layer(
    model: Any,
    *arguments: Any,
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
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`.
      eps: a number that is added to the eigenvalues, since smaller ones are noise.
      signs: whether every filter comes with both signs.
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      The variables, or the model, with new numbers, and a `History` of the eigenvalue
      that each filter whitens.

    Raises:
      TypeError: as for `jinit.network`, or if shapes came where numbers are needed.
      ValueError: if there are too few inputs, or the first layer is dilated, grouped
        or inside of a scan.

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
    net = network_of(model, arguments, rngs, options, "whiten_first_layer")
    eps = checks.real("eps", eps, minimum=0.0)
    signs = checks.boolean("signs", signs)
    layer = layers_of(net, ())[0]
    kernel = jax.tree.leaves(net.params)[layer.kernel.number]
    rows, order = _inputs(layer, net, kernel)
    filters = whitening_filters(rows, eps)
    (unit,) = (axis for _, axis in layer.kernel.dims)
    units = kernel.shape[unit]
    filters = filters[:, : units // 2 if signs else units]
    both = np.concatenate([filters, -filters], 1) if signs else filters
    # Units that get no filter keep the columns that were drawn.
    columns = np.transpose(np.array(kernel, np.float64), order)
    shape = columns.shape
    columns = columns.reshape(-1, units)
    columns[:, : both.shape[1]] = both
    whitened = np.transpose(columns.reshape(shape), np.argsort(order))
    flat, tree = jax.tree.flatten(net.params)
    flat[layer.kernel.number] = placed(jnp.asarray(whitened, kernel.dtype), kernel)
    if layer.bias is not None:
        number = layer.bias.number
        flat[number] = jnp.zeros_like(flat[number])
    variances = np.mean((rows @ filters) ** 2, 0)
    history = tuple(
        {"step": i + 1, "variance": float(value)} for i, value in enumerate(variances)
    )
    params = jax.tree.unflatten(tree, flat)
    return rebuilt(net, params), History("whiten_first_layer", history, ("variance",))


def _inputs(
    layer: Adjustable, net: Network, kernel: jax.Array
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the inputs of the first layer as rows, each as long as a filter.

    The second result is the order of the kernel's axes that makes it a matrix with a
    column for each unit, whose entries are in the order of a row.
    """
    fed = net._read.reading.inputs[net._read.reading.adjustable.index(layer)]
    is_alone = fed is not None and not fed.tap.scans and not layer.members
    if not is_alone or layer.scale != layer.kernel or len(layer.units or ()) != 1:
        raise ValueError(
            f"the first layer, {layer.path}, is inside of a scan, has several members, "
            "or has a weight norm, so its input or its filters cannot be reached. Use "
            "jinit.whitening_conv(patches)."
        )
    assert fed is not None
    x = _recorded(net, fed.tap)
    eqn = fed.tap.place[-1]
    if eqn.primitive is CONVOLUTION:
        return _patches(layer.path, x, eqn, kernel)
    dims = [dim for dim, _ in sorted(fed.dims, key=lambda pair: pair[1])]
    axes = [axis for _, axis in sorted(fed.dims, key=lambda pair: pair[1])]
    order = (*axes, *(axis for axis in range(kernel.ndim) if axis not in axes))
    if len(order) != len(axes) + 1:
        raise ValueError(
            f"the first layer, {layer.path}, has a kernel of shape {kernel.shape}, and "
            "the axes that it sums over cannot be told. Use "
            "jinit.whitening_conv(patches)."
        )
    rows = np.moveaxis(x, dims, range(x.ndim - len(dims), x.ndim))
    size = math.prod(kernel.shape[axis] for axis in axes)
    return _finite(rows.reshape(-1, size)), order


def _recorded(net: Network, tap: Tap) -> np.ndarray:
    """Return the value of one tap, in a pass through the network."""
    tapped = Tapped(net._read.trace, (tap,))
    bare = tapped.bare

    def record(consts: Any, params: Any, inputs: Any) -> Any:
        # There is nothing to add to the value.
        arguments, nothing = (params, inputs), ((),)
        return bare.run(consts, arguments, nothing, lambda _, x, __: (x, x))[1][0]

    run = program(("input", tapped.form), lambda: record)
    return np.asarray(run(tapped.trace.consts, net.params, net.inputs), np.float64)


def _patches(
    path: str, x: np.ndarray, eqn: JaxprEqn, kernel: jax.Array
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the patches of a plain convolution of images, and the kernel's order."""
    batch, features, *window = eqn.params["dimension_numbers"].lhs_spec
    units, inputs, *taps = eqn.params["dimension_numbers"].rhs_spec
    dilations = (*eqn.params["lhs_dilation"], *eqn.params["rhs_dilation"])
    groups = eqn.params["feature_group_count"], eqn.params["batch_group_count"]
    is_plain = {*dilations, *groups} == {1} and x.ndim == 4
    # A kernel that is transposed before the convolution has another order of axes.
    operand: Any = eqn.invars[1].aval
    if not is_plain or tuple(operand.shape) != kernel.shape:
        raise ValueError(
            f"the first layer, {path}, has a kernel of shape {kernel.shape} and an "
            f"input of shape {x.shape}; whitening is for dense layers and convolutions "
            "of images without dilation and groups, not transposed. Use "
            "jinit.whitening_conv(patches)."
        )
    images = images_of(np.transpose(x, (batch, *window, features)))
    patches = patches_of(images, tuple(kernel.shape[axis] for axis in taps))
    return patches.reshape(len(patches), -1), (*taps, inputs, units)


def _finite(x: np.ndarray) -> np.ndarray:
    if not np.isfinite(x).all():
        raise ValueError(
            "the input of the first layer has values that are not finite; look at the "
            "batch."
        )
    return x
