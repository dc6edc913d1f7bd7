"""Fixup starts residual networks without normalization layers."""

from typing import Any, Unpack

from .._initializer.base import Initializer
from .._network.branches import readout as _readout
from .._plan.rules import OfTree
from .._scale.depth import factor
from .._schemes.constant import zeros
from .._schemes.fan_based import he
from . import _layouts
from ._inside import Rules
from ._layouts import with_layout
from ._roles import Roles, check, kernels, last_layers, role, the_rest


def fixup(
    num_layers: int,
    *,
    branch_layers: int = 2,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Rules:
    """Fixup's: residual networks without normalization.

    In each of L branches of m layers He's std times L^(-1 / (2 m - 2)), and 0 in the
    last; 0 in the readout; He elsewhere. The model brings the scalars: a bias before
    each layer, which starts at 0, and a multiplier ("scale") before the sum, at 1.

    Args:
      num_layers: L, the branches.
      branch_layers: m.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns; residual_outputs, branches and readout are used. By default
        branches are the modules within the model, without layers that are called
        shortcut, downsample, conv_proj, skip or stem; the readout is the last Dense
        outside of all modules, or what is called head, readout, classifier or logits.

    Example:
      >>> import jax, jinit
      >>> shapes = {"p": {"Block_0": {"Dense_0": {"kernel": jax.numpy.ones((8, 8))}}}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.fixup(16)).rows
      >>> row["std"] == 0.25 * (2 / 8) ** 0.5
      True

    References:
      Zhang, Dauphin and Ma, "Fixup initialization: residual learning without
        normalization", ICLR 2019.
    """
    scale = factor("fixup", num_layers, branch_layers=branch_layers)
    check("fixup", roles, "residual_outputs", "branches", "readout")

    def in_branch(path: str, leaf: Any) -> Initializer:
        return scale * he(layout=_layouts.layout(path, leaf.shape, stacked))

    return [
        *last_layers(roles, zeros, branch_layers),
        *role(roles, "readout", [OfTree(_readout)]).rules(zeros),
        *role(roles, "branches").rules(in_branch),
        *kernels(with_layout(he, stacked)),
        *the_rest(),
    ]
