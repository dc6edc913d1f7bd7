"""Imports go down only, as the contract in pyproject.toml says."""

import ast
import pathlib

import pytest
from importlinter.cli import lint_imports

ROOT = pathlib.Path(__file__).parents[2]


def test_imports_go_down_only():
    assert lint_imports(str(ROOT / "pyproject.toml")) == 0


def test_the_contract_can_fail(tmp_path):
    contract = (ROOT / "pyproject.toml").read_text()
    broken = contract.replace('"_core",', '"_scale",').replace(
        "| _scale |", "| _core |"
    )
    (tmp_path / "pyproject.toml").write_text(broken)
    assert lint_imports(str(tmp_path / "pyproject.toml")) == 1


def waits_for_its_package(source: str) -> bool:
    """Tell whether a file imports a neighbour as an attribute of their package."""
    nodes = ast.walk(ast.parse(source))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return any(node.level == 1 and node.module is None for node in imports)


@pytest.mark.parametrize("package", ["mup", "nnx", "random", "recipes", "theory"])
def test_files_of_public_packages_do_not_wait_for_their_package(package):
    """`from . import x` waits for `__init__`, which waits for the file itself.

    In one thread Python sees that and goes on. In two threads, of which one loads the
    package and the other one the file, it breaks the deadlock by a half-made module.
    """
    for path in (ROOT / "jinit" / package).glob("_[a-z]*.py"):
        assert not waits_for_its_package(path.read_text()), path.name
    assert waits_for_its_package("def f():\n    from . import _law")
