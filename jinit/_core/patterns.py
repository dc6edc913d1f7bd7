"""A pattern selects leaves of a tree by their paths, in one language everywhere.

Rules and the arguments `only`, `skip`, `overrides`, `drawn`, `kind` and `pattern` take
the same patterns:

- a glob over the path, whose parts are joined by "/": `*` stands for any text within
  one part, `**` for any number of parts, zero too;
- a role such as "@query", which matches the parameters that have it in a network (see
  `jinit.network`);
- a compiled regular expression, which is searched for in the path;
- a predicate `(path, leaf) -> bool`;
- a list or tuple of these, which matches what any of them matches.

`_matches` decides by the type of a pattern. To add a new sort of pattern, add a case to
`_matches` and to `_check`.
"""

import dataclasses
import difflib
import fnmatch
import functools
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

from .trees import Leaf, listed

# What a parameter may do in a network. `Parameter.roles` has these words.
ROLES = (
    "embedding", "input", "hidden", "readout", "matrix", "convolution", "query", "key",
    "value", "attention_output", "residual_output", "gate", "up", "router", "expert",
    "recurrent", "modulation", "temperature", "logit_bias", "bias", "scale", "other",
)  # fmt: skip

OnePattern = str | re.Pattern[str] | Callable[[str, Any], bool]
PatternLike = OnePattern | Sequence[OnePattern]


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A pattern is checked once, and then matches leaves by their paths.

    `alternatives` are the patterns of a sequence; a single pattern is its own only
    alternative.
    """

    alternatives: tuple[OnePattern, ...]

    @classmethod
    def of(cls, name: str, pattern: Any) -> "Pattern":
        """Check a pattern that a user passed.

        Args:
          name: the words that errors call the pattern by, such as "`only`".
          pattern: a pattern, or a sequence of patterns.

        Raises:
          TypeError: if it is neither, or an empty sequence.
          ValueError: if a glob has "**" beside other text in one part, or a role is
            unknown.
        """
        alternatives = several(pattern)
        # An empty sequence would match nothing, and hide that a variable is empty.
        if not alternatives:
            raise TypeError(
                f"{name} is {pattern!r}; it must have at least one pattern."
            )
        for one in alternatives:
            _check(name, one)
        return cls(alternatives)

    def matches(self, leaf: Leaf) -> bool:
        """Tell whether any of the alternatives matches a leaf."""
        return any(_matches(one, leaf) for one in self.alternatives)

    def check_used(self, leaves: Sequence[Leaf], permit: str = "") -> None:
        """Raise unless each alternative matches a leaf.

        Args:
          leaves: the leaves of the tree.
          permit: another way out, which the error names.

        Raises:
          ValueError: with the nearest paths, if an alternative matches no leaf.
        """
        # Each alternative counts by itself, or the others would hide a misspelled one.
        for one in self.alternatives:
            if not any(_matches(one, leaf) for leaf in leaves):
                raise ValueError(
                    f"the pattern {spell(one)} matches no leaf. {_near(one, leaves)}\n"
                    f"Correct the pattern{permit and f', or {permit}'}."
                    f"{_wider(one, leaves)}"
                )

    def __str__(self) -> str:
        return " or ".join(map(spell, self.alternatives))


def _wider(pattern: Any, leaves: Sequence[Leaf]) -> str:
    """Return a sentence with the glob of the subtree that a pattern names, or ""."""
    if not isinstance(pattern, str) or pattern.startswith(("@", "**")):
        return ""
    for glob in (f"{pattern}/**", f"**/{pattern}", f"**/{pattern}/**"):
        if number := sum(_matches(glob, leaf) for leaf in leaves):
            return f" The pattern {glob!r} matches {number} of the leaves."
    return ""


def several(pattern: Any) -> tuple[Any, ...]:
    """Return the patterns of a sequence, or a tuple of one for a single pattern."""
    # A string is a sequence too, and must not be taken for a sequence of patterns.
    is_sequence = isinstance(pattern, Sequence | AbstractSet)
    if not is_sequence or isinstance(pattern, str | bytes):
        return (pattern,)
    return tuple(pattern)


def spell(pattern: Any) -> str:
    """Spell a pattern for an error: a predicate by its name, others as they are."""
    if isinstance(pattern, str | re.Pattern):
        return repr(pattern)
    if isinstance(pattern, list | tuple):
        return " or ".join(map(spell, pattern))
    return getattr(pattern, "__qualname__", repr(pattern))


def first_matches(
    pairs: Sequence[tuple[Pattern, str]], leaves: Sequence[Leaf]
) -> list[str | None]:
    """Return the text of the first pattern that matches, for each leaf, or None.

    Raises:
      ValueError: if a pattern matches no leaf.
    """
    # A misspelled pattern would otherwise select nothing, in silence.
    for pattern, _ in pairs:
        pattern.check_used(leaves)
    return [
        next((text for pattern, text in pairs if pattern.matches(leaf)), None)
        for leaf in leaves
    ]


def skipped(skip: Any, layers: Sequence[Leaf]) -> list[bool]:
    """Tell for each layer whether `skip`, a pattern or a sequence of them, matches it.

    Version 0.1 read globs in `skip` by `fnmatch`, whose `*` runs across parts. A glob
    that matches a layer by that meaning alone still does, with a DeprecationWarning.

    Raises:
      TypeError: if `skip` is no pattern.
      ValueError: if one of the patterns matches no layer.
    """
    # `Pattern.of` refuses an empty sequence, which is the default of `skip`.
    patterns = several(skip) and Pattern.of("`skip`", skip).alternatives
    hits = [False] * len(layers)
    for one in patterns:
        matched = _skipped_by(one, layers)
        if not any(matched):
            raise ValueError(
                f"`skip` has {spell(one)}, which matches no layer; the layers are "
                f"{[layer.path for layer in layers]}. Correct the pattern, or remove "
                "it."
            )
        hits = [a or b for a, b in zip(hits, matched, strict=True)]
    return hits


def _skipped_by(pattern: Any, layers: Sequence[Leaf]) -> list[bool]:
    new = [_matches(pattern, layer) for layer in layers]
    # A pattern with "**" is meant in today's language: fnmatch reads it like "*".
    if not isinstance(pattern, str) or "**" in pattern:
        return new
    # `fnmatch` itself ignores case on Windows, and names of layers differ by case.
    old = [fnmatch.fnmatchcase(layer.path, pattern) for layer in layers]
    both = [a or b for a, b in zip(new, old, strict=True)]
    if both != new:
        warnings.warn(
            f"`skip` has {pattern!r}, read as `fnmatch` reads it: '*' runs across '/', "
            "and '?' and '[...]' stand for characters. That is deprecated: '*' stands "
            "for text within one part of a path, '**' for any number of parts, and the "
            f"rest for itself. Write {_spelled_anew(pattern, both, layers)}.",
            DeprecationWarning,
            stacklevel=level_of_caller(),
        )
    return both


def _spelled_anew(pattern: str, hits: list[bool], layers: Sequence[Leaf]) -> str:
    """Spell an fnmatch pattern as a glob of today that matches the same layers.

    The old "*/out" did not match a layer "out", and today's "**/out" does. So several
    candidates are tried on the layers. If none matches the same layers, the pattern is
    spelled as a regular expression.
    """
    parts = pattern.split("/")
    for glob in (
        "/".join("**" if part == "*" else part for part in parts),
        "/".join("*/**" if part == "*" else part for part in parts),
        f"**/{pattern}",
        f"{pattern}/**",
        f"**/{pattern}/**",
    ):
        if [_matches(glob, layer) for layer in layers] == hits:
            return repr(glob)
    # fnmatch matches from the start of a path, and here an expression is searched for.
    expression = rf"\A{fnmatch.translate(pattern)}"
    return f"re.compile({expression!r})"


def level_of_caller() -> int:
    """Return the `stacklevel` of the first frame outside of jinit.

    Python hides a DeprecationWarning that is attributed to a library's own file.
    """
    # Level 1 is the function that warns, which called this one.
    level, frame = 1, sys._getframe(1)
    package = __name__.partition(".")[0]
    # Code that `exec` runs with separate globals belongs to no module.
    while frame.f_back and _name_of(frame).partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    return level


def _name_of(frame: types.FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _check(name: str, pattern: Any) -> None:
    if _is_role(pattern):
        _check_role(name, pattern)
    elif isinstance(pattern, str):
        _expression(pattern)
    elif not (isinstance(pattern, re.Pattern) or callable(pattern)):
        raise TypeError(
            f"{name} is {pattern!r}, of type {type(pattern).__name__}; it must be a "
            "glob such as '**/kernel', a role such as '@query', a compiled regular "
            "expression, a predicate (path, leaf) -> bool, or a sequence of these."
        )


def _is_role(pattern: Any) -> bool:
    return isinstance(pattern, str) and pattern.startswith("@")


def _check_role(name: str, pattern: str) -> None:
    if pattern[1:] in ROLES:
        return
    near = difflib.get_close_matches(pattern[1:], ROLES, n=3, cutoff=0.4)
    listed_roles = ", ".join(f"'@{role}'" for role in near or ROLES)
    raise ValueError(
        f"{name} is {pattern!r}, and there is no such role; "
        f"{'the nearest are' if near else 'the roles are'} {listed_roles}. (A path "
        f"that begins with '@' is matched by the glob '**/{pattern}'.)"
    )


def _has_role(role: str, leaf: Leaf) -> bool:
    # Predicates that hold patterns pass on the value alone, which is a `Parameter`.
    roles = getattr(leaf.value, "roles", None) if leaf.roles is None else leaf.roles
    if roles is None:
        raise ValueError(
            f"the pattern '@{role}' is a role, which is read from a network, and here "
            f"are shapes or values alone, such as those of {leaf}. Pass a Network in "
            "their place: jinit.network(model, *arguments)."
        )
    return role in roles


def _matches(pattern: OnePattern, leaf: Leaf) -> bool:
    if isinstance(pattern, re.Pattern):
        return pattern.search(leaf.path) is not None
    if _is_role(pattern):
        return _has_role(cast(str, pattern)[1:], leaf)
    if isinstance(pattern, str):
        # A tree that is a single leaf has a path without parts, which "**" matches.
        rooted = f"/{leaf.path}" if leaf.parts else ""
        return _expression(pattern).fullmatch(rooted) is not None
    # A predicate may return NumPy's bool, or an array of one entry.
    return bool(pattern(leaf.path, leaf.value))


# Every rule is tried on every leaf, so expressions are kept. An error is not kept.
@functools.lru_cache(maxsize=1024)
def _expression(glob: str) -> re.Pattern[str]:
    """Return a glob as a regular expression for a path with "/" before every part.

    Because "/" stands before the first part too, `**` is the same at the beginning, in
    the middle and at the end.
    """
    expression = ""
    # The empty glob has no parts; `split` would give it an empty one.
    for part in glob.split("/") if glob else ():
        if part == "**":
            expression += "(?:/[^/]*)*"
        elif "**" in part:
            raise ValueError(
                f"the pattern {glob!r} has '**' within the part {part!r}; '**' must be "
                "a whole part, as in '**/kernel', and '*' stands for text within a "
                "part."
            )
        else:
            # Only "*" is special. Brackets are not, since the layers of a scan have
            # paths such as "layers/Dense_0[3]".
            expression += "/" + "[^/]*".join(map(re.escape, part.split("*")))
    return re.compile(expression)


def _near(pattern: OnePattern, leaves: Sequence[Leaf]) -> str:
    """Return a sentence with the paths, or the roles, that are nearest to a pattern."""
    if _is_role(pattern):
        roles = {role for leaf in leaves for role in leaf.roles or ()}
        return f"The network's parameters have the roles {', '.join(sorted(roles))}."
    paths = listed(map(repr, _nearest(pattern, leaves)))
    return f"The nearest paths are:{paths or ' none.'}"


def _nearest(pattern: OnePattern, leaves: Iterable[Leaf]) -> list[str]:
    """Return the three paths whose text, or whose end, is most like the pattern's."""
    text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    # A predicate has no text, and all paths are equally near to it.
    parts = [p for p in text.split("/") if p != "**"] if isinstance(text, str) else []
    # SequenceMatcher prepares its second text once, so the pattern is that one.
    matcher = difflib.SequenceMatcher(b="/".join(parts))

    def likeness(path: str) -> float:
        # The end alone counts too, since "**/kernel" is far shorter than its paths.
        ratios = []
        for view in (path, "/".join(path.split("/")[-len(parts) :])):
            matcher.set_seq1(view)
            ratios.append(matcher.ratio())
        return max(ratios)

    return sorted((x.path for x in leaves), key=likeness, reverse=True)[:3]
