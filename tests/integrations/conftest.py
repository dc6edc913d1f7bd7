"""Models of other packages are collected only where `-m` asks for them.

To load their packages takes a minute, which a run of the other tests should not pay. A
file that is named on the command line is collected in any case. The checks that a case
calls slow run with `-m "integrations and slow"`.
"""

import pytest


def pytest_ignore_collect(collection_path, config):
    is_test = collection_path.name.startswith("test_")
    return True if is_test and "integrations" not in config.option.markexpr else None


def pytest_collection_modifyitems(items):
    for item in items:
        case = getattr(getattr(item, "cls", None), "case", None)
        if case is not None and item.originalname.removeprefix("test_") in case.slow:
            item.add_marker(pytest.mark.slow)
