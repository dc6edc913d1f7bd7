"""A history lists the weights that a method left as they are, with the reasons."""

from collections.abc import Sequence
from typing import Any

from .._network.layers import left_by, path_of
from .._network.reader.records import Adjustable
from .._network.record import Network
from .troubles import Reasons


def left_of(
    net: Network, layers: Sequence[Adjustable], reasons: Reasons
) -> dict[str, str]:
    """Return the weights that stayed as they were, each with the reason.

    Args:
      net: the network.
      layers: the layers that a method has set, as far as they can be set.
      reasons: why layers, steps and members cannot be set.
    """
    whole = {path: reason for (path, index), reason in reasons.items() if not index}
    some = [layer for layer in layers if layer.path not in whole]
    every = {layer.path: layer for layer in net._read.reading.adjustable}
    left = {}
    for path in left_by(some, net):
        layer = _layer_of(net, path, every)
        left[path] = whole.get(layer, "") or _why(net, path, layer)
    for (layer, index), reason in reasons.items():
        if index:
            left[_part(net, every[layer], index)] = reason
    return left


def _layer_of(net: Network, path: str, layers: dict[str, Adjustable]) -> str:
    """Return the path of the layer whose weight a parameter is, or nothing."""
    number = net.paths.index(path)
    parts = {
        part.number: layer.path
        for layer in layers.values()
        for part in (layer.kernel, layer.scale)
    }
    return parts.get(number, "")


def _why(net: Network, path: str, layer: str) -> str:
    parameter: Any = net.parameters[path]
    if layer:
        return "it was left out"
    if where := dict(net._read.reading.hidden).get(path):
        return f"its layer lies in {where}"
    if parameter.reason is not None:
        return str(parameter.reason)
    if "embedding" in parameter.roles:
        return "it is looked up"
    if "bias" in parameter.roles:
        return "it is added"
    return "the output of its layer does not follow it"


def _part(net: Network, layer: Adjustable, index: tuple[int, ...]) -> str:
    """Return the path of the weight of a step or a member."""
    weight = net.paths[layer.kernel.number]
    return path_of(layer._replace(path=weight), index)
