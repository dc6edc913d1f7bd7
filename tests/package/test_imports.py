"""Imports go down only, as the contract in pyproject.toml says."""

import pathlib

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
