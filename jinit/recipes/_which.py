"""`which` names the recipe that a model's parameters look like."""

from collections.abc import Sequence
from typing import Any

from .._network.calling import network_of
from .._network.record import Network
from .._probe.audit.audited import audited
from ._agreement import Arrays
from ._architectures import require
from ._candidates import Applied, applied, tried
from ._matches import Match, Matches
from ._recipe import names


def which(
    model: Any,
    *arguments: Any,
    rngs: Any = None,
    **options: Any,
) -> Matches:
    """Rank the known recipes by how well a model's parameters agree with their laws.

    Each recipe is applied to the network, with those of its settings that the model
    does not show. Each parameter is compared with the law that the recipe gives it: its
    zeros, ones and other fixed values; the std, the mean, the kurtosis and the bounds
    of its entries. A std of n normal draws has the error std / sqrt(2 n), and the limit
    rejects the recipe that drew the model for one key in ten thousand. A recipe is
    named only if all parameters agree, so that trained weights, and weights that a
    recipe drew and a user changed, look like none of them. It is for an architecture:
    `gpt2` is named only for a model with attention, whatever its numbers are.

    Args:
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`.
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      A `Matches`: print it, look at its `best` name, iterate over its names, the best
      first, or read its `rows`.

    Raises:
      TypeError: as for `jinit.network`, or if the model holds shapes without numbers.
      ValueError: as for `jinit.network`, or if the model has no parameters.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> def layer(p, x):
      ...     q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
      ...     x = x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
      ...     return x + jax.nn.relu(x @ p["up"]) @ p["down"]
      >>> params = dict.fromkeys(("q", "k", "v", "o"), jnp.ones((32, 32)))
      >>> params |= {"up": jnp.ones((32, 128)), "down": jnp.ones((128, 32))}
      >>> net = jinit.network(layer, params, jnp.ones((2, 5, 32)))
      >>> plan = jinit.plan(net, jinit.recipes.gpt2(std=0.01))
      >>> drawn = net.replace(plan.init(jax.random.key(0)))
      >>> matches = jinit.recipes.which(drawn)
      >>> matches.best, matches.matches[0].recipe
      ('gpt2', recipes.gpt2(num_layers=None, std=0.01))
      >>> he = jinit.plan(net, [("**", jinit.he())])
      >>> print(jinit.recipes.which(net.replace(he.init(jax.random.key(0)))).best)
      None
    """
    net = network_of(
        model, arguments, rngs, options, "recipes.which", needs_inputs=False
    )
    everything = audited(net)
    arrays = Arrays(everything)
    several, reasons = [], {}
    for name in names():
        try:
            several.append(_best_of(name, net, arrays))
        except (TypeError, ValueError) as error:
            reasons[name] = " ".join(str(error).split())
    ranked = sorted(several, key=_rank)
    laws = {path: one.judged.text for path, one in everything.items()}
    return Matches(tuple(_with_ties(ranked)), reasons, laws)


def _best_of(name: str, net: Network, arrays: Arrays) -> Applied:
    """Apply a recipe with each of its settings, and return the one that fits best.

    Raises:
      TypeError: if the model does not show a setting that the recipe needs.
      ValueError: if the model has another architecture, or if no settings let the
        recipe apply to it.
    """
    require(name, net)
    several: list[Applied] = []
    refusal: Exception | None = None
    for recipe in tried(name, net, arrays, several):
        try:
            several.append(applied(recipe(), net, arrays))
        except (TypeError, ValueError) as error:
            # The first error is about the default settings, so it is the plainest one.
            refusal = refusal or error
    if not several:
        assert refusal is not None
        raise refusal
    return min(several, key=_rank)


def _rank(one: Applied) -> tuple[bool, float, float, int]:
    match = one.match
    # If several recipes have equal laws on this model, the one with the fewest laws
    # comes first: others have laws for parts that the model lacks, such as routers.
    return not match.agrees, -match.share, -match.score, len(match.recipe.laws)


def _with_ties(ranked: Sequence[Applied]) -> list[Match]:
    """Return the matches; those that agree name the recipes with equal laws."""
    laws = {one.match.name: one.laws() for one in ranked if one.match.agrees}
    return [
        one.match._replace(
            equal_to=tuple(
                name
                for name, others in laws.items()
                if name != one.match.name and others == laws.get(one.match.name)
            )
        )
        for one in ranked
    ]
