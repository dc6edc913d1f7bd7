"""The recipe `qwen3` starts Qwen 3 as Hugging Face or as Megatron does."""

from typing import Unpack

from .._core import checks
from .._schemes.distributions import normal
from ._depth import Depth
from ._ends import last_layers
from ._index import Index, by_number
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe
from ._roles import ATTENTION, WHOLE, Roles, kernels, others, role, the_rest

_ROLES = (*ATTENTION, *WHOLE)
_STD = 0.02


@recipe(
    use="Qwen 3, dense or with a mixture of experts",
    law="N(0, 0.02^2) everywhere; megatron: branch ends / sqrt(2 L)",
    sources=(
        Source("pytorch/torchtitan", "torchtitan/models/qwen3/__init__.py", "b5bcd76"),
        Source("huggingface/transformers", "MIGRATION_GUIDE_V5.md", "e416b2c"),
    ),
    roles=_ROLES,
)
def qwen3(
    num_layers: int | None = None,
    *,
    flavour: str = "hf",
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return the rules of Qwen 3: N(0, 0.02^2), and branch ends by the flavour.

    "hf" starts all kernels and tables so, as Hugging Face does, and torchtitan for
    dense models. "megatron" divides the ends of the branches (o, and down of experts)
    by sqrt(2 L), as Megatron does, and torchtitan for mixtures of experts.

    Args:
      num_layers: L, the number of layers. In the plan of a network None stands for the
        number that its residual branches show.
      flavour: "hf" or "megatron".
      stacked: whether kernels have an axis that counts layers. It changes nothing
        here, since no law depends on the index of a layer.
      **roles: patterns of residual_outputs, embeddings and others.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `flavour` is unknown.

    Example:
      >>> import jax, jinit
      >>> down = {"mlp": {"down_proj": {"kernel": jax.numpy.ones((256, 64))}}}
      >>> rules = jinit.recipes.qwen3(8, flavour="megatron")
      >>> jinit.plan({"h": down}, rules).rows[0]["std"]
      0.005
    """
    checks.choice("flavour", flavour, ("hf", "megatron"))
    plain = normal(_STD)
    laws = [
        Law("kernels", "N(0, 0.02^2)", "all, also the readout and routers"),
        Law("embeddings", "N(0, 0.02^2)", "the table of tokens"),
        *NORMS_AND_BIASES,
    ]
    ends = others(roles, ("residual_outputs",), plain)
    if flavour == "megatron":
        laws = [Law("residual outputs", "N(0, 0.02^2 / (2 L))", "o and down"), *laws]
        side = by_number(Index("qwen3", num_layers, stacked), plain)
        ends = last_layers(roles, side, Depth("qwen3", num_layers))
    return Recipe(
        [
            *ends,
            *role(roles, "positions", plain),
            *role(roles, "embeddings", plain),
            *others(roles, (*ATTENTION, "readout"), plain),
            *kernels(plain),
            *the_rest(),
        ],
        laws,
    )
