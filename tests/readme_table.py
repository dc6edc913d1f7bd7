"""Print the README's table of schemes: python -m tests.readme_table."""

import jinit


def table() -> str:
    """One row per entry of the registry, in Markdown."""
    head = ("scheme", "law", "formula", "use it for", "paper", "mind")
    rows = [head, ("---",) * 6]
    for e in jinit.registry.values():
        rows.append((f"`{e.name}`", e.law, e.formula, e.use, e.reference, e.pitfall))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table())
