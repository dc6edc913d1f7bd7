"""A layer inside of a scan is a stack, whose parameters have an axis for its steps."""

import jax
import jax.numpy as jnp

from .._network.layers import Layer


def axes_of(layer: Layer) -> list[int]:
    """Return the axes of a layer's parameters that run over the steps of scans."""
    return [axis for axis in layer.axes if axis is not None]


def in_front(leaf: jax.Array, layer: Layer) -> jax.Array:
    """Return a parameter with the axes of the scans before its other axes."""
    axes = axes_of(layer)
    return jnp.moveaxis(leaf, axes, range(len(axes)))


def put_back(leaf: jax.Array, layer: Layer) -> jax.Array:
    """Undo `in_front`."""
    axes = axes_of(layer)
    return jnp.moveaxis(leaf, range(len(axes)), axes)


def times(leaf: jax.Array, layer: Layer, factor: jax.Array) -> jax.Array:
    """Multiply a layer's parameter by one factor for each step of a stack, or unit."""
    front, count = in_front(leaf, layer), len(axes_of(layer))
    inside = front.ndim - count
    # A factor with more axes than the stack has one entry for each unit as well.
    units = {axis % inside for axis in layer.units} if factor.ndim > count else set()
    shape = [front.shape[count + i] if i in units else 1 for i in range(inside)]
    factor = factor.reshape(*front.shape[:count], *shape)
    return put_back((front * factor).astype(leaf.dtype), layer)


def units_of(leaf: jax.Array, layer: Layer) -> tuple[int, ...]:
    """Return the lengths of the axes of a scale that the units lie along."""
    inside = in_front(leaf, layer).shape[len(axes_of(layer)) :]
    return tuple(inside[axis] for axis in layer.units)


def path_of(layer: Layer, step: tuple[int, ...]) -> str:
    """Return the path of a layer, or of one step of a stack, such as "block[3]"."""
    return layer.path + "".join(f"[{i}]" for i in step)
