"""The recipes of this file start language transformers as their papers do."""

import functools
from typing import Any, Unpack

from .._core.papers import BLACK_2022, NGUYEN_2019, RADFORD_2019
from .._initializer.base import Initializer
from .._plan.model import Model
from .._plan.rules import FromTree
from .._scale.depth import factor
from .._schemes.distributions import normal
from .._schemes.transformers import small_init as _small_init
from .._schemes.transformers import wang_init
from ._depth import Depth
from ._ends import last_layers
from ._layouts import width_of_table, with_layout
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe, symbol
from ._roles import (
    ATTENTION,
    WHOLE,
    Roles,
    kernels,
    others,
    role,
    the_rest,
)


@recipe(
    use="GPT-2, and the language models that follow it",
    law="N(0, 0.02^2); branch ends / sqrt(2 L); positions N(0, 0.01^2)",
    sources=(Source("openai/gpt-2", "src/model.py", "122c55a"), RADFORD_2019),
    roles=(*ATTENTION, *WHOLE),
)
def gpt2(
    num_layers: int | None = None, *, std: float = 0.02, **roles: Unpack[Roles]
) -> Recipe:
    """Return GPT-2's rules: N(0, std^2), and the last layer of a branch / sqrt(2 L).

    Position embeddings have std / 2, norms are 1, and biases are 0.

    Args:
      num_layers: L, the number of layers, each with two branches. In the plan of a
        network None stands for half of its residual branches. A branch that holds both
        attention and MLP counts as two.
      std: the std of all kernels and embeddings.
      **roles: patterns of residual_outputs, embeddings and positions.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `num_layers` is out of range.

    Example:
      >>> import jax, jinit
      >>> shapes = {"h": {"attn": {"out": {"kernel": jax.numpy.ones((8, 4, 32))}}}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.gpt2(12)).rows
      >>> round(row["std"], 8)
      0.00408248

      In the plan of a network, roles, layouts and depth are read from the equations:

      >>> def layer(p, x):
      ...     q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
      ...     x = x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
      ...     return x + jax.nn.relu(x @ p["up"]) @ p["down"]
      >>> params = dict.fromkeys(("q", "k", "v", "o"), jax.numpy.ones((16, 16)))
      >>> params |= {"up": jax.numpy.ones((16, 64)), "down": jax.numpy.ones((64, 16))}
      >>> net = jinit.network(layer, params, jax.numpy.ones((2, 5, 16)))
      >>> plan = jinit.plan(net, jinit.recipes.gpt2())
      >>> plan.notes
      ('residual outputs: 2 of 2 (1 layer x 2)',)
      >>> {row["path"]: round(row["std"], 4) for row in plan.rows if row["std"] < 0.02}
      {'down': 0.0141, 'o': 0.0141}

    References:
      Radford, Wu, Child, Luan, Amodei and Sutskever, "Language models are unsupervised
        multitask learners", OpenAI 2019. Both branches of a layer are counted, as in
        its reimplementations.
    """
    depth = Depth("gpt2", num_layers, by_branches=True)

    def last(model: Model) -> Initializer:
        if num_layers is not None:
            return normal(std * factor("gpt2", num_layers))
        return normal(std * depth.branches(model) ** -0.5)

    plain, half = normal(std), normal(std / 2)
    law = symbol(std)
    laws = [
        Law("residual outputs", f"N(0, ({law} / sqrt(2 L))^2)", "o and down"),
        Law("kernels", f"N(0, {law}^2)", "q, k, v, up, gate and readout"),
        Law("embeddings", f"N(0, {law}^2)", "the table of tokens"),
        Law("positions", f"N(0, {symbol(std / 2)}^2)", "the table of positions"),
        *NORMS_AND_BIASES,
    ]
    # Positions come first, since a table of positions is often an `nn.Embed`, which the
    # pattern of embeddings matches too.
    rules = [
        *last_layers(roles, FromTree(last), depth),
        # GPT-2's published code has 0.01 for positions beside 0.02 for tokens.
        *role(roles, "positions", half),
        *role(roles, "embeddings", plain),
        *others(roles, (*ATTENTION, "readout"), plain),
        *kernels(plain),
        *the_rest(),
    ]
    return Recipe(rules, laws)


@recipe(
    use="GPT-NeoX, and other language models of EleutherAI",
    law="N(0, 2 / (5 d)); branch ends N(0, (2 / (L sqrt(d)))^2)",
    sources=(
        Source("EleutherAI/gpt-neox", "megatron/model/init_functions.py", "05c4de3"),
        NGUYEN_2019,
        BLACK_2022,
    ),
    roles=(*ATTENTION, *WHOLE),
)
def small_init(
    num_layers: int | None = None, *, stacked: bool = False, **roles: Unpack[Roles]
) -> Recipe:
    """Return GPT-NeoX's rules: std = sqrt(2 / (5 d)), last layers 2 / (L sqrt(d)).

    d is the width of the residual stream: the fan_in of a kernel that reads it, and the
    fan_out of a kernel that writes to it. The last layers are those that end branches.

    Args:
      num_layers: L, the number of layers. In the plan of a network None stands for the
        number that its residual branches show.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
      **roles: patterns of residual_outputs, embeddings and positions.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `num_layers` is out of range.

    Example:
      >>> import jax, jinit
      >>> shapes = {"up": {"kernel": jax.numpy.ones((768, 3072))}}
      >>> (row,) = jinit.plan(shapes, jinit.recipes.small_init(12)).rows
      >>> round(row["std"], 8)
      0.02282177

      In the plan of a network, roles, layouts and depth are read from the equations:

      >>> def layer(p, x):
      ...     q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
      ...     x = x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
      ...     return x + jax.nn.relu(x @ p["up"]) @ p["down"]
      >>> params = dict.fromkeys(("q", "k", "v", "o"), jax.numpy.ones((16, 16)))
      >>> params |= {"up": jax.numpy.ones((16, 64)), "down": jax.numpy.ones((64, 16))}
      >>> net = jinit.network(layer, params, jax.numpy.ones((2, 5, 16)))
      >>> rows = jinit.plan(net, jinit.recipes.small_init()).rows
      >>> {row["path"]: row["std"] for row in rows}["down"]  # 2 / (L sqrt(d)), L = 1
      0.5

    References:
      Nguyen and Salazar, "Transformers without tears: improving the normalization of
        self-attention", IWSLT 2019.
      Black et al., "GPT-NeoX-20B: an open-source autoregressive language model",
        BigScience Workshop 2022.
    """
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

    laws = [
        Law("residual outputs", "N(0, (2 / (L sqrt(d)))^2)", "o and down"),
        Law("kernels", "N(0, 2 / (5 d))", "q, k, v, up, gate and readout"),
        Law("embeddings", "N(0, 2 / (5 d))", "the tables of tokens and of positions"),
        *NORMS_AND_BIASES,
    ]
    rules = [
        *last_layers(roles, FromTree(last), depth),
        *role(roles, "positions", embedding),
        *role(roles, "embeddings", embedding),
        *others(roles, (*ATTENTION, "readout"), plain("ioo")),
        *kernels(plain()),
        *the_rest(),
    ]
    return Recipe(rules, laws)
