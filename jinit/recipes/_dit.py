"""The recipe `dit` starts a diffusion transformer whose blocks are the identity."""

from typing import Any, Unpack

from .._core import checks
from .._core.papers import PEEBLES_2023
from .._initializer.base import Initializer
from .._network.reader.records import Parameter
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._scale.fans import fans
from .._schemes.constant import zeros
from .._schemes.distributions import normal
from .._schemes.fan_based import xavier
from .._schemes.positions import sincos_positions
from ._laws_of_torch import LawsOfTorch
from ._needs import Need, needs
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe, symbol
from ._roles import ATTENTION, Roles, in_role, kernels, role, the_rest


@recipe(
    use="diffusion transformers with adaptive norms (adaLN-zero)",
    law="Xavier uniform; time and labels N(0, 0.02^2); modulations and readout 0",
    sources=(Source("facebookresearch/DiT", "models.py", "ed81ce2"), PEEBLES_2023),
    roles=("modulations", "conditioning", "embeddings", "positions", "readout"),
)
def dit(
    num_layers: int | None = None,
    *,
    std: float = 0.02,
    grid: tuple[int, ...] | None = None,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return the rules of DiT, whose output is 0 and whose blocks are the identity.

    A modulation is a layer whose output scales and shifts the stream, or gates a
    branch: its kernel is 0, and so is the readout's. All other kernels are
    Xavier-uniform with variance 2 / (fan_in + units). The window of the patches adds to
    the inputs, and not to the outputs, as in a linear layer. Query, key and value count
    as one kernel of shape (d, 3 d). A table that each block adds to one modulation for
    all blocks is a part of the modulation, and 0. The layers that make the condition,
    which are the MLP of the time and the table of labels, are N(0, std^2). All biases
    are 0.

    A table of positions has the sines and cosines of a grid. They are not trained in
    DiT: let the optimizer leave them out.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      std: the std of the time's MLP and of the labels' table.
      grid: the numbers of patches along height and width; None stands for a square.
      **roles: patterns of modulations, conditioning (the MLP of the time), embeddings,
        positions and readout.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if `grid` is no sequence of numbers.
      ValueError: if `grid` has fewer than two numbers; in `plan`, if it is made from
        shapes alone, or the network has no modulation, no residual branch, no readout
        or no layer that makes the condition.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> def model(p, x, t):
      ...     condition = jax.nn.silu(t @ p["time"]) @ p["ada"]
      ...     shift, scale, gate = jnp.split(condition, 3, axis=-1)
      ...     x = x @ p["patches"]
      ...     h = x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True))
      ...     x = x + gate * (jnp.tanh((h * (1 + scale) + shift) @ p["up"]) @ p["down"])
      ...     return x @ p["last"]
      >>> names = ["patches", "time", "up", "down", "last"]
      >>> params = {name: jnp.ones((4, 4)) for name in names}
      >>> params["ada"] = jnp.ones((4, 12))
      >>> net = jinit.network(model, params, jnp.ones((2, 4)), jnp.ones((2, 4)))
      >>> rows = jinit.plan(net, jinit.recipes.dit()).rows
      >>> sorted(row["path"] for row in rows if row["std"] == 0)
      ['ada', 'last']

    References:
      Peebles and Xie, "Scalable diffusion models with transformers", ICCV 2023.
    """
    _check_grid(grid)
    table, law = normal(std), f"N(0, {symbol(std)}^2)"
    laws = [
        Law("modulations", "0", "adaLN: scale, shift and gate, with their tables"),
        Law("readout", "0", "the last linear layer"),
        Law("conditioning", law, "the MLP of the time"),
        Law("embeddings", law, "the table of labels"),
        Law("query, key, value", "U, variance 2 / (d + 3 d)", "packed in one kernel"),
        Law("kernels", "U, variance 2 / (fan_in + units)", "other layers, patches too"),
        Law("positions", "sines and cosines", "of the place in the grid, as in MAE"),
        *NORMS_AND_BIASES,
    ]
    rules = [
        *needs("dit", roles, *_NEEDS),
        *role(roles, "modulations", zeros),
        *role(roles, "readout", zeros),
        *role(roles, "conditioning", table),
        *role(roles, "positions", sincos_positions("mae", grid=grid)),
        *role(roles, "embeddings", table),
        *(Rule(in_role(name), FromTree(_packed), True) for name in ATTENTION),
        *kernels(as_linear),
        *the_rest(),
    ]
    return Recipe(rules, laws)


def _check_grid(grid: Any) -> None:
    if grid is None:
        return
    if not isinstance(grid, tuple):
        raise TypeError(
            f"`grid` is {grid!r}; it must be a tuple of the numbers of patches along "
            "height and width, such as (16, 16)."
        )
    for size in grid:
        checks.positive("grid", size)
    if len(grid) < 2:
        raise ValueError(
            f"`grid` is {grid!r}; patches of an image have the two numbers of height "
            "and width, such as (16, 16)."
        )


_NEEDS = (
    Need(
        "modulation (a layer whose output scales and shifts the stream, or gates it)",
        in_networks.has("modulation"),
        "modulations",
    ),
    Need(
        "layer that makes the condition of the modulations",
        in_networks.conditioning,
        "conditioning",
    ),
    Need("residual branch", in_networks.in_branches),
    Need("readout", in_networks.has("readout"), "readout"),
)


def _packed(model: Model) -> Any:
    network: Any = model.network
    return LawsOfTorch(network).attention


def as_linear(_path: str, p: Parameter) -> Initializer:
    """Return Xavier's law of a layer, and of a convolution as a linear layer.

    The kernel (units, channels, window) is drawn as (units, channels window), so that
    the window counts as inputs alone.
    """
    if p.layout is None or "k" not in p.layout:
        return xavier(distribution="uniform")
    inputs = fans(p.shape, p.layout).fan_in
    units = fans(p.shape, p.layout.replace("k", "i")).fan_out
    return xavier(distribution="uniform", fan_in=inputs, fan_out=units)
