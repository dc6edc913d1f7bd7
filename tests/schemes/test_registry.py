"""The registry: which schemes it has, in which order, and their short references."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

import jinit
from jinit._core import papers

PACKAGE = pathlib.Path(jinit.__file__).parent


def test_every_decorated_maker_has_an_entry_of_its_own():
    # Two schemes of one name would leave one entry.
    decorators = sum(
        line.startswith("@scheme(")
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text().splitlines()
    )
    assert decorators == len(jinit.registry) > 60


@pytest.mark.parametrize("first", ["jinit.ssm.s4d_lin", "jinit.stft", "jinit.he"])
def test_the_order_does_not_depend_on_what_is_used_first(first):
    code = f"import jinit\n{first}\nprint(*jinit.registry)"
    names = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert names == list(jinit.registry) == sorted(jinit.registry)


def test_an_entry_names_its_papers():
    assert jinit.registry["he"].paper is papers.HE_2015
    assert jinit.registry["he"].reference == "He et al. (2015)"
    two = jinit.registry["lecun_normal"]
    assert two.paper == (papers.LECUN_1998, papers.KLAMBAUER_2017)
    assert two.reference == "LeCun et al. (1998); Klambauer et al. (2017)"
    assert jinit.registry["zeros"].paper is None
    assert jinit.registry["zeros"].reference == "-"


def test_an_entry_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        jinit.registry["he"].law = "uniform"
    with pytest.raises(TypeError):
        jinit.registry["mine"] = jinit.registry["he"]
