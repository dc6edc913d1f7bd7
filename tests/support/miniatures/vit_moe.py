"""V-MoE (Riquelme et al. 2021) is a ViT whose second MLP is a mixture, in Linen.

Each token goes to one of the experts, by masks with a capacity; the experts are one
MLP under `nn.vmap`, and the router's kernel is small, N(0, 0.02).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

LAYERS, SIZE, EXPERTS, CLASSES, PATCH = 2, 8, 4, 3, 4


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.gelu(nn.Dense(4 * x.shape[-1], name="up")(x))
        return nn.Dense(x.shape[-1], name="down")(y)


class Mixture(nn.Module):
    @nn.compact
    def __call__(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        router = nn.Dense(
            EXPERTS, False, kernel_init=nn.initializers.normal(0.02), name="router"
        )
        probabilities = jax.nn.softmax(router(tokens))
        mask = jax.nn.one_hot(jnp.argmax(probabilities, axis=-1), EXPERTS)
        place = ((jnp.cumsum(mask, axis=0) - 1) * mask).sum(-1).astype(jnp.int32)
        slots = jax.nn.one_hot(place, tokens.shape[0])
        dispatch = mask[:, :, None] * slots[:, None, :]
        combine = (probabilities * mask).sum(-1)[:, None, None] * dispatch
        experts = nn.vmap(
            Mlp, variable_axes={"params": 0}, split_rngs={"params": True}
        )(name="experts")
        y = experts(jnp.einsum("tec,td->ecd", dispatch, tokens))
        return jnp.einsum("tec,ecd->td", combine, y).reshape(x.shape)


class ViTMoE(nn.Module):
    width: int

    @nn.compact
    def __call__(self, images):
        patch = (PATCH, PATCH)
        x = nn.Conv(self.width, patch, patch, "VALID", name="patches")(images)
        x = x.reshape(x.shape[0], -1, self.width)
        shape = (1, x.shape[1], self.width)
        x = x + self.param("positions", nn.initializers.normal(0.02), shape)
        heads = self.width // SIZE
        for number in range(LAYERS):
            y = nn.LayerNorm(name=f"norm_{number}_0")(x)
            x = x + nn.MultiHeadDotProductAttention(heads, name=f"attention_{number}")(
                y
            )
            y = nn.LayerNorm(name=f"norm_{number}_1")(x)
            block = (Mlp, Mixture)[number % 2]
            x = x + block(name=f"mlp_{number}")(y)
        x = nn.LayerNorm(name="norm")(x).mean(axis=1)
        return nn.Dense(CLASSES, name="head")(x)


TABLE = """
patches/kernel  kkio  48  256  input convolution
positions       .     .    .   bias|other|embedding
attention_{0,1}/query/kernel  ioo  16 16  query
attention_{0,1}/key/kernel    ioo  16 16  key
attention_{0,1}/value/kernel  ioo  16 16  value
attention_{0,1}/out/kernel    iio  16 16  attention_output residual_output
mlp_0/up/kernel    io  16 64
mlp_0/down/kernel  io  64 16  residual_output
mlp_1/router/kernel        io  16  4  router
mlp_1/experts/up/kernel    bio 16 64  expert
mlp_1/experts/down/kernel  bio 64 16  expert residual_output
head/kernel  io  16 3  readout
"""
