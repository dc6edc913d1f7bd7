"""Rules: which initializer each leaf of a tree gets."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .._core import patterns
from .._core.patterns import Pattern, PatternLike
from .._core.trees import Leaf, listed
from .._initializer.foreign import is_initializer
from .._initializer.maker import check_called


class Keep:
    """The right side of a rule: these leaves stay as they are.

    Example:
      >>> import jinit
      >>> jinit.Rule("**/BatchNorm_*/**", jinit.keep)
      Rule(pattern='**/BatchNorm_*/**', init=jinit.keep, optional=False)
    """

    def __repr__(self) -> str:
        return "jinit.keep"

    def __reduce__(self) -> str:
        return "keep"


keep = Keep()


class Rule(NamedTuple):
    """A pattern, and what the leaves that it matches get; the first match wins.

    Plain pairs `(pattern, init)` are rules too.

    Args:
      pattern: a glob over the path, whose parts are joined by "/": `*` stands for any
        text within one part, `**` for any number of parts, zero too; or a compiled
        regular expression, searched for in the path; or a predicate `(path, leaf) ->
        bool`; or a sequence of these, which matches what any of them matches.
      init: an initializer; or a function `(path, leaf) -> initializer`; or
        `jinit.keep`. What takes a key, or three arguments, is an initializer.
      optional: whether the rule may match nothing.

    Example:
      >>> import jinit
      >>> jinit.Rule("**/Dense_*/kernel", jinit.he())
      Rule(pattern='**/Dense_*/kernel', init=jinit.he(), optional=False)
    """

    pattern: PatternLike
    init: Any
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class OfTree:
    """A side of a rule that looks at the whole tree: a bias at its kernel.

    `function(leaves)` returns, on the right side, a function `(path, leaf) ->
    initializer`; on the left side, a predicate.
    """

    function: Callable[[list[Leaf]], Callable[[str, Any], Any]]

    def __call__(self, path: str, leaf: Any) -> Any:
        return self.function([])(path, leaf)


def within(rules: Iterable[Rule], leaves: list[Leaf]) -> tuple[Rule, ...]:
    """Return the rules, those of their sides that look at the tree bound to it."""

    def bound(side: Any) -> Any:
        return side.function(leaves) if isinstance(side, OfTree) else side

    return tuple(
        Rule(
            tuple(map(bound, patterns.several(rule.pattern))),
            bound(rule.init),
            rule.optional,
        )
        for rule in rules
    )


def rules_of(rules: Any) -> tuple[Rule, ...]:
    """What a user passed as rules, checked."""
    if isinstance(rules, str | Mapping) or not isinstance(rules, Iterable):
        raise TypeError(
            f"`rules` is {rules!r}; it must be a sequence of pairs (pattern, "
            "initializer), such as [('**/kernel', jinit.he()), ('**', jinit.zeros)]."
        )
    return tuple(_rule(index, rule) for index, rule in enumerate(rules))


def _rule(index: int, given: Any) -> Rule:
    if not isinstance(given, Sequence) or isinstance(given, str):
        given = (given,)
    if len(given) not in (2, 3):
        raise TypeError(
            f"rule {index} is {given!r}; it must be a pair (pattern, initializer)."
        )
    rule = Rule(*given)
    Pattern.of(f"the pattern of rule {index}", rule.pattern)
    if not (rule.init is keep or callable(rule.init)):
        raise TypeError(
            f"rule {index} gives {patterns.spell(rule.pattern)} {rule.init!r}, of type "
            f"{type(rule.init).__name__}; it must give an initializer, a function "
            "(path, leaf) -> initializer, or jinit.keep."
        )
    check_called(f"what rule {index} gives {patterns.spell(rule.pattern)}", rule.init)
    return rule


def choose(
    rules: tuple[Rule, ...], leaves: list[Leaf], allow_unused: bool
) -> list[Rule]:
    """The first rule that matches, for each leaf.

    Raises:
      ValueError: for leaves without a rule, and rules without a leaf.
    """
    selections = [Pattern(patterns.several(rule.pattern)) for rule in rules]
    hits = [
        [rule for rule, pattern in zip(rules, selections, strict=True)
         if pattern.matches(leaf)]
        for leaf in leaves
    ]  # fmt: skip
    unmatched = [leaf for leaf, here in zip(leaves, hits, strict=True) if not here]
    if unmatched:
        raise ValueError(
            f"{len(unmatched)} of {len(leaves)} leaves match no rule:"
            f"{listed(unmatched)}\nThe patterns are:"
            f"{listed(selections) or ' none.'}\n"
            "Add a rule for each; ('**', jinit.keep) at the end keeps what is left."
        )
    if not allow_unused:
        for rule, pattern in zip(rules, selections, strict=True):
            if not rule.optional:
                pattern.check_used(leaves, "pass allow_unused=True to plan")
                _check_not_shadowed(rule, hits)
    return [here[0] for here in hits]


def _check_not_shadowed(rule: Rule, hits: list[list[Rule]]) -> None:
    # By identity, since two rules may be equal.
    matched = [here for here in hits if any(other is rule for other in here)]
    if any(here[0] is rule for here in matched):
        return
    takers = {id(here[0]): patterns.spell(here[0].pattern) for here in matched}
    raise ValueError(
        f"the rule {patterns.spell(rule.pattern)} is shadowed: all {len(matched)} "
        f"leaves that it matches go to {' and '.join(takers.values())}, before it. "
        "The first match wins: put the narrower rule first, or remove it."
    )


def resolve(rule: Rule, leaf: Leaf) -> Any:
    """The initializer, or `keep`, that a rule gives to a leaf."""
    init = rule.init
    if init is not keep and not is_initializer(init):
        try:
            init = init(leaf.path, leaf.value)
        except Exception as error:
            pattern = patterns.spell(rule.pattern)
            error.add_note(f"In the function of the rule {pattern}, for {leaf}.")
            raise
        given = f"what the function of the rule {patterns.spell(rule.pattern)} gives"
        check_called(given, init)
    if init is keep or (callable(init) and is_initializer(init)):
        return init
    raise TypeError(
        f"the rule {patterns.spell(rule.pattern)} gives {init!r} for {leaf}; its "
        "function of (path, leaf) must return an initializer, or jinit.keep."
    )
