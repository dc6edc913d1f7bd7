"""Small models of libraries that jinit does not depend on.

Each function imports its library, so that a test may be skipped, with a reason, where
the library is not installed.
"""

import os
from typing import Any

import jax

from tests.support.zoo.adapted import KEY, Case, X


def equinox() -> dict[str, Case]:
    """Return Equinox's cases."""
    import equinox as eqx

    class Encoder(eqx.Module):
        linear: eqx.nn.Linear

        def encode(self, x: jax.Array) -> jax.Array:
            return self.linear(x)

    net = eqx.nn.MLP(8, 4, 16, 1, key=KEY)
    dropped = eqx.nn.Sequential([eqx.nn.Linear(8, 4, key=KEY), eqx.nn.Dropout(0.5)])
    encoder = Encoder(eqx.nn.Linear(8, 4, key=KEY))
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(8, "batch", mode="batch")

    def normed(m: Any, x: jax.Array, state: Any) -> jax.Array:
        return jax.vmap(m, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(
            x, state
        )[0]

    paths = ("layers/0/weight", "layers/0/bias", "layers/1/weight", "layers/1/bias")
    return {
        "a module": Case(
            net, (X[0],), lambda: net(X[0]), paths, again=lambda m: m(X[0])
        ),
        "a function of a module": Case(
            lambda m, x: jax.vmap(m)(x),
            (net, X),
            lambda: jax.vmap(net)(X),
            paths,
            again=lambda m: jax.vmap(m)(X),
        ),
        "filter_vmap": Case(
            eqx.filter_vmap(net),
            (X,),
            lambda: jax.vmap(net)(X),
            tuple(f"_fun/{p}" for p in paths),
        ),
        "a method": Case(
            encoder.encode,
            (X[0],),
            lambda: encoder.encode(X[0]),
            ("linear/weight", "linear/bias"),
        ),
        "dropout": Case(
            dropped, (X[0],), lambda: dropped(X[0], key=KEY), paths[:2], rngs=KEY
        ),
        "state": Case(
            normed, (norm, X, state), lambda: normed(norm, X, state), ("weight", "bias")
        ),
    }


def haiku() -> dict[str, Case]:
    """Return Haiku's cases."""
    import haiku as hk

    def layers(x: jax.Array) -> jax.Array:
        return hk.Linear(4)(jax.nn.relu(hk.Linear(16)(x)))

    def training(x: jax.Array, train: bool) -> jax.Array:
        x = hk.BatchNorm(True, True, 0.9)(hk.Linear(4)(x), train)
        return hk.dropout(hk.next_rng_key(), 0.5, x) if train else x

    net, stateful = hk.transform(layers), hk.transform_with_state(training)
    keyless = hk.without_apply_rng(net)
    params = net.init(KEY, X)
    weights, state = stateful.init(KEY, X, True)
    paths = ("linear/b", "linear/w", "linear_1/b", "linear_1/w")
    normed = ("batch_norm/offset", "batch_norm/scale", "linear/b", "linear/w")
    return {
        "transformed": Case(
            net,
            (params, X),
            lambda: net.apply(params, None, X),
            paths,
            again=lambda p: net.apply(p, None, X),
        ),
        "without a key": Case(
            keyless,
            (params, X),
            lambda: keyless.apply(params, X),
            paths,
            again=lambda p: keyless.apply(p, X),
        ),
        "with state": Case(
            stateful,
            (weights, state, X, True),
            lambda: stateful.apply(weights, state, KEY, X, True)[0],
            normed,
            rngs=KEY,
        ),
    }


def keras() -> dict[str, Case]:
    """Return the cases of Keras on JAX."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    layers = keras.layers
    net = keras.Sequential(
        [
            layers.Dense(16, "relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(4),
        ],
        name="net",
    )
    net.build((None, 8))
    inputs = keras.Input((8,))
    functional = keras.Model(inputs, layers.Dense(4, name="out")(inputs))
    names = [layer.name for layer in net.layers]
    paths = (
        f"net/{names[0]}/kernel",
        f"net/{names[0]}/bias",
        f"net/{names[1]}/gamma",
        f"net/{names[1]}/beta",
        f"net/{names[3]}/kernel",
        f"net/{names[3]}/bias",
    )
    return {
        "sequential": Case(net, (X,), lambda: net(X), paths, again=lambda m: m(X)),
        "functional": Case(
            functional,
            (X,),
            lambda: functional(X),
            ("out/kernel", "out/bias"),
            again=lambda m: m(X),
        ),
    }


def penzai() -> dict[str, Case]:
    """Return penzai's cases: live and frozen variables, one label twice."""
    from penzai import pz

    def linear(name: str, before: dict[str, int], after: dict[str, int]) -> Any:
        return pz.nn.Linear.from_config(
            name, init_base_rng=KEY, input_axes=before, output_axes=after
        )

    rename = pz.nn.RenameAxes(("hidden",), ("features",))
    shared = linear("shared", {"features": 8}, {"hidden": 8})
    net = pz.nn.Sequential(
        [
            shared,
            rename,
            pz.nn.Elementwise(jax.nn.relu),
            shared,
            rename,
            linear("last", {"features": 8}, {"out": 4}),
        ]
    )
    x = pz.nx.wrap(X).tag("batch", "features")
    paths = ("last.weights", "shared.weights")

    def call() -> Any:
        return net(x)

    return {
        "live": Case(net, (x,), call, paths, again=lambda m: m(x)),
        "frozen": Case(pz.freeze_params(net), (x,), call, paths, again=lambda m: m(x)),
    }
