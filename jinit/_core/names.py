"""Functions are known by their public names, and misspelled names get suggestions."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any


def did_you_mean(value: object, allowed: Iterable[str], cutoff: float = 0.5) -> str:
    """Return a sentence with the names nearest to `value`, or an empty text.

    Capital letters count as small ones: "GPT2" is near to "gpt2".
    """
    if not isinstance(value, str):  # None, written out, is near to "unet".
        return ""
    names: dict[str, list[str]] = {}
    for name in allowed:
        names.setdefault(name.lower(), []).append(name)
    near = difflib.get_close_matches(value.lower(), list(names), n=3, cutoff=cutoff)
    several = [repr(name) for one in near for name in names[one]]
    return f" Did you mean {' or '.join(several)}?" if several else ""


def absent(module: str, names: Sequence[str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module, which suggests names like a wrong one."""

    def __getattr__(name: str) -> Any:
        # The import system asks for private names, which are no misspelled ones.
        near = "" if name.startswith("_") else did_you_mean(name, names)
        dot = "." if near else ""
        raise AttributeError(f"module {module!r} has no attribute {name!r}{dot}{near}")

    return __getattr__


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
