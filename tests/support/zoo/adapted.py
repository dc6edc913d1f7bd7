"""Small models of each library, as their users call them."""

import importlib.util
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


class Case(NamedTuple):
    """A model, the arguments of its call, and the result of the plain call."""

    model: Any
    arguments: tuple[Any, ...]
    # Without arguments -> what the user's own call returns.
    call: Callable[[], Any]
    paths: tuple[str, ...]
    rngs: Any = None
    options: Mapping[str, Any] = types.MappingProxyType({})
    # What `rebuild` returns is called like `model`; it maps it to the output.
    again: Callable[[Any], Any] | None = None


X = jax.random.normal(jax.random.key(0), (4, 8))
KEY = jax.random.key(1)
DENSE = ("Dense_0/bias", "Dense_0/kernel", "Dense_1/bias", "Dense_1/kernel")


class Normed(nn.Module):
    """Two layers with batch statistics and dropout between."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(x))
        return nn.Dense(4)(nn.Dropout(0.5, deterministic=not train)(x))

    def encode(self, x: jax.Array) -> jax.Array:
        return nn.Dense(16, name="Dense_0")(x)

    encode = nn.compact(encode)


class Counting(nn.Module):
    """A layer that counts its calls in a collection of its own."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        count = self.variable("cache", "count", lambda: jnp.zeros((), jnp.int32))
        count.value += 1
        return nn.Dense(4)(x) * count.value


class Net(nnx.Module):
    """Two layers with batch statistics and dropout between, in NNX."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.a = nnx.Linear(8, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.b = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.b(self.dropout(self.norm(self.encode(x))))

    def encode(self, x: jax.Array) -> jax.Array:
        return self.a(x)


class Tied(nnx.Module):
    """One layer under two names."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.a = nnx.Linear(8, 8, rngs=rngs)
        self.b = self.a

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.b(jax.nn.relu(self.a(x)))


class Keyless(nnx.Module):
    """A layer whose dropout gets its keys with the call; it may sum in a cache."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.a = nnx.Linear(8, 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)

    def __call__(
        self, x: jax.Array, cache: Any = None, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        if cache is not None:
            cache.sum[...] += x.sum()
        return self.dropout(self.a(x), rngs=rngs)


class Cache(nnx.Module):
    """A sum that a call changes."""

    def __init__(self) -> None:
        self.sum = nnx.Cache(jnp.zeros(()))


NET = ("a/bias", "a/kernel", "b/bias", "b/kernel", "norm/bias", "norm/scale")
NORMED = ("BatchNorm_0/bias", "BatchNorm_0/scale", *DENSE)


def evaluated(model: Any) -> Any:
    """Return a model with its dropout off."""
    model.eval()
    return model


def linen() -> dict[str, Case]:
    """Return Linen's cases."""
    module, counting = Normed(), Counting()
    variables, counted = module.init(KEY, X), counting.init(KEY, X)
    params, stats = variables["params"], variables["batch_stats"]
    keys = {"dropout": KEY}

    def plain() -> Any:
        return module.apply(variables, X)

    def training() -> Any:
        return module.apply(variables, X, True, rngs=keys, mutable=["batch_stats"])[0]

    def again(variables: Any) -> Any:
        return module.apply(variables, X)

    def inside(variables: Any, x: Any, scale: float) -> Any:
        return module.apply(variables, x) * scale

    def of_params(params: Any, stats: Any, x: Any) -> Any:
        return module.apply({"params": params, "batch_stats": stats}, x)

    held = nnx.bridge.to_linen(nnx.Linear, 8, 4)
    linear = held.init(KEY, X)
    return {
        "a module": Case(module, (variables, X), plain, NORMED, again=again),
        "a module in training": Case(
            module, (variables, X, True), training, NORMED, keys
        ),
        "a module in training, by an option": Case(
            module, (variables, X), training, NORMED, keys, {"train": True}
        ),
        "a method, by an option": Case(
            module,
            (variables, X),
            lambda: module.apply(variables, X, method="encode"),
            NORMED,
            options={"method": "encode"},
        ),
        "a bound method": Case(
            module.encode,
            (variables, X),
            lambda: module.apply(variables, X, method="encode"),
            NORMED,
        ),
        "apply": Case(module.apply, (variables, X), plain, NORMED, again=again),
        "a cache": Case(
            counting,
            (counted, X),
            lambda: counting.apply(counted, X, mutable=["cache"])[0],
            DENSE[:2],
        ),
        "a function around a module": Case(
            inside,
            (variables, X, 2.0),
            lambda: 2 * plain(),
            NORMED,
            again=lambda v: 2 * again(v),
        ),
        "a function of parameters and state": Case(
            of_params, (params, stats, X), plain, NORMED
        ),
        "an NNX module in Linen": Case(
            held, (linear, X), lambda: held.apply(linear, X), ("bias", "kernel")
        ),
    }


