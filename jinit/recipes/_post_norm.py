"""The recipes `deepnorm` and `t_fixup` scale all kernels but queries and keys."""

import math
from collections.abc import Callable
from typing import Any, Unpack

from .._core.papers import HUANG_2020, WANG_2024
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._scale.depth import deepnorm as _deepnorm
from .._scale.depth import factor
from .._schemes.distributions import normal
from .._schemes.fan_based import lecun, xavier
from ._depth import Depth
from ._layouts import not_fused, refuse_fused, width_of_table, with_layout
from ._queries import queries
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe
from ._roles import (
    ATTENTION,
    WHOLE,
    Roles,
    Rules,
    in_role,
    others,
    role,
    the_rest,
)


@recipe(
    use="post-norm transformers with x <- LayerNorm(alpha x + f(x))",
    law="Xavier, times beta = (8 L)^(-1/4) except in queries and keys",
    sources=(
        Source("microsoft/torchscale", "torchscale/architecture/encoder.py", "0cb9695"),
        WANG_2024,
    ),
    roles=(*ATTENTION, *WHOLE),
)
def deepnorm(
    num_layers: int | None = None,
    *,
    part: str | None = None,
    other_layers: int | None = None,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Recipe:
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
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `num_layers` is out of range.

    Example:
      >>> import jax, jinit
      >>> shapes = {"up": {"kernel": jax.numpy.ones((64, 64))}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.deepnorm(8)).rows
      >>> round(row["std"] / (1 / 64) ** 0.5, 6)  # beta
      0.353553

      In the plan of a network, roles, layouts and depth are read from the equations:

      >>> def layer(p, x):
      ...     q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
      ...     x = x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
      ...     return x + jax.nn.relu(x @ p["up"]) @ p["down"]
      >>> params = dict.fromkeys(("q", "k", "v", "o"), jax.numpy.ones((16, 16)))
      >>> params |= {"up": jax.numpy.ones((16, 64)), "down": jax.numpy.ones((64, 16))}
      >>> net = jinit.network(layer, params, jax.numpy.ones((2, 5, 16)))
      >>> plan = jinit.plan(net, jinit.recipes.deepnorm())
      >>> plan.notes
      ('queries: 1', 'keys: 1', 'kernels with the gain: 4')

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

    beta = {"encoder": "0.87 (N^4 M)^(-1/16)", "decoder": "(12 L)^(-1/4)"}
    laws = _laws(beta.get(part or "", "(8 L)^(-1/4)"), "N(0, 1 / d)")
    rules = _xavier_but_in_queries_and_keys(depth, gains, stacked, roles)
    return Recipe(rules, laws)


@recipe(
    use="transformers without LayerNorm and without warm-up",
    law="Xavier, times 0.67 N^(-1/4) except in queries and keys",
    sources=(
        Source(
            "layer6ai-labs/T-Fixup", "fairseq/modules/transformer_layer.py", "cce506a"
        ),
        HUANG_2020,
    ),
    roles=(*ATTENTION, *WHOLE),
)
def t_fixup(
    num_layers: int | None = None,
    *,
    part: str | None = None,
    other_layers: int | None = None,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Recipe:
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
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `num_layers` is out of range.

    Example:
      >>> import jax, jinit
      >>> shapes = {"up": {"kernel": jax.numpy.ones((64, 64))}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.t_fixup(6)).rows
      >>> round(row["std"] / (1 / 64) ** 0.5, 6)
      0.428092

      In the plan of a network, roles, layouts and depth are read from the equations:

      >>> def layer(p, x):
      ...     q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
      ...     x = x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
      ...     return x + jax.nn.relu(x @ p["up"]) @ p["down"]
      >>> params = dict.fromkeys(("q", "k", "v", "o"), jax.numpy.ones((16, 16)))
      >>> params |= {"up": jax.numpy.ones((16, 64)), "down": jax.numpy.ones((64, 16))}
      >>> net = jinit.network(layer, params, jax.numpy.ones((2, 5, 16)))
      >>> rows = jinit.plan(net, jinit.recipes.t_fixup()).rows
      >>> stds = {row["path"]: row["std"] for row in rows}
      >>> round(stds["v"] / stds["q"], 6)  # 0.67 N^(-1/4), N = 1
      0.67

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

    gain = "(9 N)^(-1/4)" if part == "decoder" else "0.67 N^(-1/4)"
    laws = _laws(gain, "N(0, 1 / d), times (9 N)^(-1/4)")
    rules = _xavier_but_in_queries_and_keys(depth, gains, stacked, roles)
    return Recipe(rules, laws)


def _laws(gain: str, table: str) -> list[Law]:
    """Return the laws of both recipes, with the gain of values, outputs and MLPs."""
    return [
        Law("query, key", "N(0, 2 / (fan_in + fan_out))", "q, k and routers"),
        Law("other kernels of branches", f"the same, times {gain}", "v, o and the MLP"),
        Law("kernels outside of branches", "N(0, 1 / fan_in)", "the readout"),
        Law("embeddings", table, "the tables of tokens and of positions"),
        *NORMS_AND_BIASES,
    ]


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

    # "ioo" and "iio" are the layouts of kernels that a user names, into and out of
    # heads, if their module has a name that Flax does not use.
    # Queries and keys do not change the bound of what an attention returns, so both
    # papers leave them at Xavier's std.
    plain = kernel("ioo", scaled=False)
    return [
        # Queries and keys come first, before the rule for all other kernels.
        *queries(depth.recipe, roles, plain),
        *role(roles, "key", plain, note="keys"),
        Rule(in_role("fused"), refuse_fused, optional=True),
        Rule(in_role("routers"), plain, optional=True),
        *others(roles, ("value",), kernel("ioo")),
        *others(roles, ("residual_outputs",), kernel("iio")),
        *role(roles, "positions", FromTree(table)),
        *role(roles, "embeddings", FromTree(table)),
        *others(roles, ("readout",), with_layout(lecun, stacked)),
        # These layers lie outside of a scanned stack, so no axis counts layers.
        Rule(in_role("ends"), with_layout(lecun, False), optional=True),
        # In a fused kernel the values have the gain, and the queries and keys do not.
        Rule(
            in_role("scaled", note="kernels with the gain"),
            not_fused(kernel()),
            optional=True,
        ),
        *the_rest(),
    ]
