"""Models that recipes draw, for the tests of `recipes.which`."""

import functools
import importlib

import flax.linen as nn
import jax

import jinit
from jinit.recipes._architectures import require
from tests.support.models import Transformer
from tests.support.trees import struct
from tests.support.zoo import every

KEY = jax.random.key(3)
ZOO = every.models()
# The first of these models that a recipe can be applied to is drawn by it.
MODELS = ("transformer", "llama", "residual", *ZOO)
# Other recipes need models of their own: a function that takes layers by name.
RECURRENT = {
    "mamba2", "gated_deltanet", "kda", "griffin", "xlstm", "rwkv7", "hyper_connections",
}  # fmt: skip
TOWERS = {"clip": False, "siglip": True}  # whether the head has a bias


class Residual(nn.Module):
    """A residual network without norms, for Fixup."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(32)(x)
        for _ in range(3):
            x = x + nn.Dense(32)(nn.relu(nn.Dense(64)(x)))
        return nn.Dense(5)(x)


@functools.cache
def network(name):
    """The network of a model, with shapes for arrays."""
    if name == "transformer":
        return of_linen(Transformer(), struct(1, 8, dtype="int32"))
    if name == "residual":
        return of_linen(Residual(), struct(2, 16))
    entry = ZOO[name]()
    return jinit.network(
        entry.model, *entry.arguments, rngs=entry.rngs, **entry.options
    )


def of_linen(model, x):
    return jinit.network(model, jax.eval_shape(model.init, KEY, x), x)


def drawn(net, rules, key=KEY):
    """The same network with parameters that the rules draw."""
    return net.replace(jinit.plan(net, rules, allow_unused=True).init(key))


def changed(net, path, function):
    """The same network with one parameter changed."""
    paths, leaves = net.paths, jax.tree.leaves(net.params)
    assert path in paths
    leaves = [
        function(x) if p == path else x for p, x in zip(paths, leaves, strict=True)
    ]
    return net.replace(jax.tree.unflatten(jax.tree.structure(net.params), leaves))


def first_suitable(recipe):
    """The first model that a recipe has laws for."""
    if recipe.name in RECURRENT:
        architectures = importlib.import_module("tests.support.recurrent.architectures")
        libraries = importlib.import_module("tests.support.recurrent.libraries")
        architecture = getattr(architectures, recipe.name)
        net = libraries.network_of(architecture, "linen", architectures.IDS)
        return drawn(net, recipe)
    if recipe.name in TOWERS:
        # These recipes are for heads; the towers are somebody else's.
        models = importlib.import_module("tests.support.vision_models")
        libraries = importlib.import_module("tests.support.in_libraries")
        tower = functools.partial(models.towers, has_bias=TOWERS[recipe.name])
        inputs = struct(3, 6), struct(3, 5)
        net = jinit.network(*libraries.in_linen(tower, *inputs))
        return drawn(net, [*recipe, ("@bias", jinit.zeros), ("**", jinit.he())])
    for name in MODELS:
        try:
            require(recipe.name, network(name))
            return drawn(network(name), recipe)
        except (TypeError, ValueError):
            continue
    raise AssertionError(f"no model of the zoo suits {recipe!r}")
