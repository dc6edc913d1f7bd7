"""Recipes of recurrent models against the formulas of the official code.

Repositories, files and commits stand in the decorators of the recipes. The numbers here
are those of the formulas for models with two layers and the widths of the miniatures.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jinit
from jinit import recipes
from tests.support import laws
from tests.support.recurrent import architectures
from tests.support.recurrent.architectures import IDS, D
from tests.support.recurrent.libraries import (
    Plain,
    common_name,
    network_of,
)

NUM_KEYS = 48
LOG_STEPS = laws.uniform(math.log(1e-3), math.log(0.1))


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


@functools.cache
def drawn(name, **settings):
    """Return many draws of every parameter, in float64, by its common name."""
    plan = jinit.plan(network(name), getattr(recipes, name)(**settings))
    # The plan has one compiled program, which a vmap would have to compile again.
    keys = jax.random.split(jax.random.key(3), NUM_KEYS)
    values = [jax.device_get(plan.init(key)) for key in keys]
    return {k: np.stack([np.float64(x[k]) for x in values]) for k in values[0]}


def both_layers(values, name):
    return np.concatenate([values[f"layer_{i}_{name}"].ravel() for i in range(2)])


def uniform(bound):
    return laws.uniform(-bound, bound)


def log_steps(bias):
    return np.log(np.log1p(np.exp(bias)))


# For each recipe the laws of the roles in its layers, and of what is outside of them.
TORCH = uniform(D**-0.5)
TABLES = {
    ("mamba2", ()): {
        "in.kernel": TORCH,
        "out.kernel": uniform((2 * D * 2) ** -0.5),
        "conv.kernel": uniform(4**-0.5),
        "conv.bias": uniform(4**-0.5),
        "skip": 1,
        "norm.scale": 1,
    },
    ("gated_deltanet", ()): {
        "q.kernel": TORCH,
        "a.kernel": TORCH,
        "out.kernel": TORCH,
        "down.kernel": uniform((2 * D) ** -0.5),
        "v_conv.kernel": uniform(4**-0.5),
    },
    ("gated_deltanet", (("flavour", "model"),)): {
        "q.kernel": laws.normal(0.02),
        "out.kernel": laws.normal(0.02),
        "v_conv.kernel": laws.normal(0.02),
    },
    ("kda", ()): {
        "f_down.kernel": TORCH,
        "f_up.kernel": uniform((D // 4) ** -0.5),
        "k_conv.kernel": uniform(4**-0.5),
    },
    ("griffin", ()): {
        "x.kernel": laws.normal(D**-0.5),
        "out.kernel": laws.normal((2 / 2 / D) ** 0.5),
        "down.kernel": laws.normal((2 / 2 / (3 * D)) ** 0.5),
        "conv.kernel": laws.normal((0.01 / 4) ** 0.5),
        "gate_a_kernel": laws.normal((D / 4) ** -0.5),
        "norm_scale": 0,
        "x.bias": 0,
        "conv.bias": 0,
    },
    ("griffin", (("flavour", "code"),)): {
        "gate_a_kernel": laws.normal(D**-0.5),
        "x.kernel": laws.normal(D**-0.5),
    },
    ("xlstm", ()): {
        "up.kernel": laws.normal((2 / (5 * D)) ** 0.5),
        "q_kernel": laws.normal((2 / (5 * D)) ** 0.5),
        "down.kernel": laws.normal(2 / 2 / D**0.5),
        "igate.kernel": 0,
        "fgate.kernel": 0,
        "igate.bias": laws.normal(0.1),
        "conv.kernel": uniform(4**-0.5),
        "conv.bias": uniform(4**-0.5),
        "skip": 1,
    },
}


@pytest.mark.parametrize(("name", "settings"), TABLES)
def test_the_laws_of_the_layers_are_the_official_ones(name, settings):
    values = drawn(name, **dict(settings))
    for role, law in TABLES[name, settings].items():
        x = both_layers(values, role)
        if isinstance(law, int):
            assert (x == law).all(), role
        else:
            laws.assert_law(x, law)
            # A std that is a half too great is another law.
            with pytest.raises(AssertionError):
                laws.assert_law(1.5 * x, law)


@pytest.mark.parametrize(
    ("name", "low"), [("mamba2", 1), ("gated_deltanet", 0), ("kda", 1)]
)
def test_decays_and_steps_of_state_spaces(name, low):
    values = drawn(name)
    a = np.exp(both_layers(values, "a_log"))
    laws.assert_law(a, laws.uniform(low, 16))
    laws.assert_law(log_steps(both_layers(values, "dt")), LOG_STEPS)
    with pytest.raises(AssertionError):
        laws.assert_law(a, laws.uniform(low, 20))


def test_a_safe_gate_of_kda_has_rates_of_1():
    assert (both_layers(drawn("kda", safe_gate=True), "a_log") == 0).all()


@pytest.mark.parametrize(("flavour", "c"), [("paper", 8), ("code", 1)])
def test_the_decay_of_griffin_lies_on_a_ring(flavour, c):
    x = both_layers(drawn("griffin", flavour=flavour), "lambda")
    square = np.exp(-2 * c * np.log1p(np.exp(x)))
    laws.assert_law(square, laws.uniform(0.9**2, 0.999**2))


def test_the_forget_gates_of_xlstm_are_open():
    for layer in (0, 1):
        b = drawn("xlstm")[f"layer_{layer}_fgate.bias"]
        np.testing.assert_allclose(b, np.tile(np.linspace(3, 6, 4), (NUM_KEYS, 1)))


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("mamba2", laws.normal(0.02)),
        ("kda", laws.normal(0.02)),
        ("griffin", laws.normal(D**-0.5)),
        ("xlstm", laws.normal((2 / (5 * D)) ** 0.5)),
    ],
)
def test_embeddings(name, law):
    laws.assert_law(drawn(name)["embed.kernel"], law)


def test_rwkv7_has_the_official_laws():
    values, n = drawn("rwkv7"), np.arange(D)
    linear = n / (D - 1) - 0.5
    zigzag = (n % 4 - 1.5) / 1.5
    zigzag = zigzag * np.abs(zigzag)
    for layer in (0, 1):
        block = {
            path.removeprefix(f"blocks_{layer}."): x
            for path, x in values.items()
            if path.startswith(f"blocks_{layer}.")
        }
        for name in ("att.receptance.kernel", "att.value.kernel", "ffn.key.kernel"):
            laws.assert_law(block[name], uniform(0.5 / D**0.5))
        laws.assert_law(block["att.key.kernel"], uniform(0.05 / D**0.5))
        for letter in "wavg":
            assert (block[f"att.{letter}1"] == 0).all()
            second = block[f"att.{letter}2"]
            unit = np.broadcast_to(0.01 * np.eye(8), (NUM_KEYS, 8, 8))
            np.testing.assert_allclose(second @ second.swapaxes(1, 2), unit, atol=1e-6)
        vectors = {
            "w0": -5.5 + 6 * (n / (D - 1)) ** (1 + layer**0.3) + 2.5 * zigzag,
            "a0": -0.19 + 0.3 * zigzag + 0.4 * linear,
            "v0": 0.73 - 0.4 * linear,
            "k_k": 0.71 - 0.1 * linear,
            "k_a": np.full(D, 1.02),
            "r_k": np.full(D, -0.04),
        }
        powers = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}
        for letter, power in powers.items():
            vectors[f"x_{letter}"] = 1 - (n / D) ** (power * (1 - layer / 2))
        for name, vector in vectors.items():
            np.testing.assert_allclose(
                block[f"att.{name}"][0].ravel(), vector, atol=2e-5, err_msg=name
            )
        np.testing.assert_allclose(
            block["ffn.x_k"][0].ravel(), 1 - (n / D) ** (1 - layer / 2) ** 4, atol=1e-6
        )
        assert (block["att.ln_x.scale"] == 1).all()
    laws.assert_law(values["emb.kernel"], uniform(1e-4))
    head = values["head.kernel"]
    gram = np.broadcast_to(0.25 * 40 / D * np.eye(D), (NUM_KEYS, D, D))
    np.testing.assert_allclose(head @ head.swapaxes(1, 2), gram, atol=1e-5)


def test_the_trainer_of_rwkv7_redraws_the_kernels():
    values = drawn("rwkv7", flavour="model")
    for layer in (0, 1):
        key = values[f"blocks_{layer}.att.key.kernel"][0]
        np.testing.assert_allclose(key @ key.T, 0.01 * np.eye(D), atol=1e-6)
        r = values[f"blocks_{layer}.att.receptance.kernel"][0]
        np.testing.assert_allclose(r @ r.T, np.eye(D), atol=1e-5)
        scale = values[f"blocks_{layer}.att.ln_x.scale"]
        np.testing.assert_allclose(scale, ((1 + layer) / 2) ** 0.7, rtol=1e-6)


@pytest.mark.parametrize("flavour", ["layer", "model"])
def test_the_branches_of_rwkv7_are_0(flavour):
    net = network("rwkv7")
    params = jinit.plan(net, recipes.rwkv7(flavour=flavour)).init(jax.random.key(0))
    ids = jnp.arange(12).reshape(2, 6)
    without = architectures.rwkv7(Plain(dict(params)), ids, num_layers=0)
    np.testing.assert_array_equal(net.apply(params, ids), without)
    params["blocks_0.att.output.kernel"] += 1
    assert (np.asarray(net.apply(params, ids)) != without).any()


@pytest.mark.parametrize("library", ["plain", "linen", "nnx", "equinox"])
def test_hyper_connections_start_as_a_residual_network(library):
    net = network("hyper_connections", library)
    plan = jinit.plan(net, recipes.hyper_connections())
    params = plan.init(jax.random.key(1))
    named = dict(zip(map(common_name, net.paths), jax.tree.leaves(params), strict=True))
    for number in range(4):
        alpha = named[f"connection_{number // 2}_{number % 2}_static_alpha"]
        np.testing.assert_array_equal(alpha[:, 0], np.eye(4)[number])
        np.testing.assert_array_equal(alpha[:, 1:], np.eye(4))
    scales = [x for path, x in named.items() if path.endswith(("a_scale", "b_scale"))]
    assert len(scales) == 8 and all(float(x) == np.float32(0.01) for x in scales)
    if library != "plain":
        return
    ids = jnp.arange(12).reshape(2, 6)
    residual = architectures.residual(Plain(dict(params)), ids)
    np.testing.assert_array_equal(net.apply(params, ids), residual)
    params["connection_0_1_static_beta"] *= 1.5
    assert (np.asarray(net.apply(params, ids)) != residual).any()


def scanned_rwkv7(params, ids):
    """RWKV-7 whose layers are the steps of a scan."""
    outside = Plain(params["outside"])
    x = outside.embed("emb", ids, 40, D)

    def step(carry, now):
        x, v_first = carry
        layer, index = now
        return architectures.rwkv7_block(Plain(layer), "b", x, v_first, index == 0), 0

    layers = params["layers"]
    numbers = jnp.arange(next(iter(layers.values())).shape[0])
    (x, _), _ = lax.scan(step, (x, jnp.zeros_like(x)), (layers, numbers))
    return outside.dense("head", x, 40)


def test_the_layers_of_a_scan_have_their_own_decays():
    one, outside = Plain(), Plain()
    x = outside.embed("emb", IDS, 40, D)
    architectures.rwkv7_block(one, "b", x, jnp.zeros_like(x))
    outside.dense("head", x, 40)
    stacked = {k: jnp.ones((3, *x.shape)) for k, x in one.params.items()}
    params = {"outside": outside.params, "layers": stacked}
    net = jinit.network(scanned_rwkv7, params, IDS)
    drawn = jinit.plan(net, recipes.rwkv7()).init(jax.random.key(2))["layers"]
    for layer in range(3):
        for name, init in {
            "att.w0": jinit.ssm.rwkv7_decay(layer, 3, head_size=4),
            "att.x_a": jinit.ssm.rwkv7_mix("a", layer, 3),
            "ffn.x_k": jinit.ssm.rwkv7_mix("channel", layer, 3),
            "att.a0": jinit.ssm.rwkv7_vector("a0", head_size=4),
        }.items():
            expected = init(jax.random.key(0), (1, 1, D))
            np.testing.assert_allclose(drawn[f"b.{name}"][layer], expected, atol=1e-5)
    assert not drawn["b.att.output.kernel"].any()
