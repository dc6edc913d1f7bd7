"""Let doctest look for functions in the files that define them.

It would look in the module that a function names, and public functions name the module
in which users find them.
"""

import doctest
import inspect
from typing import Any

_from_module = doctest.DocTestFinder._from_module


def from_module(self: doctest.DocTestFinder, module: Any, value: Any) -> bool:
    """Tell whether the code of a function, or a class, lies in a module."""
    function = inspect.unwrap(value)
    if inspect.isfunction(function):
        return function.__globals__ is vars(module)
    return _from_module(self, module, value)


doctest.DocTestFinder._from_module = from_module
