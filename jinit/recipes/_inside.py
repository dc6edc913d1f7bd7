"""A recipe can be limited to a part of a model."""

from collections.abc import Iterable
from typing import Any

from .._core.patterns import Pattern, PatternLike
from .._plan.rules import Rule, rules_of
from . import _roles

Rules = list[Rule]


def inside(pattern: PatternLike, rules: Iterable[Any]) -> Rules:
    """A recipe for a part of a model: its rules, for the leaves of a pattern only.

    An encoder-decoder model takes a recipe for each stack; the last of them may stand
    for all that is left.

    Args:
      pattern: a glob, a compiled regular expression or a predicate, as in a rule.
      rules: those of a recipe, or any others.

    Raises:
      TypeError: for a pattern or rules that are none.

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
    """
    outer = Pattern.of("`pattern`", pattern)
    return [
        Rule(_roles.both(outer, rule.pattern), rule.init, rule.optional)
        for rule in rules_of(rules)
    ]
