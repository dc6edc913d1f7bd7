"""The plan of a transformer, which the tests of plans share."""

import pytest

import jinit
from tests.support.plans import RULES, SHAPES


@pytest.fixture(scope="module")
def plan():
    return jinit.plan(SHAPES, RULES)
