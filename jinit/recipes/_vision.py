"""The recipe of timm's vision transformers."""

from typing import Any, Unpack

from .._core.trees import Leaf
from .._initializer.base import Initializer
from .._plan.rules import OfTree, Rule
from .._schemes.distributions import normal
from .._schemes.scaled_uniform import scaled_uniform
from .._schemes.truncated import truncated_normal
from . import _layouts
from ._roles import ATTENTION, WHOLE, Roles, check, kernels, others, role, the_rest
from ._torch import Rules, bias_of_window


def vit(
    num_layers: int | None = None,
    *,
    std: float = 0.02,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Rules:
    """The vision transformer of timm: N(0, std^2), cut at +-2 (not at 2 sigma).

    The patch embedding, a convolution, has torch's default, U(+-1 / sqrt(fan_in)), its
    bias too, and a class token std 1e-6.

    Args:
      num_layers: not used; depth does not enter.
      std: of kernels and position embeddings.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns; positions and embeddings (class tokens too) are used.

    Example:
      >>> import jax, jinit
      >>> shapes = {"mlp": {"kernel": jax.numpy.ones((64, 256))}}
      >>> jinit.plan(shapes, jinit.recipes.vit()).rows[0]["std"]
      0.02

    References:
      Dosovitskiy et al., "An image is worth 16x16 words: transformers for image
        recognition at scale", ICLR 2021.
      Wightman, "PyTorch image models", GitHub 2019. The source of the numbers.
    """
    check("vit", roles, *ATTENTION, *WHOLE)
    plain = truncated_normal(std, None, -2 / std, 2 / std)

    def kernel(path: str, leaf: Any) -> Initializer:
        found = _layouts.layout(path, leaf.shape, stacked)
        return scaled_uniform(layout=found) if "k" in found else plain

    def bias(leaves: list[Leaf]) -> Any:
        shapes = {x.path: tuple(x.value.shape) for x in leaves}
        return lambda path, leaf: bias_of_window(path, shapes, stacked)

    return [
        *role(roles, "positions").rules(plain),
        Rule("**/cls*", normal(1e-6), optional=True),
        *role(roles, "embeddings").rules(plain),
        *others(roles, (*ATTENTION, "residual_outputs", "readout"), plain),
        *kernels(kernel),
        Rule("**/bias", OfTree(bias), optional=True),
        *the_rest(),
    ]
