"""Maximal-update parametrization divides attention's logits by the head dimension."""

import math

from .._core import checks


def attention_scale(head_dim: int, base_head_dim: int | None = None) -> float:
    """Return the factor of q k' for heads that grow: sqrt(base_head_dim) / head_dim.

    Training aligns queries with keys, so that q k' grows as head_dim and not as its
    root. At head_dim = base_head_dim the factor is the usual 1 / sqrt(head_dim).

    Args:
      head_dim: the size of a head.
      base_head_dim: the size of a head of the base model; None for the factor 1 /
        head_dim. If the width grows by the number of heads, both sizes are equal, and
        the factor stays the usual one.

    Returns:
      The factor, a float.

    Raises:
      TypeError: if a size is not an integer.
      ValueError: if a size is below 1.

    Example:
      Flax's attention divides by sqrt(head_dim) itself, so the queries take the rest.
      In Linen:

      >>> import functools, flax.linen as nn, jax, jinit
      >>> def attention(query, key, value, *, base_head_dim, **options):
      ...     d = query.shape[-1]
      ...     scale = jinit.mup.attention_scale(d, base_head_dim) * d**0.5
      ...     return nn.dot_product_attention(scale * query, key, value, **options)
      >>> layer = nn.MultiHeadDotProductAttention(
      ...     4, attention_fn=functools.partial(attention, base_head_dim=16))
      >>> x = jax.random.normal(jax.random.key(0), (2, 5, 256))
      >>> layer.init_with_output(jax.random.key(1), x)[0].shape
      (2, 5, 256)

      In NNX the same function, around `nnx.dot_product_attention`:

      >>> from flax import nnx
      >>> def attention(query, key, value, **options):
      ...     d = query.shape[-1]
      ...     scale = jinit.mup.attention_scale(d, 16) * d**0.5
      ...     return nnx.dot_product_attention(scale * query, key, value, **options)
      >>> layer = nnx.MultiHeadAttention(
      ...     4, 256, attention_fn=attention, decode=False, rngs=nnx.Rngs(0))
      >>> layer(x).shape
      (2, 5, 256)

    References:
      Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
        hyperparameter transfer", NeurIPS 2021. Definition 4.1.
    """
    size = checks.count("head_dim", head_dim)
    if size is None:
        raise TypeError("`head_dim` is None; it must be an integer.")
    base = checks.count("base_head_dim", base_head_dim)
    return math.sqrt(base or 1) / size
