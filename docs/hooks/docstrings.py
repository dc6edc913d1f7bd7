"""An extension of griffe: docstrings as `help` shows them, with formula and figure.

griffe reads files and does not import them. Some docstrings of jinit are completed
when a module is imported: makers get the options of their family, and recipes the code
that they were read from. So the text comes from the objects themselves.
"""

import inspect
import re
import textwrap

import griffe

from docs.hooks import reference
from jinit._core import papers
from jinit._core.papers import Paper

BY_TITLE = {p.title: p for p in vars(papers).values() if isinstance(p, Paper)}
SECTION = re.compile(r"^(References|Sources|See):\n((?:  +\S.*\n?|\n(?=  ))+)", re.M)
# The options of a family, which stand indented below "**options".
OPTIONS = re.compile(
    r"^  \*\*options: [^\n]*\n((?:    +\w+: .*\n(?:      +.*\n)*)+)", re.M
)
# A name in backquotes, perhaps with the arguments of a call.
NAME = re.compile(r"`(jinit(?:\.\w+)+)(\([^`]*\))?`(?!\])")


class Docstrings(griffe.Extension):
    """Replace the docstrings and signatures of public names by those at run time."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """Visit every public name once the package has been read."""
        if pkg.name != "jinit":
            return
        for name, entry in reference.canonical().items():
            value = reference.resolve(name)
            if name == entry and callable(value) and hasattr(value, "__name__"):
                item = pkg[name.removeprefix("jinit.")]
                target = item.final_target if item.is_alias else item
                self._rewrite(target, value, name)
                if isinstance(target, griffe.Function):
                    options = pkg["_schemes.fan_options.FanOptions"]
                    _complete(target, value, options)

    def _rewrite(self, item: griffe.Object, value: object, name: str) -> None:
        doc = inspect.getdoc(value)
        if item.docstring is not None and doc:
            text = markdown(doc, reference.card(name))
            if isinstance(value, type) and issubclass(value, tuple):
                # griffe knows the fields of a named tuple as attributes.
                text = re.sub(r"^Args:$", "Attributes:", text, flags=re.M)
            item.docstring.value = text
        for short, member in [*item.members.items()]:
            if short.startswith("_") and not member.is_alias and member.is_attribute:
                # Private fields of a dataclass are not for its users.
                del item.members[short]
            elif not short.startswith("_") and not member.is_alias and member.docstring:
                member.docstring.value = markdown(member.docstring.value, "")


def _complete(item: griffe.Function, value: object, options: griffe.Object) -> None:
    """Give a maker the options that its decorator wrote into the signature.

    Their annotations are those of `FanOptions`, as they are written there.
    """
    parameters = inspect.signature(value).parameters  # type: ignore[arg-type]
    if {*parameters} == {parameter.name for parameter in item.parameters}:
        return
    kept = [p for p in item.parameters if p.name in parameters]
    names = {parameter.name for parameter in kept}
    item.parameters = griffe.Parameters(
        *kept,
        *(
            griffe.Parameter(
                name,
                kind=griffe.ParameterKind.keyword_only,
                annotation=options[name].annotation,
                default=repr(parameter.default),
            )
            for name, parameter in parameters.items()
            if name not in names
        ),
    )


def markdown(doc: str, card: str) -> str:
    """Return a docstring with its card, lists of papers, and links between names."""
    first, blank, rest = inspect.cleandoc(doc).partition("\n\n")
    text = f"{first}\n\n{card}\n\n{rest}" if card else first + blank + rest
    text = OPTIONS.sub(
        lambda match: textwrap.indent(textwrap.dedent(match[1]), "  "), text + "\n"
    )
    text = SECTION.sub(_listed, text)
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
    return "\n".join(map(_linked, text.splitlines()))


def _listed(match: re.Match[str]) -> str:
    """Return the entries of a section as a list, papers with their addresses."""
    entries = re.split(r"\n(?=\S)", textwrap.dedent(match[2]).strip())
    lines = [f"- {_cited(' '.join(entry.split()))}" for entry in entries]
    return "\n".join([f"**{match[1]}**", "", *lines, ""])


def _cited(entry: str) -> str:
    title = re.search(r'"(.+?)"', entry)
    paper = BY_TITLE.get(title[1]) if title else None
    if title is None or paper is None:
        return entry
    return entry.replace(f'"{title[1]}"', f'"[{title[1]}]({paper.url})"')


def _linked(line: str) -> str:
    """Link the public names of a line that is no code."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    places = reference.page_of()
    return NAME.sub(
        lambda match: f"[{match[0]}][{match[1]}]" if match[1] in places else match[0],
        line,
    )
