"""The recipes of this file start language transformers as their papers do."""

import math
from typing import Any, Unpack

from .._initializer.base import Initializer
from .._network.branches import ends as _ends
from .._plan.rules import FromTree, Rule
from .._scale.depth import deepnorm as _deepnorm
from .._scale.depth import factor
from .._schemes.distributions import normal
from .._schemes.fan_based import lecun, xavier
from .._schemes.transformers import small_init as _small_init
from .._schemes.transformers import wang_init
from .._schemes.variance_scaling import variance_scaling
from ._layouts import not_fused, with_layout
from ._roles import (
    ATTENTION,
    WHOLE,
    Roles,
    Rules,
    check,
    kernels,
    last_layers,
    others,
    role,
    the_rest,
)


def gpt2(num_layers: int, *, std: float = 0.02, **roles: Unpack[Roles]) -> Rules:
    """Return GPT-2's rules: N(0, std^2), and the last layer of a branch / sqrt(2 L).

    Position embeddings have std / 2, norms are 1, and biases are 0.

    Args:
      num_layers: L, the number of layers, each with two branches.
      std: the std of all kernels and embeddings.
      **roles: patterns of residual_outputs, embeddings and positions.

    Returns:
      A list of rules for `jinit.plan`.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `num_layers` is out of range.

    Example:
      >>> import jax, jinit
      >>> shapes = {"h": {"attn": {"out": {"kernel": jax.numpy.ones((8, 4, 32))}}}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.gpt2(12)).rows
      >>> round(row["std"], 8)
      0.00408248

    References:
      Radford, Wu, Child, Luan, Amodei and Sutskever, "Language models are unsupervised
        multitask learners", OpenAI 2019. Both branches of a layer are counted, as in
        its reimplementations.
    """
    check("gpt2", roles, *ATTENTION, *WHOLE)
    last = std * factor("gpt2", num_layers)
    # Positions come first, since a table of positions is often an `nn.Embed`, which the
    # pattern of embeddings matches too.
    return [
        *last_layers(roles, normal(last)),
        # GPT-2's published code has 0.01 for positions beside 0.02 for tokens.
        *role(roles, "positions").rules(normal(std / 2)),
        *role(roles, "embeddings").rules(normal(std)),
        *others(roles, (*ATTENTION, "readout"), normal(std)),
        *kernels(normal(std)),
        *the_rest(),
    ]


def small_init(
    num_layers: int, *, stacked: bool = False, **roles: Unpack[Roles]
) -> Rules:
    """Return GPT-NeoX's rules: std = sqrt(2 / (5 d)), last layers 2 / (L sqrt(d)).

    d is the width of the residual stream: the fan_in of a kernel that reads it, and the
    fan_out of a kernel that writes to it. The last layers are those that end branches.

    Args:
      num_layers: L, the number of layers.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns of residual_outputs, embeddings and positions.

    Returns:
      A list of rules for `jinit.plan`.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `num_layers` is out of range.

    Example:
      >>> import jax, jinit
      >>> shapes = {"up": {"kernel": jax.numpy.ones((768, 3072))}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.small_init(12)).rows
      >>> round(row["std"], 8)
      0.02282177

    References:
      Nguyen and Salazar, "Transformers without tears: improving the normalization of
        self-attention", IWSLT 2019.
      Black et al., "GPT-NeoX-20B: an open-source autoregressive language model",
        BigScience Workshop 2022.
    """
    check("small_init", roles, *ATTENTION, *WHOLE)
    last = with_layout(wang_init, stacked, "iio", num_layers=num_layers)
    # A wrong `num_layers` is an error here, not only when the plan is made.
    factor("wang", num_layers, width=1)

    def embedding(_path: str, leaf: Any) -> Initializer:
        # A lookup sums over no rows, so the width and not the fan_in, the vocabulary,
        # counts.
        return _small_init(width=leaf.shape[-1])

    return [
        *last_layers(roles, last),
        *role(roles, "positions").rules(embedding),
        *role(roles, "embeddings").rules(embedding),
        *others(
            roles, (*ATTENTION, "readout"), with_layout(_small_init, stacked, "ioo")
        ),
        *kernels(with_layout(_small_init, stacked)),
        *the_rest(),
    ]


