"""A key says what a model, a loss or any other setting computes.

Functions that look at a model would have to trace and compile it at every call, since
Python cannot say whether a function still does what it did. A key holds all that a
function's result depends on: its code, its defaults, the variables of functions around
it, and the globals that it names, with those of the functions and classes among them.
Where something cannot be read, such as an object with a hidden state, there is no key,
and the caller has to trace again: a stale result would be silent, while a second trace
only costs time.
"""

import collections.abc
import dataclasses
import enum
import functools
import hashlib
import sys
import types
from collections.abc import Hashable, Iterator
from typing import Any

import jax
import numpy as np

from ._initializer import Initializer

# Arrays in a closure stay alive as long as a key does, so they have to be small.
SMALL = 1 << 20

_EXACT = (type(None), bool, int, str, bytes, type(Ellipsis))
_CONTAINERS = (tuple, list, set, frozenset, dict)
_NATIVE = (
    types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.MethodWrapperType, types.GetSetDescriptorType, types.MemberDescriptorType,
    np.ufunc,
)  # fmt: skip


class Same:
    """This key equals only keys of the same object, and keeps the object alive."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return hash((Same, id(self.value)))


class _CannotTell(Exception):
    """A value may compute something else without any change that a key could see."""


def key_of(*values: Any) -> Hashable | None:
    """Return a key that two calls share only if the values compute the same.

    Args:
      *values: anything: modules, functions, arrays, settings.

    Returns:
      The key, or None where a value's behaviour cannot be told by looking at it.
    """
    try:
        key = _Walk().key(values)
        hash(key)
    except (_CannotTell, RecursionError, TypeError):
        return None
    return key


class _Walk:
    """A walk makes the key of a value; an object met again becomes a number."""

    def __init__(self) -> None:
        # The objects are kept too: an id means something only while its object lives.
        self._met: dict[int, tuple[int, Any]] = {}
        self._bytes = 0

    def key(self, value: Any) -> Hashable:
        """Return the key of one value.

        Raises:
          _CannotTell: if no key can say what the value computes.
        """
        # The types stand beside the values, since 1 == 1.0 == True.
        if type(value) in _EXACT:
            return type(value), value
        if isinstance(value, (float, complex)):
            return type(value), repr(value)
        if isinstance(value, (np.generic, np.ndarray, jax.Array)):
            return self._array(value)
        if isinstance(value, (tuple, list)) and not _is_sharding(value):
            return type(value), *map(self.key, value)
        if isinstance(value, (set, frozenset)):
            return type(value), frozenset(map(self.key, value))
        if isinstance(value, collections.abc.Mapping):
            pairs = ((self.key(k), self.key(v)) for k, v in value.items())
            return type(value), *pairs
        return self._object(value)

    def _array(self, value: Any) -> Hashable:
        if isinstance(value, jax.core.Tracer) or value.dtype == object:
            raise _CannotTell
        self._bytes += value.nbytes
        if self._bytes > SMALL:
            raise _CannotTell
        if isinstance(value, jax.Array):  # It never changes.
            return Same(value)
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest()
        return type(value), value.shape, str(value.dtype), content

    def _object(self, value: Any) -> Hashable:
        if id(value) in self._met:
            return "again", self._met[id(value)][0]
        self._met[id(value)] = len(self._met), value
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return "method", self.key(value.__func__), self.key(value.__self__)
        if isinstance(value, functools.partial):
            return "partial", *map(self.key, (value.func, value.args, value.keywords))
        if isinstance(value, (types.ModuleType, enum.Enum, *_NATIVE)):
            return Same(value)
        if isinstance(value, (np.dtype, jax.sharding.Mesh)) or _is_sharding(value):
            return type(value), value
        if isinstance(value, jax.tree_util.PyTreeDef):
            return "tree", value, str(value)
        if _is_of_library(value):
            return Same(value)
        if isinstance(value, Initializer):
            if value._is_traced:
                raise _CannotTell
            return value._identity
        return self._made(value)

    def _made(self, value: Any) -> Hashable:
        """Return the key of an instance: of its class and of its content."""
        if callable(getattr(value, "__wrapped__", None)):
            # The settings of a jax.jit(f) or a custom_jvp cannot be read, so the object
            # itself is in the key. What its function names may still change.
            rules = (getattr(value, name, None) for name in ("jvp", "fwd", "bwd"))
            return Same(value), self.key(value.__wrapped__), *map(self._rule, rules)
        if getattr(value, "__dict__", None) == {} and type(value).__bases__ == (
            object,
        ):
            return Same(value)  # A sentinel: without a state, it can only be itself.
        kind = self.key(type(value))
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            extra = (
                vars(value).keys() - set(names) if hasattr(value, "__dict__") else ()
            )
            if not extra or _is_linen(value):
                return kind, *(self.key(getattr(value, name, None)) for name in names)
        leaves, tree = jax.tree.flatten(value)
        if len(leaves) == 1 and leaves[0] is value:
            raise _CannotTell
        return kind, tree, str(tree), *map(self.key, leaves)

    def _rule(self, rule: Any) -> Hashable:
        return self.key(rule) if isinstance(rule, types.FunctionType) else None

    def _class(self, kind: type) -> Hashable:
        parts: list[Hashable] = [Same(kind)]
        for base in kind.__mro__:
            if not _is_library(base.__module__):
                parts += (self._member(n, x) for n, x in list(vars(base).items()))
        return tuple(parts)

    def _member(self, name: str, value: Any) -> Hashable:
        """Return the key of an attribute of a class: of a method, or of a setting."""
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if isinstance(value, property):
            value = value.fget
        if isinstance(value, functools.cached_property):
            value = value.func
        is_setting = isinstance(value, (*_EXACT, float, *_CONTAINERS, np.ndarray))
        if isinstance(value, types.FunctionType) or (is_setting and name[:2] != "__"):
            return self.key(value)
        # A metaclass makes descriptors and tables, such as a dataclass's fields, that
        # have no readable content; the class itself is in the key.
        return Same(value)

    def _function(self, function: types.FunctionType) -> Hashable:
        code = function.__code__
        parts: list[Hashable] = [code]
        parts += (self.key(x) for x in (function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                inside = cell.cell_contents
            except ValueError:  # It is not filled yet.
                continue
            parts.append(self.key(inside))
        if not _is_library(function.__module__):
            parts += self._globals(function.__globals__, set(_names(code)))
        return tuple(parts)

    def _globals(self, around: dict[str, Any], names: set[str]) -> Iterator[Hashable]:
        """Yield keys of the globals that a function names, also in users' modules."""
        for name in sorted(names & around.keys()):
            value = around[name]
            yield name, self.key(value)
            if isinstance(value, types.ModuleType) and not _is_library(value.__name__):
                yield from self._globals(vars(value), names)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_of_library(value: Any) -> bool:
    """Tell whether an object is one that a library holds under the object's name."""
    module, name = (getattr(value, x, None) for x in ("__module__", "__name__"))
    if not (isinstance(module, str) and isinstance(name, str)):
        return False
    holder = sys.modules.get(module)
    return _is_library(module) and getattr(holder, name, None) is value


@functools.lru_cache(maxsize=4096)
def _is_library(module: str | None) -> bool:
    """Tell whether a module is installed or Python's own, so that its code is fixed."""
    root = (module or "").partition(".")[0]
    if root in sys.stdlib_module_names or root == __package__:
        return root != "__main__"
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file


def _is_linen(value: Any) -> bool:
    return any(
        kind.__name__ == "Module" and kind.__module__.startswith("flax.linen")
        for kind in type(value).__mro__
    )


def _is_sharding(value: Any) -> bool:
    return isinstance(value, (jax.sharding.Sharding, jax.sharding.PartitionSpec))
