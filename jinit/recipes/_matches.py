"""The result of `recipes.which` ranks recipes, with the evidence for each role."""

import dataclasses
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .._core.results import Result, Row, Table, plain
from ._recipe import Recipe

# A table shows at most this many recipes that do not agree, and at most this many roles
# in which each differs. `rows` has all of them.
_RECIPES, _ROLES = 5, 3
# A line of text, and one of a cell, have about so many letters.
_LINE, _CELL = 88, 60


class Evidence(NamedTuple):
    """An Evidence compares the parameters of one role with a recipe's law for them.

    Args:
      role: what the parameters do in the model.
      parameters: how many there are.
      rms: the root of the mean of their squares: the std of draws around 0.
      law_rms: the same root as the recipe's laws give it.
      agrees: whether all of them agree with their laws.
      errors: the largest difference, in standard errors of a draw from the law.
      path: the parameter that differs most.

    Example:
      >>> import jinit
      >>> print(jinit.recipes.Evidence("keys", 2, 0.0199, 0.02, True, 0.6, "k/kernel"))
      keys: 0.0199, law 0.02
    """

    role: str
    parameters: int
    rms: float
    law_rms: float
    agrees: bool
    errors: float
    path: str

    def __str__(self) -> str:
        text = f"{self.role}: {self.rms:.3g}, law {self.law_rms:.3g}"
        # A uniform law and a normal one may have one std.
        is_near = abs(self.rms - self.law_rms) <= 0.02 * self.law_rms
        if self.agrees or not is_near:
            return text
        return f"{text}, but of another distribution ({self.path})"


