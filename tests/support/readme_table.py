"""Rewrite the README's table of schemes: python -m tests.support.readme_table."""

import jinit
from tests.support.repository import ROOT

README = ROOT / "README.md"
HEAD = ("scheme", "law", "formula", "use it for", "paper", "watch out")


def table() -> str:
    """Return one Markdown row per entry of the registry, in the order of the reference.

    Schemes of modules such as `jinit.ssm` follow those of jinit itself.
    """
    rows = [HEAD, ("---",) * len(HEAD)]
    place = {name: number for number, name in enumerate(jinit._FILES)}
    for e in sorted(
        jinit.registry.values(), key=lambda e: place.get(e.name, len(place))
    ):
        words = (e.law, e.formula, e.use, e.reference, e.pitfall)
        # An unescaped bar would begin a new cell.
        cells = [word.replace("|", r"\|") for word in words]
        rows.append((f"`{e.name}`", *cells))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write() -> None:
    """Replace the table in the README."""
    text = README.read_text()
    start = text.index(f"| {HEAD[0]} | {HEAD[1]} |")
    end = text.index("\n\n", start)
    README.write_text(text[:start] + table() + text[end:])


if __name__ == "__main__":
    write()
