"""The recipe `t5` starts a transformer as T5 does, with scaled queries."""

import dataclasses
import functools
from typing import Any, Unpack

from .._core.papers import RAFFEL_2020
from .._initializer.base import Initializer
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.distributions import normal
from .._schemes.fan_based import lecun
from .._schemes.variance_scaling import variance_scaling
from ._layouts import not_fused, refuse_fused, width_of_table, with_layout
from ._queries import queries
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


@recipe(
    use="T5 and models like it, whose attention does not divide by sqrt(head_dim)",
    law="TN(0, 1 / fan_in); queries / sqrt(head_dim); embeddings N(0, 1 / d)",
    sources=(
        Source("google-research/t5x", "t5x/examples/t5/layers.py", "247d329"),
        RAFFEL_2020,
    ),
    roles=(*ATTENTION, *WHOLE),
)
def t5(
    num_layers: int | None = None,
    *,
    head_dim: int | None = None,
    embedding_std: float | None = None,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Recipe:
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
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if the size of a head is not known, when the plan is made.

    Example:
      >>> import jax, jinit
      >>> shapes = {"query": {"kernel": jax.numpy.ones((512, 8, 64))}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.t5()).rows
      >>> row["std"] == 512**-0.5 / 8
      True

      In the plan of a network, roles, layouts and depth are read from the equations:

      >>> def layer(p, x):
      ...     q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
      ...     x = x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
      ...     return x + jax.nn.relu(x @ p["up"]) @ p["down"]
      >>> params = dict.fromkeys(("q", "k", "v", "o"), jax.numpy.ones((16, 16)))
      >>> params |= {"up": jax.numpy.ones((16, 64)), "down": jax.numpy.ones((64, 16))}
      >>> net = jinit.network(layer, params, jax.numpy.ones((2, 5, 16)))
      >>> rows = jinit.plan(net, jinit.recipes.t5(head_dim=16)).rows
      >>> {row["path"]: row["std"] for row in rows if row["path"] in "qk"}
      {'k': 0.25, 'q': 0.0625}

    References:
      Raffel et al., "Exploring the limits of transfer learning with a unified
        text-to-text transformer", JMLR 2020.
    """

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
    table_law = "1 / d" if embedding_std is None else f"{symbol(embedding_std)}^2"
    laws = [
        Law("query", "TN(0, 1 / (fan_in head_dim))", "q"),
        Law("kernels", "TN(0, 1 / fan_in)", "k, v, o, the MLP and the readout"),
        Law("embeddings", f"N(0, {table_law})", "tables of tokens and of positions"),
        Law("relative positions", "U, variance 1 / fan_avg", "the biases of logits"),
        *NORMS_AND_BIASES,
    ]
    rules = [
        *queries("t5", roles, FromTree(query)),
        Rule(in_role("fused"), refuse_fused, optional=True),
        # T5's relative positions are a table of (buckets, heads), drawn as in T5X.
        Rule(in_role("relative_positions"), relative, optional=True),
        *role(roles, "positions", table),
        *role(roles, "embeddings", table),
        *others(roles, ("key", "value"), kernel("ioo")),
        *others(roles, ("residual_outputs", "readout"), kernel("iio")),
        *kernels(not_fused(kernel())),
        *the_rest(),
    ]
    return Recipe(rules, laws)


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
