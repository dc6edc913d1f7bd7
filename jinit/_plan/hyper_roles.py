"""In a network the parameters of hyper-connections are read from equations.

A learned number scales what a dynamic kernel computes from the streams, and a static
parameter is added to it: alpha of shape (n, 1 + n), or beta of shape (n,).
"""

from collections.abc import Mapping
from typing import NamedTuple

from .._network.reader.factors import MULTIPLIES_DATA
from .._network.reader.records import Parameter
from .._network.record import Network


class HyperParts(NamedTuple):
    """A HyperParts has the paths of the parameters of all hyper-connections.

    `alphas` has for each static alpha its place in the order of execution, and the axis
    that counts scanned layers, or None.
    """

    alphas: Mapping[str, tuple[int, int | None]]
    betas: frozenset[str]
    kernels: frozenset[str]
    scales: frozenset[str]
    # The number of hyper-connections in one step of a scan.
    per_step: int


def hyper_parts(net: Network) -> HyperParts:
    """Return the parameters of the hyper-connections of a network."""
    # Path of a dynamic kernel -> path of the learned number that scales its results.
    scales = {p.inputs[0]: p.path for p in net.parameters.values() if _is_scale(net, p)}
    added = {
        p.path: p.inputs[0]
        for p in net.parameters.values()
        if "bias" in p.roles and len(p.inputs) == 1 and p.inputs[0] in scales
    }
    alphas = [path for path in added if _is_alpha(net, net.parameters[path])]
    streams = {net.parameters[added[path]].inputs for path in alphas}
    fixed = {p: k for p, k in added.items() if net.parameters[k].inputs in streams}
    axes = {path: _scanned_axis(net.parameters[path]) for path in alphas}
    per_step = sum(axis is not None for axis in axes.values())
    return HyperParts(
        {path: (place, axes[path]) for place, path in enumerate(alphas)},
        frozenset(fixed) - set(alphas),
        frozenset(fixed.values()),
        frozenset(scales[kernel] for kernel in fixed.values()),
        max(per_step, 1),
    )


def _is_scale(net: Network, p: Parameter) -> bool:
    """Tell whether a parameter is one number that scales the results of one kernel."""
    if p.reason != MULTIPLIES_DATA or len(p.inputs) != 1:
        return False
    kernel = net.parameters.get(p.inputs[0])
    # A scan over layers has one number for each layer.
    return kernel is not None and "matrix" in kernel.roles and p.size == kernel.members


def _is_alpha(net: Network, p: Parameter) -> bool:
    streams, columns = p.shape[-2:] if p.ndim > 1 else (0, 0)
    kernel = net.parameters[p.inputs[0]]
    return 0 < streams < columns and kernel.shape[-1] == columns


def _scanned_axis(p: Parameter) -> int | None:
    return 0 if p.ndim == 3 else None
