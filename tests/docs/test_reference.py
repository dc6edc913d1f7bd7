"""Every public name has one entry in the reference, with the facts of its scheme."""

import re

import pytest

import jinit
from docs.hooks import models, reference
from jinit.recipes._recipe import RECIPES

TEXTS = {page.path: reference.markdown(page) for page in reference.pages()}


def test_every_public_name_is_on_one_page():
    names = [name for page in reference.pages() for name in page.names]
    assert len(names) == len(set(names))
    modules = {f"jinit.{module}" for module in jinit._MODULES}
    assert {*names} | modules == reference.public_names() == {*reference.page_of()}


def test_every_public_name_has_an_entry():
    everything = "\n".join(TEXTS.values())
    entries = re.findall(r"^::: ([\w.]+)$|^#+ .*\{ #([\w.]+) \}$", everything, re.M)
    assert sorted(a or b for a, b in entries) == sorted(reference.public_names())


def test_one_object_has_one_entry():
    assert reference.canonical()["jinit.xavier_normal"] == "jinit.glorot_normal"
    assert (
        "another name of [`jinit.glorot_normal`]"
        in (TEXTS["reference/jax-s-variance-scaling.md"])
    )
    # Docstrings are written once for each object.
    shown = re.findall(r"^::: ([\w.]+)$", "\n".join(TEXTS.values()), re.M)
    assert len({id(reference.resolve(name)) for name in shown}) == len(shown)


@pytest.mark.parametrize("name", jinit.registry)
def test_a_scheme_has_a_card(name):
    entry, card = jinit.registry[name], reference.card(f"jinit.{name}")
    assert card.startswith("$$\n") and f"assets/schemes/{name}.png" in card
    assert entry.use.replace("|", r"\|") in card
    assert all(paper.url in card for paper in entry.papers)
    assert ("watch out" in card) == bool(entry.pitfall)


def test_one_table_has_every_scheme():
    lines = [line for line in reference.schemes().splitlines() if line[:1] == "|"]
    # A bar in code, or one that is escaped, begins no cell.
    bars = [re.sub(r"`[^`]*`|\\\|", "", line).count("|") for line in lines]
    assert {*bars} == {7}
    for name, entry in jinit.registry.items():
        (row,) = (line for line in lines if f"[`{name}`][jinit.{name}]" in line)
        assert all(paper.url in row for paper in entry.papers)
        assert entry.use.replace("|", r"\|") in row


def test_other_names_have_no_card():
    assert reference.card("jinit.plan") == ""


def test_every_recipe_has_a_page():
    pages = models.pages(with_proofs=False)
    assert [*pages] == models.paths()
    assert {*pages} == {f"guides/models/{name}.md" for name in (*RECIPES, "index")}
    llama = pages["guides/models/llama3.md"]
    assert (
        r"\mathcal{TN}\left(0,\; \frac{0.02^{2}}{2\,\left(l + 1\right)}\right)" in llama
    )
    assert "https://github.com/pytorch/torchtitan/blob/b5bcd76/" in llama
    for name in RECIPES:
        assert f"]({name}.md)" in pages["guides/models/index.md"]
        # A bar would end the cell of a table.
        table = pages[f"guides/models/{name}.md"].split("\n\n")[1]
        assert {line.count("|") for line in table.splitlines()} == {4}


def test_a_page_has_a_proof_of_each_law():
    page = models.page("llama3")
    table = page.split("## Proofs")[1].split("\n\n")[2].splitlines()
    assert {line.count("|") for line in table} == {6}
    assert len(table) == 2 + len(jinit.recipes.llama3().laws)
    (row,) = (line for line in table if line.startswith("| readout |"))
    assert "/torchtitan/models/llama3/__init__.py#L54-L59)" in row
    assert "`truncated(d**-0.5, 3 * d**-0.5)` | 0.1233 | distribution |" in row
