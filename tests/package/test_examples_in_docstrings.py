"""The examples in the docstrings of public functions run.

`--doctest-modules` runs all other examples. It leaves out a function whose `__module__`
is the module in which users find it, and not the file that defines it.
"""

import doctest
import inspect

import pytest

import jinit.nnx
from tests.support.public import public_objects

FUNCTIONS = {
    name: value for name, value in public_objects() if inspect.isfunction(value)
} | {f"nnx.{name}": getattr(jinit.nnx, name) for name in jinit.nnx.__all__}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_of_a_function_run(name):
    tests = doctest.DocTestFinder().find(FUNCTIONS[name], name, module=False, globs={})
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    results = [runner.run(test) for test in tests]
    assert sum(result.attempted for result in results)
    assert not sum(result.failed for result in results)


def test_a_wrong_example_fails():
    def double(x):
        """Double a number.

        >>> 2 * 2
        5
        """

    (test,) = doctest.DocTestFinder().find(double, "double", module=False, globs={})
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    assert runner.run(test, out=lambda text: None).failed == 1
