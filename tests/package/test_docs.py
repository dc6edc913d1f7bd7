"""The README is one screen of text whose code runs and whose facts are true."""

import re

import pytest

import jinit
from jinit.recipes._recipe import RECIPES
from tests.support.repository import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
LINKS = re.findall(r"\]\(([^)\s]+)\)", README)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_code_of_the_readme_runs(number, quick_compilation):
    exec(compile(BLOCKS[number], f"README block {number}", "exec"), {})


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("link", sorted({*LINKS}))
def test_a_link_of_the_readme_leads_to_a_file(link):
    assert (ROOT / link).is_file()


def test_the_readme_counts_right():
    assert f"all {len(jinit.registry)} schemes" in README
    assert f"**{len(RECIPES)} recipes**" in README


@pytest.mark.parametrize("command", ["main", "test"])
def test_the_commands_have_the_marks_that_continuous_integration_reads(command):
    (text,) = re.findall(rf"<!-- {command} -->\n(.*?)<!-- end -->", README, re.S)
    assert re.fullmatch(r"```sh\npython3 -m venv [^\n]*\n```\n", text)


def test_every_example_that_runs_by_itself_is_named():
    named = re.search(r"`python -m examples\.NAME`: (.*?) \|", README)[1]
    scripts = {path.stem for path in (ROOT / "examples").glob("[a-z]*.py")}
    assert {*re.findall(r"`(\w+)`", named)} == scripts - {"compare_schemes"}
