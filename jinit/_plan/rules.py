"""A rule says which initializer the leaves that match a pattern get."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .._core import patterns
from .._core.patterns import Pattern, PatternLike
from .._core.trees import Leaf, listed
from .._initializer.foreign import is_initializer
from .._initializer.maker import check_called


class Keep:
    """`jinit.keep` stands in a rule for "these leaves stay as they are".

    Example:
      >>> import jinit
      >>> jinit.Rule("**/BatchNorm_*/**", jinit.keep)
      Rule(pattern='**/BatchNorm_*/**', init=jinit.keep, optional=False)
    """

    def __repr__(self) -> str:
        return "jinit.keep"

    def __reduce__(self) -> str:
        # Pickled by its name, so that `init is keep` holds in every process.
        return "keep"


keep = Keep()


class Rule(NamedTuple):
    """A rule has a pattern, and what the leaves that match it get.

    The first rule that matches a leaf wins. Plain pairs `(pattern, init)` are rules
    too.

    Args:
      pattern: a glob over the path, whose parts are joined by "/": `*` stands for any
        text within one part, `**` for any number of parts, zero too; or a compiled
        regular expression, searched for in the path; or a predicate `(path, leaf) ->
        bool`; or a sequence of these, which matches what any of them matches.
      init: an initializer; or a function `(path, leaf) -> initializer`; or
        `jinit.keep`. A function that takes a key, or three arguments, counts as an
        initializer.
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
class FromTree:
    """A side of a rule may depend on the whole tree, as a bias does on its kernel.

    `function(leaves)` returns what stands on that side: on the left a predicate, on the
    right a function `(path, leaf) -> initializer`.
    """

    function: Callable[[list[Leaf]], Callable[[str, Any], Any]]

    def __call__(self, path: str, leaf: Any) -> Any:
        # Rules are checked before there is a tree, and each side must be callable then.
        return self.function([])(path, leaf)


def bind(rules: Iterable[Rule], leaves: list[Leaf]) -> tuple[Rule, ...]:
    """Return the rules with each `FromTree` replaced by what it gives for a tree."""

    def bound(side: Any) -> Any:
        return side.function(leaves) if isinstance(side, FromTree) else side

    return tuple(
        Rule(
            tuple(map(bound, patterns.several(rule.pattern))),
            bound(rule.init),
            rule.optional,
        )
        for rule in rules
    )


def rules_of(rules: Any) -> tuple[Rule, ...]:
    """Check what a user passed as rules, and return it as a tuple of rules.

    Raises:
      TypeError: for something that is not a sequence of rules.
    """
    if isinstance(rules, str | Mapping) or not isinstance(rules, Iterable):
        raise TypeError(
            f"`rules` is {rules!r}; it must be a sequence of pairs (pattern, "
            "initializer), such as [('**/kernel', jinit.he()), ('**', jinit.zeros)]."
        )
    return tuple(_rule(index, rule) for index, rule in enumerate(rules))


def _rule(index: int, entry: Any) -> Rule:
    if not isinstance(entry, Sequence) or isinstance(entry, str):
        entry = (entry,)
    if len(entry) not in (2, 3):
        raise TypeError(
            f"rule {index} is {entry!r}; it must be a pair (pattern, initializer)."
        )
    rule = Rule(*entry)
    Pattern.of(f"the pattern of rule {index}", rule.pattern)
    pattern = patterns.spell(rule.pattern)
    if not (rule.init is keep or callable(rule.init)):
        raise TypeError(
            f"rule {index} gives {pattern} {rule.init!r}, of type "
            f"{type(rule.init).__name__}; it must give an initializer, a function "
            "(path, leaf) -> initializer, or jinit.keep."
        )
    check_called(f"what rule {index} gives {pattern}", rule.init)
    return rule


def choose(
    rules: tuple[Rule, ...], leaves: list[Leaf], allow_unused: bool
) -> list[Rule]:
    """Return the first rule that matches, for each leaf.

    Raises:
      ValueError: for leaves without a rule, and for rules without a leaf.
    """
    selections = [(rule, Pattern(patterns.several(rule.pattern))) for rule in rules]
    # All rules are tried for each leaf, not only up to the first that matches, since a
    # rule that others shadow is another error than one that matches nothing.
    hits = [
        [rule for rule, pattern in selections if pattern.matches(leaf)]
        for leaf in leaves
    ]
    unmatched = [leaf for leaf, here in zip(leaves, hits, strict=True) if not here]
    if unmatched:
        raise ValueError(
            f"{len(unmatched)} of {len(leaves)} leaves match no rule:"
            f"{listed(unmatched)}\nThe patterns are:"
            f"{listed(pattern for _, pattern in selections) or ' none.'}\n"
            "Add a rule for each; ('**', jinit.keep) at the end keeps what is left."
        )
    for rule, pattern in selections:
        if not (allow_unused or rule.optional):
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
    """Return the initializer, or `keep`, that a rule gives to a leaf.

    Raises:
      TypeError: if the function of the rule returns something else.
    """
    init, pattern = rule.init, patterns.spell(rule.pattern)
    if init is not keep and not is_initializer(init):
        try:
            init = init(leaf.path, leaf.value)
        except Exception as error:
            # A note keeps the type of the user's own exception.
            error.add_note(f"In the function of the rule {pattern}, for {leaf}.")
            raise
        check_called(f"what the function of the rule {pattern} gives", init)
    if init is keep or (callable(init) and is_initializer(init)):
        return init
    raise TypeError(
        f"the rule {pattern} gives {init!r} for {leaf}; its function of (path, leaf) "
        "must return an initializer, or jinit.keep."
    )
