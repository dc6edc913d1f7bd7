"""The recipe `fixup` starts residual networks that have no normalization layers."""

from typing import Any, Unpack

from .._core.papers import ZHANG_2019
from .._initializer.base import Initializer
from .._network.branches import readout as _readout
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._scale.depth import factor
from .._schemes.constant import ones, zeros
from .._schemes.fan_based import he
from ._depth import Depth
from ._ends import last_layers
from ._layouts import with_layout
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe
from ._roles import Roles, in_role, kernels, role, the_rest


@recipe(
    use="residual networks without normalization layers",
    law="He; in branches times L^(-1 / (2 m - 2)); branch ends and readout 0",
    sources=(
        Source("hongyi-zhang/Fixup", "cifar/models/fixup_resnet_cifar.py", "e57b6c0"),
        ZHANG_2019,
    ),
    roles=("residual_outputs", "branches", "readout"),
)
def fixup(
    num_layers: int | None = None,
    *,
    branch_layers: int = 2,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return Fixup's rules, for residual networks without normalization layers.

    In each of L branches with m layers, the last layer is 0 and the others have He's
    std times L^(-1 / (2 m - 2)). The readout is 0, and all other kernels are He's. The
    model must have Fixup's scalars: a bias before each layer, which starts at 0, and a
    multiplier ("scale") before the sum, which starts at 1.

    Args:
      num_layers: L, the number of branches. In the plan of a network None stands for
        the number of its residual branches.
      branch_layers: m, the number of layers in each branch.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
      **roles: patterns of residual_outputs, branches and readout. By default the
        branches are the modules within the model, without layers that are called
        shortcut, downsample, conv_proj, skip or stem. By default the readout is the
        last Dense outside of all modules, or a layer that is called head, readout,
        classifier or logits.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that Fixup has no use for.
      ValueError: if `num_layers` or `branch_layers` is out of range.

    Example:
      >>> import jax, jinit
      >>> ones = jax.numpy.ones
      >>> shapes = {"p": {"Block_0": {"Dense_0": {"kernel": ones((8, 8))}}}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.fixup(16)).rows
      >>> row["std"] == 0.25 * (2 / 8) ** 0.5
      True

      In the plan of a network, roles, layouts and depth are read from the equations:

      >>> def model(p, x):
      ...     for block in p:
      ...         x = x + jax.nn.relu(x @ block["first"]) @ block["second"]
      ...     return x
      >>> params = [{"first": ones((8, 8)), "second": ones((8, 8))}] * 16
      >>> net = jinit.network(model, params, ones((2, 8)))
      >>> plan = jinit.plan(net, jinit.recipes.fixup())
      >>> plan.notes[0], plan.rows[0]["std"], plan.rows[1]["std"]
      ('residual outputs: 16 of 16', 0.125, 0.0)

    References:
      Zhang, Dauphin and Ma, "Fixup initialization: residual learning without
        normalization", ICLR 2019.
    """
    # A wrong setting is an error here, not only when the plan is made.
    factor("fixup", 1, branch_layers=branch_layers)
    depth = Depth("fixup", num_layers, per_layer=1)

    def in_branch(model: Model) -> Any:
        # Zhang et al. (2019): He's std times L^(-1 / (2 m - 2)), so that a step of SGD
        # moves the function by the order of the learning rate, whatever L is.
        scale = factor("fixup", depth.layers(model), branch_layers=branch_layers)

        def make(**options: Any) -> Initializer:
            return scale * he(**options)

        return with_layout(make, stacked, None, num_layers).function(model)

    # The first match wins, so the order is that of the exceptions: the last layer of a
    # branch is also a layer in a branch, and each of these kernels is also a kernel.
    power = f"{1 / (2 * branch_layers - 2):g}" if branch_layers > 1 else "inf"
    laws = [
        Law("residual outputs", "0", "the last layer of each branch"),
        Law("branches", f"N(0, 2 / fan_in), times L^(-{power})", "their other layers"),
        Law("readout", "0", "the classifier"),
        Law("kernels", "N(0, 2 / fan_in)", "the stem and the shortcuts"),
        Law("multipliers", "1", "the scales before the sums"),
        *NORMS_AND_BIASES,
    ]
    rules = [
        *last_layers(roles, zeros, depth, branch_layers),
        *role(roles, "readout", zeros, _readout, note="readouts"),
        *role(roles, "branches", FromTree(in_branch)),
        # A network tells the multipliers of the branches from the scales of norms.
        Rule(in_role("multipliers"), ones, optional=True),
        *kernels(with_layout(he, stacked, None, num_layers)),
        *the_rest(),
    ]
    return Recipe(rules, laws)
