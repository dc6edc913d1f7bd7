"""Functions are known by their public names, and misspelled names get suggestions."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Iterable
from typing import Any


def did_you_mean(value: object, allowed: Iterable[str]) -> str:
    """Return a sentence with the names nearest to `value`, or an empty text."""
    near = difflib.get_close_matches(str(value), list(allowed), n=3, cutoff=0.5)
    if not near:
        return ""
    return " Did you mean " + " or ".join(repr(name) for name in near) + "?"


def publish(module: str, *values: Any) -> None:
    """Let functions name the module in which users find them, in pickles and in help.

    Classes keep the module of their file, since `inspect.getsource` looks there.
    """
    for value in values:
        if inspect.isfunction(value):
            value.__module__ = module


_PUBLIC_MODULES = ("jax.nn", "jax.numpy", "jax.lax", "jax.scipy.special")


def public_name(function: Any) -> str:
    """Return where users find a function, such as `jax.nn.gelu`, or else its name."""
    name = getattr(function, "__name__", "")
    # The module that a function of JAX names is a private one, and has moved before. So
    # the public modules are asked which of them has the function.
    for module_name in _PUBLIC_MODULES:
        module = sys.modules.get(module_name)
        if name and getattr(module, name, None) is function:
            return f"{module_name}.{name}"
    return getattr(function, "__qualname__", repr(function))


def public_function(path: str) -> Any:
    """Return the function that `public_name` named."""
    module_name, _, name = path.rpartition(".")
    function = None
    # A configuration may be a file from anywhere, and must not import what it likes.
    if module_name in _PUBLIC_MODULES:
        function = getattr(importlib.import_module(module_name), name, None)
    if function is None:
        raise ValueError(
            f"{path!r} is not the name of a function in {', '.join(_PUBLIC_MODULES)}; "
            "pass such a function, or the name of an activation."
        )
    return function
