"""Each recipe is for an architecture, and `which` names it for no other model.

An MLP whose kernels are N(0, 0.02^2) has the law of Qwen 3 in all its parameters, and
is no Qwen 3.
"""

from collections.abc import Callable
from typing import NamedTuple

from .._network.record import Network
from .._plan import network_roles as in_networks
from .._plan import recurrent_roles as recurrent
from .._plan.network_roles import Test


class Part(NamedTuple):
    """A Part is what models of an architecture have: its words, and its test."""

    words: str
    is_in: Callable[[Network], bool]


def require(name: str, net: Network) -> None:
    """Raise if a model lacks a part of the architecture that a recipe is for.

    Raises:
      ValueError: if so; all parts that are missing are named.
    """
    parts = PARTS.get(name, ())
    absent = [part.words for part in parts if not part.is_in(net)]
    if absent:
        raise ValueError(
            f"recipes.{name} is for models that have "
            f"{' and '.join(part.words for part in parts)}, and the network "
            f"shows no {' and no '.join(words.split(' ', 1)[1] for words in absent)}."
        )


def _any(net: Network, test: Test) -> bool:
    return any(map(test, net.parameters.values()))


def _has(*roles: str) -> Callable[[Network], bool]:
    """Return a test of networks: each of the roles is that of some parameter."""

    def is_in(net: Network) -> bool:
        return all(_any(net, in_networks.has(role)(net)) for role in roles)

    return is_in


def _reads_images(net: Network) -> bool:
    """Tell whether a network reads patches, by a convolution or beside positions.

    A language model has a table of positions, too, and beside it one of tokens.
    """
    if _any(net, in_networks.has("convolution")(net)):
        return True
    has_tokens = _any(net, in_networks.embeddings(net))
    return not has_tokens and _any(net, in_networks.positions(net))


def _sizes(net: Network, *tests: Test) -> list[int]:
    return [sum(p.size for p in net.parameters.values() if test(p)) for test in tests]


def _has_steps_of_channels(net: Network) -> bool:
    steps, decays = _sizes(net, recurrent.step_biases(net), recurrent.log_decays(net))
    return steps > decays


def _has_steps_of_heads(net: Network) -> bool:
    return not _has_steps_of_channels(net)


_ATTENTION = Part("an attention", _has("query", "key"))
_GATED = Part("a gated unit", _has("gate", "up"))
_BRANCHES = Part("a residual branch", lambda net: bool(net.branches))
_PATCHES = Part("a convolution or a table of positions for patches", _reads_images)
_CHANNELS = Part("a step of time for each channel", _has_steps_of_channels)
_HEADS = Part("a step of time for each head", _has_steps_of_heads)

# The parts that a recipe needs; () where its own rules refuse other models, as those of
# recurrent models do, or where it is for any network.
PARTS: dict[str, tuple[Part, ...]] = {
    "big_vision_vit": (_ATTENTION, _PATCHES),
    "clip": (),
    "deepnorm": (_ATTENTION, _BRANCHES),
    "deepseek_v3": (_ATTENTION, _GATED),
    "dit": (),
    "fixup": (_BRANCHES,),
    "from_hf_config": (),
    "full_megatron": (_ATTENTION, _BRANCHES),
    "gated_deltanet": (_HEADS,),
    "gpt2": (_ATTENTION, _BRANCHES),
    "griffin": (),
    "hyper_connections": (),
    "kda": (_CHANNELS,),
    "llama3": (_ATTENTION, _GATED),
    "mamba2": (),
    "nanochat": (_ATTENTION,),
    "ngpt": (_ATTENTION,),
    "olmo": (_ATTENTION, _GATED),
    "qwen3": (_ATTENTION, _GATED),
    "resnet": (_BRANCHES,),
    "rwkv7": (),
    "siglip": (),
    "small_init": (_ATTENTION, _BRANCHES),
    "t5": (_ATTENTION,),
    "t_fixup": (_ATTENTION, _BRANCHES),
    "torch_defaults": (),
    "unet": (),
    "vit": (_ATTENTION, _PATCHES),
    "xlstm": (),
}
