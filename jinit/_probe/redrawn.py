"""`compare` draws the kernels of a network anew under a scheme."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from .._core import trees
from .._initializer.foreign import with_axes
from .._network.behavior import key_of
from .._network.kernel_axes import kernel_axes
from .._network.record import Network
from .made import Made

# A drawn leaf: its number, its path, its initializer, shape and dtype.
_Drawn = tuple[int, tuple[str, ...], Any, tuple[int, ...], Any]


def redrawn(net: Network, scheme: Any) -> Made:
    """Return how the kernels of a network are drawn; all other parameters stay.

    Kernels are the parameters that a product or a convolution multiplies data with. The
    key of each is the root key folded with its path, as in a plan.

    Raises:
      TypeError: if the scheme is no initializer.
      ValueError: if the network has no kernels, or the scheme needs axes that the
        network does not show.
    """
    if not callable(scheme):
        raise TypeError(
            f"the scheme {scheme!r} is of type {type(scheme).__name__}; to compare "
            "schemes in a Network, each must be an initializer or the name of one."
        )
    kernels = tuple(_kernels(net, scheme))
    if not kernels:
        raise ValueError(
            "the network has no kernels: no parameter is multiplied with data. Pass a "
            "function of a scheme that makes the model instead."
        )
    key = functools.partial(key_of, "redrawn", kernels)
    return Made(_start(kernels), functools.partial(_called, net, kernels), key)


def _kernels(net: Network, scheme: Any) -> Iterator[_Drawn]:
    leaves = trees.leaves(net.params)
    for number, path in enumerate(net.paths):
        one = net.parameters[path]
        if one.roles & {"matrix", "convolution"} and "embedding" not in one.roles:
            try:
                init = with_axes(scheme, kernel_axes(one))
            except ValueError as error:
                raise ValueError(f"for the kernel {path}: {error}") from error
            yield number, leaves[number].parts, init, one.shape, one.dtype


def _start(kernels: tuple[_Drawn, ...]) -> Callable[..., Any]:
    def start(key: jax.Array) -> list[jax.Array]:
        return [
            init(trees.key_of(key, parts), shape, dtype)
            for _, parts, init, shape, dtype in kernels
        ]

    return start


def _called(
    net: Network, kernels: tuple[_Drawn, ...], drawn: list[jax.Array]
) -> tuple[Network, tuple[Any, ...]]:
    """Return the network with kernels that were drawn, and no arguments."""
    flat, structure = jax.tree.flatten(net.params)
    for (number, *_), array in zip(kernels, drawn, strict=True):
        flat[number] = array
    return net.replace(jax.tree.unflatten(structure, flat)), ()
