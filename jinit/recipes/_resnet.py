"""The recipe `resnet` starts convolutional residual networks as torchvision does."""

from typing import Any, Unpack

from .._core import checks
from .._core.papers import GOYAL_2017, HE_2015
from .._initializer.base import Initializer
from .._network.reader.records import Parameter
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._scale.fans import fans
from .._schemes.constant import zeros
from .._schemes.fan_based import he
from .._schemes.scaled_uniform import scaled_uniform
from ._layouts import Layouts
from ._needs import Need, needs
from ._recipe import Law, Recipe, Source, recipe
from ._roles import Roles, Rules, in_role, kernels, others, role, the_rest
from ._torch import torch_law


@recipe(
    use="convolutional residual networks, as torchvision starts them",
    law="N(0, 2 / fan_out); the head U(+-1 / sqrt(fan_in))",
    sources=(
        Source("pytorch/vision", "torchvision/models/resnet.py", "f50e776"),
        HE_2015,
        GOYAL_2017,
    ),
    roles=("readout", "branch_norms"),
)
def resnet(
    num_layers: int | None = None,
    *,
    zero_init_residual: bool = False,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return the rules of torchvision's residual networks: N(0, 2 / fan_out).

    The law is that of the convolutions, where fan_out = units x window. As in PyTorch,
    the groups of a grouped or depthwise convolution are not counted: its std is
    sqrt(groups) times smaller than that of the true fan_out. The head and all biases of
    layers have PyTorch's default U(+-1 / sqrt(fan_in)), and norms have scale 1.

    With zero_init_residual=True the last norm of each branch has scale 0, so that each
    block starts as its shortcut.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      zero_init_residual: whether the last norm of a branch is 0. A network shows it;
        for shapes alone pass `branch_norms`.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
      **roles: patterns of readout (the head) and branch_norms (the scales of the last
        norms of branches).

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      ValueError: if `branch_norms` is passed without zero_init_residual=True; in
        `plan`, if a network has no convolution, or with
        zero_init_residual=True no norm that ends a branch.

    Example:
      >>> import jax, jinit
      >>> ones = jax.numpy.ones
      >>> shapes = {"conv": {"kernel": ones((3, 3, 8, 32))}}
      >>> shapes["head"] = {"kernel": ones((32, 10)), "bias": ones(10)}
      >>> rows = jinit.plan(shapes, jinit.recipes.resnet()).rows
      >>> [round(row["std"], 4) for row in rows]
      [0.0833, 0.1021, 0.1021]
      >>> round((2 / (9 * 32)) ** 0.5, 4), round((3 * 32) ** -0.5, 4)
      (0.0833, 0.1021)

    References:
      He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015.
      Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", arXiv
        2017. The zeros at the ends of branches.
    """
    checks.boolean("zero_init_residual", zero_init_residual)
    if roles.get("branch_norms") is not None and not zero_init_residual:
        raise ValueError(
            f"`branch_norms` of recipes.resnet is {roles['branch_norms']!r}, and "
            "`zero_init_residual` is False, so that these norms are like all others. "
            "Pass zero_init_residual=True, which sets them to 0, or leave them out."
        )
    several = [_CONVOLUTION] + [_LAST_NORM] * zero_init_residual
    laws = [
        Law("convolutions", "N(0, 2 / fan_out)", "fan_out = units x window"),
        Law("readout", "U(+-1 / sqrt(fan_in))", "the head, and other linear layers"),
        Law("biases", "U(+-1 / sqrt(fan_in))", "of layers, with the kernel's fan"),
    ]
    if zero_init_residual:
        laws.append(Law("branch norms", "0", "the last norm of each branch"))
    laws.append(Law("scales", "1", "norms, whose biases are 0"))
    rules = [
        *needs("resnet", roles, *several, by_names=True),
        *_last_norms(roles, zero_init_residual),
        *others(roles, ("readout",), torch_law("kernel", stacked, num_layers)),
        *kernels(_kernel(stacked, num_layers)),
        Rule(
            in_role("biases_of_layers"),
            torch_law("bias", stacked, num_layers),
            optional=True,
        ),
        *the_rest(),
    ]
    return Recipe(rules, laws)


_CONVOLUTION = Need("convolution", in_networks.has("convolution"))
_LAST_NORM = Need(
    "norm that ends a residual branch", in_networks.branch_norms, "branch_norms"
)


def _last_norms(roles: Roles, is_zero: bool) -> Rules:
    if not is_zero:
        return []

    def unknown(model: Model) -> tuple[()]:
        if model.network is None and roles.get("branch_norms") is None:
            raise ValueError(
                "recipes.resnet(zero_init_residual=True) sets the last norm of each "
                "residual branch to 0, and names do not tell which these are. Make "
                "the plan from a Network: jinit.plan(jinit.network(model, "
                "*arguments), rules), or pass branch_norms=[...], patterns of their "
                "scales."
            )
        return ()

    refusal = Rule(FromTree(unknown), zeros, optional=True)
    return [
        refusal,
        *role(roles, "branch_norms", zeros, note="norms that end branches"),
    ]


def _kernel(stacked: bool, num_layers: int | None) -> FromTree:
    """Return He's law of fan_out for convolutions, and PyTorch's for other kernels."""

    def of(model: Model) -> Any:
        if model.network is not None:
            return in_network
        layouts = Layouts(model, stacked, num_layers)

        def by_names(path: str, leaf: Any) -> Initializer:
            letters = layouts.of(path)
            if "k" not in letters:
                return scaled_uniform(layout=letters)
            return he(mode="fan_out", layout=letters)

        return by_names

    return FromTree(of)


def in_network(_path: str, p: Parameter) -> Initializer:
    """Return the law of a kernel whose layout a network shows."""
    if "convolution" not in p.roles:
        return scaled_uniform()
    if p.groups == 1 or p.layout is None:
        return he(mode="fan_out")
    # torch.nn.init counts the units of all groups.
    return he(mode="fan_out", fan_out=fans(p.shape, p.layout).fan_out)
