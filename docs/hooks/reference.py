"""The reference: one page for each group of public names, and one for each module."""

import re
from typing import NamedTuple

import jinit
from docs.hooks.formulas import latex
from jinit._initializer.scheme import Entry

# Each module, with a title that says what it is for.
MODULES = {
    "mup": "jinit.mup: learning rates that transfer across width",
    "nnx": "jinit.nnx: models of Flax NNX",
    "random": "jinit.random: samplers",
    "recipes": "jinit.recipes: rules for whole networks",
    "recurrent": "jinit.recurrent: recurrent cells",
    "ssm": "jinit.ssm: state-space layers",
    "theory": "jinit.theory: signals in deep networks",
}


class Page(NamedTuple):
    """A page of the reference has a place in `docs`, a title and public names."""

    path: str
    title: str
    names: tuple[str, ...]


def pages() -> list[Page]:
    """Return every page, in the order of `jinit/__init__.py`."""
    result = []
    for caption, files in jinit._GROUPS.items():
        names = [f"jinit.{name}" for text in files.values() for name in text.split()]
        result.append(Page(f"reference/{_slug(caption)}.md", caption, tuple(names)))
    for module in jinit._MODULES:
        names = [f"jinit.{module}.{name}" for name in dir(getattr(jinit, module))]
        path = f"reference/{module}.md"
        result.append(Page(path, MODULES[module], tuple(names)))
    return result


def public_names() -> set[str]:
    """Return every public name of jinit, its modules' names included."""
    names = {f"jinit.{name}" for name in dir(jinit) if not name.startswith("_")}
    for module in jinit._MODULES:
        names |= {f"jinit.{module}.{name}" for name in dir(getattr(jinit, module))}
    return names


def page_of() -> dict[str, str]:
    """Return the page of each public name; that of a module has the module's names."""
    places = {name: page.path for page in pages() for name in page.names}
    return places | {f"jinit.{m}": f"reference/{m}.md" for m in jinit._MODULES}


def contents() -> str:
    """Return a table of all pages with their names, for the page above them."""
    rows = []
    for page in pages():
        names = [f"[`{_short(name)}`][{name}]" for name in page.names]
        file = page.path.removeprefix("reference/")
        rows.append(f"| [{page.title}]({file}) | {', '.join(names)} |")
    return "\n".join(["| page | names |", "| --- | --- |", *rows])


SCHEMES = "reference/schemes.md"


def schemes() -> str:
    """Return the page with one row for each scheme, in the order of the reference.

    Schemes of modules such as `jinit.ssm` follow those of jinit itself.
    """
    place = {name: number for number, name in enumerate(jinit._FILES)}
    entries = sorted(
        jinit.registry.values(), key=lambda entry: place.get(entry.name, len(place))
    )
    rows = [
        f"| [`{entry.name}`][jinit.{entry.name}] | {_cell(entry.law)} "
        f"| `{entry.formula}` | {_cell(entry.use)} | {_papers(entry)} "
        f"| {_cell(entry.pitfall)} |"
        for entry in entries
    ]
    return f"{SCHEMES_HEAD}\n" + "\n".join(rows) + "\n"


SCHEMES_HEAD = """\
---
hide: [toc]
---

# All schemes

A scheme is an initializer that [`jinit.registry`][jinit.registry] lists. The link in
the first column leads to its formula as it is typeset, its figure and an example.
[`jinit.get("he_normal")`][jinit.get] finds a scheme by its name. The guide [Choosing a
scheme](../guides/schemes.md) leads from a network to its scheme.

| scheme | law | formula | use it for | paper | watch out |
| --- | --- | --- | --- | --- | --- |"""


def _papers(entry: Entry) -> str:
    return "; ".join(f"[{_cell(paper.cite)}]({paper.url})" for paper in entry.papers)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def markdown(page: Page) -> str:
    """Return the text of a page, for mkdocstrings."""
    lines = [f"# {page.title}", ""]
    module = page.path.removeprefix("reference/").removesuffix(".md")
    if module in MODULES:
        lines = [
            f"# {page.title} {{ #jinit.{module} }}",
            "",
            *_introduction(module),
            "",
        ]
    lines += [_contents(page), ""]
    entries = canonical()
    for name in page.names:
        lines += [_entry(name, entries[name]), ""]
    return "\n".join(lines)


def _introduction(module: str) -> list[str]:
    return (getattr(jinit, module).__doc__ or "").strip().splitlines()


def _contents(page: Page) -> str:
    """Return a table of the names, each with the first sentence of its docstring."""
    rows = [f"| [`{_short(name)}`][{name}] | {_summary(name)} |" for name in page.names]
    return "\n".join(["| name | purpose |", "| --- | --- |", *rows])


def _summary(name: str) -> str:
    value = resolve(name)
    if not (callable(value) and hasattr(value, "__name__")):
        return ATTRIBUTES.get(name, "")
    doc = (value.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(doc.split()).replace("|", r"\|").replace("*", r"\*")


# Values have no docstrings of their own.
ATTRIBUTES = {
    "jinit.zeros": "The initializer whose arrays are 0.",
    "jinit.ones": "The initializer whose arrays are 1.",
    "jinit.registry": "A read-only mapping from names to schemes.",
    "jinit.keep": "The right side of a rule that leaves a leaf as it is.",
}


def resolve(name: str) -> object:
    """Return the object of a public name, such as "jinit.ssm.s4d_lin"."""
    value: object = jinit
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    return value


def canonical() -> dict[str, str]:
    """Return the name under which each public name has its entry.

    One object has one entry: a second one would make its links ambiguous.
    """
    first: dict[int, str] = {}
    names = [name for page in pages() for name in page.names]
    return {name: first.setdefault(id(resolve(name)), name) for name in names}


def _entry(name: str, entry_of: str) -> str:
    short = _short(name)
    heading = f"## `{short}` {{ #{name} }}"
    if entry_of != name:
        return f"{heading}\n\nThis is another name of [`{entry_of}`][{entry_of}]."
    if name in ATTRIBUTES:
        return f"{heading}\n\n{ATTRIBUTES[name]}\n\n{card(name)}"
    return f"::: {name}"


def card(name: str) -> str:
    """Return the formula, the facts and the figure of a scheme; "" for other names."""
    entry = jinit.registry.get(name.removeprefix("jinit."))
    if entry is None:
        return ""
    facts = [("law", entry.law), ("use it for", entry.use)]
    facts += [("watch out", entry.pitfall)] if entry.pitfall else []
    facts += [("paper", _papers(entry))] if entry.papers else []
    rows = [f"| {name} | {_cell(text)} |" for name, text in facts]
    picture = (
        '<p class="picture">'
        f'<img class="drawn" src="../../assets/schemes/{entry.name}.png" '
        f'alt="A draw of {entry.name}: its entries, singular values, and their '
        'histogram under the density of the law" '
        'loading="lazy"></p>'
    )
    table = "\n".join(["| | |", "| --- | --- |", *rows])
    return f"$$\n{latex(entry.formula)}\n$$\n\n{table}\n\n{picture}"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _slug(caption: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")
