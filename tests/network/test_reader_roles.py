"""Inputs, readouts, gates, recurrence, norms and activations are read."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support.networks import floats, layouts, network, rms, tokens, with_role

MLP = {"a": (6, 8), "b": (8, 8), "c": (8, 3)}


def mlp(p, x, f=jax.nn.relu):
    return f(f(x @ p["a"]) @ p["b"]) @ p["c"]


def test_inputs_hidden_layers_and_readouts():
    net = network(mlp, MLP, floats(2, 6))
    assert [sorted(p.roles) for p in net.parameters.values()] == [
        ["input", "matrix"],
        ["hidden", "matrix"],
        ["matrix", "readout"],
    ]
    assert [p.inputs for p in net.parameters.values()] == [("data",), ("a",), ("b",)]
    assert [layer.path for layer in net.layers] == ["a", "b", "c"]


def test_two_heads_are_two_readouts():
    net = network(
        lambda p, x: (jnp.tanh(x @ p["a"]) @ p["b"], jnp.tanh(x @ p["a"]) @ p["c"]),
        {"a": (6, 8), "b": (8, 4), "c": (8, 1)},
        floats(2, 6),
    )
    assert with_role(net, "readout") == {"b", "c"}
    assert net.parameters["a"].uses == 2


def test_names_say_nothing():
    names = {"a": "query", "b": "embedding", "c": "bias"}

    def misnamed(p, x):
        return mlp({short: p[name] for short, name in names.items()}, x)

    net = network(mlp, MLP, floats(2, 6))
    shapes = {names[short]: shape for short, shape in MLP.items()}
    other = network(misnamed, shapes, floats(2, 6))
    for short, name in names.items():
        assert net.parameters[short].roles == other.parameters[name].roles
        assert net.parameters[short].layout == other.parameters[name].layout


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (jax.nn.relu, "relu"),
        (jax.nn.gelu, "gelu"),
        (lambda x: jax.nn.gelu(x, approximate=False), "gelu"),
        (lambda x: x * 0.5 * (1 + jax.lax.erf(x / np.sqrt(2.0))), "gelu"),
        (jax.nn.silu, "silu"),
        (lambda x: x / (1 + jnp.exp(-x)), "silu"),
        (jax.nn.tanh, "tanh"),
        (jax.nn.sigmoid, "sigmoid"),
        (jax.nn.elu, "elu"),
        (jax.nn.selu, "selu"),
        (jax.nn.leaky_relu, "leaky_relu"),
        (jax.nn.softplus, "softplus"),
        (jax.nn.mish, "mish"),
        (jax.nn.relu6, "relu6"),
        (jax.nn.hard_tanh, "hard_tanh"),
        (jax.nn.hard_swish, "hard_silu"),
        (jax.nn.soft_sign, "softsign"),
        (jnp.sin, "sin"),
        (lambda x: 2 * x, None),
        (lambda x: jnp.maximum(x, 0) / 0.9, "relu"),
    ],
)
def test_activations_have_names_by_their_values(function, name):
    net = network(lambda p, x: mlp(p, x, function), MLP, floats(2, 6))
    assert net.parameters["a"].activation is None
    assert net.parameters["b"].activation == name
    assert net.parameters["c"].activation == name


def test_an_activation_without_a_name_is_a_function():
    function = lambda x: jnp.sin(30 * x) + 0.5 * x**2  # noqa: E731
    net = network(lambda p, x: mlp(p, x, function), MLP, floats(2, 6))
    x = jnp.linspace(-2, 2, 7)
    traced = net.parameters["b"].activation
    np.testing.assert_allclose(traced(x), function(x), rtol=1e-5)
    assert "sin" in repr(traced)


def test_a_norm_ends_what_an_activation_was():
    def function(p, x):
        h = rms(jax.nn.gelu(x @ p["a"]), p["s"])
        return jax.nn.relu(h @ p["b"]).mean(0) @ p["c"]

    net = network(function, MLP | {"s": (8,)}, floats(2, 6))
    assert net.parameters["b"].activation is None
    assert net.parameters["b"].inputs == ("s",)
    # A mean over positions is one of values behind the activation.
    assert net.parameters["c"].activation == "relu"


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (jax.nn.silu, "swiglu"),
        (jax.nn.gelu, "geglu"),
        (jax.nn.sigmoid, "glu"),
        (jax.nn.relu, "reglu"),
        (jnp.sin, "gated"),
    ],
)
def test_gated_units(f, name):
    def function(p, x):
        return (f(x @ p["gate"]) * (x @ p["up"])) @ p["down"]

    shapes = {"gate": (6, 8), "up": (6, 8), "down": (8, 6)}
    net = network(function, shapes, floats(2, 6))
    assert with_role(net, "gate") == {"gate"}
    assert with_role(net, "up") == {"up"}
    assert net.parameters["down"].activation == name
    assert net.parameters["down"].inputs == ("gate", "up")


def test_gates_of_one_kernel():
    def function(p, x):
        one, other = jnp.split(x @ p["both"], 2, axis=-1)
        stacked = jnp.einsum("bd,cdf->cbf", x, p["stacked"])
        return (jax.nn.silu(one) * other + jax.nn.gelu(stacked[0]) * stacked[1]) @ p[
            "c"
        ]

    shapes = {"both": (6, 16), "stacked": (2, 6, 8), "c": (8, 3)}
    net = network(function, shapes, floats(2, 6))
    assert with_role(net, "gate") == with_role(net, "up") == {"both", "stacked"}


def test_products_that_are_no_gated_units():
    def function(p, x, y):
        self_gated = (x @ p["a"]) * jax.nn.sigmoid(x @ p["a"])
        other_values = (x @ p["b"]) * jax.nn.sigmoid(y @ p["c"])
        return self_gated, other_values, (x @ p["d"]) * (x @ p["e"])

    shapes = dict.fromkeys("abcde", (6, 8))
    net = network(function, shapes, floats(2, 6), floats(2, 6))
    assert not with_role(net, "gate") - {"a"}
    assert not with_role(net, "up") - {"a"}


@pytest.mark.parametrize(
    "cell", [nn.SimpleCell, nn.GRUCell, nn.LSTMCell, nn.OptimizedLSTMCell]
)
def test_recurrent_kernels_multiply_the_carry(cell):
    model, x = nn.RNN(cell(8)), floats(2, 5, 6)
    net = jinit.network(model, jax.eval_shape(model.init, jax.random.key(0), x), x)
    kernels = {path for path in net.parameters if path.endswith("kernel")}
    recurrent = {path for path in kernels if path.split("/")[1].startswith("h")}
    assert with_role(net, "recurrent") == recurrent
    assert with_role(net, "input") == kernels - recurrent
    assert all(net.parameters[path].layout == "io" for path in kernels)
    assert not with_role(net, "readout")
    assert not with_role(net, "gate")
    assert net.depth == 0


def test_a_kernel_for_the_input_and_the_state():
    def function(p, xs):
        def step(h, x):
            h = jnp.tanh(jnp.concatenate([x, h], -1) @ p["w"])
            return h, h @ p["out"]

        return jax.lax.scan(step, jnp.zeros((2, 8)), xs)[1]

    net = network(function, {"w": (14, 8), "out": (8, 3)}, floats(5, 2, 6))
    assert {"input", "recurrent"} <= net.parameters["w"].roles
    assert net.parameters["out"].roles == {"matrix", "readout"}
    assert layouts(net) == {"w": ("io", 14, 8), "out": ("io", 8, 3)}


def layer_norm(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias


def scale_first(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    return scale * (x - mean) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6) + bias


def one_plus_scale(x, scale, bias):
    return rms(x) * (1 + scale) + bias


def euclidean(x, scale, bias):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True) * scale + bias


def squares_by_einsum(x, scale, bias):
    squares = jnp.einsum("bd,bd->b", x, x)[:, None]
    return x * jax.lax.rsqrt(squares) * scale + bias


def mean_computed_twice(x, scale, bias):
    def difference():
        return x - x.mean(-1, keepdims=True)

    variance = (difference() * difference()).mean(-1, keepdims=True)
    return difference() / jnp.sqrt(variance + 1e-5) * scale + bias


def scale_by_einsum(x, scale, bias):
    """As penzai does: a product that sums nothing."""
    x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-5)
    return jnp.einsum("bi,i->ib", x, scale).T + bias


def groups(x, scale, bias):
    x = x.reshape(x.shape[0], 2, 4)
    x = (x - x.mean(2, keepdims=True)) * (x.var(2, keepdims=True) + 1e-5) ** -0.5
    return x.reshape(x.shape[0], 8) * scale + bias


def stored(x, scale, bias, mean, variance):
    return (x - mean) * (jax.lax.rsqrt(variance + 1e-5) * scale) + bias


@pytest.mark.parametrize(
    "norm",
    [
        layer_norm,
        scale_first,
        one_plus_scale,
        euclidean,
        squares_by_einsum,
        scale_by_einsum,
        groups,
        mean_computed_twice,
    ],
)
def test_norms(norm):
    net = network(
        lambda p, x: norm(x @ p["a"], p["s"], p["t"]) @ p["c"],
        {"a": (6, 8), "s": (8,), "t": (8,), "c": (8, 3)},
        floats(2, 6),
    )
    assert net.parameters["s"].roles == {"scale"}
    assert net.parameters["t"].roles == {"bias"}
    assert net.parameters["c"].inputs == ("s",)


def test_norms_over_an_axis_that_a_vmap_names():
    def one(p, x):
        h = x @ p["a"]
        mean = jax.lax.pmean(h, "batch")
        variance = jax.lax.pmean((h - mean) ** 2, "batch")
        return (h - mean) * jax.lax.rsqrt(variance + 1e-5) * p["s"]

    net = network(
        lambda p, x: jax.vmap(one, (None, 0), axis_name="batch")(p, x),
        {"a": (6, 8), "s": (8,)},
        floats(5, 6),
    )
    assert net.parameters["s"].roles == {"scale"}


def test_norms_by_stored_statistics():
    net = network(
        lambda p, x, m, v: stored(x @ p["a"], p["s"], p["t"], m, v) @ p["c"],
        {"a": (6, 8), "s": (8,), "t": (8,), "c": (8, 3)},
        floats(2, 6),
        floats(8),
        floats(8),
    )
    assert net.parameters["s"].roles == {"scale"}
    assert net.parameters["s"].inputs == ("a",)
    assert net.parameters["t"].roles == {"bias"}
    assert with_role(net, "input") == {"a"}


def test_a_factor_that_is_no_norms_scale():
    net = network(
        lambda p, x: x + p["g"] * (x @ p["a"]), {"a": (6, 6), "g": (6,)}, floats(2, 6)
    )
    gamma = net.parameters["g"]
    assert gamma.roles == {"other"}
    assert "entry by entry" in gamma.reason


def test_matrices_behind_an_embedding_read_no_inputs():
    net = network(
        lambda p, ids: p["table"][ids] @ p["w"],
        {"table": (9, 6), "w": (6, 4)},
        tokens(2, 3),
    )
    assert not with_role(net, "input")
    assert net.parameters["w"].inputs == ("table",)


def test_matrices_of_constants_are_inputs():
    """The bias of relative positions may be an MLP of their coordinates."""

    def function(p, x):
        places = jnp.linspace(-1.0, 1.0, 10).reshape(5, 2)
        return x @ p["w"] + jax.nn.relu(places @ p["a"] + p["bias"]) @ p["b"]

    shapes = {"w": (6, 6), "a": (2, 8), "bias": (8,), "b": (8, 6)}
    net = network(function, shapes, floats(5, 6))
    assert with_role(net, "input") == {"w", "a"}
    assert with_role(net, "bias") == {"bias"}
    assert with_role(net, "readout") == {"w", "b"}
    assert net.parameters["b"].activation == "relu"
    assert layouts(net)["a"] == ("io", 2, 8)


def test_state_feeds_nothing():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.SpectralNorm(nn.Dense(8, name="first"))(x, update_stats=True)
            return nn.SpectralNorm(nn.Dense(3, name="last"))(x, update_stats=True)

    model, x = Model(), floats(2, 6)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    net = jinit.network(model, variables, x)
    assert net.parameters["first/kernel"].roles == {"matrix", "input"}
    assert net.parameters["last/kernel"].roles == {"matrix", "readout"}
    assert net.parameters["last/kernel"].inputs == ("first/kernel",)
    assert [p.layout for p in net.parameters.values() if p.layout] == ["io", "io"]


def test_noise_is_an_input():
    def function(p, key):
        return jnp.tanh(jax.random.normal(key, (2, 6)) @ p["a"]) @ p["c"]

    key = jax.eval_shape(lambda: jax.random.key(0))
    net = network(function, {"a": (6, 8), "c": (8, 3)}, key)
    assert with_role(net, "input") == {"a"}
