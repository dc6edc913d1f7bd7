"""A rule gives an initializer to the leaves of a tree that match a pattern.

`rules_of` checks the rules of a user, `bind` fits them to a tree, `choose` finds the
rule of each leaf, and `resolve` takes the initializer out of the rule.
"""

import dataclasses
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .._core import patterns
from .._core.patterns import Pattern, PatternLike
from .._core.trees import Leaf, listed
from .._initializer.base import Initializer
from .._initializer.foreign import is_initializer
from .._initializer.maker import check_called
from .._schemes.recurrent import GateBias
from .model import Model


class Keep:
    """`jinit.keep` stands in the place of an initializer: the leaves stay as they are.

    Example:
      >>> import jinit
      >>> jinit.Rule("**/BatchNorm_*/**", jinit.keep)
      Rule(pattern='**/BatchNorm_*/**', init=jinit.keep, optional=False)
    """

    def __repr__(self) -> str:
        return "jinit.keep"

    def __reduce__(self) -> str:
        # The object is pickled by its name, so that `init is keep` holds in every
        # process: everywhere in jinit it is compared by identity.
        return "keep"


keep = Keep()


class Rule(NamedTuple):
    """A rule has a pattern, and the initializer of the leaves that match the pattern.

    The first rule that matches a leaf wins. Plain pairs `(pattern, init)` are rules
    too.

    Args:
      pattern: a glob over the path, whose parts are joined by "/": `*` stands for any
        text within one part, `**` for any number of parts, zero too; or a role such as
        "@query", in the plan of a `Network`; or a compiled regular expression, searched
        for in the path; or a predicate `(path, leaf) -> bool`; or a sequence of these,
        which matches what any of them matches. The leaf is an array or a struct, and
        the `Parameter` in the plan of a `Network`.
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
    """A FromTree is a side of a rule that depends on the whole tree.

    An example is the law of a bias that depends on the kernel beside it.
    `function(model)` returns the side for a `Model`: a pattern for the first side of a
    rule; an initializer, or a function `(path, leaf) -> initializer`, for the second.
    """

    function: Callable[[Model], Any]

    def __call__(self, path: str, leaf: Any) -> Any:
        # `rules_of` checks the rules before there is a tree, and accepts only sides
        # that are callable. `bind` replaces this object before any leaf is matched.
        raise TypeError("a rule that depends on the whole tree must go into a plan.")


def bind(rules: Iterable[Rule], model: Model) -> tuple[Rule, ...]:
    """Return the rules with each `FromTree` replaced by its result for a model."""

    def bound(side: Any) -> Any:
        return side.function(model) if isinstance(side, FromTree) else side

    return tuple(
        Rule(
            # A sequence may mix globs and objects that depend on the tree, and such an
            # object may stand for several patterns, or for none.
            tuple(
                pattern
                for side in patterns.several(rule.pattern)
                for pattern in patterns.several(bound(side))
            ),
            bound(rule.init),
            rule.optional,
        )
        for rule in rules
    )


def notes_of(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Return the notes of the patterns in some rules, each once."""
    several = [one for rule in rules for one in patterns.several(rule.pattern)]
    notes = [getattr(one, "note", "") for one in several]
    return tuple(dict.fromkeys(note for note in notes if note))


def rules_of(rules: Any) -> tuple[Rule, ...]:
    """Check what a user passed as rules, and return it as a tuple of rules.

    Raises:
      TypeError: if `rules` is not a sequence of rules.
    """
    # A dict of patterns would be iterated over its keys alone, and a string over its
    # letters, so both would fail later with an error about a rule that nobody wrote.
    if isinstance(rules, str | Mapping) or not isinstance(rules, Iterable):
        raise TypeError(
            f"`rules` is {reprlib.repr(rules)}, of type {type(rules).__name__}; it "
            "must be a sequence of pairs (pattern, initializer), such as "
            "[('**/kernel', jinit.he()), ('**', jinit.zeros)]."
            f"{_recipe_meant(rules)}"
        )
    return tuple(_rule(index, rule) for index, rule in enumerate(rules))


def _recipe_meant(rules: Any) -> str:
    """Return the call of a recipe, for its name or its function, or else ""."""
    if isinstance(rules, str) and rules.isidentifier():
        return f" For a recipe by its name write jinit.recipes.get({rules!r})."
    if callable(rules) and (name := getattr(rules, "__name__", "")):
        return (
            f" If {name} makes the rules, as a recipe's function does, call it first."
        )
    return ""


