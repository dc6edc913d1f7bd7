"""The recipe `full_megatron` starts transformers as ModernBERT and Megatron do."""

from typing import Unpack

from ._depth import Depth
from ._ends import last_layers
from ._index import Index, by_number
from ._language import by_width, truncated
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe, symbol
from ._roles import ATTENTION, WHOLE, Roles, kernels, others, role, the_rest


@recipe(
    use="ModernBERT, and models that follow Megatron",
    law=(
        "TN(0, 0.02^2), cut at 3 sigma; branch ends / sqrt(2 L); readout TN(0, 1 / d)"
    ),
    sources=(
        Source(
            "AnswerDotAI/ModernBERT", "src/bert_layers/initialization.py", "8c57a0f"
        ),
    ),
    roles=(*ATTENTION, *WHOLE),
)
def full_megatron(
    num_layers: int | None = None,
    *,
    std: float = 0.02,
    cut: float = 3.0,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return ModernBERT's "full_megatron": N(0, std^2), and branch ends / sqrt(2 L).

    Kernels that read the stream, and embeddings, have `std`. The ends of branches have
    std / sqrt(2 L), and the readout has 1 / sqrt(d). All laws are truncated at 3 sigma.
    A table of tokens that is the readout, too, has the law of embeddings.

    Args:
      num_layers: L, the number of layers. In the plan of a network None stands for the
        number that its residual branches show.
      std: the std before the truncation.
      cut: the truncation, in standard deviations.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
      **roles: patterns of residual_outputs, embeddings, positions and readout.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if a number is out of range.

    Example:
      >>> import jax, jinit
      >>> out = {"attn": {"Wo": {"kernel": jax.numpy.ones((64, 64))}}}
      >>> (row,) = jinit.plan({"h": out}, jinit.recipes.full_megatron(8)).rows
      >>> round(row["std"], 6)  # 0.9866 times 0.02 / 4
      0.004933
    """
    plain = truncated(std, cut)
    index = Index("full_megatron", num_layers, stacked)
    readout = by_width(lambda size: truncated(size, cut))
    law, cut_at = symbol(std), f"cut at {symbol(cut)} sigma"
    return Recipe(
        [
            *last_layers(
                roles, by_number(index, plain), Depth("full_megatron", num_layers)
            ),
            *role(roles, "positions", plain),
            *role(roles, "embeddings", plain),
            *role(roles, "readout", readout),
            *others(roles, ATTENTION, plain),
            *kernels(plain),
            *the_rest(),
        ],
        [
            Law("residual outputs", f"TN(0, {law}^2 / (2 L)), {cut_at}", "Wo"),
            Law("kernels", f"TN(0, {law}^2), {cut_at}", "Wqkv and Wi"),
            Law("embeddings", f"TN(0, {law}^2), {cut_at}", "tokens and positions"),
            Law("readout", f"TN(0, 1 / d), {cut_at}", "the decoder, unless it is tied"),
            *NORMS_AND_BIASES,
        ],
    )
