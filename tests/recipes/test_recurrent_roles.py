"""Recipes of recurrent models read their roles in every library, or say what lacks."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jinit
from jinit import recipes
from tests.support.recurrent import architectures
from tests.support.recurrent.architectures import IDS, D
from tests.support.recurrent.libraries import (
    LIBRARIES,
    Plain,
    common_name,
    network_of,
)
from tests.support.trees import struct
from tests.support.zoo import state_space, truth

NAMES = (
    "mamba2",
    "gated_deltanet",
    "kda",
    "griffin",
    "xlstm",
    "rwkv7",
    "hyper_connections",
)


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def network(name, library="plain"):
    if library == "equinox":
        pytest.importorskip("equinox")
    with jax.numpy_rank_promotion("allow"):
        return network_of(getattr(architectures, name), library, IDS)


def rows(name, library, **settings):
    plan = jinit.plan(network(name, library), getattr(recipes, name)(**settings))
    return {
        common_name(row["path"]): (
            row["std"],
            # Without a single std the law is in the name and settings.
            row["initializer"] if row["std"] in (None, 0) else None,
        )
        for row in plan.rows
    }


@pytest.mark.parametrize("library", LIBRARIES[1:])
@pytest.mark.parametrize("name", NAMES)
def test_laws_are_equal_in_all_libraries(name, library):
    expected = rows(name, "plain")
    assert len(expected) > 18
    # Initializers count fans in layouts that differ, and the stds are equal.
    assert rows(name, library) == expected


@pytest.mark.parametrize("library", LIBRARIES[1:])
def test_flavours_are_equal_in_all_libraries(library):
    for name, flavour in [("griffin", "code"), ("rwkv7", "model"), ("kda", "model")]:
        here = rows(name, library, flavour=flavour)
        assert here == rows(name, "plain", flavour=flavour)
        assert here != rows(name, "plain")


def test_a_decay_behind_a_sigmoid_is_griffin_s_too():
    def model(p, x):
        gate = jax.nn.sigmoid(x @ p["gate"])
        a = jnp.exp(8 * gate * jax.nn.log_sigmoid(p["lambda"]))
        return x + (a * (x @ p["up"])) @ p["down"]

    square = jnp.ones((D, D))
    params = dict.fromkeys(("gate", "up", "down"), square) | {"lambda": jnp.ones(D)}
    net = jinit.network(model, params, jnp.ones((2, D)))
    plan = jinit.plan(net, recipes.griffin(1))
    text = {row["path"]: row["initializer"] for row in plan.rows}["lambda"]
    assert text == "jinit.ssm.rg_lru_lambda(form='sigmoid')"


def official(layer):
    """Return the shapes of two layers, with the names of the official code."""
    layers = {f"layers_{i}": {"norm": {"scale": struct(D)}} | layer for i in (0, 1)}
    return layers | {
        "embedding": {"embedding": struct(40, D)},
        "norm_f": {"scale": struct(D)},
        "lm_head": {"kernel": struct(D, 40)},
    }


def test_the_official_names_of_mamba2_are_known():
    mixer = {
        "in_proj": {"kernel": struct(D, 84)},
        "conv1d": {"kernel": struct(4, 1, 48), "bias": struct(48)},
        "A_log": struct(4),
        "dt_bias": struct(4),
        "D": struct(4),
        "norm": {"scale": struct(32)},
        "out_proj": {"kernel": struct(32, D)},
    }
    plan = jinit.plan(official({"mixer": mixer}), recipes.mamba2(2))
    roles = {
        "in.kernel": "in_proj/kernel",
        "conv.kernel": "conv1d/kernel",
        "conv.bias": "conv1d/bias",
        "a_log": "A_log",
        "dt": "dt_bias",
        "skip": "D",
        "inner_norm.scale": "norm/scale",
        "out.kernel": "out_proj/kernel",
    }
    by_names = {row["path"]: row["std"] for row in plan.rows}
    by_roles = {name: std for name, (std, _) in rows("mamba2", "plain").items()}
    for role, name in roles.items():
        std = by_names[f"layers_1/mixer/{name}"]
        assert std == pytest.approx(by_roles[f"layer_1_{role}"]), name


@pytest.mark.parametrize(("flavour", "std"), [("layer", 0.25 / 3**0.5), ("model", 0)])
def test_the_official_names_of_gated_deltanet_are_known(flavour, std):
    attention = {
        "g_proj": {"kernel": struct(D, D), "bias": struct(D)},
        "A_log": struct(4),
        "dt_bias": struct(4),
        "q_conv1d": {"kernel": struct(4, 1, D)},
    }
    for recipe in (recipes.gated_deltanet, recipes.kda):
        plan = jinit.plan(official({"attn": attention}), recipe(flavour=flavour))
        stds = {row["path"]: row["std"] for row in plan.rows}
        assert stds["layers_0/attn/g_proj/bias"] == pytest.approx(std)
        kernel = 0.25 / 3**0.5 if flavour == "layer" else 0.02
        assert stds["layers_0/attn/g_proj/kernel"] == pytest.approx(kernel)
        window = 0.5 / 3**0.5 if flavour == "layer" else 0.02
        assert stds["layers_0/attn/q_conv1d/kernel"] == pytest.approx(window)


@pytest.mark.parametrize("name", ["mamba2", "griffin", "xlstm"])
def test_scanned_layers_have_the_laws_of_layers(name):
    block = architectures.BLOCKS[name]
    one = Plain()
    block(one, "layer_0", jnp.ones((2, 6, D)))

    def scanned(params, x):
        return lax.scan(lambda x, p: (block(Plain(p), "layer_0", x), 0), x, params)[0]

    stacked = {k: jnp.ones((2, *x.shape)) for k, x in one.params.items()}
    net = jinit.network(scanned, stacked, jnp.ones((2, 6, D)))
    for settings in ({}, {"flavour": "code"}) if name == "griffin" else ({},):
        plan = jinit.plan(net, getattr(recipes, name)(**settings))
        alone = rows(name, "plain", **settings)
        for row in plan.rows:
            assert row["std"] == alone[common_name(row["path"])][0], row["path"]


def test_scanned_hyper_connections_read_their_own_streams():
    one, streams = Plain(), jnp.ones((2, 6, 4, D))
    architectures.connected_layer(one, 0, streams)

    def scanned(params, x):
        step = lambda x, p: (architectures.connected_layer(Plain(p), 0, x), 0)  # noqa: E731
        return lax.scan(step, x, params)[0]

    stacked = {k: jnp.ones((3, *x.shape)) for k, x in one.params.items()}
    net = jinit.network(scanned, stacked, streams)
    drawn = jinit.plan(net, recipes.hyper_connections()).init(jax.random.key(0))
    for layer in range(3):
        for place in range(2):
            alpha = drawn[f"connection_0_{place}_static_alpha"][layer]
            stream = np.eye(4)[(2 * layer + place) % 4]
            np.testing.assert_array_equal(alpha[:, 0], stream)
    assert (np.asarray(drawn["connection_0_1_beta_scale"]) == np.float32(0.01)).all()


@pytest.mark.parametrize(("name", "low"), [("mamba2", 1), ("gated_deltanet", 0)])
def test_a_million_heads_by_name_are_finite_in_bfloat16(name, low):
    heads = struct(10**6, dtype="bfloat16")
    shapes = {"mixer": {"A_log": heads, "dt_bias": heads}}
    # A part of a model has no branches, and needs the number of layers.
    plan = jinit.plan(shapes, getattr(recipes, name)(2))
    values = plan.init(jax.random.key(5))["mixer"]
    assert all(bool(jnp.isfinite(x).all()) for x in values.values())
    a = np.exp(np.asarray(values["A_log"], np.float64))
    assert abs(a.mean() - (16 + low) / 2) < 5 * (16 - low) / 12**0.5 / 1000
    steps = np.log(np.log1p(np.exp(np.asarray(values["dt_bias"], np.float64))))
    assert abs(steps.mean() - math.log(1e-2)) < 0.02


def mlp():
    model = lambda p, x: x + jax.nn.relu(x @ p["up"]) @ p["down"]  # noqa: E731
    params = {"up": jnp.ones((8, 16)), "down": jnp.ones((16, 8))}
    return jinit.network(model, params, jnp.ones((2, 8)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mamba2", "'decays', a parameter A_log"),
        ("gated_deltanet", "'decays', a parameter A_log"),
        ("kda", r"pass a pattern: recipes.kda\(decays='\*\*/...'\)"),
        ("griffin", "'decays', a parameter Lambda"),
        ("xlstm", "'forget_biases', the bias of a forget gate"),
        ("rwkv7", "shows no 'w0', 'a0', 'k_k'"),
        ("hyper_connections", "'alphas', and the network has none"),
    ],
)
def test_a_model_without_the_roles_is_an_error(name, message):
    with pytest.raises(ValueError, match=message):
        jinit.plan(mlp(), getattr(recipes, name)())


@pytest.mark.parametrize("name", ["griffin", "xlstm", "rwkv7", "hyper_connections"])
def test_shapes_alone_are_not_enough(name):
    with pytest.raises(ValueError, match=f"recipes.{name} reads widths and roles"):
        jinit.plan({"kernel": jnp.ones((4, 4))}, getattr(recipes, name)(2))


def test_shapes_without_the_official_names_are_an_error():
    with pytest.raises(ValueError, match="no leaf of the tree is called"):
        jinit.plan({"rate": jnp.ones(4)}, recipes.mamba2(2))
    plan = jinit.plan(
        {"rate": jnp.ones(4), "step": jnp.ones(4)},
        recipes.mamba2(2, decays="rate", step_biases="step"),
    )
    assert plan.rows[0]["initializer"] == "jinit.ssm.a_log()"


def test_the_decays_of_mamba_1_are_refused():
    entry = state_space.MODELS["mamba"]()
    net = jinit.network(entry.model, *entry.arguments)
    with pytest.raises(ValueError, match="several decays for each channel"):
        jinit.plan(net, recipes.mamba2())
    rule = ("**/A_log", jinit.ssm.mamba_a_log())
    plan = jinit.plan(net, [rule, *recipes.mamba2()])
    steps = {r["path"]: r["initializer"] for r in plan.rows if "dt_proj" in r["path"]}
    assert steps["layers/1/mixer/dt_proj/bias"] == "jinit.ssm.mamba_dt_bias()"


@pytest.mark.parametrize("name", ["mamba2", "griffin", "rwkv7", "hyper_connections"])
def test_names_are_not_asked(name):
    net = network(name)
    recipe = getattr(recipes, name)()
    expected = {row["path"]: row["std"] for row in jinit.plan(net, recipe).rows}
    function, renamed, paths = truth.scrambled(net.apply, net.params)
    again = jinit.plan(jinit.network(function, renamed, *net.inputs), recipe)
    assert {paths[row["path"]]: row["std"] for row in again.rows} == expected


def test_a_plan_and_an_audit_agree_on_every_recurrent_recipe():
    for name in NAMES:
        net = network(name)
        params = jinit.plan(net, getattr(recipes, name)()).init(jax.random.key(4))
        jinit.audit(net.replace(params)).check()


def test_the_recurrent_kernel_of_an_slstm_is_refused():
    def model(p, x):
        def step(h, x):
            f = jax.nn.log_sigmoid(x @ p["f"] + p["b"])
            h = jnp.exp(f) * jnp.tanh(x @ p["w"] + h @ p["r"])
            return h, h

        return x + lax.scan(step, jnp.zeros(x.shape[1:]), x)[1] @ p["out"]

    square = jnp.ones((8, 8))
    params = dict.fromkeys(("f", "w", "r", "out"), square) | {"b": jnp.ones(8)}
    net = jinit.network(model, params, jnp.ones((5, 2, 8)))
    with pytest.raises(ValueError, match="'r' is a recurrent kernel"):
        jinit.plan(net, recipes.xlstm(1))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: recipes.griffin(flavour="layer"), ValueError, "must be one of"),
        (lambda: recipes.rwkv7(flavour="paper"), ValueError, "must be one of"),
        (lambda: recipes.kda(safe_gate=1), TypeError, "True or False"),
        (lambda: recipes.xlstm(decays="**"), TypeError, "has no use for 'decays'"),
        (lambda: recipes.mamba2(0), ValueError, "num_layers"),
        (lambda: recipes.hyper_connections(base="gpt3"), ValueError, "gpt2"),
    ],
)
def test_wrong_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()
