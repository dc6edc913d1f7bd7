"""The recipe `unet` starts the U-Net of a diffusion model, whose output is 0."""

from typing import Any, Unpack

from .._core.papers import DHARIWAL_2021
from .._initializer.base import Initializer
from .._network.reader.records import Parameter
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.constant import zeros
from .._schemes.distributions import normal
from .._schemes.scaled_uniform import scaled_uniform
from ._laws_of_torch import LawsOfTorch
from ._needs import Need, needs
from ._recipe import Law, Recipe, Source, recipe
from ._roles import Roles, in_role, kernels, role, the_rest


@recipe(
    use="U-Nets of diffusion models",
    law="0 at the ends of branches and the readout; else U(+-1 / sqrt(fan_in))",
    sources=(
        Source("openai/guided-diffusion", "guided_diffusion/unet.py", "22e0df8"),
        DHARIWAL_2021,
    ),
    roles=("residual_outputs", "readout", "embeddings"),
)
def unet(num_layers: int | None = None, **roles: Unpack[Roles]) -> Recipe:
    """Return the rules of a diffusion U-Net, whose blocks and output start at 0.

    The last convolution of each residual block, the projection after each attention and
    the last convolution of the model are 0, with their biases (`zero_module`). All
    else has PyTorch's defaults: kernels and biases U(+-1 / sqrt(fan_in)), those of
    queries, keys and values too, which are convolutions with a window of one pixel; the
    table of labels N(0, 1); norms 1.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      **roles: patterns of residual_outputs (the last layers of the branches, with
        their biases), readout and embeddings (the table of labels).

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      ValueError: in `plan`, if it is made from shapes alone, or the network has no
        convolution, no residual branch or no readout.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> def model(p, x):
      ...     def conv(name, x):
      ...         return jax.lax.conv(x, p[name], (1, 1), "SAME")
      ...     x = conv("first", x)
      ...     x = x + conv("second", jax.nn.silu(conv("inner", x)))
      ...     return conv("last", jax.nn.silu(x))
      >>> names = ["first", "inner", "second", "last"]
      >>> params = {name: jnp.ones((4, 4, 3, 3)) for name in names}
      >>> net = jinit.network(model, params, jnp.ones((1, 4, 8, 8)))
      >>> rows = jinit.plan(net, jinit.recipes.unet()).rows
      >>> {row["path"]: round(row["std"] * 3**0.5, 4) for row in rows}
      {'first': 0.1667, 'inner': 0.1667, 'last': 0.0, 'second': 0.0}

    References:
      Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis", NeurIPS
        2021.
    """
    laws = [
        Law("residual outputs", "0", "the last layer of each branch, with its bias"),
        Law("readout", "0", "the last convolution, with its bias"),
        Law("kernels", "U(+-1 / sqrt(fan_in))", "other layers"),
        Law("biases", "U(+-1 / sqrt(fan_in))", "with the fan of the layer's kernel"),
        Law("embeddings", "N(0, 1)", "the table of labels"),
        Law("scales", "1", "norms, whose biases are 0"),
    ]
    rules = [
        *needs("unet", roles, *_NEEDS),
        *role(roles, "residual_outputs", zeros, note="residual outputs"),
        *role(roles, "readout", zeros),
        *role(roles, "embeddings", normal(1.0)),
        *kernels(_law("kernel")),
        Rule(in_role("biases_of_layers"), _law("bias"), optional=True),
        *the_rest(),
    ]
    return Recipe(rules, laws)


_NEEDS = (
    Need("convolution", in_networks.has("convolution")),
    Need("residual branch", in_networks.in_branches),
    Need("readout", in_networks.has("readout"), "readout"),
)


def _law(name: str) -> FromTree:
    def of(model: Model) -> Any:
        network: Any = model.network
        return getattr(_Laws(network), name)

    return FromTree(of)


class _Laws(LawsOfTorch):
    """PyTorch's laws where all layers are convolutions, or linear."""

    def bias(self, _path: str, p: Parameter) -> Initializer:
        """Return the law of the layer before a bias, and 0 if the layer is 0."""
        layer = self.layer_of(p)
        if layer is None or layer.roles & {"residual_output", "readout"}:
            return zeros
        return scaled_uniform(fan_in=self._under_the_root(layer))
