"""The benchmark starts one transformer, which is written in Flax and in torch."""

import os
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

# Idle OpenMP threads of torch would spin during the next measurement. OpenMP reads
# these variables when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")


class Size(NamedTuple):
    """A size describes a pre-LN transformer; its hidden layers are 4 times as wide."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    dtype: str = "float32"
    # Whether the layers are stacked along axis 1 of their kernels, as in T5.
    scanned: bool = False


LENGTH = 16


class Block(nn.Module):
    """A block adds attention and a perceptron, each behind a LayerNorm."""

    size: Size

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        options: dict[str, Any] = {"param_dtype": jnp.dtype(self.size.dtype)}
        y = nn.LayerNorm(**options)(x)
        x = x + nn.MultiHeadDotProductAttention(self.size.heads, **options)(y)
        y = nn.Dense(4 * self.size.width, **options)(nn.LayerNorm(**options)(x))
        return x + nn.Dense(self.size.width, **options)(nn.gelu(y))


class Step(nn.Module):
    """A step of a scan is one block."""

    size: Size

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return Block(self.size)(x), None


class Transformer(nn.Module):
    """The model maps tokens to logits, with a learned position for each token."""

    size: Size

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        size = self.size
        options: dict[str, Any] = {"param_dtype": jnp.dtype(size.dtype)}
        x = nn.Embed(size.vocabulary, size.width, name="tokens", **options)(tokens)
        places = jnp.arange(tokens.shape[-1])
        x = x + nn.Embed(LENGTH, size.width, name="positions", **options)(places)
        if size.scanned:
            scan = nn.scan(
                Step, variable_axes={"params": 1}, split_rngs={"params": True},
                length=size.layers,
            )  # fmt: skip
            x, _ = scan(size)(x, None)
        for _ in range(0 if size.scanned else size.layers):
            x = Block(size)(x)
        return nn.Dense(size.vocabulary, name="readout", **options)(
            nn.LayerNorm(**options)(x)
        )


def torch_transformer(size: Size) -> Any:
    """Return the same model in torch, with the default initialization of its layers."""
    import torch

    options: Any = {"dtype": getattr(torch, size.dtype)}
    blocks = [
        torch.nn.TransformerEncoderLayer(
            size.width, size.heads, 4 * size.width, activation="gelu",
            batch_first=True, norm_first=True, **options,
        )
        for _ in range(size.layers)
    ]  # fmt: skip
    return torch.nn.ModuleDict(
        {
            "tokens": torch.nn.Embedding(size.vocabulary, size.width, **options),
            "positions": torch.nn.Embedding(LENGTH, size.width, **options),
            "blocks": torch.nn.ModuleList(blocks),
            "norm": torch.nn.LayerNorm(size.width, **options),
            "readout": torch.nn.Linear(size.width, size.vocabulary, **options),
        }
    )
