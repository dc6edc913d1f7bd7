"""The models that are started: one transformer, as Flax and as torch write it."""

import os
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

# Its idle threads would spin for a while, in the time of whoever is measured next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")


class Size(NamedTuple):
    """A pre-LN transformer with a hidden layer of four times its width."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    dtype: str = "float32"


LENGTH = 16


class Block(nn.Module):
    """Attention and a perceptron, each behind a LayerNorm and beside a shortcut."""

    size: Size

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kind: dict[str, Any] = {"param_dtype": jnp.dtype(self.size.dtype)}
        y = nn.LayerNorm(**kind)(x)
        x = x + nn.MultiHeadDotProductAttention(self.size.heads, **kind)(y)
        y = nn.Dense(4 * self.size.width, **kind)(nn.LayerNorm(**kind)(x))
        return x + nn.Dense(self.size.width, **kind)(nn.gelu(y))


class Transformer(nn.Module):
    """Tokens -> logits, with a learned position for each token."""

    size: Size

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        size = self.size
        kind: dict[str, Any] = {"param_dtype": jnp.dtype(size.dtype)}
        x = nn.Embed(size.vocabulary, size.width, name="tokens", **kind)(tokens)
        places = jnp.arange(tokens.shape[-1])
        x = x + nn.Embed(LENGTH, size.width, name="positions", **kind)(places)
        for _ in range(size.layers):
            x = Block(size)(x)
        return nn.Dense(size.vocabulary, name="readout", **kind)(
            nn.LayerNorm(**kind)(x)
        )


def torch_transformer(size: Size) -> Any:
    """The same in torch, with the default initialization of torch's layers."""
    import torch

    kind: Any = {"dtype": getattr(torch, size.dtype)}
    blocks = [
        torch.nn.TransformerEncoderLayer(
            size.width, size.heads, 4 * size.width, activation="gelu",
            batch_first=True, norm_first=True, **kind,
        )
        for _ in range(size.layers)
    ]  # fmt: skip
    return torch.nn.ModuleDict(
        {
            "tokens": torch.nn.Embedding(size.vocabulary, size.width, **kind),
            "positions": torch.nn.Embedding(LENGTH, size.width, **kind),
            "blocks": torch.nn.ModuleList(blocks),
            "norm": torch.nn.LayerNorm(size.width, **kind),
            "readout": torch.nn.Linear(size.width, size.vocabulary, **kind),
        }
    )
