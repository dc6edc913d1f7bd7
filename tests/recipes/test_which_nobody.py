"""`recipes.which` claims no weights that are nobody's, and no other architecture."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit import recipes
from jinit.recipes._architectures import PARTS
from jinit.recipes._recipe import RECIPES
from tests.support.models import MLP
from tests.support.trees import struct
from tests.support.which_models import (
    KEY,
    changed,
    drawn,
    first_suitable,
    network,
    of_linen,
)


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("value", [2.0, 1e6, jnp.nan])
def test_a_recipe_without_a_law_for_a_parameter_does_not_agree(value):
    """Nothing tells what the author of the recipe did with it."""

    def model(p, x):
        return (x @ p["w"]) ** p["power"]

    x = jnp.ones((2, 64))
    w = jinit.scaled_uniform()(KEY, (64, 64))
    params = {"w": w, "power": jnp.full((64,), value)}
    with pytest.raises(ValueError, match="power"):
        jinit.plan(jinit.network(model, params, x), recipes.torch_defaults())
    matches = recipes.which(model, params, x)
    assert matches.best is None and matches.agreeing == ()
    match = matches.matches[0]
    assert match.name == "torch_defaults" and match.without_law == ("power",)
    assert match.share == 0.5 and np.isfinite(match.score)
    assert all(one.agrees for one in match.evidence)
    assert "It has no law for power" in str(matches)


def test_every_recipe_says_which_architecture_it_is_for():
    assert set(PARTS) == set(RECIPES)


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (16, 16):
            x = x + nn.Conv(x.shape[-1], (3, 3))(nn.relu(nn.Conv(width, (3, 3))(x)))
        return nn.Dense(10)(nn.LayerNorm()(x).mean((1, 2)))


DEFAULTS = {
    "an MLP": (MLP((64, 64, 10)), struct(2, 32)),
    "an autoencoder": (MLP((64, 8, 64, 32)), struct(2, 32)),
    "a residual CNN": (Convolutions(), struct(2, 8, 8, 3)),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_model_of_another_architecture_is_none_of_them(name):
    """Kernels of Flax's layers have the law of T5, and those at 0.02 that of Qwen."""
    model, x = DEFAULTS[name]
    net = of_linen(model, x)
    for kernel in (
        jinit.lecun(distribution="truncated_normal"), jinit.normal(0.02),
        jinit.normal(0.006),
    ):  # fmt: skip
        rules = [("@bias", jinit.zeros), ("@scale", jinit.ones), ("**", kernel)]
        matches = recipes.which(drawn(net, rules))
        assert matches.agreeing == ()
    assert "shows no attention" in matches.not_applicable["t5"]
    assert "no gated unit" in matches.not_applicable["qwen3"]


@pytest.mark.parametrize("std", [0.021, 0.05, 0.3])
@pytest.mark.parametrize("model", ["llama", "transformer", "residual"])
def test_a_plain_normal_law_is_no_recipe_of_any_std(model, std):
    rules = [
        ("@bias", jinit.zeros), ("@scale", jinit.ones),
        ("**", jinit.normal(std)),
    ]  # fmt: skip
    assert recipes.which(drawn(network(model), rules)).agreeing == ()


def test_the_published_number_is_named_in_its_architecture_alone():
    rules = [("@scale", jinit.ones), ("**", jinit.normal(0.02))]
    assert recipes.which(drawn(network("llama"), rules)).best == "qwen3"
    rules = [("@bias", jinit.zeros), *rules]
    assert recipes.which(drawn(network("transformer"), rules)).best is None


@pytest.mark.parametrize(
    ("model", "name", "settings"),
    [
        ("llama", "llama3", {}), ("llama", "qwen3", {"flavour": "megatron"}),
        ("transformer", "gpt2", {}),
    ],
)  # fmt: skip
def test_of_equal_laws_the_right_architecture_comes_first(model, name, settings):
    recipe = recipes.get(name, **settings)
    assert recipes.which(drawn(network(model), recipe)).best == name


@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
def test_a_step_of_each_channel_tells_kda_from_gated_deltanet(name):
    net = first_suitable(recipes.get(name))
    for key in range(4):
        start = drawn(net, recipes.get(name), jax.random.key(key))
        matches = recipes.which(start)
        assert matches.best == name
    (other,) = {"gated_deltanet", "kda"} - {name}
    assert "a step of time for each" in matches.not_applicable[other]


LAYERS = "Block_0/Dense_0/kernel", "Block_1/Dense_0/kernel"
COPIED = {
    "two rows of 0": lambda x, other: x.at[:2].set(0),
    "a column of 0": lambda x, other: x.at[:, 3].set(0),
    "another layer": lambda x, other: other,
    "a row of another layer": lambda x, other: x.at[5].set(other[5]),
    "one row twice": lambda x, other: x.at[5].set(x[6]),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", COPIED)
def test_zeros_and_copies_are_no_draws(name, dtype):
    net = network("transformer")
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), net.params)
    net = drawn(jinit.network(net.apply, shapes, *net.inputs), recipes.gpt2())
    arrays = dict(zip(net.paths, jax.tree.leaves(net.params), strict=True))
    other = arrays[LAYERS[1]]
    matches = recipes.which(changed(net, LAYERS[0], lambda x: COPIED[name](x, other)))
    assert matches.best is None
    gpt2 = next(match for match in matches.matches if match.name == "gpt2")
    wrong = {one.path for one in gpt2.evidence if not one.agrees}
    assert len(wrong) == 1 and wrong <= set(LAYERS)


def test_a_table_of_matches_is_narrow():
    """The answer comes first, and reasons do not bury it."""
    for name in ("gpt2", "torch_defaults"):
        text = str(recipes.which(drawn(network("transformer"), recipes.get(name))))
        assert max(map(len, text.splitlines())) < 130
        assert len(text.splitlines()) < 50
