"""The README's code runs, and its tables are the registries."""

import re

import pytest

from tests.support.readme_table import table, table_of_recipes
from tests.support.repository import ROOT


def readme() -> str:
    return (ROOT / "README.md").read_text()


def readme_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", readme(), re.M | re.S)


@pytest.mark.parametrize("number", range(len(readme_blocks())))
def test_the_code_of_the_readme_runs(number, quick_compilation):
    exec(compile(readme_blocks()[number], f"README block {number}", "exec"), {})


def test_the_readme_s_table_is_the_registry():
    assert table() in readme(), "run: python -m tests.support.readme_table"


def test_the_readme_s_table_of_recipes_is_their_registry():
    assert table_of_recipes() in readme(), "run: python -m tests.support.readme_table"
