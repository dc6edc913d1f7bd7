"""The recipes of this file start language transformers as their papers do."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Unpack

from .._initializer.base import Initializer
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._scale.depth import deepnorm as _deepnorm
from .._scale.depth import factor
from .._schemes.distributions import normal
from .._schemes.fan_based import lecun, xavier
from .._schemes.transformers import small_init as _small_init
from .._schemes.transformers import wang_init
from .._schemes.variance_scaling import variance_scaling
from ._depth import Depth
from ._ends import last_layers
from ._layouts import not_fused, refuse_fused, width_of_table, with_layout
from ._queries import queries
from ._roles import (
    ATTENTION,
    WHOLE,
    Roles,
    Rules,
    check,
    found,
    kernels,
    others,
    role,
    the_rest,
)


def gpt2(
    num_layers: int | None = None, *, std: float = 0.02, **roles: Unpack[Roles]
) -> Rules:
    """Return GPT-2's rules: N(0, std^2), and the last layer of a branch / sqrt(2 L).

    Position embeddings have std / 2, norms are 1, and biases are 0.

    Args:
      num_layers: L, the number of layers, each with two branches. In the plan of a
        network None stands for half of its residual branches.
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
    depth = Depth("gpt2", num_layers)

    def last(model: Model) -> Initializer:
        if num_layers is not None:
            return normal(std * factor("gpt2", num_layers))
        return normal(std * depth.branches(model) ** -0.5)

    # Positions come first, since a table of positions is often an `nn.Embed`, which the
    # pattern of embeddings matches too.
    return [
        *last_layers(roles, FromTree(last), depth),
        # GPT-2's published code has 0.01 for positions beside 0.02 for tokens.
        *role(roles, "positions", normal(std / 2)),
        *role(roles, "embeddings", normal(std)),
        *others(roles, (*ATTENTION, "readout"), normal(std)),
        *kernels(normal(std)),
        *the_rest(),
    ]


