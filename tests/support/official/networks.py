"""The networks of the examples, and the table of all proofs."""

import functools
from collections.abc import Callable
from typing import Any

import jax

import jinit
from tests.support import language_models, llamas, vision_models
from tests.support.in_libraries import in_linen
from tests.support.models import Transformer
from tests.support.networks import tokens
from tests.support.official.facts import Proof
from tests.support.official.language import LANGUAGE
from tests.support.official.recurrent import RECURRENT
from tests.support.official.vision import VISION
from tests.support.recurrent import architectures
from tests.support.recurrent.libraries import network_of
from tests.support.trees import struct

PROOFS: dict[str, Proof] = {**LANGUAGE, **VISION, **RECURRENT}
IMAGE, TIME, LABEL = struct(2, 8, 8, 3), struct(2), struct(2, dtype="int32")
PAIR = (struct(3, 6), struct(3, 5))


def _linen(model: Any, *inputs: Any) -> jinit.Network:
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return jinit.network(model, shapes, *inputs)


def _residual(layers: Any, x: Any) -> Any:
    """Two branches of two layers without norms, each behind a multiplier."""
    x = layers.linear("stem", 12, 16)(x)
    for i in range(2):
        y = jax.nn.relu(layers.linear(f"begin{i}", 16, 16)(x))
        y = layers.linear(f"end{i}", 16, 16)(y)
        x = jax.nn.relu(x + y * layers.parameter(f"multiplier{i}", ()))
    return layers.linear("head", 16, 5)(x)


def _image(architecture: Any, *inputs: Any) -> jinit.Network:
    return jinit.network(*in_linen(architecture, *inputs))


def _recurrent(name: str) -> jinit.Network:
    net: jinit.Network = network_of(
        getattr(architectures, name), "plain", architectures.IDS
    )
    return net


def _chat() -> jinit.Network:
    shapes = language_models.chat_params()
    return jinit.network(language_models.chat, shapes, tokens(2, 5))


NETWORKS: dict[str, Callable[[], jinit.Network]] = {
    "chat": _chat,
    "llama": llamas.in_linen,
    "mixture": language_models.mixture_of_experts,
    "ngpt": language_models.normalized_network,
    "transformer": lambda: _linen(Transformer(), struct(1, 8, dtype="int32")),
    "dit": lambda: _image(vision_models.dit, IMAGE, TIME, LABEL),
    "residual": lambda: _image(_residual, struct(3, 12)),
    "resnet": lambda: _image(vision_models.bottlenecks, IMAGE),
    "towers": lambda: _image(vision_models.towers, *PAIR),
    "towers without a bias": lambda: _image(
        functools.partial(vision_models.towers, has_bias=False), *PAIR
    ),
    "unet": lambda: _image(vision_models.unet, IMAGE, TIME, LABEL),
    "vit": lambda: _image(vision_models.vit, IMAGE),
    **{name: functools.partial(_recurrent, name) for name in RECURRENT},
}


@functools.cache
def network(name: str) -> jinit.Network:
    """Return a network of an example, which is read once."""
    with jax.numpy_rank_promotion("allow"):
        return NETWORKS[name]()


@functools.cache
def leaves(name: str) -> dict[str, Any]:
    """Return the leaves of the plan of a recipe on its example, by path."""
    proof = PROOFS[name]
    rules: list[Any] = [*jinit.recipes.get(name, **proof.settings)]
    if proof.network.startswith("towers"):
        rules += [("@bias", jinit.zeros), ("**", jinit.lecun())]
    with jax.numpy_rank_promotion("allow"):
        plan = jinit.plan(network(proof.network), rules)
    stds = {row["path"]: row["std"] for row in plan.rows}
    return {leaf.path: (leaf, stds[leaf.path]) for leaf in plan.leaves}
