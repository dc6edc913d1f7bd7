"""Several tests use these models."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class MLP(nn.Module):
    """The perceptron has an activation after every layer except the last."""

    widths: tuple[int, ...]
    kernel: Any = nn.linear.default_kernel_init
    bias: Any = nn.initializers.zeros
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x):
        for width in self.widths[:-1]:
            x = self.activation(self.layer(width)(x))
        return self.layer(self.widths[-1])(x)

    def layer(self, width):
        return nn.Dense(
            width, self.use_bias, self.dtype, kernel_init=self.kernel,
            bias_init=self.bias,
        )  # fmt: skip


class Block(nn.Module):
    """The layer of a transformer has Flax's modules; one kernel names its axes."""

    width: int
    heads: int

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x))
        boxed = nn.with_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        y = nn.Dense(4 * self.width, kernel_init=boxed)(nn.LayerNorm()(x))
        return x + nn.Dense(self.width)(nn.gelu(y))


class Transformer(nn.Module):
    layers: int = 2
    width: int = 32
    heads: int = 4
    vocabulary: int = 48

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(self.vocabulary, self.width)(tokens)
        positions = jnp.arange(tokens.shape[1])
        x = x + nn.Embed(len(positions), self.width, name="pos")(positions)[None]
        for _ in range(self.layers):
            x = Block(self.width, self.heads)(x)
        return nn.Dense(self.vocabulary, name="head")(nn.LayerNorm()(x))


def shapes_of(model, *inputs):
    """Return the shapes of the variables, without drawing them."""
    return jax.eval_shape(model.init, jax.random.key(0), *inputs)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["weight", "layers"],
    meta_fields=["activation"],
)
@dataclasses.dataclass
class Module:
    """The module is a pytree, like a module of Equinox."""

    weight: object
    layers: list
    activation: object = jnp.tanh
