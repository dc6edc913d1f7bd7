"""The table of proofs on the page of a named model: official code, std and test."""

import ast

from jinit.recipes._recipe import Entry, Recipe, Source
from tests.support.official.facts import Fact, Law, law_of
from tests.support.official.networks import PROOFS, leaves

TABLE = "tests/recipes/test_official.py"
NETWORKS = {
    "chat": "a small nanochat",
    "llama": "a small Llama",
    "mixture": "a small mixture of experts",
    "ngpt": "a small nGPT",
    "transformer": "a small pre-norm transformer",
    "towers": "two small towers",
    "towers without a bias": "two small towers",
    "residual": "a small residual network",
    "vit": "a small vision transformer",
}


def section(name: str, entry: Entry, recipe: Recipe) -> list[str]:
    """Return the lines of the section with the proofs of a recipe."""
    proof = PROOFS[name]
    network = NETWORKS.get(proof.network, f"a small `{proof.network}`")
    sizes = ", ".join(f"{size} = {value:g}" for size, value in proof.sizes.items())
    rows = [
        f"| {law.role} | {place(fact, entry)} | {formula(fact)} | {_std(name, fact)} "
        f"| {_checked(fact, law_of(fact, proof.sizes))} |"
        for law, fact in zip(recipe.laws, proof.facts, strict=True)
    ]
    return [
        "## Proofs",
        "",
        "Each law was read from the official code, and is written down in the table as "
        "a formula that a test evaluates. The std is that of the recipe's plan for "
        f"{network}{f' ({sizes})' if sizes else ''}.",
        "",
        "| role | official code | the law there | std in the example | checked |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        EXPLANATION,
        "",
        f"`{TABLE}` checks the table. These tests check more of the recipe:",
        "",
        *(f"- `{test}`" for test in proof.tests),
        "",
    ]


EXPLANATION = """\
In the formulas `normal(s)` has the std s, `truncated(s, c)` is cut at -c and c (at -2
and 2 without c), `uniform(b)` lies between -b and b, n is the number of inputs and m
that of outputs. "Distribution" means that draws are compared with the law by their
moments and by a test of Kolmogorov and Smirnov, "values" that every number is compared
with its formula, and "std" that the official draw has another distribution of the same
std. A "default" is that of the layer in its library."""


def place(fact: Fact, entry: Entry) -> str:
    """Return a link to the lines of the official code, or to the paper."""
    number, _, lines = fact.place.partition(":")
    if not number:
        return "default"
    source = entry.sources[int(number) - 1]
    if not isinstance(source, Source):
        return f"[{source.cite}]({source.url})"
    address = (
        f"https://github.com/{source.repository}/blob/{source.commit}/{source.file}"
    )
    file = source.file.rpartition("/")[2]
    if not lines:
        return f"[`{file}`]({address})"
    first, _, last = lines.partition("-")
    anchor = f"#L{first}-L{last}" if last else f"#L{first}"
    return f"[`{file}`, {'lines' if last else 'line'} {lines}]({address}{anchor})"


def formula(fact: Fact) -> str:
    """Return the formula of a fact as code, or the words of one that is exact."""
    call = ast.parse(fact.formula, mode="eval").body
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    if call.func.id == "exact":
        (words,) = call.args
        assert isinstance(words, ast.Constant) and isinstance(words.value, str)
        return f"`{words.value}`"
    return f"`{fact.formula}`"


def _std(name: str, fact: Fact) -> str:
    if not fact.path:
        return "-"
    std = leaves(name)[fact.path][1]
    sizes = ", ".join(f"{size} = {value:g}" for size, value in fact.sizes.items())
    return "-" if std is None else f"{std:.4g}{f' ({sizes})' if sizes else ''}"


def _checked(fact: Fact, law: Law) -> str:
    if not fact.path:
        return "not in the example"
    if law.family in ("constant", "exact"):
        return "values"
    return "std" if fact.std_only else "distribution"
