"""Files stay small and name no machine, and no test imports another test."""

import ast
import re
import subprocess

import pytest

from tests.support.repository import ROOT


@pytest.mark.parametrize("folder", ["jinit", "tests", "examples", "benchmarks", "docs"])
def test_files_stay_small(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path.relative_to(ROOT)


def imported_tests(source: str) -> list[str]:
    """Return the modules of `tests`, other than its support, that a file imports."""
    modules = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "tests." if node.level else ""
            modules += [f"{start}{node.module}.{alias.name}" for alias in node.names]
    return [m for m in modules if re.match(r"tests\b(?!\.support\.)", m)]


def test_no_test_imports_another_test():
    for path in (ROOT / "tests").rglob("*.py"):
        assert not imported_tests(path.read_text()), path.relative_to(ROOT)


def test_the_import_test_can_fail():
    assert not imported_tests("from tests.support import laws\nimport random")
    for wrong in (
        "from tests.plan.test_plan import struct",
        "from tests import test_sweep",
        "from .test_rules import Module",
        "def f():\n    import tests.conftest",
    ):
        assert imported_tests(wrong)


def test_nothing_names_a_machine():
    wrong = re.compile(r"(?<![\w.])/(work|tmp|root|home|opt)/")
    files = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    for name in files:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt"}:
            assert not wrong.search(path.read_text()), name
