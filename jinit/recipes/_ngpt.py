"""The recipe `ngpt` starts normalized transformers: every vector has norm 1."""

from typing import Any, Unpack

from .._core.papers import LOSHCHILOV_2025
from .._initializer.base import Initializer
from .._network.reader.records import Parameter
from .._network.record import Network
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.constant import constant, ones
from .._schemes.transformers import ngpt as _ngpt
from ._language import needs, only_networks, where
from ._recipe import Law, Recipe, Source, recipe
from ._roles import ATTENTION, Roles, kernels, others, role, the_rest

_UNIT = frozenset(("gate", "up"))
_COMPARED = frozenset(("query", "key"))


@recipe(
    use="normalized transformers, whose vectors all have norm 1",
    law="vectors of the model's width on the unit sphere; scale parameters 1 / sqrt(d)",
    sources=(
        Source("NVIDIA/ngpt", "model.py", "ed19eb2"),
        Source("NVIDIA/ngpt", "train.py", "ed19eb2"),
        LOSHCHILOV_2025,
    ),
    roles=(*ATTENTION, "residual_outputs", "embeddings", "readout"),
)
def ngpt(num_layers: int | None = None, **roles: Unpack[Roles]) -> Recipe:
    """Return nGPT's rules: unit vectors along the model's width, in every matrix.

    Embeddings, the readout and kernels that read the stream have vectors of norm 1
    along their inputs, and kernels that write to it along their outputs. The scale
    parameters of queries and keys, of steps and of logits are 1 / sqrt(d), and those of
    the gated unit are 1: the model must multiply each by its effective start over this
    number, as the official code does.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      **roles: patterns of residual_outputs, embeddings, readout and others.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: when the plan is made, if it is made from shapes alone, or if the
        network has no attention, or has norms with scales of another kind.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> def layer(p, x):
      ...     q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
      ...     return x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
      >>> params = dict.fromkeys(("q", "k", "v", "o"), jnp.ones((16, 16)))
      >>> net = jinit.network(layer, params, jnp.ones((2, 5, 16)))
      >>> params = jinit.plan(net, jinit.recipes.ngpt()).init(jax.random.key(0))
      >>> bool(jnp.allclose(jnp.linalg.norm(params["q"], axis=0), 1, atol=1e-6))
      True
      >>> bool(jnp.allclose(jnp.linalg.norm(params["o"], axis=1), 1, atol=1e-6))
      True

    References:
      Loshchilov, Hsieh, Sun and Ginsburg, "nGPT: normalized transformer with
        representation learning on the hypersphere", ICLR 2025.
    """
    size = FromTree(_scale)
    rules = [
        *only_networks("ngpt", "has a special law for kernels that end a branch"),
        *needs("ngpt", "query"),
        *role(roles, "residual_outputs", _along("o")),
        Rule(where("kernels that write to the stream", _writes), _along("o"), True),
        *role(roles, "embeddings", _along("o")),
        *others(roles, (*ATTENTION, "readout"), _along("i")),
        *kernels(_along("i")),
        Rule(where("scales of norms", _of_norms), _refuse_norm, True),
        Rule(where("scales of queries and keys", _scales), size, True),
        Rule(where("scales of gated units", _of_unit), ones, True),
        Rule(where("scales of steps and logits", in_networks.multipliers), size, True),
        *the_rest(),
    ]
    return Recipe(rules, _LAWS)


_LAWS = (
    Law("kernels", "unit vectors along the inputs", "query, key, value, c_fc, lm_head"),
    Law("residual outputs", "unit vectors along the outputs", "the two c_proj"),
    Law("embeddings", "unit rows", "wte"),
    Law("scales of queries and keys", "1 / sqrt(d)", "sqk"),
    Law("scales of steps and logits", "1 / sqrt(d)", "attn_alpha, mlp_alpha and sz"),
    Law("scales of gated units", "1", "suv"),
)


def _along(letter: str) -> Any:
    """Return a function (path, leaf) -> unit vectors along the axes with a letter."""

    def init(path: str, leaf: Any) -> Initializer:
        axes = [i for i, x in enumerate(leaf.layout or "") if x == letter]
        if not axes:
            raise ValueError(
                f"recipes.ngpt draws {path!r} {leaf.shape} as vectors along its "
                f"{'inputs' if letter == 'i' else 'outputs'}, and the network does not "
                f"show these axes: {leaf.reason}. Put a rule for it before the "
                "recipe's."
            )
        return _ngpt(axes[0] if len(axes) == 1 else tuple(axes))

    return init


def _inputs(net: Network, p: Parameter) -> list[Parameter]:
    return [net.parameters[path] for path in p.inputs if path in net.parameters]


def _reads_a_unit(net: Network, p: Parameter) -> bool:
    """Tell whether a parameter reads or scales the output of a gated unit alone.

    A scale may also stand between one of the unit's two layers and their product.
    """
    kernels_before = [x for x in _inputs(net, p) if "matrix" in x.roles]
    return bool(kernels_before) and all(x.roles & _UNIT for x in kernels_before)


def _writes(net: Network) -> Any:
    # A normalized model takes a step towards the output of its branch, which is no
    # residual sum. So the end of a perceptron is recognized by the layers it reads.
    return lambda p: (
        "matrix" in p.roles
        and (
            not p.roles.isdisjoint(("attention_output", "residual_output"))
            or _reads_a_unit(net, p)
        )
    )


def _scales(net: Network) -> Any:
    return lambda p: "scale" in p.roles


def _of_norms(net: Network) -> Any:
    return lambda p: (
        "scale" in p.roles and not any(x.roles & _COMPARED for x in _inputs(net, p))
    )


def _refuse_norm(path: str, leaf: Any) -> Any:
    raise ValueError(
        f"recipes.ngpt is for normalized models, whose norms have no parameters but "
        f"the scales of queries and keys, and {path!r} {leaf.shape} is the scale of "
        "a norm of the stream, as pre-norm models have it. Take another recipe, "
        "such as recipes.llama3, or put a rule for this scale before the recipe's."
    )


def _of_unit(net: Network) -> Any:
    is_multiplier = in_networks.multipliers(net)
    return lambda p: is_multiplier(p) and _reads_a_unit(net, p)


def _scale(model: Model) -> Initializer:
    net: Any = model.network
    queries = [p for p in net.parameters.values() if "query" in p.roles and p.fans]
    width = max((p.fans.fan_in for p in queries), default=1)
    return constant(width**-0.5)
