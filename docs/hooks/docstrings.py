"""An extension of griffe: docstrings as `help` shows them, with formula and figure.

griffe reads files and does not import them. Some docstrings of jinit are completed
when a module is imported: makers get the options of their family, and recipes the code
that they were read from. So the text comes from the objects themselves.
"""

import inspect
import re

import griffe

from docs.hooks import reference
from docs.hooks.docstring_text import markdown


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
