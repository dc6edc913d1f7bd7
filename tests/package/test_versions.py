"""The version, and the lowest versions that are tested, agree in all files."""

import re
import tomllib

import jinit
from tests.support.repository import ROOT


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def first(pattern: str, file: str) -> str:
    return re.search(pattern, (ROOT / file).read_text(), re.M)[1]


def test_the_version_is_the_same_everywhere():
    version = project()["version"]
    assert jinit.__version__ == version
    assert first(r"^version: (\S+)$", "CITATION.cff") == version
    # The newest release is the first section of the changelog that has a version.
    assert first(r"^## \[(\d\S*)\]", "CHANGELOG.md") == version


def test_the_date_of_the_release_is_the_same_everywhere():
    date = first(r"^date-released: (\S+)$", "CITATION.cff")
    assert first(r"^## \[\d\S*\] - (\S+)$", "CHANGELOG.md") == date


def test_the_floor_is_what_pyproject_says():
    pinned = dict(
        re.findall(
            r"^(\w+)==([\d.]+)$", (ROOT / "tests" / "floor.txt").read_text(), re.M
        )
    )
    declared = dict(
        re.fullmatch(r"(\w+)>=([\d.]+)", d).groups() for d in project()["dependencies"]
    )
    assert pinned == declared


def test_the_lowest_python_is_the_same_everywhere():
    lowest = project()["requires-python"].removeprefix(">=")
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(project()["classifiers"]))
    assert pythons[0] == lowest
    assert first(r"Python (3\.\d+) or newer", "README.md") == lowest
    assert first(r"Python (3\.\d+) or newer", "docs/start/install.md") == lowest
    # Each Python of a classifier is tested by the workflow.
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert all(f'"{python}"' in workflow for python in pythons)