class Match(NamedTuple):
    """A Match is a recipe with its evidence that it drew the parameters of a model.

    Args:
      recipe: the recipe, with the settings that fit best.
      evidence: an `Evidence` for each role.
      agrees: whether the recipe has a law for each parameter, or is for a part of a
        model, and all parameters agree with their laws.
      share: the share of all parameters that agree.
      score: the logarithm of the likelihood of all parameters, up to a constant of the
        model; -infinity where one is impossible.
      equal_to: the recipes whose laws are equal on this model.
      without_law: the paths of parameters that the recipe has no law for.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> w = jinit.scaled_uniform()(jax.random.key(0), (64, 64))
      >>> matches = jinit.recipes.which(lambda w, x: x @ w, w, jnp.ones((1, 64)))
      >>> match = matches.matches[0]
      >>> match.name, match.agrees, len(match.evidence)
      ('torch_defaults', True, 1)
    """

    recipe: Recipe
    evidence: tuple[Evidence, ...]
    agrees: bool
    share: float
    score: float
    equal_to: tuple[str, ...] = ()
    without_law: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the recipe."""
        return self.recipe.name

    @property
    def row(self) -> Row:
        """Return the match as plain data."""
        return {
            "recipe": self.name,
            "settings": dict(self.recipe.settings),
            "agrees": self.agrees,
            "share": self.share,
            "equal_to": self.equal_to,
            "evidence": tuple(one._asdict() for one in self.evidence),
            "without_law": self.without_law,
            "reason": None,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Matches(Result, Sequence[str]):
    """Matches are the known recipes, ranked by how well parameters agree with them.

    It is a sequence of names, the best first. `best` is the name of the recipe that
    the parameters look like, or None if no recipe fits. A recipe that has laws for a
    part of the parameters, as `clip` has for its head, may agree with that part.

    Attributes:
      matches: a `Match` for each recipe that can be applied to the model.
      not_applicable: the reason for each other recipe, by its name.
      laws: the likeliest law of each parameter, as `jinit.audit` names it.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> w = jinit.scaled_uniform()(jax.random.key(0), (64, 64))
      >>> names = jinit.recipes.which(lambda w, x: x @ w, w, jnp.ones((1, 64)))
      >>> names.best == names[0]
      True
    """

    matches: tuple[Match, ...]
    not_applicable: Mapping[str, str]
    laws: Mapping[str, str]

    @property
    def best(self) -> str | None:
        """Return the name of the recipe that the parameters agree with, or None.

        If several recipes agree, it is the one with laws for most parameters, and among
        these the likeliest one. `agreeing` has all of them.
        """
        return self.matches[0].name if self.agreeing else None

    @property
    def agreeing(self) -> tuple[str, ...]:
        """Return the names of all recipes that the parameters agree with."""
        return tuple(match.name for match in self.matches if match.agrees)

    @property
    def ties(self) -> tuple[str, ...]:
        """Return the names of recipes whose laws are those of the best one."""
        return self.matches[0].equal_to if self.agreeing else ()

    @property
    def rows(self) -> list[Row]:
        """Return a dict for each recipe, the best first, with its evidence.

        Keys: recipe, settings, agrees, share (of the parameters), equal_to, evidence (a
        dict for each role), without_law, and reason, which says why a recipe cannot be
        applied.
        """
        blank = {
            "settings": {}, "agrees": False, "share": 0.0, "equal_to": (),
            "evidence": (), "without_law": (),
        }  # fmt: skip
        return [match.row for match in self.matches] + [
            {"recipe": name, **blank, "reason": reason}
            for name, reason in self.not_applicable.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for numbers that are not finite."""
        return {
            "best": self.best,
            "ties": list(self.ties),
            "rows": plain(self.rows),
            "laws": plain(dict(self.laws)),
        }

    def __getitem__(self, index: Any) -> Any:
        names = tuple(match.name for match in self.matches)
        return names[index]

    def __len__(self) -> int:
        return len(self.matches)

    def __iter__(self) -> Iterator[str]:
        return iter([match.name for match in self.matches])

    def __repr__(self) -> str:
        return str(self)

    def _table(self) -> Table:
        agreeing = [match for match in self.matches if match.agrees]
        others = [match for match in self.matches if not match.agrees]
        shown = [*agreeing, *others[:_RECIPES]]
        lines = [_cells(match) for match in shown]
        below = []
        if self.not_applicable:
            # The reasons are in `not_applicable`; here they would bury the answer.
            below = _wrapped(f"Not applicable: {_listed([*self.not_applicable])}.")
        left = len(self.matches) - len(shown)
        if left:
            below = [f"{left} more recipes agree less.", *below]
        head = ("recipe", "agree", "evidence") if lines else ()
        return Table(head, lines, above=self._verdict(), below=below)

    def _verdict(self) -> list[str]:
        if not self.agreeing:
            laws = [f"- {path}: {law}" for path, law in [*self.laws.items()][:_RECIPES]]
            return ["No recipe agrees. The likeliest laws of some parameters:", *laws]
        best = self.matches[0]
        lines = [f"{best.recipe!r}: all parameters agree with its laws."]
        if best.without_law:
            count = sum(one.parameters for one in best.evidence)
            total = count + len(best.without_law)
            lines = [f"{best.recipe!r}: {count} of {total} parameters have its laws."]
        if best.equal_to:
            lines += _wrapped(f"On this model {_listed(best.equal_to)} has equal laws.")
        others = [
            x for x in self.matches[1:] if x.agrees and x.name not in best.equal_to
        ]
        unequal = [x.name for x in others if x.share == best.share]
        parts = [x.name for x in others if x.share < best.share]
        if unequal:
            lines += _wrapped(f"Less likely, but not excluded: {_listed(unequal)}.")
        if parts:
            lines += _wrapped(f"Parts of the model have the laws of {_listed(parts)}.")
        if best.without_law:
            lines += _wrapped(f"{_without(best)}.")
        return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]


def _without(match: Match) -> str:
    """Say for which parameters a recipe has no law."""
    paths = match.without_law
    shown = [*paths[:_ROLES]]
    if len(paths) > _ROLES:
        shown.append(f"{len(paths) - _ROLES} more")
    return f"It has no law for {_listed(shown)}"


def _cells(match: Match) -> tuple[str, str, str]:
    differ = [one for one in match.evidence if not one.agrees]
    differ.sort(key=lambda one: -one.errors)
    several = differ or match.evidence
    lines = [line for one in several[:_ROLES] for line in _wrapped(str(one), _CELL)]
    left = len(several) - _ROLES
    if left > 0:
        lines.append(f"and {left} more role{'s' * (left > 1)}")
    if match.without_law:
        lines = [*_wrapped(_without(match), _CELL), *lines]
    share = math.floor(100 * match.share)
    name = "\n".join(_wrapped(repr(match.recipe), _CELL))
    return name, f"{share} %", "\n".join(lines)


def _wrapped(text: str, width: int = _LINE) -> list[str]:
    """Return the lines of a text; a path is never cut, since nobody could copy it."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