def nnx_models() -> dict[str, Case]:
    """Return NNX's cases."""
    net, tied, keyless = (
        evaluated(Net(nnx.Rngs(0))),
        Tied(nnx.Rngs(0)),
        Keyless(nnx.Rngs(0)),
    )
    silent = evaluated(Keyless(nnx.Rngs(0)))
    bridged = nnx.bridge.ToNNX(Normed(), rngs=nnx.Rngs(0)).lazy_init(X)
    graph, state = nnx.split(tied)

    def dropped(**keys: Any) -> Callable[[], Any]:
        return lambda: keyless(X, rngs=nnx.Rngs(**keys))

    return {
        "a model": Case(net, (X,), lambda: net(X), NET, again=lambda m: m(X)),
        "a method": Case(net.encode, (X,), lambda: net.encode(X), NET),
        "one layer twice": Case(
            tied, (X,), lambda: tied(X), NET[:2], again=lambda m: m(X)
        ),
        "Rngs": Case(keyless, (X,), dropped(default=3), NET[:2], rngs=nnx.Rngs(3)),
        "a key": Case(keyless, (X,), dropped(default=KEY), NET[:2], rngs=KEY),
        "keys by name": Case(
            keyless,
            (X,),
            dropped(dropout=KEY),
            NET[:2],
            rngs={"dropout": KEY},
        ),
        "a cache": Case(silent, (X, Cache()), lambda: silent(X), NET[:2]),
        "a cache, by name": Case(
            silent, (X,), lambda: silent(X), NET[:2], options={"cache": Cache()}
        ),
        "a function of a model": Case(
            lambda m, x: m(x) + 1, (net, X), lambda: net(X) + 1, NET
        ),
        "a function of two models": Case(
            lambda m, x: m["b"](m["a"].encode(x)[:, :8]),
            ({"a": net, "b": tied}, X),
            lambda: tied(net.encode(X)[:, :8]),
            (*(f"a/{path}" for path in NET), "b/a/bias", "b/a/kernel"),
        ),
        "a function of a state": Case(
            lambda s, x: nnx.merge(graph, s)(x), (state, X), lambda: tied(X), NET[:2]
        ),
        "a Linen module in NNX": Case(
            bridged, (X,), lambda: bridged(X), NORMED, again=lambda m: m(X)
        ),
    }


def plain() -> dict[str, Case]:
    """Return the cases without a library."""
    tree = {"w": jnp.ones((8, 3)), "steps": jnp.zeros((), jnp.int32), "act": jnp.tanh}
    weights = [(jnp.ones((8, 3)), jnp.ones((1, 3)))]

    def function(tree: Any, x: jax.Array) -> jax.Array:
        return tree["act"](x @ tree["w"]) + tree["steps"]

    def affine(weights: Any, x: jax.Array, *, scale: Any) -> jax.Array:
        ((w, b),) = weights
        return (x @ w + b) * scale

    partial = jax.tree_util.Partial(lambda w, x: x @ w, tree["w"])
    return {
        "a function": Case(
            function,
            (tree, X),
            lambda: function(tree, X),
            ("w",),
            again=lambda t: function(t, X),
        ),
        "a jitted function, and an array among the options": Case(
            jax.jit(affine),
            (weights, X),
            lambda: affine(weights, X, scale=2.0),
            ("0/0", "0/1"),
            options={"scale": jnp.array(2.0)},
        ),
        "a Partial": Case(
            partial, (X,), lambda: partial(X), ("0/0",), again=lambda m: m(X)
        ),
    }


def installed(library: str) -> bool:
    """Tell whether a library is there, without importing it."""
    return importlib.util.find_spec(library) is not None
