"""Layers whose outputs can be set are chosen, and their parameters take their axes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._core import patterns, trees
from .._core.patterns import PatternLike
from .reader.records import Adjustable, Parameter, Part, Tap
from .record import Network


def layers_of(net: Network, skip: PatternLike) -> list[Adjustable]:
    """Return the layers in the order of execution, without those that `skip` matches.

    Raises:
      ValueError: if no layer is left, or a pattern of `skip` matches no layer.
    """
    layers = list(net._read.reading.adjustable)
    if not layers:
        raise ValueError(
            "the model has no layer to set. A layer is a product of data with a "
            "parameter, outside of `cond` and `while`, whose output follows the "
            "parameter. print(jinit.network(model, *arguments)) shows how the model "
            "uses each parameter."
        )
    skipped = patterns.skipped(skip, [_leaf(net, layer) for layer in layers])
    kept = [layer for layer, skips in zip(layers, skipped, strict=True) if not skips]
    if not kept:
        paths = [layer.path for layer in layers]
        raise ValueError(
            f"`skip` matches all layers, {paths}, so that no layer is left to set. "
            "Change `skip` so that it leaves one."
        )
    return kept


def _leaf(net: Network, layer: Adjustable) -> trees.Leaf:
    """Return the path of a layer, with its kernel and the kernel's roles."""
    number = layer.kernel.number
    parameter = net.parameters[net.paths[number]]
    leaf = jax.tree.leaves(net.params)[number]
    return trees.Leaf(tuple(layer.path.split("/")), leaf, parameter.roles)


def weights_by_layer(net: Network) -> dict[str, str]:
    """Return the path of the weight of each layer, by the layer's name."""
    reading = net._read.reading
    return {
        reading.taps[product.output].name: reading.layers[product.layer].path
        for product in reading.products
    }


def readouts_of(net: Network) -> dict[str, str]:
    """Return the path of the weight of each layer that gives the output."""
    paths = net.paths
    kernels = {
        layer.path: paths[layer.kernel.number] for layer in net._read.reading.adjustable
    }
    return {
        layer: path
        for layer, path in kernels.items()
        if "readout" in net.parameters[path].roles
    }


def with_taps(
    net: Network, layers: Sequence[Adjustable]
) -> tuple[list[Adjustable], tuple[Tap, ...]]:
    """Return layers with the taps of their outputs alone, numbered anew."""
    every = net._read.reading.taps
    numbers = sorted(number for layer in layers for number in layer.taps)
    renumber = {number: i for i, number in enumerate(numbers)}.__getitem__
    renumbered = [
        layer._replace(taps=tuple(map(renumber, layer.taps))) for layer in layers
    ]
    return renumbered, tuple(every[number] for number in numbers)


def left_by(layers: Sequence[Adjustable], net: Network) -> tuple[str, ...]:
    """Return the paths of the weights that lie in none of some layers.

    A parameter counts as a weight if it has two axes or more beside those of scans, is
    not the bias of a layer, and has another role than "scale".
    """
    reading = net._read.reading
    parts = [part for layer in layers for part in (layer.kernel, layer.scale)]
    in_layers = {part.number for part in parts} | reading.biases
    paths = net.paths
    return tuple(
        paths[number]
        for number, parameter in _by_number(net)
        if number not in in_layers
        and reading.inner_axes[number] > 1
        and parameter.roles != {"scale"}
        and not _is_vector(parameter)
    )


def _is_vector(parameter: Parameter) -> bool:
    """Tell whether a parameter is a bias, kept with axes of one entry as in Haiku."""
    is_added = parameter.roles == {"bias"}
    return is_added and sum(size > 1 for size in parameter.shape) < 2


def _by_number(net: Network) -> Any:
    return ((i, net.parameters[path]) for i, path in enumerate(net.paths))


def placed(new: jax.Array, old: Any) -> jax.Array:
    """Return a new parameter on the devices, and in the parts, of the old one."""
    sharding = getattr(old, "sharding", None)
    if sharding is not None and not sharding.is_equivalent_to(new.sharding, new.ndim):
        new = jax.device_put(new, sharding)
    return new


