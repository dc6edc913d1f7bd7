"""Docstrings: each public object has one, with an example and all its arguments."""

import inspect
import re

import pytest

from tests.support.public import public_objects


@pytest.mark.parametrize("name, value", list(public_objects()))
def test_docstrings(name, value):
    text = inspect.getdoc(value)
    assert text and text.splitlines()[0].endswith((".", ":", "layers"))
    if name not in ("Initializer", "Fans"):
        assert "Example:" in text and ">>> " in text
    if callable(value) and not inspect.isclass(value):
        parameters = inspect.signature(value).parameters
        # The presets refer to what they are presets of.
        if "its arguments and errors" not in text and parameters:
            for parameter in parameters:
                documented = re.search(
                    rf"^\s*(\w+, )*\*{{0,2}}{parameter}\b.*:", text, re.M
                )
                assert documented or name in ("get", "to_config", "from_config"), (
                    parameter
                )
