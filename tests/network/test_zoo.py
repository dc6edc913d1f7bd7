"""The network of each model in the zoo is read as its equations say.

Tests of libraries that jinit does not depend on are skipped, with a reason, where they
are not installed. All of them run after
`pip install equinox dm-haiku keras penzai`, by
`pytest tests/network -k "libraries"`.
"""

import importlib
import math
import re

import jax
import pytest

import jinit
from tests.support.zoo import adapted, every, gpt2, truth

ZOO = every.models()
# Libraries that jinit does not depend on, and the packages that hold them.
LIBRARIES = {
    "equinox": "equinox",
    "haiku": "dm-haiku",
    "keras": "keras",
    "penzai": "penzai",
}


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    """Most code bases add biases of lower rank."""
    with jax.numpy_rank_promotion("allow"):
        yield


def network(entry):
    # The last residual layer of WaveNet feeds nothing.
    options = {"allow_unused": True, **entry.options}
    return jinit.network(entry.model, *entry.arguments, rngs=entry.rngs, **options)


def differences(net, entry):
    """List what a network says that the table of a model does not."""
    lines = truth.differences(net, entry.facts)
    extra = [path for path in net.parameters if path not in entry.facts]
    lines += [f"{path}: not in the table" for path in extra]
    if entry.depth not in (None, net.depth):
        lines.append(f"depth {net.depth}, not {entry.depth}")
    return sorted(lines)


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_is_read_as_its_equations_say(name):
    entry = ZOO[name]()
    assert not differences(network(entry), entry)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_of_other_libraries(library):
    if not adapted.installed(library):
        pytest.skip(f"{library} is not installed: pip install {LIBRARIES[library]}")
    models = importlib.import_module(f"tests.support.zoo.in_{library}").models()
    for name, entry in models.items():
        assert not differences(network(entry), entry), name


@pytest.mark.parametrize("name", ZOO)
def test_names_and_order_of_parameters_are_never_asked(name):
    entry = ZOO[name]()
    net = network(entry)
    function, renamed, paths = truth.scrambled(net.apply, net.params)
    again = jinit.network(function, renamed, *net.inputs, allow_unused=True)
    assert again.depth == net.depth
    for new, old in paths.items():
        one, other = net.parameters[old], again.parameters[new]
        assert one.roles == other.roles, old
        assert (one.layout, one.fans) == (other.layout, other.fans), old
        inputs = tuple(paths.get(path, path) for path in other.inputs)
        assert set(one.inputs) == set(inputs), old


@pytest.mark.parametrize("name", ["gpt2", "llama", "llama, fused, (out, in)", "bert"])
def test_one_token_is_enough(name):
    """Many people initialize a model, and look at it, with jnp.ones((1, 1), int)."""
    entry = ZOO[name]()
    params, *inputs = entry.arguments
    one = (jax.ShapeDtypeStruct((1, 1), x.dtype) for x in inputs)
    entry = entry._replace(arguments=(params, *one))
    assert not differences(network(entry), entry)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("c_fc/weight io 16 64", "c_fc/weight oi 16 64"),
        ("c_fc/weight io 16 64", "c_fc/weight io 64 64"),
        ("c_fc/weight io 16 64", "c_fc/weight io 16 16"),
        ("query key value", "query key"),
        ("ln_f/bias none . . bias", "ln_f/shift none . . bias"),
    ],
)
def test_a_wrong_table_is_noticed(right, wrong):
    table = re.sub(" +", " ", gpt2.TABLE)
    assert right in table
    entry = ZOO["gpt2"]()
    mistaken = entry._replace(facts=truth.facts(table.replace(right, wrong)))
    assert differences(network(entry), mistaken)


@pytest.mark.parametrize(
    ("name", "path", "inputs", "activation"),
    [
        ("gpt2", "mlp/c_proj/weight", ["mlp/c_fc/weight"], "gelu"),
        ("gpt2", "attn/c_proj/weight", ["attn/c_attn/weight"], None),
        ("bert", "layers/0/mlp/down/weight", ["layers/0/mlp/up/weight"], "gelu"),
        ("bert", "classifier/weight", ["pooler/weight"], "tanh"),
        ("llama", "layers/0/w_down", ["w_gate", "w_up"], "swiglu"),
        ("llama, fused, (out, in)", "layers/0/down_proj", ["gate_up_proj"], "geglu"),
        ("experts, mixed in one einsum", "blocks/0/wo", ["wi_0", "wi_1"], "swiglu"),
        ("resnet v2", "head/kernel", ["bn_final/scale"], "relu"),
        ("unet", "middle1/conv2/kernel", ["middle1/norm2/scale"], "silu"),
        ("lora, merged", "last", ["base", "a", "b"], "relu"),
        ("wavenet", "output", [f"layers/{i}/skip" for i in range(3)], "relu"),
        ("shared block", "block/up", ["embed", "block/down"], None),
        ("densenet", "layers/1", ["stem", "layers/0"], "relu"),
        ("siren", "1/w", ["0/w"], lambda x: math.sin(30 * x)),
        ("rezero", "blocks/0/down", ["blocks/0/up"], lambda x: max(x, 0) ** 2),
    ],
)
def test_what_feeds_a_parameter(name, path, inputs, activation):
    parameters = network(ZOO[name]()).parameters
    parameter = next(p for key, p in parameters.items() if key.endswith(path))
    assert len(parameter.inputs) == len(inputs)
    assert all(map(str.endswith, parameter.inputs, inputs))
    if callable(activation):
        for x in (-0.7, 0.1, 2.0):
            assert abs(parameter.activation(x) - activation(x)) < 1e-5
    else:
        assert parameter.activation == activation


def test_uses_are_counted():
    assert network(ZOO["gpt2"]()).parameters["transformer/wte"].uses == 2
    assert network(ZOO["shared block"]()).parameters["block/up"].uses == 3


def test_branches_hold_what_comes_from_their_stream():
    def layers(name):
        branches = network(ZOO[name]()).branches
        return [([path.split("/")[-2] for path in b.layers], b.count) for b in branches]

    own = ["query", "key", "value", "out"]
    mlp = ["wi_0", "wi_1", "wo"]
    # Keys and values of the third branch read the encoder, not the stream.
    expected = [own, mlp, own, ["query", "out"], mlp]
    assert layers("t5, layers along axis 0") == [(branch, 2) for branch in expected]
    # The time embedding feeds every block, and belongs to no branch.
    block, attention = ["conv1", "conv2"], ["q", "k", "v", "proj_out"]
    expected = [block, block, attention, block, block]
    assert layers("unet") == [(branch, 1) for branch in expected]
