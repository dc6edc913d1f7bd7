"""Whole-network schemes: functions that return rules for `jinit.plan`.

They know the names that Flax's own modules give their parameters, in Linen and in NNX.
What no name tells is a pattern, or several: `residual_outputs` (the last layers of the
branches), `embeddings`, `positions`, `readout`, `query`, `key`, `value`, `branches`. A
pattern of yours must match something. `stacked=True` is for models whose layers are
scanned, so that every kernel has a first axis that counts them.

Linen's numbers tell the order in which layers were made, so among Dense_0, Dense_1, ...
of a module the last of a branch is found by the widths around it; among layers of one
width it is taken to be the last, and where nothing tells, the error names the layers.

Rules of your own go before a recipe's. A leaf that a recipe does not know is an error
of `plan`, which names it.
"""

import math
from typing import Any, Unpack

from .._initializer.base import Initializer
from .._network.branches import ends as _ends
from .._plan.rules import OfTree, Rule
from .._scale.depth import deepnorm as _deepnorm
from .._scale.depth import factor
from .._schemes.distributions import normal
from .._schemes.fan_based import lecun, xavier
from .._schemes.transformers import small_init as _small_init
from .._schemes.transformers import wang_init
from .._schemes.variance_scaling import variance_scaling
from ._inside import Rules
from ._layouts import not_fused, with_layout
from ._roles import Roles, check, kernels, last_layers, others, role, the_rest

_ATTENTION = ("query", "key", "value")
_WHOLE = ("residual_outputs", "embeddings", "positions", "readout")


def gpt2(num_layers: int, *, std: float = 0.02, **roles: Unpack[Roles]) -> Rules:
    """GPT-2's: N(0, std^2) everywhere; the branches' last layers / sqrt(2 L).

    Position embeddings have std / 2, norms are 1, biases 0.

    Args:
      num_layers: L, each with two branches.
      std: of all kernels and embeddings.
      **roles: patterns; residual_outputs, embeddings and positions are used.

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
    check("gpt2", roles, *_ATTENTION, *_WHOLE)
    last = std * factor("gpt2", num_layers)
    return [
        *last_layers(roles, normal(last)),
        *role(roles, "positions").rules(normal(std / 2)),
        *role(roles, "embeddings").rules(normal(std)),
        *others(roles, (*_ATTENTION, "readout"), normal(std)),
        *kernels(normal(std)),
        *the_rest(),
    ]


def small_init(
    num_layers: int, *, stacked: bool = False, **roles: Unpack[Roles]
) -> Rules:
    """GPT-NeoX's: std = sqrt(2 / (5 d)); the branches' last layers 2 / (L sqrt(d)).

    d is the width of the stream: fan_in of a kernel that reads it, fan_out of one that
    writes to it.

    Args:
      num_layers: L.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns; residual_outputs, embeddings and positions are used.

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
    check("small_init", roles, *_ATTENTION, *_WHOLE)
    last = with_layout(wang_init, stacked, "iio", num_layers=num_layers)
    factor("wang", num_layers, width=1)  # a wrong number is an error here

    def embedding(_path: str, leaf: Any) -> Initializer:
        return _small_init(width=leaf.shape[-1])

    return [
        *last_layers(roles, last),
        *role(roles, "positions").rules(embedding),
        *role(roles, "embeddings").rules(embedding),
        *others(
            roles, (*_ATTENTION, "readout"), with_layout(_small_init, stacked, "ioo")
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
    """DeepNorm's: Xavier, with gain beta for all but queries and keys.

    Each branch of the model must be x <- LayerNorm(alpha x + f(x)), with alpha of
    `jinit.residual_scale("deepnorm", num_layers).alpha`. Embeddings are N(0, 1 / d),
    the layers before and after the stack are LeCun's.

    Args:
      num_layers: of this stack.
      part: "encoder" or "decoder"; None for a model of one stack.
      other_layers: of the other part.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns; query, key, embeddings, positions and readout are used.

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
    """T-Fixup's: transformers without LayerNorm and without warm-up.

    Xavier; values, outputs and the MLP times 0.67 N^(-1/4) (in a decoder (9 N)^(-1/4));
    embeddings N(0, 1 / d) times (9 N)^(-1/4). The layers before and after the stack are
    LeCun's.

    Args:
      num_layers: N, of this stack.
      part: "encoder" or "decoder"; None for a model of one stack.
      other_layers: of the other part.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns; query, key, embeddings, positions and readout are used.

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
    embedding = (9 * num_layers) ** -0.25
    return _xavier_but_in_queries_and_keys("t_fixup", scale, embedding, stacked, roles)


def _xavier_but_in_queries_and_keys(
    recipe: str, gain: float, embedding: float, stacked: bool, roles: Roles
) -> Rules:
    """Xavier with a gain, which queries and keys do without."""

    def table(_path: str, leaf: Any) -> Initializer:
        return normal(embedding / math.sqrt(leaf.shape[-1]))

    check(recipe, roles, *_ATTENTION, *_WHOLE)
    plain = with_layout(xavier, stacked, "ioo")
    scaled = with_layout(xavier, stacked, "ioo", gain=gain)
    last = with_layout(xavier, stacked, "iio", gain=gain)
    return [
        *role(roles, "query").rules(plain),
        *role(roles, "key").rules(plain),
        *others(roles, ("value",), scaled),
        *others(roles, ("residual_outputs",), last),
        *role(roles, "positions").rules(table),
        *role(roles, "embeddings").rules(table),
        *others(roles, ("readout",), with_layout(lecun, stacked)),
        Rule(OfTree(_ends), with_layout(lecun, False), optional=True),
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
    """T5's: LeCun, cut at two sigma; queries further / sqrt(head_dim).

    The query's factor stands in for the 1 / sqrt(head_dim) of attention, which the
    model must then leave out: never both. Embeddings are N(0, 1 / d), the default of
    the embedding layer; T5's own models set their token table to std 1.

    Args:
      num_layers: not used; depth does not enter.
      head_dim: the size of a head, where the query kernel (d, heads, head_dim) does not
        show it.
      embedding_std: of the embeddings; None for 1 / sqrt(d), 1.0 for T5's own.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns; query, embeddings and positions are used.

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
    check("t5", roles, *_ATTENTION, *_WHOLE)

    def query(path: str, leaf: Any) -> Initializer:
        size = head_dim
        if size is None and len(leaf.shape) - stacked != 3:
            raise ValueError(
                f"the query kernel at {path!r} has shape {leaf.shape}, which does not "
                "show the size of a head; pass `head_dim`."
            )
        gain = (size or leaf.shape[-1]) ** -0.5
        return with_layout(lecun, stacked, "ioo", gain=gain, **cut)(path, leaf)

    def table(_path: str, leaf: Any) -> Initializer:
        return normal(
            leaf.shape[-1] ** -0.5 if embedding_std is None else embedding_std
        )

    cut: dict[str, Any] = {"distribution": "truncated_normal"}
    return [
        *role(roles, "query").rules(query),
        # Of the buckets of relative positions, a bias for each head.
        Rule(
            "**/rel_embedding", variance_scaling(1, "fan_avg", "uniform"), optional=True
        ),
        *role(roles, "positions").rules(table),
        *role(roles, "embeddings").rules(table),
        *others(roles, ("key", "value"), with_layout(lecun, stacked, "ioo", **cut)),
        *others(
            roles,
            ("residual_outputs", "readout"),
            with_layout(lecun, stacked, "iio", **cut),
        ),
        *kernels(with_layout(lecun, stacked, **cut)),
        *the_rest(),
    ]
