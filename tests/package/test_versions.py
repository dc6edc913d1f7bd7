"""The lowest versions that are tested are those that pyproject.toml allows."""

import re
import tomllib

import jinit
from tests.support.repository import ROOT


def test_the_floor_is_what_pyproject_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floor = (ROOT / "tests" / "floor.txt").read_text()
    pinned = dict(re.findall(r"^(\w+)==([\d.]+)$", floor, re.M))
    declared = dict(
        re.fullmatch(r"(\w+)>=([\d.]+)", d).groups() for d in project["dependencies"]
    )
    assert pinned == declared
    assert project["version"] == jinit.__version__