def scan_axes(part: Part) -> list[int]:
    """Return the axes of a parameter that run over the steps of scans."""
    return [axis for axis in part.scans if axis is not None]


def in_front(leaf: jax.Array, part: Part) -> jax.Array:
    """Return a parameter with the axes of the scans before its other axes."""
    axes = scan_axes(part)
    return jnp.moveaxis(leaf, axes, range(len(axes)))


def put_back(leaf: jax.Array, part: Part) -> jax.Array:
    """Undo `in_front`."""
    axes = scan_axes(part)
    return jnp.moveaxis(leaf, range(len(axes)), axes)


def as_output(leaf: jax.Array, part: Part, ndim: int) -> jax.Array:
    """Return a parameter with the dimensions of an output, after those of scans.

    Its axes that are no dimensions of the output must have one entry.
    """
    front, count = in_front(leaf, part), len(scan_axes(part))
    inner = _axes_inside(part, front.ndim)
    order = [*range(count), *(count + axis for _, axis in inner)]
    rest = [axis for axis in range(front.ndim) if axis not in order]
    sizes = dict.fromkeys(range(ndim), 1)
    sizes |= {dim: front.shape[count + axis] for dim, axis in inner}
    moved = jnp.transpose(front, (*order, *rest))
    return moved.reshape(*front.shape[:count], *sizes.values())


def from_output(value: jax.Array, leaf: jax.Array, part: Part) -> jax.Array:
    """Undo `as_output`: return a value with the shape of a parameter."""
    front, count = in_front(leaf, part), len(scan_axes(part))
    # Pairs are in the order of the dimensions. A parameter may have another order.
    inner = _axes_inside(part, front.ndim)
    dims = [dim for dim, _ in sorted(inner, key=lambda pair: pair[1])]
    gone = [d for d in range(value.ndim - count) if d not in dims]
    kept = jnp.squeeze(value, tuple(count + d for d in gone))
    ranks = [sorted(dims).index(dim) for dim in dims]
    kept = jnp.transpose(kept, (*range(count), *(count + rank for rank in ranks)))
    return put_back(kept.reshape(front.shape).astype(leaf.dtype), part)


def times(leaf: jax.Array, part: Part, factor: jax.Array) -> jax.Array:
    """Multiply a parameter by a factor with the dimensions of an output.

    The factor begins with the lengths of the scans that the parameter has an axis for.
    It has one entry along each dimension that is no axis of the parameter.
    """
    front, count = in_front(leaf, part), len(scan_axes(part))
    shape = [1] * (front.ndim - count)
    for dim, axis in _axes_inside(part, front.ndim):
        shape[axis] = factor.shape[count + dim] if factor.ndim > count else 1
    inner = sorted(_axes_inside(part, front.ndim), key=lambda pair: pair[1])
    if factor.ndim > count:
        others = set(range(factor.ndim - count)) - {dim for dim, _ in inner}
        order = [*(dim for dim, _ in inner), *sorted(others)]
        factor = jnp.transpose(factor, (*range(count), *(count + d for d in order)))
    factor = factor.reshape(*front.shape[:count], *shape)
    return put_back((front * factor).astype(leaf.dtype), part)


def _axes_inside(part: Part, ndim: int) -> list[tuple[int, int]]:
    """Return the pairs of dimensions and axes, counting no axes of scans."""
    rest = [axis for axis in range(ndim) if axis not in scan_axes(part)]
    return [(dim, rest.index(axis)) for dim, axis in part.dims]


def path_of(layer: Adjustable, step: tuple[int, ...]) -> str:
    """Return the path of a layer, of a step of its scan, or of a member.

    A step is named as in "block[3]", and a member, such as an expert, as in
    "wi[member 2]": the indices of a probe's rows are those of scans alone.
    """
    count = len(scan_axes(layer.kernel))
    scans = [f"[{i}]" for i in step[:count]]
    members = [f"[member {i}]" for i in step[count:]]
    return layer.path + "".join(scans + members)
