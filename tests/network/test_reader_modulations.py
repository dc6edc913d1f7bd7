"""The layers that condition a network, and the numbers of contrastive logits."""

import jax
import jax.numpy as jnp
import pytest

import jinit
from tests.support.trees import struct
from tests.support.zoo import every
from tests.support.zoo.truth import dense

NEW = {"modulation", "temperature", "logit_bias"}
WIDTH = 8


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def roles(model, params, *inputs):
    net = jinit.network(model, params, *inputs)
    return {path: p.roles & NEW for path, p in net.parameters.items() if p.roles & NEW}


def square(*names):
    return {name: dense(WIDTH, WIDTH) for name in names}


def test_scale_and_shift_of_sister_layers():
    def film(p, x, c):
        h, c = jnp.tanh(x @ p["first"]), jax.nn.silu(c @ p["condition"])
        return jax.nn.relu(h * (1 + c @ p["scale"]) + c @ p["shift"]) @ p["last"]

    params = square("first", "condition", "scale", "shift", "last")
    actual = roles(film, params, struct(2, WIDTH), struct(2, WIDTH))
    assert actual == {"scale": {"modulation"}, "shift": {"modulation"}}


def test_a_gate_of_a_branch_from_outside():
    def gated(p, x, c):
        x = x @ p["first"]
        return x + (c @ p["gate"])[:, None] * (jnp.tanh(x @ p["up"]) @ p["down"])

    params = square("first", "gate", "up", "down")
    actual = roles(gated, params, struct(2, 3, WIDTH), struct(2, WIDTH))
    assert actual == {"gate": {"modulation"}}


def test_gated_units_are_no_modulations():
    def swiglu(p, x):
        x = x @ p["first"]
        gate = jax.nn.silu(x @ p["gate"])
        return x + (gate * (x @ p["up"]) + x @ p["beside"]) @ p["down"]

    def excitation(p, x):
        x = jnp.tanh(x @ p["first"])
        mean = x.mean(axis=1, keepdims=True)
        return (x * (mean @ p["scale"]) + mean @ p["shift"]) @ p["last"]

    params = square("first", "gate", "up", "beside", "down")
    assert not roles(swiglu, params, struct(2, WIDTH))
    # What scales the values is made of the values.
    params = square("first", "scale", "shift", "last")
    assert not roles(excitation, params, struct(2, 3, WIDTH))


@pytest.mark.parametrize("before", [True, False])
def test_temperature_and_bias_of_logits(before):
    """The temperature multiplies the logits, or one of the two embeddings before."""

    def towers(p, x, y):
        x, y = (z / jnp.linalg.norm(z, axis=-1, keepdims=True) for z in (x, y))
        t = jnp.exp(p["t"])
        logits = (t * x) @ y.T if before else (x @ y.T) * t
        return jax.nn.log_sigmoid(logits + p["b"]).sum()

    def model(p, x, y):
        return towers(p, x @ p["x"], y @ p["y"])

    params = square("x", "y") | {"t": dense(1), "b": dense()}
    actual = roles(model, params, struct(3, WIDTH), struct(3, WIDTH))
    assert actual == {"t": {"temperature"}, "b": {"logit_bias"}}


def test_the_temperature_of_an_attention_is_none():
    def attention(p, x):
        q, k, v = (x @ p[name] for name in "qkv")
        logits = jnp.exp(p["t"]) * (q @ k.swapaxes(1, 2)) + p["b"]
        return jax.nn.softmax(logits) @ v

    params = square(*"qkv") | {"t": dense(1), "b": dense(1)}
    assert not roles(attention, params, struct(2, 3, WIDTH))


def test_a_number_that_is_no_exponent_is_no_temperature():
    def model(p, x, y):
        return p["t"] * ((x @ p["x"]) @ (y @ p["y"]).T)

    params = square("x", "y") | {"t": dense()}
    assert not roles(model, params, struct(3, WIDTH), struct(3, WIDTH))


def test_the_models_that_have_these_roles():
    """The zoo has one conditioned transformer, and one pair of towers."""
    expected = {
        "dit": {"blocks/0/adaLN/kernel", "blocks/1/adaLN/kernel", "final_adaLN/kernel"},
        "clip": {"logit_scale"},
    }
    for name in ("dit", "clip", "unet", "llama", "squeeze and excitation"):
        entry = every.models()[name]()
        net = jinit.network(entry.model, *entry.arguments, rngs=entry.rngs)
        actual = {path for path, p in net.parameters.items() if p.roles & NEW}
        assert actual == expected.get(name, set()), name


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("repeat", [jnp.tile, jnp.broadcast_to])
def test_a_learned_query_is_read_like_an_input(batch, repeat):
    """An attention pooling asks with one vector, which a batch of one repeats once."""

    def model(p, x):
        sizes = (len(x), 1, 1) if repeat is jnp.tile else (len(x), 1, WIDTH)
        q, k, v = repeat(p["probe"], sizes) @ p["q"], x @ p["k"], x @ p["v"]
        return jax.nn.softmax(q @ k.swapaxes(1, 2)) @ v

    params = square(*"qkv") | {"probe": dense(1, 1, WIDTH)}
    net = jinit.network(model, params, struct(batch, 5, WIDTH))
    assert net.parameters["q"].inputs == ("probe",)
    assert net.parameters["probe"].roles == {"other"}
    for name, role in {"q": "query", "k": "key", "v": "value"}.items():
        assert role in net.parameters[name].roles
        assert net.parameters[name].layout == "io"


def test_tiled_data_stay_on_the_stream():
    def model(p, x):
        x = jnp.tile((x @ p["first"])[:, None, :], (1, 4, 1))
        return x + jnp.tanh(x @ p["up"]) @ p["down"]

    net = jinit.network(model, square("first", "up", "down"), struct(2, WIDTH))
    assert net.depth == 1 and net.branches[0].ends == ("down",)
