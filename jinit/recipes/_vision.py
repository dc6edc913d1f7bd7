"""The recipe `vit` starts a vision transformer as timm does."""

from typing import Any, Unpack

from .._core import checks
from .._core.papers import DOSOVITSKIY_2021, WIGHTMAN_2019
from .._initializer.base import Initializer
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.distributions import normal
from .._schemes.scaled_uniform import scaled_uniform
from .._schemes.truncated import truncated_normal
from ._language import truncated
from ._layouts import Layouts
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe, symbol
from ._roles import (
    ATTENTION,
    WHOLE,
    Roles,
    in_role,
    kernels,
    others,
    role,
    the_rest,
)
from ._torch import biases_of_windows


@recipe(
    use="vision transformers, as timm starts them",
    law="TN(0, 0.02^2) with |w| <= 2; patches U(+-1 / sqrt(fan_in))",
    sources=(
        Source(
            "huggingface/pytorch-image-models",
            "timm/models/vision_transformer.py",
            "9456764",
        ),
        Source(
            "huggingface/pytorch-image-models",
            "timm/layers/attention_pool.py",
            "47dd100",
        ),
        WIGHTMAN_2019,
        DOSOVITSKIY_2021,
    ),
    roles=(*ATTENTION, *WHOLE),
)
def vit(
    num_layers: int | None = None,
    *,
    std: float = 0.02,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return the rules of timm's vision transformers: N(0, std^2), truncated at +-2.

    The limits are the numbers -2 and 2, not two standard deviations. The patch
    embedding is a convolution: its kernel and its bias have PyTorch's default,
    U(+-1 / sqrt(fan_in)). A class token has std 1e-6. The latent of an attention
    pooling, which is read as a query alone, is N(0, 1 / d), truncated at 2 std.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      std: the std of kernels and position embeddings.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
      **roles: patterns of positions and embeddings (class tokens too).

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `std` is not positive.

    Example:
      >>> import jax, jinit
      >>> shapes = {"mlp": {"kernel": jax.numpy.ones((64, 256))}}
      >>> jinit.plan(shapes, jinit.recipes.vit()).rows[0]["std"]
      0.02

      In the plan of a network, roles and layouts are read from the equations:

      >>> def model(p, x):
      ...     return x.reshape(2, -1) @ p["patches"] + p["positions"]
      >>> ones = jax.numpy.ones
      >>> params = {"patches": ones((16, 8)), "positions": ones((2, 8))}
      >>> net = jinit.network(model, params, ones((2, 4, 4)))
      >>> [row["std"] for row in jinit.plan(net, jinit.recipes.vit()).rows]
      [0.02, 0.02]

    References:
      Dosovitskiy et al., "An image is worth 16x16 words: transformers for image
        recognition at scale", ICLR 2021.
      Wightman, "PyTorch image models", GitHub 2019. The source of the numbers.
    """
    std = checks.number("std", std, positive=True)
    # timm's limits are numbers, and `truncated_normal` takes standard deviations.
    plain = truncated_normal(std, None, -2 / std, 2 / std)

    def kernel(model: Model) -> Any:
        layouts = None if model.network else Layouts(model, stacked, num_layers)

        def init(path: str, leaf: Any) -> Initializer:
            # timm leaves the convolution of the patches to PyTorch's default.
            if layouts is None:
                is_window = "convolution" in leaf.roles
                return scaled_uniform() if is_window else plain
            letters = layouts.of(path)
            return scaled_uniform(layout=letters) if "k" in letters else plain

        return init

    law = f"TN(0, {symbol(std)}^2), |w| <= 2"
    laws = [
        Law("kernels", law, "attention, MLP and readout"),
        Law("positions", law, "the table of positions"),
        Law("class tokens", "N(0, 1e-6^2)", "the vectors before the patches"),
        Law("latents", "TN(0, 1 / d)", "the query of an attention pooling"),
        Law("convolutions", "U(+-1 / sqrt(fan_in))", "patches, with their bias"),
        *NORMS_AND_BIASES,
    ]
    rules = [
        *role(roles, "positions", plain),
        Rule(in_role("latents"), _latent, optional=True),
        # The class token comes before the embeddings, whose pattern may match it too.
        Rule(in_role("class_tokens"), normal(1e-6), optional=True),
        *role(roles, "embeddings", plain),
        *others(roles, (*ATTENTION, "residual_outputs", "readout"), plain),
        *kernels(FromTree(kernel)),
        Rule(in_role("biases"), biases_of_windows(stacked, num_layers), optional=True),
        *the_rest(),
    ]
    return Recipe(rules, laws)


def _latent(_path: str, leaf: Any) -> Initializer:
    # timm's `trunc_normal_tf_` cuts a standard normal at +-2, and then multiplies it.
    return truncated(leaf.shape[-1] ** -0.5, cut=2.0)
