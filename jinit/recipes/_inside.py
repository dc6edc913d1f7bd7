"""`inside` limits the rules of a recipe to one part of a model."""

from collections.abc import Iterable
from typing import Any

from .._core.patterns import Pattern, PatternLike
from .._plan.rules import FromTree, Rule, rules_of
from ._roles import Rules, both


def inside(pattern: PatternLike, rules: Iterable[Any]) -> Rules:
    """Limit the rules of a recipe to the leaves that a pattern matches.

    An encoder-decoder model needs a recipe for each stack. The last recipe need not be
    limited: it gets all leaves that the recipes before it do not match.

    Args:
      pattern: a pattern as in a rule.
      rules: the rules of a recipe, or any others.

    Returns:
      A list of rules that match the leaves that both patterns match.

    Raises:
      TypeError: if `pattern` is not a pattern, or `rules` is not a sequence of rules.

    Example:
      >>> import jax, jinit
      >>> kernel = {"up": {"kernel": jax.numpy.ones((64, 64))}}
      >>> rules = [
      ...     *jinit.recipes.inside(
      ...         "**/encoder/**",
      ...         jinit.recipes.deepnorm(6, part="encoder", other_layers=2),
      ...     ),
      ...     *jinit.recipes.deepnorm(2, part="decoder", other_layers=6),
      ... ]
      >>> plan = jinit.plan({"encoder": kernel, "decoder": kernel}, rules)
      >>> {row["path"]: round(8 * row["std"], 6) for row in plan.rows}
      {'decoder/up/kernel': 0.451801, 'encoder/up/kernel': 0.532313}

      In the plan of a network the numbers of layers are read, those of a decoder by its
      cross-attentions:

      >>> rules = [
      ...     *jinit.recipes.inside("enc/**", jinit.recipes.deepnorm(part="encoder")),
      ...     *jinit.recipes.deepnorm(part="decoder"),
      ... ]
    """
    outer = Pattern.of("`pattern`", pattern)
    return [
        Rule(both(outer, rule.pattern), _limited(outer, rule.init), rule.optional)
        for rule in rules_of(rules)
    ]


def _limited(outer: Pattern, init: Any) -> Any:
    """Let a law that depends on the depth count the layers of the part alone."""
    if not isinstance(init, FromTree):
        return init
    return FromTree(lambda model: init.function(model.inside(outer)))
