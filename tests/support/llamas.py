"""A Llama without rotary positions is written in several libraries.

Its parameters have the same names in all of them: wq, wk, wv, wo of the attention, w1
(the gate), w3 (up) and w2 (down) of the perceptron, attention_norm and ffn_norm of a
layer; tok_embeddings, norm and output of the model.
"""

import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jinit
from tests.support.networks import tokens

WIDTH, INNER, HEADS, VOCABULARY, LENGTH = 64, 96, 4, 160, 6
IDS = tokens(2, LENGTH)
NAMES = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")


def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attend causally, in heads."""
    q, k, v = (x.reshape(*x.shape[:-1], HEADS, -1) for x in (q, k, v))
    logits = jnp.einsum("...qhd,...khd->...hqk", q, k) / q.shape[-1] ** 0.5
    mask = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
    logits = jnp.where(jnp.broadcast_to(mask, logits.shape), logits, -1e9)
    out = jnp.einsum("...hqk,...khd->...qhd", jax.nn.softmax(logits), v)
    return out.reshape(*out.shape[:-2], -1)


class LinenLayer(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        def dense(size, name):
            return nn.Dense(size, use_bias=False, name=name)

        h = nn.RMSNorm(name="attention_norm")(x)
        h = attend(*(dense(WIDTH, name)(h) for name in ("wq", "wk", "wv")))
        x = x + dense(WIDTH, "wo")(h)
        h = nn.RMSNorm(name="ffn_norm")(x)
        h = nn.silu(dense(INNER, "w1")(h)) * dense(INNER, "w3")(h)
        return x + dense(WIDTH, "w2")(h), None


class LinenLlama(nn.Module):
    layers: int = 2
    # The axis of the layers in scanned parameters, or None for separate layers.
    axis: int | None = None
    tied: bool = False

    @nn.compact
    def __call__(self, ids):
        table = nn.Embed(VOCABULARY, WIDTH, name="tok_embeddings")
        x = table(ids)
        if self.axis is None:
            for number in range(self.layers):
                x, _ = LinenLayer(name=f"layers_{number}")(x)
        else:
            scan = nn.scan(
                LinenLayer,
                variable_axes={"params": self.axis},
                split_rngs={"params": True},
                length=self.layers,
            )
            x, _ = scan(name="layers")(x, None)
        x = nn.RMSNorm(name="norm")(x)
        if self.tied:
            return table.attend(x)
        return nn.Dense(VOCABULARY, use_bias=False, name="output")(x)


def in_linen(layers: int = 2, axis: int | None = None, tied: bool = False) -> Any:
    """Return the network of the model in Linen."""
    model = LinenLlama(layers, axis, tied)
    variables = jax.eval_shape(model.init, jax.random.key(0), IDS)
    return jinit.network(model, variables, IDS)


class NnxLayer(nnx.Module):
    def __init__(self, rngs):
        sizes = {"w1": (WIDTH, INNER), "w3": (WIDTH, INNER), "w2": (INNER, WIDTH)}
        for name in NAMES:
            shape = sizes.get(name, (WIDTH, WIDTH))
            setattr(self, name, nnx.Linear(*shape, use_bias=False, rngs=rngs))
        self.attention_norm = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.ffn_norm = nnx.RMSNorm(WIDTH, rngs=rngs)

    def __call__(self, x):
        h = self.attention_norm(x)
        x = x + self.wo(attend(self.wq(h), self.wk(h), self.wv(h)))
        h = self.ffn_norm(x)
        return x + self.w2(nnx.silu(self.w1(h)) * self.w3(h))


class NnxLlama(nnx.Module):
    def __init__(self, layers, scanned, rngs):
        self.scanned = scanned
        self.tok_embeddings = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        if scanned:
            split = nnx.split_rngs(splits=layers)(
                nnx.vmap(NnxLayer, in_axes=0, out_axes=0)
            )
            self.layers = split(rngs)
        else:
            self.layers = nnx.List([NnxLayer(rngs) for _ in range(layers)])
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.output = nnx.Linear(WIDTH, VOCABULARY, use_bias=False, rngs=rngs)

    def __call__(self, ids):
        x = self.tok_embeddings(ids)
        if self.scanned:
            x = nnx.scan(lambda h, layer: layer(h), in_axes=(nnx.Carry, 0),
                         out_axes=nnx.Carry)(x, self.layers)  # fmt: skip
        else:
            for layer in self.layers:
                x = layer(x)
        return self.output(self.norm(x))


def in_nnx(layers: int = 2, scanned: bool = False) -> Any:
    """Return the network of the model in NNX."""
    model = nnx.eval_shape(lambda: NnxLlama(layers, scanned, nnx.Rngs(0)))
    return jinit.network(model, IDS)


def in_equinox(layers: int = 2, scanned: bool = False) -> Any:
    """Return the network of the model in Equinox, whose weights are (out, in)."""
    import equinox as eqx

    def linear(inputs, outputs, key):
        return eqx.nn.Linear(inputs, outputs, use_bias=False, key=key)

    class Layer(eqx.Module):
        wq: Any
        wk: Any
        wv: Any
        wo: Any
        w1: Any
        w2: Any
        w3: Any
        attention_norm: Any
        ffn_norm: Any

        def __init__(self, key):
            keys = jax.random.split(key, 7)
            self.wq, self.wk, self.wv, self.wo = (
                linear(WIDTH, WIDTH, k) for k in keys[:4]
            )
            self.w1, self.w3 = (linear(WIDTH, INNER, k) for k in keys[4:6])
            self.w2 = linear(INNER, WIDTH, keys[6])
            self.attention_norm = eqx.nn.RMSNorm(WIDTH, use_bias=False)
            self.ffn_norm = eqx.nn.RMSNorm(WIDTH, use_bias=False)

        def __call__(self, x):
            h = jax.vmap(self.attention_norm)(x)
            q, k, v = (jax.vmap(f)(h) for f in (self.wq, self.wk, self.wv))
            x = x + jax.vmap(self.wo)(attend(q, k, v))
            h = jax.vmap(self.ffn_norm)(x)
            h = jax.nn.silu(jax.vmap(self.w1)(h)) * jax.vmap(self.w3)(h)
            return x + jax.vmap(self.w2)(h)

    class Llama(eqx.Module):
        tok_embeddings: Any
        layers: Any
        norm: Any
        output: Any

        def __init__(self, key):
            keys = jax.random.split(key, layers)
            self.tok_embeddings = eqx.nn.Embedding(VOCABULARY, WIDTH, key=key)
            if scanned:
                self.layers = eqx.filter_vmap(Layer)(keys)
            else:
                self.layers = [Layer(k) for k in keys]
            self.norm = eqx.nn.RMSNorm(WIDTH, use_bias=False)
            self.output = linear(WIDTH, VOCABULARY, key)

        def __call__(self, ids):
            x = jax.vmap(self.tok_embeddings)(ids)
            if scanned:
                arrays, static = eqx.partition(self.layers, eqx.is_array)
                step = lambda h, part: (eqx.combine(part, static)(h), None)  # noqa: E731
                x, _ = jax.lax.scan(step, x, arrays)
            else:
                for layer in self.layers:
                    x = layer(x)
            return jax.vmap(self.output)(jax.vmap(self.norm)(x))

    model = Llama(jax.random.key(0))
    return jinit.network(lambda m, ids: jax.vmap(m)(ids), model, IDS)


SCANNED = {
    "linen, axis 0": (functools.partial(in_linen, axis=0), 0),
    "linen, axis 1": (functools.partial(in_linen, axis=1), 1),
    "nnx": (functools.partial(in_nnx, scanned=True), 0),
    "equinox": (functools.partial(in_equinox, scanned=True), 0),
}


def by_role(net: Any, params: Any, axis: int | None = None) -> dict[Any, np.ndarray]:
    """Return the values by (name, index of the layer), or by name outside of layers.

    `axis` is that of the layers in scanned parameters.
    """
    values = {}
    for path, value in zip(net.paths, jax.tree.leaves(params), strict=True):
        # "params/layers_1/wq/kernel", "layers/1/wq/weight", "layers/wq/kernel"
        match = re.search(r"(?:layers[_/](\d+)/|layers/)?(\w+)/\w+$", path)
        assert match is not None, path
        number, name = match.groups()
        array = np.asarray(value)
        if "layers" not in path:
            values[name] = array
        elif number is not None:
            values[name, int(number)] = array
        else:
            assert axis is not None, path
            slices = np.moveaxis(array, axis, 0)
            values |= {(name, at): one for at, one in enumerate(slices)}
    return values
