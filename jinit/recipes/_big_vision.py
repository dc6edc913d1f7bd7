"""The recipe `big_vision_vit` starts vision transformers as big_vision does."""

from collections.abc import Callable
from typing import Any, Unpack

from .._core import checks
from .._core.papers import BEYER_2022, DOSOVITSKIY_2021
from .._initializer.base import Initializer
from .._network import branches
from .._network.branches import Paths
from .._network.flax_names import FUSED, KEY, OUT_OF_HEADS, QUERY, VALUE
from .._network.reader.records import Parameter
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.constant import zeros
from .._schemes.distributions import normal
from .._schemes.embedding import embedding
from .._schemes.fan_based import lecun, xavier
from ._laws_of_torch import LawsOfTorch
from ._layouts import module, not_fused, with_layout
from ._needs import Need, needs
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe
from ._roles import Roles, in_role, kernels, others, role, the_rest


@recipe(
    use="vision transformers, as Google's big_vision starts them",
    law="Xavier uniform in the blocks; positions N(0, 1 / d); head 0",
    sources=(
        Source("google-research/big_vision", "big_vision/models/vit.py", "0127fb6"),
        Source(
            "google-research/big_vision",
            "big_vision/configs/proj/image_text/siglip_lit_coco.py",
            "0127fb6",
        ),
        BEYER_2022,
        DOSOVITSKIY_2021,
    ),
    roles=("positions", "embeddings", "readout"),
)
def big_vision_vit(
    num_layers: int | None = None,
    *,
    zero_head: bool = True,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return the rules of big_vision's vision transformers: Xavier uniform in blocks.

    Kernels of attention and MLPs have variance 2 / (fan_in + fan_out), and the biases
    of MLPs are N(0, 1e-6^2). Learned positions are N(0, 1 / d), a class token is 0, and
    the probe of an attention pooling is Xavier-uniform with variance 2 / (1 + d). The
    convolution of the patches, and other layers outside of the blocks, have Flax's
    default: variance 1 / fan_in, normal and truncated at 2 std. The head is 0.

    The two towers of SigLIP have the same blocks, and the table of tokens is
    N(0, 1 / d). Their heads make embeddings that are divided by their norms, and 0
    would give 0 / 0, so these have Flax's default, too: in big_vision the text tower
    always, and the image tower by head_zeroinit=False of its configuration. A network
    shows them where it has a temperature or a bias of contrastive logits. For a model
    that hands these numbers out to a loss pass zero_head=False.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      zero_head: whether the head of a classifier is 0; else it has Flax's default.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
      **roles: patterns of positions, embeddings and readout (the head).

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      ValueError: in `plan`, if a network has no residual branch.

    Example:
      >>> import jax.numpy as jnp, jinit
      >>> def model(p, x):
      ...     x = x.reshape(2, -1) @ p["patches"] + p["positions"]
      ...     x = x + jnp.tanh(x @ p["up"]) @ p["down"]
      ...     return x.mean(axis=0) @ p["head"]
      >>> ones = jnp.ones
      >>> params = {"patches": ones((16, 4)), "positions": ones((2, 4))}
      >>> params |= {"up": ones((4, 12)), "down": ones((12, 4)), "head": ones((4, 3))}
      >>> net = jinit.network(model, params, ones((2, 4, 4)))
      >>> rows = jinit.plan(net, jinit.recipes.big_vision_vit()).rows
      >>> {row["path"]: round(row["std"] ** 2, 6) for row in rows}
      {'down': 0.125, 'head': 0.0, 'patches': 0.0625, 'positions': 0.25, 'up': 0.125}

    References:
      Beyer, Zhai and Kolesnikov, "Better plain ViT baselines for ImageNet-1k", arXiv
        2022.
      Dosovitskiy et al., "An image is worth 16x16 words: transformers for image
        recognition at scale", ICLR 2021.
    """
    checks.boolean("zero_head", zero_head)
    flax_default = with_layout(
        lecun, stacked, None, num_layers, distribution="truncated_normal"
    )
    head = zeros if zero_head else flax_default
    laws = [
        Law("kernels", "U, variance 2 / (fan_in + fan_out)", "attention and MLP"),
        Law("other kernels", "TN(0, 1 / fan_in)", "patches and pre-logits"),
        Law("readout", "0" if zero_head else "TN(0, 1 / fan_in)", "the head"),
        Law("projections", "TN(0, 1 / fan_in)", "heads of two contrastive towers"),
        Law("positions", "N(0, 1 / d)", "the table of learned positions"),
        Law("class tokens", "0", "the vector before the patches"),
        Law("probes", "U, variance 2 / (1 + d)", "the query of an attention pooling"),
        Law("embeddings", "N(0, 1 / d)", "the tokens of a text tower"),
        Law("biases of MLPs", "N(0, 1e-6^2)", "both layers"),
        *NORMS_AND_BIASES,
    ]
    rules = [
        *needs("big_vision_vit", roles, _BRANCH, by_names=True),
        *role(roles, "positions", _by_width(lambda d: normal(d**-0.5))),
        Rule(in_role("probes"), _by_width(_probe), optional=True),
        Rule(in_role("class_tokens"), zeros, optional=True),
        *role(roles, "embeddings", embedding()),
        *others(roles, ("readout",), head),
        Rule(in_role("projections"), flax_default, optional=True),
        Rule(in_role("heads"), head, optional=True),
        Rule(in_role("attends_or_branches"), _xavier(stacked, num_layers), True),
        *kernels(flax_default),
        Rule(_biases_of_perceptrons(), normal(1e-6), optional=True),
        *the_rest(),
    ]
    return Recipe(rules, laws)


_BRANCH = Need("residual branch", in_networks.in_branches)
_ATTENTION = frozenset(("query", "key", "value"))


def _by_width(make: Callable[[int], Initializer]) -> Callable[[str, Any], Initializer]:
    """Return a function that makes the law of vectors of one width."""
    return lambda _path, leaf: make(leaf.shape[-1])


def _probe(width: int) -> Initializer:
    # JAX counts the fans of the shape (1, 1, d) as 1 and d.
    return xavier(distribution="uniform", fan_in=1, fan_out=width)


def _xavier(stacked: bool, num_layers: int | None) -> FromTree:
    by_names = not_fused(
        with_layout(xavier, stacked, None, num_layers, distribution="uniform")
    )

    def of(model: Model) -> Any:
        return in_network if model.network is not None else by_names.function(model)

    return FromTree(of)


def in_network(path: str, p: Parameter) -> Initializer:
    """Return Xavier's law of a kernel; a fused one counts the outputs of each part.

    Raises:
      ValueError: if a kernel holds queries and others of several widths.
    """
    parts = len(p.roles & _ATTENTION)
    if parts < 2 or p.fans is None:
        return xavier(distribution="uniform")
    if p.fans.fan_out % parts:
        raise ValueError(
            f"the kernel at {path!r} holds {' and '.join(sorted(p.roles & _ATTENTION))}"
            f" in {p.fans.fan_out} outputs, which are not {parts} equal parts. "
            "big_vision draws each by its own fans: put a rule for it before the "
            "recipe's, such as jinit.blocks([query, key, value])."
        )
    fan_in, fan_out = p.fans
    return xavier(distribution="uniform", fan_in=fan_in, fan_out=fan_out // parts)


def _biases_of_perceptrons() -> FromTree:
    """Return the pattern of the biases of MLPs, by the network or by names."""

    def of(model: Model) -> Any:
        if model.network is not None:
            return Paths("biases of MLPs, as the network says", _biases(model))
        inside = branches.in_branches(model.leaves).paths
        paths = {
            leaf.path
            for leaf in model.leaves
            if leaf.parts[-1:] == ("bias",)
            and leaf.path.removesuffix("bias") + "kernel" in inside
            and not any(module(leaf.path) in names for names in _NAMES)
        }
        return Paths("biases of MLPs, by their names", frozenset(paths))

    return FromTree(of)


_NAMES = (QUERY, KEY, VALUE, FUSED, OUT_OF_HEADS)


def _biases(model: Model) -> frozenset[str]:
    network: Any = model.network
    laws, inside = LawsOfTorch(network), in_networks.perceptrons(network)
    layers = {
        p.path: laws.layer_of(p)
        for p in network.parameters.values()
        if "bias" in p.roles
    }
    return frozenset(
        path for path, layer in layers.items() if layer is not None and inside(layer)
    )
