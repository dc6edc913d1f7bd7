"""The recipe `nanochat` starts language models as karpathy/nanochat does."""

import math
from typing import Any, Unpack

import numpy as np

from .._initializer.base import Initializer
from .._network.reader.records import Parameter
from .._network.record import Network
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.constant import constant, zeros
from .._schemes.distributions import normal, uniform
from .._schemes.fan_based import lecun
from ._language import needs, only_networks, where
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe
from ._roles import ATTENTION, Roles, kernels, others, role, the_rest


@recipe(
    use="nanochat, as of its speedruns in 2026",
    law=(
        "q, k, v U with std 1 / sqrt(d), up 0.4 of it; branch ends 0; embeddings "
        "N(0, 0.8^2); readout N(0, 0.001^2)"
    ),
    sources=(Source("karpathy/nanochat", "nanochat/gpt.py", "92d63d4"),),
    roles=(*ATTENTION, "residual_outputs", "embeddings", "readout"),
)
def nanochat(num_layers: int | None = None, **roles: Unpack[Roles]) -> Recipe:
    """Return nanochat's rules: uniform kernels, branch ends 0, and a tiny readout.

    Since all branches end in 0 and the readout has std 0.001, the first loss is the
    logarithm of the vocabulary's size. The extras of the model are read from the
    equations: tables of values, gates that read a part of the stream, and the vectors
    with a factor of the stream, and of the embedding, for each layer. A model without
    such extras needs none of their laws.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here:
        the vectors show it.
      **roles: patterns of query, key, value, residual_outputs, embeddings and readout.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: when the plan is made, if it is made from shapes alone, or if the
        network has no attention or no residual branches.

    Example:
      >>> import jax, jinit
      >>> def layer(p, x):
      ...     q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
      ...     x = x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
      ...     return x + jax.nn.relu(x @ p["up"]) ** 2 @ p["down"]
      >>> params = dict.fromkeys(("q", "k", "v", "o"), jax.numpy.ones((16, 16)))
      >>> params |= {"up": jax.numpy.ones((16, 64)), "down": jax.numpy.ones((64, 16))}
      >>> net = jinit.network(layer, params, jax.numpy.ones((2, 5, 16)))
      >>> rows = jinit.plan(net, jinit.recipes.nanochat()).rows
      >>> {row["path"]: round(row["std"], 3) for row in rows}
      {'down': 0.0, 'k': 0.25, 'o': 0.0, 'q': 0.25, 'up': 0.1, 'v': 0.25}
    """
    plain = lecun(distribution="uniform")
    rules = [
        *only_networks("nanochat", "has special laws for queries and gates"),
        *needs("nanochat", "query", "residual_output"),
        *role(roles, "residual_outputs", zeros, note="residual outputs at 0"),
        *role(roles, "readout", normal(0.001)),
        Rule(where("tables of values", _values), FromTree(_value_table), optional=True),
        *role(roles, "embeddings", normal(0.8)),
        *others(roles, ATTENTION, plain),
        Rule(
            where("kernels of queries, keys and values", _reads_of_attention),
            plain,
            optional=True,
        ),
        Rule(
            where("gates that read a part of the stream", _gates),
            uniform(0.02),
            optional=True,
        ),
        Rule(
            where("factors of the stream", _factors(True)),
            _falling(1.15, 0.10),
            optional=True,
        ),
        Rule(
            where("factors of the embedding", _factors(False)),
            _falling(0.20, 0.15),
            optional=True,
        ),
        Rule(where("the factor of the smear", _smear), zeros, optional=True),
        Rule(
            where("the factor of the backout", _backout), constant(0.2), optional=True
        ),
        *kernels(0.4 * plain),
        *the_rest(),
    ]
    return Recipe(rules, _LAWS)


