"""A law is a known formula that gives the std of one parameter."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ..._network.record import Network
from ..._scale.gains import gain

FAMILIES = ("normal", "truncated normal", "uniform")


class Law(NamedTuple):
    """A Law is a formula with the std that it gives for one parameter."""

    text: str
    std: float
    # The evidence that the formula needs beside its std, in halves of squared standard
    # errors: unusual formulas are more often near by chance.
    penalty: float = 0.0
    # The families of distributions that the formula goes with.
    families: tuple[str, ...] = FAMILIES
    # For a formula over axes that the product does not contract: these axes, and what
    # went wrong. `form` names the formula and the place of its axes in all tensors.
    axes: tuple[int, ...] = ()
    mistake: str | None = None
    form: tuple[Any, ...] = ()
    # The factor that the depth of the network gives.
    of_depth: float = 1.0


class Around(NamedTuple):
    """An Around has the facts of a network that the laws of parameters depend on."""

    # The number of residual additions.
    depth: int = 0
    # How often the residual branches are executed, which is the length of their scans.
    lengths: frozenset[int] = frozenset()
    # The outputs of the kernels of recurrent cells, and the cells' hidden units.
    cells: Mapping[int, int] = MappingProxyType({})


def around(net: Network) -> Around:
    """Return the facts of a network that the laws of its parameters depend on."""
    cells = {
        one.fans.fan_out: one.fans.fan_in
        for one in net.parameters.values()
        if "recurrent" in one.roles and one.fans is not None
    }
    lengths = frozenset(branch.count for branch in net.branches)
    return Around(net.depth, lengths, cells)


def gain_of(activation: Any) -> float | None:
    """Return the gain of what a parameter reads, or None where it has none."""
    if activation is None:
        return 1.0
    try:
        return gain(activation)
    except (TypeError, ValueError):
        return None
