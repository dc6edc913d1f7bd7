"""A recipe is a value: rules for `jinit.plan`, with their laws and their sources."""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, overload

from .._core import checks, numbers
from .._core.papers import Paper
from .._core.results import Result, Row, Table, plain
from .._plan.rules import Rule
from ._roles import Rules
from ._settings import arguments_of, that_differ, tupled

Settings = ParamSpec("Settings")


class Law(NamedTuple):
    """A law is what a recipe gives to a role of a model, in words and in symbols.

    In the symbols N(0, s^2) is a normal law and TN(0, s^2) a truncated one, U(a, b) a
    uniform law, L the number of layers, l the index of a layer, from 0, and d the width
    of the residual stream.

    Args:
      role: what the parameters do in the model.
      law: the probability distribution of their entries.
      applies_to: the layers or tensors, by the names that papers and ports give them.

    Example:
      >>> import jinit
      >>> jinit.recipes.gpt2().laws[0].law
      'N(0, (0.02 / sqrt(2 L))^2)'
    """

    role: str
    law: str
    applies_to: str = ""


# The laws of the parameters that almost every recipe starts alike.
NORMS_AND_BIASES = (Law("scales", "1", "norms"), Law("biases", "0", "all"))


class Source(NamedTuple):
    """A source is the official code that a recipe was read from.

    Args:
      repository: owner and name at GitHub.
      file: the path of the file.
      commit: the commit that was read, by the first digits of its hash.

    Example:
      >>> import jinit
      >>> print(jinit.recipes.Source("openai/gpt-2", "src/model.py", "9b63575"))
      openai/gpt-2, src/model.py, commit 9b63575
    """

    repository: str
    file: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repository}, {self.file}, commit {self.commit}"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Recipe(Sequence[Rule], Result):
    """A recipe is a sequence of rules for `jinit.plan` that explains itself.

    `print(recipe)` shows a row for each role with its law, and the sources below.
    Recipes of one name and equal settings are equal. They are pickled and copied by
    name and settings, and `recipes.get(**recipe.to_config())` makes a recipe again.

    Attributes:
      rules: the rules, as a tuple.
      laws: a `Law` for each role.
      name: the name that `recipes.get` takes.
      settings: the settings that differ from the defaults, by name.
      use: the models that the recipe is for.
      sources: the official code, as `Source`s, and papers.

    Example:
      >>> import jinit
      >>> recipe = jinit.recipes.gpt2(12)
      >>> recipe
      recipes.gpt2(num_layers=12)
      >>> recipe == jinit.recipes.get("gpt2", num_layers=12)
      True
      >>> rules = [("**/gate", jinit.zeros), *recipe]  # your own rules go first
      >>> len(rules) == 1 + len(recipe.rules)
      True
    """

    rules: Sequence[Rule]
    laws: Sequence[Law]
    name: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    use: str = ""
    sources: Sequence[Source | Paper] = ()

    def __post_init__(self) -> None:
        # Lists would let a user change a recipe that compares equal to others.
        for field in ("rules", "laws", "sources"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        object.__setattr__(self, "settings", types.MappingProxyType(self.settings))

    @property
    def rows(self) -> list[Row]:
        """Return a dict of role, law and applies_to for each law."""
        return [law._asdict() for law in self.laws]

    def to_config(self) -> dict[str, Any]:
        """Return the name and the settings as plain data, for JSON and YAML.

        Raises:
          ValueError: if a setting is a function or a compiled expression, which a
            configuration cannot hold.
        """
        for key, value in self.settings.items():
            if not _is_plain(value):
                raise ValueError(
                    f"`{key}` of {self!r} is {value!r}, which a configuration cannot "
                    "hold. Pass a glob, such as '**/out/kernel', in its place."
                )
        return {"name": self.name} | {k: _listed(v) for k, v in self.settings.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the laws and the sources as plain data, for JSON."""
        return {
            "recipe": repr(self),
            "use": self.use,
            "rows": plain(self.rows),
            "sources": [_cited(source) for source in self.sources],
        }

    def _table(self) -> Table:
        lines = [tuple(law) for law in self.laws]
        above = [f"{self!r}: {self.use}"]
        below = [f"Source: {_cited(source)}" for source in self.sources]
        return Table(("role", "law", "applies to"), lines, above=above, below=below)

    @overload
    def __getitem__(self, index: int) -> Rule: ...
    @overload
    def __getitem__(self, index: slice) -> Rules: ...
    def __getitem__(self, index: int | slice) -> Rule | Rules:
        if isinstance(index, slice):
            return list(self.rules[index])
        return self.rules[index]

    def __len__(self) -> int:
        return len(self.rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    # A sum with the rules of a user is a list, as it was when recipes were lists.
    def __add__(self, others: Sequence[Any]) -> list[Any]:
        return [*self, *others]

    def __radd__(self, others: Sequence[Any]) -> list[Any]:
        return [*others, *self]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recipe):
            return NotImplemented
        if not self.name:
            return not other.name and self.rules == other.rules
        # The rules hold functions of a model, of which no two are equal.
        # A configuration has lists for tuples, also within a setting.
        return self.name == other.name and (
            tupled(self.settings) == tupled(other.settings)
        )

    def __hash__(self) -> int:
        # A setting may be a list of patterns, which does not hash.
        return hash((self.name, frozenset(self.settings)))

    def __reduce__(self) -> Any:
        if not self.name:
            return Recipe, (self.rules, self.laws)
        return _made, (self.name, dict(self.settings))

    def __repr__(self) -> str:
        if not self.name:
            return f"<Recipe of {len(self.rules)} rules>"
        shown = dict(self.settings)
        # The number of layers is what a reader looks for first, also where it is read.
        if "num_layers" in inspect.signature(RECIPES[self.name].make).parameters:
            shown = {"num_layers": None} | shown
        settings = ", ".join(f"{key}={value!r}" for key, value in shown.items())
        return f"recipes.{self.name}({settings})"


class Entry(NamedTuple):
    """An entry holds the function of a recipe, and what its decorator says about it."""

    make: Callable[..., Recipe]
    use: str
    law: str
    roles: tuple[str, ...]
    sources: tuple[Source | Paper, ...]
    example: Mapping[str, Any]


# Every recipe whose file has been imported, by name.
RECIPES: dict[str, Entry] = {}


def recipe(
    *,
    use: str,
    law: str,
    sources: Sequence[Source | Paper],
    roles: Sequence[str] = (),
    example: Mapping[str, Any] | None = None,
) -> Callable[[Callable[Settings, Recipe]], Callable[Settings, Recipe]]:
    """Decorate a function that makes a recipe: enter it among the recipes by its name.

    The function returns `Recipe(rules, laws)`. The decorator adds name, settings (if
    the function gives none), use and sources, and raises an error for settings and
    roles that the recipe does not have.

    Args:
      use: the models that the recipe is for, in a few words.
      law: the laws in one line, for the table of all recipes.
      sources: the official code and the papers that the recipe was read from.
      roles: the roles that a user may pass patterns for.
      example: settings for an example, if the recipe requires some.
    """

    def enter(
        function: Callable[Settings, Recipe],
    ) -> Callable[Settings, Recipe]:
        name = function.__name__
        signature = inspect.signature(function)

        @functools.wraps(function)
        def make(*args: Settings.args, **settings: Settings.kwargs) -> Recipe:
            arguments = arguments_of(name, signature, roles, args, settings)
            call: Callable[..., Recipe] = function
            draft = call(**arguments)
            return dataclasses.replace(
                draft,
                name=name,
                settings=draft.settings or that_differ(signature, arguments),
                use=use,
                sources=sources,
            )

        make.__doc__ = _with_sources(function.__doc__, sources)
        RECIPES[name] = Entry(
            make, use, law, tuple(roles), tuple(sources), dict(example or {})
        )
        return make

    return enter


def _with_sources(doc: str | None, sources: Sequence[Source | Paper]) -> str | None:
    """Add the official code to a docstring, so that `help` shows it.

    From Python 3.13 on docstrings come without their indentation.
    """
    code = [source for source in sources if isinstance(source, Source)]
    if doc is None or not code:  # python -OO
        return doc
    lines = doc.split("\n")
    first = next((line for line in lines if line.strip() == "Returns:"), "")
    indent = first[: len(first) - len(first.lstrip())]
    section = [f"{indent}Sources:", *(f"{indent}  {source}." for source in code)]
    return "\n".join([doc.rstrip(), "", *section, indent])


def get(name: str | Recipe, **settings: Any) -> Recipe:
    """Make the recipe with a name, for configuration files.

    Args:
      name: one of `recipes.names()`; a recipe is returned unchanged.
      **settings: the settings of the recipe, and patterns for its roles.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      ValueError: if the name is unknown; the message has the nearest ones.
      TypeError: if the recipe has no such setting; the message lists those it has.

    Example:
      >>> import jinit
      >>> jinit.recipes.get("gpt2", num_layers=12, std=0.01)
      recipes.gpt2(num_layers=12, std=0.01)
    """
    if isinstance(name, Recipe):
        if settings:
            raise TypeError(
                f"`name` is {name!r}, a recipe, which takes no settings: "
                f"{sorted(settings)}. Give the name of a recipe, or no settings."
            )
        return name
    checks.choice("name", name, names())
    return RECIPES[name].make(**settings)


def names() -> tuple[str, ...]:
    """Return the names of all recipes, sorted.

    Example:
      >>> import jinit
      >>> {"gpt2", "vit"} < set(jinit.recipes.names())
      True
    """
    return tuple(sorted(RECIPES))


def _made(name: str, settings: Mapping[str, Any]) -> Recipe:
    """Make a recipe again from a pickle."""
    return get(name, **settings)


def symbol(number: Any) -> str:
    """Spell a number for a law, also one that is traced."""
    return numbers.spell(number) if numbers.is_traced(number) else f"{number:g}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) for key in value) and _is_plain(
            [*value.values()]
        )
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _listed(value: Any) -> Any:
    """Return plain data with lists for tuples, which JSON and YAML do not have."""
    if isinstance(value, Mapping):
        return {key: _listed(entry) for key, entry in value.items()}
    return [*map(_listed, value)] if isinstance(value, list | tuple) else value


def _cited(source: Source | Paper) -> str:
    return source.reference if isinstance(source, Paper) else str(source)
