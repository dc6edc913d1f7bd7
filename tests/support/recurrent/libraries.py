"""One architecture becomes a model of Linen, NNX, Equinox or plain JAX.

An architecture is a function (parts, inputs) that asks `parts` for layers by name. Each
library makes its own layers, with its own layouts and calls.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

import jinit

LIBRARIES = ("plain", "linen", "nnx", "equinox")


def depthwise(x, kernel):
    """Convolve each channel with its own window, from the past alone."""
    width, channels = kernel.shape
    return lax.conv_general_dilated(
        x,
        kernel[:, None],
        (1,),
        [(width - 1, 0)],
        dimension_numbers=("NHC", "HIO", "NHC"),
        feature_group_count=channels,
    )


class Plain:
    """Layers are arrays in a dictionary, which the first call fills."""

    def __init__(self, params=None):
        self.params = {} if params is None else params

    def param(self, name, shape):
        if name not in self.params:
            self.params[name] = jnp.ones(shape)
        return self.params[name]

    def dense(self, name, x, features, bias=False):
        y = x @ self.param(f"{name}.kernel", (x.shape[-1], features))
        return y + self.param(f"{name}.bias", (features,)) if bias else y

    def conv(self, name, x, width, bias=False):
        y = depthwise(x, self.param(f"{name}.kernel", (width, x.shape[-1])))
        return y + self.param(f"{name}.bias", (x.shape[-1],)) if bias else y

    def norm(self, name, x):
        scale = self.param(f"{name}.scale", (x.shape[-1],))
        return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale

    def embed(self, name, ids, size, features):
        return self.param(f"{name}.kernel", (size, features))[ids]


class Linen:
    """Layers are submodules of the module that is being called."""

    def __init__(self, module):
        self.module = module

    def param(self, name, shape):
        return self.module.param(name, nn.initializers.ones, shape)

    def dense(self, name, x, features, bias=False):
        return nn.Dense(features, use_bias=bias, name=name)(x)

    def conv(self, name, x, width, bias=False):
        options = {"feature_group_count": x.shape[-1], "padding": "CAUSAL"}
        return nn.Conv(x.shape[-1], (width,), use_bias=bias, name=name, **options)(x)

    def norm(self, name, x):
        return nn.RMSNorm(name=name)(x)

    def embed(self, name, ids, size, features):
        return nn.Embed(size, features, name=name)(ids)


class LinenModel(nn.Module):
    architecture: object

    @nn.compact
    def __call__(self, x):
        return self.architecture(Linen(self), x)


class NnxModel(nnx.Module):
    """Layers are attributes, which the first call makes."""

    def __init__(self, architecture, x):
        self.architecture, self.rngs = architecture, nnx.Rngs(0)
        self(x)
        del self.rngs

    def _made(self, name, make):
        # A layer may have the name of a method.
        if not hasattr(self, f"made_{name}"):
            setattr(self, f"made_{name}", make())
        return getattr(self, f"made_{name}")

    def param(self, name, shape):
        return self._made(name, lambda: nnx.Param(jnp.ones(shape)))[...]

    def dense(self, name, x, features, bias=False):
        sizes = x.shape[-1], features
        make = lambda: nnx.Linear(*sizes, use_bias=bias, rngs=self.rngs)  # noqa: E731
        return self._made(name, make)(x)

    def conv(self, name, x, width, bias=False):
        options = {"feature_group_count": x.shape[-1], "padding": "CAUSAL"}
        sizes = x.shape[-1], x.shape[-1], (width,)
        make = lambda: nnx.Conv(  # noqa: E731
            *sizes, use_bias=bias, rngs=self.rngs, **options
        )
        return self._made(name, make)(x)

    def norm(self, name, x):
        return self._made(name, lambda: nnx.RMSNorm(x.shape[-1], rngs=self.rngs))(x)

    def embed(self, name, ids, size, features):
        make = lambda: nnx.Embed(size, features, rngs=self.rngs)  # noqa: E731
        return self._made(name, make)(ids)

    def __call__(self, x):
        return self.architecture(self, x)


def _equinox(architecture, x):
    import equinox as eqx

    key = jax.random.key(0)

    class Parts:
        """Layers are Equinox's, for one token or one sequence each."""

        def __init__(self, layers):
            self.layers = layers

        def _made(self, name, make):
            if name not in self.layers:
                self.layers[name] = make()
            return self.layers[name]

        def param(self, name, shape):
            return self._made(name, lambda: jnp.ones(shape))

        def dense(self, name, x, features, bias=False):
            sizes = x.shape[-1], features
            layer = self._made(
                name, lambda: eqx.nn.Linear(*sizes, use_bias=bias, key=key)
            )
            return jax.vmap(jax.vmap(layer))(x)

        def conv(self, name, x, width, bias=False):
            channels = x.shape[-1]
            layer = self._made(
                name,
                lambda: eqx.nn.Conv1d(
                    channels,
                    channels,
                    width,
                    padding=((width - 1, 0),),
                    groups=channels,
                    use_bias=bias,
                    key=key,
                ),
            )
            return jax.vmap(layer)(x.mT).mT

        def norm(self, name, x):
            layer = self._made(
                name, lambda: eqx.nn.RMSNorm(x.shape[-1], use_bias=False)
            )
            return jax.vmap(jax.vmap(layer))(x)

        def embed(self, name, ids, size, features):
            layer = self._made(name, lambda: eqx.nn.Embedding(size, features, key=key))
            return jax.vmap(jax.vmap(layer))(ids)

    layers = {}
    architecture(Parts(layers), x)

    class EquinoxModel(eqx.Module):
        layers: dict

        def __call__(self, x):
            return architecture(Parts(self.layers), x)

    return EquinoxModel(layers)


def network_of(architecture, library, x):
    """Return the network of an architecture in a library."""
    if library == "plain":
        parts = Plain()
        architecture(parts, x)
        run = lambda params, x: architecture(Plain(params), x)  # noqa: E731
        return jinit.network(run, parts.params, x)
    if library == "linen":
        model = LinenModel(architecture)
        return jinit.network(model, model.init(jax.random.key(0), x), x)
    if library == "nnx":
        return jinit.network(NnxModel(architecture, x), x)
    return jinit.network(_equinox(architecture, x), x)


def common_name(path):
    """Return the name that a parameter has in all libraries."""
    for prefix in ("params/", "layers/", "made_"):
        path = path.removeprefix(prefix)
    name = path.replace("/", ".").replace("norm.weight", "norm.scale")
    return name.replace(".weight", ".kernel").replace(".embedding", ".kernel")
