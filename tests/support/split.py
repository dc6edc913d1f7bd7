"""Split the cases of a test: some run by default, and the others with `-m slow`."""

import pytest


def slow_unless(default, cases):
    """Mark all cases slow but those in `default`, which must be among them.

    Args:
        default: the cases, as tuples, that run by default: one of each kind.
        cases: all cases, as tuples.

    Returns:
        The list of cases that `pytest.mark.parametrize` takes.
    """
    assert set(default) <= set(cases), "a case of the default run is not a case"
    return [
        pytest.param(*case, marks=() if case in default else pytest.mark.slow)
        for case in cases
    ]
