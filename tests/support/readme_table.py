"""Rewrite the README's tables: python -m tests.support.readme_table."""

import jinit
from jinit.recipes._recipe import RECIPES, Source
from tests.support.repository import ROOT

README = ROOT / "README.md"
SCHEMES = ("scheme", "law", "formula", "use it for", "paper", "watch out")
RECIPE_HEAD = ("recipe", "use it for", "laws", "source")


def table() -> str:
    """Return one Markdown row per entry of the registry, in the order of the reference.

    Schemes of modules such as `jinit.ssm` follow those of jinit itself.
    """
    place = {name: number for number, name in enumerate(jinit._FILES)}
    entries = sorted(
        jinit.registry.values(), key=lambda e: place.get(e.name, len(place))
    )
    rows = [(e.name, e.law, e.formula, e.use, e.reference, e.pitfall) for e in entries]
    return _markdown(SCHEMES, rows)


def table_of_recipes() -> str:
    """Return one Markdown row per recipe, sorted by name."""
    rows = [
        (name, entry.use, entry.law, "; ".join(map(_cited, entry.sources)))
        for name, entry in sorted(RECIPES.items())
    ]
    return _markdown(RECIPE_HEAD, rows)


def _cited(source: object) -> str:
    return str(source) if isinstance(source, Source) else source.cite


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head)]
    for name, *words in rows:
        # An unescaped bar would begin a new cell.
        lines.append((f"`{name}`", *(word.replace("|", r"\|") for word in words)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write() -> None:
    """Replace the tables in the README."""
    text = README.read_text()
    for new in (table(), table_of_recipes()):
        start = text.index(new.split("\n", 1)[0])
        end = text.index("\n\n", start)
        text = text[:start] + new + text[end:]
    README.write_text(text)


if __name__ == "__main__":
    write()
