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


PUBLIC = ("mup", "nnx", "random", "recipes", "theory")


def imports_of(source: str) -> list[ast.ImportFrom]:
    nodes = ast.walk(ast.parse(source))
    return [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level]


def waits_for_its_package(source: str) -> bool:
    """Tell whether a file imports a neighbour as an attribute of their package."""
    return any(node.level == 1 and node.module is None for node in imports_of(source))


def enters_by_a_window(source: str) -> bool:
    """Tell whether a file imports from a file of a public package by its own name."""
    modules = [(node.module or "").partition(".") for node in imports_of(source)]
    return any(package in PUBLIC and file for package, _, file in modules)


# The `__init__` of a public package imports the files of the package. If one thread
# loads the package while another one loads a file, each waits for the other. Python
# breaks the deadlock by an error, or by a half-made module.


@pytest.mark.parametrize("package", PUBLIC)
def test_files_of_public_packages_do_not_wait_for_their_package(package):
    for path in (ROOT / "jinit" / package).glob("_[a-z]*.py"):
        assert not waits_for_its_package(path.read_text()), path.name
    assert waits_for_its_package("def f():\n    from . import _law")


def test_a_public_package_is_loaded_before_its_files():
    for path in (ROOT / "jinit").rglob("*.py"):
        if path.name != "__init__.py":
            assert not enters_by_a_window(path.read_text()), path
    assert enters_by_a_window("from ..random._law import Law")
    assert not enters_by_a_window("from ..random import _law")
