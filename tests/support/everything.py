"""The model has each kind of Flax's modules; its variables are drawn once."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jinit

X = jax.ShapeDtypeStruct((2, 3, 12), jnp.float32)
x = np.ones(X.shape, np.float32)


class Layer(nn.Module):
    """The layer is scanned as a stack."""

    kernel_init: object = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, carry, _):
        return nn.Dense(12, kernel_init=self.kernel_init)(carry), None


class Everything(nn.Module):
    """The model has each kind of Flax's modules, with each kind of initializer."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(12, kernel_init=jinit.kaiming("gelu"), bias_init=jinit.normal())(x)
        x = nn.Dense(12, kernel_init=nn.initializers.normal(0.02))(x)
        x = nn.Dense(12, kernel_init=nn.initializers.orthogonal())(x)
        x = nn.Dense(12, kernel_init=jinit.orthogonal(), param_dtype=jnp.bfloat16)(x)
        x = nn.Dense(12, param_dtype=jnp.bfloat16)(x)
        x = nn.MultiHeadDotProductAttention(3)(x, x)
        x = nn.Conv(6, (3,), kernel_init=nn.initializers.he_uniform())(x)
        x = nn.BatchNorm(use_running_average=False)(nn.remat(nn.Dense)(12)(x))
        scanned = nn.scan(
            Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=5
        )
        x, _ = scanned()(x, None)
        x = nn.jit(nn.Dense)(12)(nn.LayerNorm(scale_init=jinit.ones)(x))
        mapped = nn.vmap(
            nn.Dense,
            in_axes=1,
            variable_axes={"params": 1},
            split_rngs={"params": True},
        )
        return nn.Dropout(0.5, deterministic=True)(
            mapped(4)(x)
        ), self.maxwell_and_embedding(x)

    def maxwell_and_embedding(self, x):
        def init(key, shape):
            values = jax.random.maxwell(key, shape)
            return 0.5 * (values - values.max()) + 0.1

        x = x * self.param("own", init, (1, 1, 12))
        return x + nn.Embed(7, 12)(jnp.zeros((2, 3), int))


INIT = Everything().init
JITTED = jax.jit(INIT)


def drawn(key):
    """Return the variables of an eager `init`, with the scanned layers of a jitted one.

    An eager scan runs the forward pass, too. From jax 0.12 on XLA fuses a kernel that
    is drawn there with the product that follows, and rounds the draw differently.
    """
    called, jitted = (init(key, x) for init in (INIT, JITTED))
    scanned = {"ScanLayer_0": jitted["params"]["ScanLayer_0"]}
    return {**called, "params": {**called["params"], **scanned}}


@functools.cache
def everything():
    """Return what `drawn` returns for key 3, drawn once for all tests."""
    return drawn(jax.random.key(3))
