"""Rules: which initializer each leaf of a tree gets."""

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

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
        bool`.
      init: an initializer; or a function `(path, leaf) -> initializer`; or
        `jinit.keep`. What takes a key, or three arguments, is an initializer.
      optional: whether the rule may match nothing.

    Example:
      >>> import jinit
      >>> jinit.Rule("**/Dense_*/kernel", jinit.he())
      Rule(pattern='**/Dense_*/kernel', init=jinit.he(), optional=False)
    """

    pattern: Any
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
    """The rules of a tree, with those that look at it bound to its leaves."""

    def bound(side: Any) -> Any:
        return side.function(leaves) if isinstance(side, OfTree) else side

    return tuple(
        Rule(bound(rule.pattern), bound(rule.init), rule.optional) for rule in rules
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
    check_pattern(f"the pattern of rule {index}", rule.pattern)
    if not (rule.init is keep or callable(rule.init)):
        raise TypeError(
            f"rule {index} gives {spell_pattern(rule.pattern)} {rule.init!r}, of type "
            f"{type(rule.init).__name__}; it must give an initializer, a function "
            "(path, leaf) -> initializer, or jinit.keep."
        )
    check_called(f"what rule {index} gives {spell_pattern(rule.pattern)}", rule.init)
    return rule


def check_pattern(name: str, pattern: Any) -> None:
    if isinstance(pattern, str):
        _glob(pattern)
    elif not (isinstance(pattern, re.Pattern) or callable(pattern)):
        raise TypeError(
            f"{name} is {pattern!r}, of type {type(pattern).__name__}; it must be a "
            "glob such as '**/kernel', a compiled regular expression, or a predicate "
            "(path, leaf) -> bool."
        )


@functools.lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression for a path with a slash before every part."""
    expression = ""
    for part in pattern.split("/") if pattern else ():
        if part == "**":
            expression += "(?:/[^/]*)*"
        elif "**" in part:
            raise ValueError(
                f"the pattern {pattern!r} has '**' within the part {part!r}; '**' is a "
                "part of its own, as in '**/kernel', and '*' stands for text within a "
                "part."
            )
        else:
            expression += "/" + "[^/]*".join(map(re.escape, part.split("*")))
    return re.compile(expression)


def matches(pattern: Any, leaf: Leaf) -> bool:
    """Whether a pattern, checked already, matches a leaf."""
    if isinstance(pattern, re.Pattern):
        return pattern.search(leaf.path) is not None
    if callable(pattern):
        return bool(pattern(leaf.path, leaf.value))
    rooted = f"/{leaf.path}" if leaf.parts else ""
    return _glob(pattern).fullmatch(rooted) is not None


def choose(
    rules: tuple[Rule, ...], leaves: list[Leaf], allow_unused: bool
) -> list[Rule]:
    """The first rule that matches, for each leaf.

    Raises:
      ValueError: for leaves without a rule, and rules without a leaf.
    """
    found = [[rule for rule in rules if matches(rule.pattern, x)] for x in leaves]
    unmatched = [x for x, hits in zip(leaves, found, strict=True) if not hits]
    if unmatched:
        raise ValueError(
            f"{len(unmatched)} of {len(leaves)} leaves match no rule:"
            f"{listed(unmatched)}\nThe patterns are:"
            f"{listed(spell_pattern(r.pattern) for r in rules) or ' none.'}\n"
            "Add a rule for each; ('**', jinit.keep) at the end keeps what is left."
        )
    if not allow_unused:
        _check_used(rules, leaves, found)
    return [hits[0] for hits in found]


def _check_used(
    rules: tuple[Rule, ...], leaves: list[Leaf], found: list[list[Rule]]
) -> None:
    for rule in rules:
        # By identity: two rules may be equal.
        hits = [h for h in found if any(r is rule for r in h)]
        if rule.optional or any(h[0] is rule for h in hits):
            continue
        if not hits:
            raise unknown(rule.pattern, leaves, "pass allow_unused=True to plan")
        takers = {id(h[0]): spell_pattern(h[0].pattern) for h in hits}
        raise ValueError(
            f"the rule {spell_pattern(rule.pattern)} is shadowed: all {len(hits)} "
            f"leaves that it matches go to {' and '.join(takers.values())}, before it. "
            "The first match wins: put the narrower rule first, or remove it."
        )


def unknown(pattern: Any, leaves: list[Leaf], permit: str = "") -> ValueError:
    """The error for a pattern that matches nothing, with the nearest paths."""
    permit = f", or {permit}" if permit else ""
    return ValueError(
        f"the pattern {spell_pattern(pattern)} matches no leaf. The nearest paths are:"
        f"{listed(repr(path) for path in _nearest(pattern, leaves)) or ' none.'}\n"
        f"Correct the pattern{permit}."
    )


def _nearest(pattern: Any, leaves: list[Leaf]) -> list[str]:
    """Three paths whose text, or whose end, is most like the pattern's."""
    text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    wanted = [p for p in text.split("/") if p != "**"] if isinstance(text, str) else []
    matcher = difflib.SequenceMatcher(b="/".join(wanted))

    def likeness(path: str) -> float:
        ratios = []
        for view in (path, "/".join(path.split("/")[-len(wanted) :])):
            matcher.set_seq1(view)
            ratios.append(matcher.ratio())
        return max(ratios)

    return sorted((x.path for x in leaves), key=likeness, reverse=True)[:3]


def spell_pattern(pattern: Any) -> str:
    if isinstance(pattern, (str, re.Pattern)):
        return repr(pattern)
    return getattr(pattern, "__qualname__", repr(pattern))


def resolve(rule: Rule, leaf: Leaf) -> Any:
    """The initializer, or `keep`, that a rule gives to a leaf."""
    init = rule.init
    if init is not keep and not is_initializer(init):
        try:
            init = init(leaf.path, leaf.value)
        except Exception as error:
            pattern = spell_pattern(rule.pattern)
            error.add_note(f"In the function of the rule {pattern}, for {leaf}.")
            raise
        given = f"what the function of the rule {spell_pattern(rule.pattern)} gives"
        check_called(given, init)
    if init is keep or (callable(init) and is_initializer(init)):
        return init
    raise TypeError(
        f"the rule {spell_pattern(rule.pattern)} gives {init!r} for {leaf}; its "
        "function of (path, leaf) must return an initializer, or jinit.keep."
    )