def small_init(
    num_layers: int | None = None, *, stacked: bool = False, **roles: Unpack[Roles]
) -> Rules:
    """Return GPT-NeoX's rules: std = sqrt(2 / (5 d)), last layers 2 / (L sqrt(d)).

    d is the width of the residual stream: the fan_in of a kernel that reads it, and the
    fan_out of a kernel that writes to it. The last layers are those that end branches.

    Args:
      num_layers: L, the number of layers. In the plan of a network None stands for
        half of its residual branches.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
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
    depth = Depth("small_init", num_layers)

    def last(model: Model) -> Any:
        make = functools.partial(wang_init, depth.layers(model))
        return with_layout(make, stacked, "iio", num_layers).function(model)

    def embedding(_path: str, leaf: Any) -> Initializer:
        # A lookup sums over no rows, so the width and not the fan_in, the vocabulary,
        # counts.
        return _small_init(width=width_of_table(leaf))

    def plain(heads: str | None = None) -> FromTree:
        return with_layout(_small_init, stacked, heads, num_layers)

    return [
        *last_layers(roles, FromTree(last), depth),
        *role(roles, "positions", embedding),
        *role(roles, "embeddings", embedding),
        *others(roles, (*ATTENTION, "readout"), plain("ioo")),
        *kernels(plain()),
        *the_rest(),
    ]


def deepnorm(
    num_layers: int | None = None,
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
      num_layers: the number of layers of this stack. In the plan of a network None
        stands for the number that its residual branches show.
      part: "encoder" or "decoder"; None for a model with one stack.
      other_layers: the number of layers of the other part. In the plan of a network
        an encoder's rules, limited by `inside`, count those of the decoder.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
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
    depth = Depth("deepnorm", num_layers, part)
    # A wrong setting is an error here, not only when the plan is made.
    if num_layers is not None:
        _deepnorm(num_layers, part, other_layers)
    elif part is not None or other_layers is not None:
        _deepnorm(1, part, other_layers or 1)

    def gains(model: Model) -> tuple[float, float]:
        layers, others = depth.layers(model), depth.other_layers(model, other_layers)
        # The record's alpha belongs in the forward pass, not in the parameters.
        return _deepnorm(layers, part, others).beta, 1.0

    return _xavier_but_in_queries_and_keys(depth, gains, stacked, roles)


def t_fixup(
    num_layers: int | None = None,
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
      num_layers: N, the number of layers of this stack. In the plan of a network None
        stands for the number that its residual branches show.
      part: "encoder" or "decoder"; None for a model with one stack.
      other_layers: the number of layers of the other part. In the plan of a network
        an encoder's rules, limited by `inside`, count those of the decoder.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
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
    depth = Depth("t_fixup", num_layers, part)
    # A wrong setting is an error here, not only when the plan is made.
    factor("t_fixup", 1, part=part, other_layers=other_layers)

    def gains(model: Model) -> tuple[float, float]:
        layers = depth.layers(model)
        # In both parts the embeddings have the decoder's factor.
        return factor("t_fixup", layers, part=part), (9 * layers) ** -0.25

    return _xavier_but_in_queries_and_keys(depth, gains, stacked, roles)


def _xavier_but_in_queries_and_keys(
    depth: Depth,
    gains: Callable[[Model], tuple[float, float]],
    stacked: bool,
    roles: Roles,
) -> Rules:
    """Return rules for Xavier's std times a gain; queries and keys have no gain.

    `gains(model)` returns the gain of the other kernels, and that of the embeddings.
    """

    def table(model: Model) -> Any:
        gain = gains(model)[1]
        return lambda _path, leaf: normal(gain / math.sqrt(width_of_table(leaf)))

    def kernel(heads: str | None = None, scaled: bool = True) -> FromTree:
        def of(model: Model) -> Any:
            depth.check_branches(model)
            gain = {"gain": gains(model)[0]} if scaled else {}
            side = with_layout(xavier, stacked, heads, depth.num_layers, **gain)
            return side.function(model)

        return FromTree(of)

    check(depth.recipe, roles, *ATTENTION, *WHOLE)
    # "ioo" and "iio" are the layouts of kernels that a user names, into and out of
    # heads, if their module has a name that Flax does not use.
    # Queries and keys do not change the bound of what an attention returns, so both
    # papers leave them at Xavier's std.
    plain = kernel("ioo", scaled=False)
    return [
        # A kernel with values beside its queries and keys comes before both.
        Rule(found("fused"), refuse_fused, optional=True),
        # Queries and keys come first, before the rule for all other kernels.
        *queries(depth.recipe, roles, plain),
        *role(roles, "key", plain, note="keys"),
        Rule(found("routers"), plain, optional=True),
        *others(roles, ("value",), kernel("ioo")),
        *others(roles, ("residual_outputs",), kernel("iio")),
        *role(roles, "positions", FromTree(table)),
        *role(roles, "embeddings", FromTree(table)),
        *others(roles, ("readout",), with_layout(lecun, stacked)),
        # These layers lie outside of a scanned stack, so no axis counts layers.
        Rule(found("ends"), with_layout(lecun, False), optional=True),
        # In a fused kernel the values have the gain, and the queries and keys do not.
        Rule(
            found("scaled", note="kernels with the gain"),
            not_fused(kernel()),
            optional=True,
        ),
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
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
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

    def query(model: Model) -> Any:
        side = with_layout(lecun_of, stacked, "ioo", num_layers).function(model)

        def init(path: str, leaf: Any) -> Initializer:
            known = side if isinstance(side, Initializer) else side(path, leaf)
            # The 1 / sqrt(head_dim) of the logits, moved into the kernel. T5 trains
            # with Adafactor, whose steps are relative to a kernel's size, so both
            # forms learn alike.
            size = head_dim or _head_dim(path, leaf, known)
            return dataclasses.replace(known, gain=size**-0.5)

        return init

    def table(_path: str, leaf: Any) -> Initializer:
        width = width_of_table(leaf)
        return normal(width**-0.5 if embedding_std is None else embedding_std)

    # LeCun's law in Flax, the default of its Dense layers, is truncated.
    lecun_of = functools.partial(lecun, distribution="truncated_normal")

    def kernel(heads: str | None = None) -> FromTree:
        return with_layout(lecun_of, stacked, heads, num_layers)

    relative = variance_scaling(1, "fan_avg", "uniform")
    return [
        Rule(found("fused"), refuse_fused, optional=True),
        *queries("t5", roles, FromTree(query)),
        # T5's relative positions are a table of (buckets, heads), drawn as in T5X.
        Rule(found("relative_positions"), relative, optional=True),
        *role(roles, "positions", table),
        *role(roles, "embeddings", table),
        *others(roles, ("key", "value"), kernel("ioo")),
        *others(roles, ("residual_outputs", "readout"), kernel("iio")),
        *kernels(not_fused(kernel())),
        *the_rest(),
    ]


def _head_dim(path: str, leaf: Any, init: Any) -> int:
    """Return the size of a head, the last of two axes of outputs of a query kernel."""
    layout = init.layout or getattr(leaf, "layout", None) or ""
    sizes: list[int] = [n for n, x in zip(leaf.shape, layout, strict=False) if x == "o"]
    if len(sizes) != 2:
        raise ValueError(
            f"the query kernel at {path!r} has shape {leaf.shape}, which does not "
            "show the size of a head; pass `head_dim`."
        )
    return sizes[1]