_LAWS = (
    Law("residual outputs", "0", "c_proj of attention and MLP"),
    Law("query, key, value", "U(+-sqrt(3 / d))", "c_q, c_k, c_v"),
    Law("kernels", "U(+-0.4 sqrt(3 / d))", "c_fc"),
    Law("embeddings", "N(0, 0.8^2)", "wte"),
    Law("readout", "N(0, 0.001^2)", "lm_head"),
    Law("tables of values", "U(+-sqrt(3 / d))", "value_embeds"),
    Law("gates", "U(0, 0.02)", "ve_gate and smear_gate, which read a part of x"),
    Law("factors of the stream", "1.15 - 0.10 l / (L - 1)", "resid_lambdas"),
    Law("factors of the embedding", "0.20 - 0.15 l / (L - 1)", "x0_lambdas"),
    Law("other factors", "0 and 0.2", "smear_lambda and backout_lambda"),
    *NORMS_AND_BIASES,
)


def _values(_net: Network) -> Any:
    return lambda p: {"embedding", "value"} <= p.roles


def _reads_of_attention(_net: Network) -> Any:
    return lambda p: "matrix" in p.roles and not p.roles.isdisjoint(ATTENTION)


def _width(net: Network) -> int:
    """Return the width of the stream: the inputs of a query."""
    queries = [p for p in net.parameters.values() if "query" in p.roles and p.fans]
    return max((p.fans.fan_in for p in queries if p.fans), default=0)


def _value_table(model: Model) -> Initializer:
    net: Any = model.network
    # The tables of values have the law of c_v, whatever their own width is.
    return lecun(distribution="uniform", fan_in=_width(net))


def _gates(net: Network) -> Any:
    """Tell which kernels read a part of the stream, and end no branch."""
    width = _width(net)
    others = {"residual_output", "readout", *ATTENTION}
    return lambda p: (
        "matrix" in p.roles
        and p.roles.isdisjoint(others)
        and p.fans is not None
        and p.fans.fan_in < width
    )


def _multipliers(net: Network) -> list[Parameter]:
    passes = in_networks.multipliers(net)
    return [p for p in net.parameters.values() if passes(p)]


def _follows_a_branch(net: Network, p: Parameter) -> bool:
    roles = [net.parameters[x].roles for x in p.inputs if x in net.parameters]
    return any("residual_output" in known for known in roles)


def _factors(of_stream: bool) -> Any:
    """Return the test for the vectors with a factor of each layer.

    They multiply the stream, which branches have been added to, or the embedding.
    """

    def test(net: Network) -> Any:
        several = {
            p.path
            for p in _multipliers(net)
            if p.ndim == 1 and p.size > 1 and _follows_a_branch(net, p) is of_stream
        }
        return lambda p: p.path in several

    return test


def _smear(net: Network) -> Any:
    """Tell which number multiplies a gate, and nothing else."""
    gates = _gates(net)

    def test(p: Parameter) -> bool:
        inputs = [net.parameters.get(path) for path in p.inputs]
        return _is_number(net, p) and all(x is not None and gates(x) for x in inputs)

    return test


def _backout(net: Network) -> Any:
    """Tell which number multiplies the stream of an earlier layer.

    A model without a vector of factors may have a number for each layer instead, so
    that a single number would mean something else.
    """
    numbers = [
        p.path
        for p in _multipliers(net)
        if _is_number(net, p) and _follows_a_branch(net, p)
    ]
    vectors = [p for p in _multipliers(net) if p.ndim == 1 and p.size > 1]
    return lambda p: bool(vectors) and len(numbers) == 1 and p.path in numbers


def _is_number(net: Network, p: Parameter) -> bool:
    return p.size == 1 and bool(p.inputs) and in_networks.multipliers(net)(p)


def _falling(first: float, by: float) -> Any:
    """Return a function (path, leaf) -> values that fall evenly over the layers."""

    def values(_path: str, leaf: Any) -> Initializer:
        last = max(math.prod(leaf.shape) - 1, 1)
        return constant(first - by * np.arange(math.prod(leaf.shape)) / last)

    return values
