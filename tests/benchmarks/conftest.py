"""The images on which small runs of the benchmarks train."""

import pytest

from examples import _data


@pytest.fixture(scope="session")
def images():
    return _data.digits()