def deepnorm(
    num_layers: int,
    *,
    part: str | None = None,
    other_layers: int | None = None,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Rules:
    """Return DeepNorm's rules: Xavier, with gain beta except in queries and keys.

    Each branch of the model must be x <- LayerNorm(alpha x + f(x)), with alpha from
    `jinit.residual_scale("deepnorm", num_layers).alpha`. Embeddings are N(0, 1 / d).
    The layers before and after the stack are LeCun's.

    Args:
      num_layers: the number of layers of this stack.
      part: "encoder" or "decoder"; None for a model with one stack.
      other_layers: the number of layers of the other part.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns of query, key, embeddings, positions and readout.

    Returns:
      A list of rules for `jinit.plan`.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `num_layers` is out of range.

    Example:
      >>> import jax, jinit
      >>> shapes = {"up": {"kernel": jax.numpy.ones((64, 64))}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.deepnorm(8)).rows
      >>> round(row["std"] / (1 / 64) ** 0.5, 6)  # beta
      0.353553

    References:
      Wang, Ma, Dong, Huang, Zhang and Wei, "DeepNet: scaling transformers to 1,000
        layers", TPAMI 2024.
    """
    # The record's alpha belongs in the model's forward pass, not in its parameters.
    beta = _deepnorm(num_layers, part, other_layers).beta
    return _xavier_but_in_queries_and_keys("deepnorm", beta, 1.0, stacked, roles)


def t_fixup(
    num_layers: int,
    *,
    part: str | None = None,
    other_layers: int | None = None,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Rules:
    """Return T-Fixup's rules, for transformers without LayerNorm and without warm-up.

    Kernels are Xavier's. Values, outputs and the MLP are multiplied by 0.67 N^(-1/4),
    in a decoder by (9 N)^(-1/4). Embeddings are N(0, 1 / d) times (9 N)^(-1/4). The
    layers before and after the stack are LeCun's.

    Args:
      num_layers: N, the number of layers of this stack.
      part: "encoder" or "decoder"; None for a model with one stack.
      other_layers: the number of layers of the other part.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns of query, key, embeddings, positions and readout.

    Returns:
      A list of rules for `jinit.plan`.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `num_layers` is out of range.

    Example:
      >>> import jax, jinit
      >>> shapes = {"up": {"kernel": jax.numpy.ones((64, 64))}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.t_fixup(6)).rows
      >>> round(row["std"] / (1 / 64) ** 0.5, 6)
      0.428092

    References:
      Huang, Perez, Ba and Volkovs, "Improving transformer optimization through better
        initialization", ICML 2020.
    """
    scale = factor("t_fixup", num_layers, part=part, other_layers=other_layers)
    # In both parts the embeddings have the decoder's factor.
    embedding = (9 * num_layers) ** -0.25
    return _xavier_but_in_queries_and_keys("t_fixup", scale, embedding, stacked, roles)


def _xavier_but_in_queries_and_keys(
    recipe: str, gain: float, embedding: float, stacked: bool, roles: Roles
) -> Rules:
    """Return rules for Xavier's std times a gain; queries and keys have no gain."""

    def table(_path: str, leaf: Any) -> Initializer:
        return normal(embedding / math.sqrt(leaf.shape[-1]))

    check(recipe, roles, *ATTENTION, *WHOLE)
    # "ioo" and "iio" are the layouts of kernels that a user names, into and out of
    # heads, if their module has a name that Flax does not use.
    # Queries and keys do not change the bound of what an attention returns, so both
    # papers leave them at Xavier's std.
    plain = with_layout(xavier, stacked, "ioo")
    scaled = with_layout(xavier, stacked, "ioo", gain=gain)
    last = with_layout(xavier, stacked, "iio", gain=gain)
    return [
        # Queries and keys come first, before the rule for all other kernels.
        *role(roles, "query").rules(plain),
        *role(roles, "key").rules(plain),
        *others(roles, ("value",), scaled),
        *others(roles, ("residual_outputs",), last),
        *role(roles, "positions").rules(table),
        *role(roles, "embeddings").rules(table),
        *others(roles, ("readout",), with_layout(lecun, stacked)),
        # These layers lie outside of a scanned stack, so no axis counts layers.
        Rule(FromTree(_ends), with_layout(lecun, False), optional=True),
        # In a fused kernel the values have the gain, and the queries and keys do not.
        *kernels(not_fused(with_layout(xavier, stacked, gain=gain))),
        *the_rest(),
    ]


def t5(
    num_layers: int | None = None,
    *,
    head_dim: int | None = None,
    embedding_std: float | None = None,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Rules:
    """Return T5's rules: LeCun's truncated normal, and queries / sqrt(head_dim).

    The factor of the queries replaces the 1 / sqrt(head_dim) of attention, which the
    model must then leave out. Embeddings are N(0, 1 / d), the default of the embedding
    layer. T5's own models set the std of their token table to 1.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      head_dim: the size of a head, if the query kernel does not have the shape
        (d, heads, head_dim), which shows it.
      embedding_std: the std of the embeddings: None for 1 / sqrt(d), 1.0 for the std
        of T5's own models.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns of query, embeddings and positions.

    Returns:
      A list of rules for `jinit.plan`.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if the size of a head is not known, when the plan is made.

    Example:
      >>> import jax, jinit
      >>> shapes = {"query": {"kernel": jax.numpy.ones((512, 8, 64))}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.t5()).rows
      >>> row["std"] == 512**-0.5 / 8
      True

    References:
      Raffel et al., "Exploring the limits of transfer learning with a unified
        text-to-text transformer", JMLR 2020.
    """
    check("t5", roles, *ATTENTION, *WHOLE)

    def query(path: str, leaf: Any) -> Initializer:
        size = head_dim
        if size is None and len(leaf.shape) - stacked != 3:
            raise ValueError(
                f"the query kernel at {path!r} has shape {leaf.shape}, which does not "
                "show the size of a head; pass `head_dim`."
            )
        # The 1 / sqrt(head_dim) of the logits, moved into the kernel. T5 trains with
        # Adafactor, whose steps are relative to a kernel's size, so both forms learn
        # alike.
        gain = (size or leaf.shape[-1]) ** -0.5
        return with_layout(lecun, stacked, "ioo", gain=gain, **law)(path, leaf)

    def table(_path: str, leaf: Any) -> Initializer:
        return normal(
            leaf.shape[-1] ** -0.5 if embedding_std is None else embedding_std
        )

    # LeCun's law in Flax, the default of its Dense layers, is truncated.
    law: dict[str, Any] = {"distribution": "truncated_normal"}
    return [
        *role(roles, "query").rules(query),
        # T5's relative positions are a table of (buckets, heads), drawn as in T5X.
        Rule(
            "**/rel_embedding", variance_scaling(1, "fan_avg", "uniform"), optional=True
        ),
        *role(roles, "positions").rules(table),
        *role(roles, "embeddings").rules(table),
        *others(roles, ("key", "value"), with_layout(lecun, stacked, "ioo", **law)),
        *others(
            roles,
            ("residual_outputs", "readout"),
            with_layout(lecun, stacked, "iio", **law),
        ),
        *kernels(with_layout(lecun, stacked, **law)),
        *the_rest(),
    ]