def _rule(index: int, entry: Any) -> Rule:
    # A string of two letters must not pass for a pair.
    if not isinstance(entry, Sequence) or isinstance(entry, str):
        entry = (entry,)
    # A plain tuple may have the third field of a Rule, `optional`.
    if len(entry) not in (2, 3):
        raise TypeError(
            f"rule {index} is {entry!r}; it must be a pair (pattern, initializer)."
        )
    rule = Rule(*entry)
    # The pattern stays as the user wrote it, so that a printed rule shows it so.
    Pattern.of(f"the pattern of rule {index}", rule.pattern)
    pattern = patterns.spell(rule.pattern)
    if not (rule.init is keep or callable(rule.init)):
        raise TypeError(
            f"rule {index} gives {pattern} {reprlib.repr(rule.init)}, of type "
            f"{type(rule.init).__name__}; it must give an initializer, a function "
            f"(path, leaf) -> initializer, or jinit.keep.{_init_meant(rule)}"
        )
    # A maker such as jinit.he is callable too, and is a mistake for jinit.he().
    check_called(f"the initializer of rule {index}, {pattern},", rule.init)
    return rule


def _init_meant(rule: Rule) -> str:
    """Return what a user probably means by a value that is no initializer."""
    pattern, init = rule.pattern, rule.init
    if isinstance(pattern, Initializer):
        return " The pattern comes first, and the initializer after it."
    if isinstance(init, str):
        return f" For a scheme by its name write jinit.get({init!r})."
    if isinstance(init, int | float):
        return f" For a number in every entry write jinit.constant({init!r})."
    if hasattr(init, "shape"):
        return " For the entries of an array write jinit.from_array(array)."
    return ""


def choose(
    rules: tuple[Rule, ...], leaves: list[Leaf], allow_unused: bool
) -> list[Rule]:
    """Return the first rule that matches, for each leaf.

    Raises:
      ValueError: if a leaf matches no rule, or a rule matches no leaf.
    """
    selections = [(rule, Pattern(patterns.several(rule.pattern))) for rule in rules]
    # All rules are tried for each leaf, not only up to the first that matches: a rule
    # that is shadowed by others needs another advice than a rule that matches nothing.
    matching = [
        [rule for rule, pattern in selections if pattern.matches(leaf)]
        for leaf in leaves
    ]
    unmatched = [leaf for leaf, r in zip(leaves, matching, strict=True) if not r]
    if unmatched:
        patterns_of = [pattern for _, pattern in selections]
        raise ValueError(
            f"{len(unmatched)} of {len(leaves)} leaves match no rule:"
            f"{listed(map(_with_reason, unmatched))}\nThe patterns are:"
            f"{listed(filter(None, map(str, patterns_of))) or ' none.'}\n"
            "Add a rule for each; ('**', jinit.keep) at the end keeps what is left."
            + (_hints(patterns_of) if 2 * len(unmatched) > len(leaves) else "")
        )
    for rule, pattern in selections:
        if not (allow_unused or rule.optional):
            pattern.check_used(leaves, _other_way(rule))
            _check_not_shadowed(rule, matching)
    return [rules_of_leaf[0] for rules_of_leaf in matching]


def _other_way(rule: Rule) -> str:
    """Return what may be done about a rule without a leaf, beside a better pattern."""
    # The pattern of such a rule was written by chrono_rules, not by the user.
    if isinstance(rule.init, GateBias):
        return (
            "name the layout of your cell: jinit.recurrent.chrono_rules and "
            "unit_forget_rules take cell= 'lstm', 'fused_lstm', 'gru' or 'fused_gru'"
        )
    return "pass allow_unused=True to plan"


def _hints(several: Iterable[Pattern]) -> str:
    """Return what patterns advise where most leaves of a tree have no rule."""
    hints = [getattr(one, "hint", "") for p in several for one in p.alternatives]
    return "".join(f" {hint}" for hint in dict.fromkeys(hints) if hint)


def _with_reason(leaf: Leaf) -> str:
    """Return a leaf with the reason why a network does not understand it."""
    reason = getattr(leaf.value, "reason", None)
    return f"{leaf}: {reason}" if reason else str(leaf)


def _check_not_shadowed(rule: Rule, matching: list[list[Rule]]) -> None:
    """Raise if a rule matches leaves, but is the first match of none of them."""
    # Rules are compared by identity, since two rules may be equal.
    contested = [row for row in matching if any(other is rule for other in row)]
    if any(row[0] is rule for row in contested):
        return
    takers = {id(row[0]): patterns.spell(row[0].pattern) for row in contested}
    raise ValueError(
        f"the rule {patterns.spell(rule.pattern)} is shadowed: all {len(contested)} "
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
            error.add_note(
                f"In the function of the rule {pattern}, for {leaf}. A function of two "
                "arguments is called with (path, leaf); an initializer of your own "
                "takes (key, shape, dtype), or names its first argument `key`."
            )
            raise
        check_called(f"the result of the function of the rule {pattern}", init)
    if init is keep or (callable(init) and is_initializer(init)):
        return init
    raise TypeError(
        f"the rule {pattern} gives {init!r} for {leaf}; its function of (path, leaf) "
        "must return an initializer, or jinit.keep."
    )
