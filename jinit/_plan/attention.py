"""`place_mimetic_attention` draws the four kernels of each attention in a tree.

The two kernels of a pair must be drawn with one key. A rule of a plan cannot do that,
since a plan gives every leaf another key.
"""

from typing import Any

import jax

from .._core import checks, trees
from .._core.patterns import Pattern, PatternLike
from .._core.trees import Leaf
from .._schemes.mimetic import mimetic_attention

_MEMBERS = ("query", "key", "value", "out")


def place_mimetic_attention(
    params: Any,
    key: jax.Array,
    *,
    pattern: PatternLike = "**",
    alpha_qk: float = 0.7,
    beta_qk: float = 0.7,
    alpha_vo: float = 0.4,
    beta_vo: float = -0.4,
) -> Any:
    """Give every attention of a model the kernels of `mimetic_attention`.

    An attention is a module with kernels query, key and value of shape (d, heads,
    head_dim) and out of shape (heads, head_dim, d), as Flax names and shapes them in
    Linen and in NNX. Other leaves are returned as they are. The key of each attention
    is the root key folded with its path.

    Args:
      params: a tree of parameters: Linen's variables, or an `nnx.State`.
      key: a PRNG key.
      pattern: a pattern as in a rule, which the paths of the four kernels match.
      alpha_qk: the noise in query and key, as for `mimetic_attention`.
      beta_qk: the identity in query and key.
      alpha_vo: the noise in value and out.
      beta_vo: the identity in value and out.

    Returns:
      A tree with the structure of `params`.

    Raises:
      TypeError: if `key` is not a PRNG key, or `pattern` is not a pattern.
      ValueError: if no attention matches, or a kernel has another shape.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> model = nn.MultiHeadDotProductAttention(num_heads=2)
      >>> params = model.init(jax.random.key(0), jnp.ones((1, 5, 8)))
      >>> params = jinit.place_mimetic_attention(params, jax.random.key(1))
      >>> params["params"]["query"]["kernel"].shape
      (8, 2, 4)

    References:
      Trockman and Kolter, "Mimetic initialization of self-attention layers", ICML 2023.
    """
    checks.key(key)
    selection = Pattern.of("`pattern`", pattern)
    qk, vo = mimetic_attention(
        alpha_qk=alpha_qk, beta_qk=beta_qk, alpha_vo=alpha_vo, beta_vo=beta_vo
    )
    leaves = trees.leaves(params)
    values = {leaf.parts: leaf.value for leaf in leaves}
    for above, members in _attentions(leaves, selection).items():
        # One key for a pair: its two kernels are halves of one singular value
        # decomposition.
        qk_key, vo_key = jax.random.split(trees.key_of(key, above))
        shape, dtype = members["query"].value.shape, members["query"].value.dtype
        drawn = (*qk(qk_key, shape, dtype), *vo(vo_key, shape, dtype))
        # The query's shape decides for all four; the others must agree with it.
        for name, kernel in zip(_MEMBERS, drawn, strict=True):
            # The keys of a cross-attention may read another width. Then their product
            # with the queries is not square, and has no diagonal.
            trees.check_like("params", members[name], kernel, "an attention")
            values[members[name].parts] = kernel
    new = [values[leaf.parts] for leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(params), new)


def _attentions(
    leaves: list[Leaf], pattern: Pattern
) -> dict[tuple[str, ...], dict[str, Leaf]]:
    """Return the four kernels of each attention that matches, by its path."""
    modules: dict[tuple[str, ...], dict[str, Leaf]] = {}
    for leaf in leaves:
        # A tree may also be one layer, whose kernel has no name above it.
        member = "".join(leaf.parts[-2:-1])
        is_kernel = leaf.parts[-1:] == ("kernel",) and member in _MEMBERS
        if is_kernel and pattern.matches(leaf):
            modules.setdefault(leaf.parts[:-2], {})[member] = leaf
    # A pattern may match some kernels of an attention alone; it is left as it is then.
    whole = {path: m for path, m in modules.items() if len(m) == len(_MEMBERS)}
    if not whole:
        raise ValueError(
            f"`params` has no attention that {pattern} matches: a module with the "
            "kernels query, key, value and out. With other names or fused kernels, "
            "draw the pairs of jinit.mimetic_attention() and put them in by hand."
        )
    return whole
