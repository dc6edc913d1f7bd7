"""An architecture is written once, and becomes a model of Linen, NNX or Equinox.

An architecture is a function (layers, *inputs) of batches whose last axis has the
channels. `layers.linear(name, n, m)` and similar methods return the named layer, with
the names, the layout and the order of axes that the library has.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

Architecture = Callable[..., Any]


class Linen(nn.Module):
    """An architecture with the layers of Linen."""

    architecture: Architecture

    @nn.compact
    def __call__(self, *inputs: Any) -> Any:
        return self.architecture(_LinenLayers(self), *inputs)


class _LinenLayers:
    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def linear(self, name: str, n: int, m: int, use_bias: bool = True) -> Any:
        return nn.Dense(m, use_bias=use_bias, name=name)

    def conv(self, name: str, n: int, m: int, size: int, stride: int = 1) -> Any:
        window, strides = (size, size), (stride, stride)
        return nn.Conv(m, window, strides, padding="SAME", name=name)

    def layer_norm(self, name: str, n: int) -> Any:
        return nn.LayerNorm(name=name)

    def group_norm(self, name: str, n: int) -> Any:
        return nn.GroupNorm(2, name=name)

    def table(self, name: str, rows: int, n: int) -> Any:
        return nn.Embed(rows, n, name=name)

    def parameter(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.module.param(name, nn.initializers.ones, shape)


class Nnx(nnx.Module):
    """An architecture with the layers of NNX, which a first call makes."""

    def __init__(self, architecture: Architecture, *inputs: Any) -> None:
        self.architecture = architecture
        architecture(_NnxLayers(self, nnx.Rngs(0)), *inputs)

    def __call__(self, *inputs: Any) -> Any:
        return self.architecture(_NnxLayers(self, None), *inputs)


class _NnxLayers:
    def __init__(self, module: Any, rngs: Any) -> None:
        self.module, self.rngs = module, rngs

    def _made(self, name: str, make: Callable[..., Any]) -> Any:
        if self.rngs is not None and not hasattr(self.module, name):
            setattr(self.module, name, make(rngs=self.rngs))
        return getattr(self.module, name)

    def linear(self, name: str, n: int, m: int, use_bias: bool = True) -> Any:
        return self._made(name, functools.partial(nnx.Linear, n, m, use_bias=use_bias))

    def conv(self, name: str, n: int, m: int, size: int, stride: int = 1) -> Any:
        shape = n, m, (size, size), (stride, stride)
        return self._made(name, functools.partial(nnx.Conv, *shape))

    def layer_norm(self, name: str, n: int) -> Any:
        return self._made(name, functools.partial(nnx.LayerNorm, n))

    def group_norm(self, name: str, n: int) -> Any:
        return self._made(name, functools.partial(nnx.GroupNorm, n, 2))

    def table(self, name: str, rows: int, n: int) -> Any:
        return self._made(name, functools.partial(nnx.Embed, rows, n))

    def parameter(self, name: str, shape: tuple[int, ...]) -> Any:
        return self._made(name, lambda rngs: nnx.Param(jnp.ones(shape)))[...]


def in_linen(architecture: Architecture, *inputs: Any) -> tuple[Any, ...]:
    """Return the arguments of `jinit.network` for a version in Linen."""
    module = Linen(architecture)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return module, shapes, *inputs


def in_nnx(architecture: Architecture, *inputs: Any) -> tuple[Any, ...]:
    """Return the arguments of `jinit.network` for a version in NNX."""
    zeros = [jnp.zeros(x.shape, x.dtype) for x in inputs]
    return nnx.eval_shape(lambda: Nnx(architecture, *zeros)), *inputs


def in_equinox(architecture: Architecture, *inputs: Any) -> tuple[Any, ...]:
    """Return the arguments of `jinit.network` for a version in Equinox."""
    import equinox as eqx

    class Equinox(eqx.Module):
        layers: dict[str, Any]

        def __call__(self, *inputs: Any) -> Any:
            return architecture(_EquinoxLayers(self.layers), *inputs)

    class _EquinoxLayers:
        """Layers of single vectors or images, which are mapped over a batch."""

        def __init__(self, layers: dict[str, Any]) -> None:
            self.layers = layers

        def _made(self, name: str, make: Callable[..., Any], **options: Any) -> Any:
            if name not in self.layers:
                self.layers[name] = make(**options)
            return self.layers[name]

        def _mapped(self, name: str, kind: Any, *sizes: Any, **options: Any) -> Any:
            options |= {} if kind is eqx.nn.LayerNorm else {"key": jax.random.key(0)}
            layer = self._made(name, functools.partial(kind, *sizes, **options))

            def apply(x: Any) -> Any:
                function = layer
                for _ in range(x.ndim - (kind is not eqx.nn.Embedding)):
                    function = jax.vmap(function)
                return function(x)

            return apply

        def linear(self, name: str, n: int, m: int, use_bias: bool = True) -> Any:
            return self._mapped(name, eqx.nn.Linear, n, m, use_bias=use_bias)

        def layer_norm(self, name: str, n: int) -> Any:
            return self._mapped(name, eqx.nn.LayerNorm, n)

        def table(self, name: str, rows: int, n: int) -> Any:
            return self._mapped(name, eqx.nn.Embedding, rows, n)

        def _of_images(self, name: str, make: Callable[[], Any]) -> Any:
            layer = self._made(name, make)

            def apply(x: Any) -> Any:
                return jnp.moveaxis(jax.vmap(layer)(jnp.moveaxis(x, -1, 1)), 1, -1)

            return apply

        def conv(self, name: str, n: int, m: int, size: int, stride: int = 1) -> Any:
            key = jax.random.key(0)
            shape = n, m, size, stride, "SAME"
            return self._of_images(name, lambda: eqx.nn.Conv2d(*shape, key=key))

        def group_norm(self, name: str, n: int) -> Any:
            return self._of_images(name, lambda: eqx.nn.GroupNorm(2, n))

        def parameter(self, name: str, shape: tuple[int, ...]) -> Any:
            return self._made(name, lambda: jnp.ones(shape))

    def make() -> Any:
        layers: dict[str, Any] = {}
        zeros = [jnp.zeros(x.shape, x.dtype) for x in inputs]
        architecture(_EquinoxLayers(layers), *zeros)
        return Equinox(layers)

    return eqx.filter_eval_shape(make), *inputs


LIBRARIES = {"flax.linen": in_linen, "flax.nnx": in_nnx, "equinox": in_equinox}
