"""A Network prints, is plain data, and changes its parameters."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from jinit._network import record
from jinit._network.network_table import shown_roles
from tests.support.networks import floats, network, rms, tokens


class Model(nn.Module):
    @nn.compact
    def __call__(self, ids):
        embed = nn.Embed(9, 8, name="embed")
        x = embed(ids)
        h = nn.RMSNorm(name="norm")(x)
        x = x + nn.Dense(8, name="down")(nn.relu(nn.Dense(16, name="up")(h)))
        return embed.attend(x) * self.param("temperature", nn.initializers.ones, ())


@pytest.fixture(scope="module")
def net():
    model, ids = Model(), jnp.ones((2, 3), int)
    variables = model.init(jax.random.key(0), ids)
    return jinit.network(model, variables, ids)


def test_a_network_prints_as_a_table(net):
    lines = str(net).splitlines()
    head = "parameter shape role layout fan_in fan_out input after uses"
    assert " ".join(lines[0].split()) == head
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[2:8]}
    assert rows["embed/embedding"] == (
        "(9, 8) embedding, readout io - 8 data, embed, down - 2"
    )
    assert rows["up/kernel"] == "(8, 16) hidden io 8 16 norm - 1"
    assert rows["down/kernel"] == "(16, 8) residual_output io 16 8 up relu 1"
    assert rows["norm/scale"] == "(8,) scale - - - embed - 1"
    assert "3 layers" in str(net)
    assert "1 residual addition" in str(net)
    assert "- temperature: it multiplies data entry by entry" in str(net)
    assert repr(net) == "<Network of 7 parameters, 3 layers, depth 1>"


def test_a_network_shows_in_a_notebook(net):
    page = net._repr_html_()
    assert "<caption>Network: 7 rows</caption>" in page
    assert page.count("<tr>") == 1 + len(net.parameters)


def test_a_network_is_plain_data(net):
    data = json.loads(json.dumps(net.to_dict()))
    rows = {row["path"]: row for row in data["parameters"]}
    assert rows["up/kernel"]["roles"] == ["hidden", "matrix"]
    up = rows["up/kernel"]
    assert (up["fan_in"], up["fan_out"]) == (8, 16)
    assert (rows["norm/scale"]["fan_in"], rows["norm/scale"]["fan_out"]) == (None, None)
    assert rows["up/kernel"]["dtype"] == "float32"
    assert [layer["path"] for layer in data["layers"]] == [
        "up/kernel",
        "down/kernel",
        "embed/embedding",
    ]
    (branch,) = data["branches"]
    assert branch["begin"] == ["embed/embedding"]
    assert branch["ends"] == ["down/kernel"]
    assert data["depth"] == 1


def test_parameters_are_in_the_order_of_their_first_use(net):
    assert list(net.parameters) == [
        "embed/embedding",
        "norm/scale",
        "up/kernel",
        "up/bias",
        "down/kernel",
        "down/bias",
        "temperature",
    ]


def test_replace_and_model(net):
    doubled = jax.tree.map(lambda leaf: 2 * leaf, net.params)
    new = net.replace(doubled)
    assert new.parameters is net.parameters
    ids = net.inputs[0]
    np.testing.assert_array_equal(
        Model().apply(new.model(), ids), new.apply(new.params, ids)
    )
    with pytest.raises(ValueError, match="lacks"):
        net.replace({"embed": doubled["embed"]})
    with pytest.raises(ValueError, match="they must agree"):
        net.replace(jax.tree.map(lambda leaf: leaf[..., None], doubled))


def test_a_network_is_frozen_and_stands_for_its_model(net):
    with pytest.raises(AttributeError):
        net.depth = 3
    with pytest.raises(TypeError):
        net.parameters["x"] = None
    assert jinit.network(net) is net
    with pytest.raises(TypeError, match="Pass the Network alone"):
        jinit.network(net, jnp.ones(3))


def test_roles_of_a_decoder_in_one_look():
    """The table of the design: one block of a decoder."""

    def function(p, ids):
        x = p["embed"][ids]
        h = rms(x, p["norm"])
        q, k, v = (jnp.einsum("btd,dhk->bthk", h, p[n]) for n in ("q", "k", "v"))
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + jnp.einsum("bthk,hkd->btd", y, p["o"])
        x = x + jax.nn.gelu(rms(x, p["norm2"]) @ p["up"]) @ p["down"]
        return rms(x, p["last"]) @ p["embed"].T

    shapes = {
        "embed": (9, 8),
        "norm": (8,),
        "q": (8, 2, 4),
        "k": (8, 2, 4),
        "v": (8, 2, 4),
        "o": (2, 4, 8),
        "norm2": (8,),
        "up": (8, 16),
        "down": (16, 8),
        "last": (8,),
    }
    net = network(function, shapes, tokens(2, 3))
    roles = {
        path: ", ".join(shown_roles(p.roles)) for path, p in net.parameters.items()
    }
    assert roles == {
        "embed": "embedding, readout",
        "norm": "scale",
        "q": "query",
        "k": "key",
        "v": "value",
        "o": "attention_output, residual_output",
        "norm2": "scale",
        "up": "hidden",
        "down": "residual_output",
        "last": "scale",
    }
    assert net.depth == 2


def test_a_second_call_reads_nothing(monkeypatch):
    traces = []

    def counted(adapted):
        traces.append(adapted)
        return record_trace(adapted)

    record_trace = record.trace
    monkeypatch.setattr(record, "trace", counted)
    model, ids = nn.Dense(5), jnp.ones((3, 4))
    variables = model.init(jax.random.key(0), ids)
    one = jinit.network(model, variables, ids)
    other = jinit.network(nn.Dense(5), model.init(jax.random.key(1), ids), 2 * ids)
    assert len(traces) == 1
    assert other.parameters == one.parameters
    assert other.params is not one.params
    jinit.network(
        nn.Dense(5, use_bias=False),
        {"params": {"kernel": variables["params"]["kernel"]}},
        ids,
    )
    jinit.network(model, variables, jnp.ones((7, 4)))
    assert len(traces) == 3


def test_bad_input():
    with pytest.raises(ValueError, match="parameters"):
        jinit.network(lambda p, x: x, {}, floats(2))
    with pytest.raises(TypeError, match="must be a Linen module"):
        jinit.network("model", floats(2))
    for kind in (nn.Dense, nnx.Linear):
        with pytest.raises(
            TypeError, match=r"is the class \w+; it must be an instance"
        ):
            jinit.network(kind, floats(2))
    with pytest.raises(TypeError, match="effects"):
        network(
            lambda p, x: (jax.debug.print("{}", x), x @ p["w"])[1],
            {"w": (2, 2)},
            floats(2),
        )
    with pytest.raises(TypeError, match="could not be called"):
        network(lambda p, x: x @ p["w"], {"w": (3, 2)}, floats(2))


def test_a_parameter_that_is_never_used_is_named():
    def model(p, x):
        return x @ p["used"]

    params = {"used": jnp.ones((3, 2)), "head": jnp.ones((2, 5)), "b": jnp.ones(5)}
    with pytest.raises(ValueError, match=r"2 parameters(.|\n)*head \(2, 5\)"):
        jinit.network(model, params, jnp.ones((4, 3)))
    # To measure a part of a model, and to set it, is no mistake.
    probed = jinit.probe(model, params, jnp.eye(4, 3))
    assert [row["path"] for row in probed.rows] == ["used"]
    assert jinit.lsuv(model, params, jnp.eye(4, 3))[1].left == ("head",)
    net = jinit.network(model, params, jnp.ones((4, 3)), allow_unused=True)
    assert net.parameters["head"].roles == {"other"}
    with pytest.raises(TypeError, match="`allow_unused`"):
        jinit.network(model, params, jnp.ones((4, 3)), allow_unused="yes")


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True)(nn.Dense(4)(x))


def test_a_model_has_no_shapes_beside_numbers():
    x, key = jnp.ones((2, 3)), jax.random.key(0)
    shapes = jax.eval_shape(Normed().init, key, x)
    net = jinit.network(Normed(), shapes, x)
    # A network of shapes alone gives these back.
    assert jax.tree.structure(net.model()) == jax.tree.structure(shapes)
    drawn = jinit.plan(net, [("**", jinit.normal(0.1))]).init(key)
    with pytest.raises(ValueError, match="read from shapes") as error:
        net.replace(drawn).model()
    assert "batch_stats/BatchNorm_0/mean" in str(error.value)
    assert "batch_stats/BatchNorm_0/var" in str(error.value)
    # The way out that the error names.
    variables = jinit.materialize(Normed().init)(key, x)
    net = jinit.network(Normed(), variables, x).replace(drawn)
    assert isinstance(net.model()["batch_stats"]["BatchNorm_0"]["var"], jax.Array)
