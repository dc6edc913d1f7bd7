"""`audit` is silent on healthy models, of every kind and from every recipe."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from examples.transformer import Transformer
from tests.support.trees import rows_by_path
from tests.support.zoo import every

pytestmark = pytest.mark.usefixtures("quick_compilation", "_as_the_field_writes")

KEYS = jax.random.split(jax.random.key(14), 16)


@pytest.fixture
def _as_the_field_writes():
    """Most code bases add biases of lower rank."""
    with jax.numpy_rank_promotion("allow"):
        yield


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def perceptron(p, x):
    return jax.nn.relu(x @ p["up"]) @ p["down"]


def cross_entropy(labels):
    def loss(logits):
        return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), -1))

    return loss


def concrete(entry, law, seed):
    """Return a network of the zoo with drawn parameters and inputs."""
    # The last residual layer of WaveNet feeds nothing.
    options = {"allow_unused": True, **entry.options}
    net = jinit.network(entry.model, *entry.arguments, rngs=entry.rngs, **options)
    numbers = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(net.params)
    parameters = [net.parameters[path] for path in net._adapted.paths]
    params = structure.unflatten(
        jnp.asarray(_drawn(p, law, numbers), leaf.dtype)
        for p, leaf in zip(parameters, leaves, strict=True)
    )
    inputs = jax.tree.map(lambda x: _input(x, numbers), net.inputs)
    adapted = net._adapted._replace(inputs=inputs)
    return dataclasses.replace(net.replace(params), inputs=inputs, _adapted=adapted)


def _drawn(p, law, numbers):
    if "scale" in p.roles:
        return np.ones(p.shape)
    if p.fans is None or not p.roles & {"matrix", "convolution", "embedding"}:
        return np.zeros(p.shape)
    normal = numbers.standard_normal(p.shape)
    if "embedding" in p.roles or law == "0.02":
        return 0.02 * normal
    if law == "zero ends" and p.roles & {"residual_output", "readout"}:
        return np.zeros(p.shape)
    uniform = numbers.uniform(-(3**0.5), 3**0.5, p.shape)
    return {
        "lecun": normal / math.sqrt(p.fans.fan_in),
        "zero ends": normal / math.sqrt(p.fans.fan_in),
        "he, fan_out": normal * math.sqrt(2 / p.fans.fan_out),
        "xavier": uniform * math.sqrt(2 / sum(p.fans)),
        "muP": 0.37 * normal / math.sqrt(p.fans.fan_in),
    }[law]


def _input(x, numbers):
    if not isinstance(x, jax.ShapeDtypeStruct):
        return x
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.asarray(numbers.standard_normal(x.shape), x.dtype)
    return jnp.asarray(numbers.integers(0, 2, x.shape), x.dtype)


@pytest.mark.parametrize("law", ["lecun", "0.02", "he, fan_out", "xavier", "muP"])
def test_healthy_models_of_the_zoo(law):
    for seed, (name, make) in enumerate(every.models().items()):
        audit = jinit.audit(concrete(make(), law, seed))
        assert not audit.findings, (name, audit.findings)


def test_zeros_at_the_ends_of_models_of_the_zoo():
    for seed, (name, make) in enumerate(every.models().items()):
        audit = jinit.audit(concrete(make(), "zero ends", seed))
        assert not audit.findings, (name, audit.findings)


RECIPES = ("gpt2", "small_init", "deepnorm", "t_fixup", "t5", "torch_defaults", "vit")


@pytest.mark.parametrize("recipe", ["default", *RECIPES])
def test_recipes_are_healthy(recipe):
    model = Transformer(90, 2, 64, 4)
    ids = jax.random.randint(KEYS[0], (2, 12), 0, 90)
    loss = cross_entropy(jax.nn.one_hot(jnp.roll(ids, 1), 90))
    if recipe == "default":
        params = model.init(KEYS[1], ids)
    else:
        shapes = jax.eval_shape(model.init, KEYS[1], ids)
        make = getattr(jinit.recipes, recipe)
        rules = make() if recipe in ("torch_defaults", "t5") else make(2)
        params = jinit.plan(shapes, rules).init(KEYS[1])
    jinit.audit(model, params, ids, loss=loss).check()


def test_mup_orthogonal_kernels_and_ties_are_healthy():
    ids = jax.random.randint(KEYS[0], (2, 12), 0, 90)

    def drawn(width):
        return Transformer(90, 2, width, 4).init(KEYS[1], ids)

    params = jinit.mup.infer(drawn(32), drawn(96)).init(drawn(96))
    jinit.audit(Transformer(90, 2, 96, 4), params, ids).check()
    kernels = {"up": jinit.orthogonal(), "down": jinit.orthogonal(0.5)}
    shapes = {"up": (64, 128), "down": (128, 32)}
    params = {n: kernels[n](KEYS[i], s) for i, (n, s) in enumerate(shapes.items())}
    audit = jinit.audit(perceptron, params, jnp.ones((2, 64)))
    laws = [row["law"] for row in audit.rows]
    assert laws == ["orthogonal", "orthogonal * 0.5"] and not audit.findings

    def tied(p, ids):
        h = p["table"][ids]
        return norm(h + jax.nn.gelu(norm(h) @ p["up"]) @ p["down"]) @ p["table"].T

    params = {
        "table": jinit.normal(0.02)(KEYS[2], (90, 64)),
        "up": jinit.normal(0.02)(KEYS[3], (64, 256)),
        "down": jinit.normal(0.01)(KEYS[4], (256, 64)),
    }
    jinit.audit(tied, params, ids).check()


def test_defaults_of_nnx_are_healthy():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(3, 32, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(32, rngs=rngs)
            self.grouped = nnx.Conv(32, 64, (3, 3), feature_group_count=4, rngs=rngs)
            self.up = nnx.ConvTranspose(64, 32, (4, 4), strides=2, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(4, 32, decode=False, rngs=rngs)
            self.cell = nnx.RNN(nnx.LSTMCell(32, 64, rngs=rngs), rngs=rngs)
            self.head = nnx.Linear(64, 10, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.norm(self.first(x)))
            x = self.up(nnx.relu(self.grouped(x))).mean(1)
            return self.head(self.cell(x + self.attention(x))[:, -1])

    audit = jinit.audit(Net(nnx.Rngs(0)), jnp.ones((2, 8, 8, 3)))
    assert not audit.findings
    assert rows_by_path(audit)["head/kernel"]["law"].startswith("lecun: fan_in 64")
