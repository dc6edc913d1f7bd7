"""A key says what a model, a loss or any other setting computes.

Functions that look at a model would have to trace and compile it at every call, since
Python cannot say whether a function still does what it did. A key holds all that a
function's result depends on: its code, its defaults, the variables of functions around
it, and the globals that it names, with those of the functions and classes among them.
Where something cannot be read, such as an object with a hidden state, there is no key,
and the caller has to trace again: a stale result would be silent, while a second trace
only costs time.

The keys of `_core/identity.py` are shallower on purpose. They never fail and cost
microseconds, for caches whose values are functions of plain settings: where they cannot
look into an object, they compare it by identity, and do not read its class.
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

from .._core.identity import ById, is_library, is_linen, names_in
from .._initializer.base import Initializer

# A trace keeps the arrays of a closure alive, and NumPy's are hashed at every call, so
# no key is made for more bytes than these.
SMALL = 1 << 20

_EXACT = (type(None), bool, int, str, bytes, type(Ellipsis))
_CONTAINERS = (tuple, list, set, frozenset, dict)
_NATIVE = (
    types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.MethodWrapperType, types.GetSetDescriptorType, types.MemberDescriptorType,
    np.ufunc,
)  # fmt: skip


class _CannotTell(Exception):
    """A value may compute something else without any change that a key could see."""


def key_of(*values: Any) -> Hashable | None:
    """Return a key that two calls share only if the values compute the same.

    Args:
      *values: anything: modules, functions, arrays, settings.

    Returns:
      The key, or None where a value's behavior cannot be told by looking at it.
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
        if type(value) in (float, complex):
            return type(value), repr(value)
        if isinstance(value, (np.generic, np.ndarray, jax.Array)):
            return self._array(value)
        if _is_sharding(value) or not _is_container(value):
            return self._object(value)
        if isinstance(value, (set, frozenset)):
            return type(value), frozenset(map(self.key, value))
        if isinstance(value, collections.abc.Mapping):
            pairs = ((self.key(k), self.key(v)) for k, v in value.items())
            return type(value), *pairs
        return self.key(type(value)), *map(self.key, value)

    def _array(self, value: Any) -> Hashable:
        if isinstance(value, jax.core.Tracer) or value.dtype == object:
            raise _CannotTell
        self._bytes += value.nbytes
        if self._bytes > SMALL:
            raise _CannotTell
        if isinstance(value, jax.Array):  # It never changes.
            return ById(value)
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
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if isinstance(value, enum.Enum):
            return ById(value), self.key(type(value))
        if isinstance(value, _NATIVE):
            # A method of an object, such as dict.get, gives what the object holds.
            owner = getattr(value, "__self__", None)
            if not (owner is None or isinstance(owner, (types.ModuleType, type))):
                raise _CannotTell
            return ById(value)
        if isinstance(value, (np.dtype, jax.sharding.Mesh)) or _is_sharding(value):
            return type(value), value
        if isinstance(value, jax.tree_util.PyTreeDef):
            return "tree", value, str(value)
        if _is_of_library(value):
            return ById(value)
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
            return ById(value), self.key(value.__wrapped__), *map(self._rule, rules)
        if getattr(value, "__dict__", None) == {} and type(value).__bases__ == (
            object,
        ):
            # A sentinel, or a callable object whose class says what it computes.
            return ById(value), self.key(type(value))
        kind = self.key(type(value))
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            extra = getattr(value, "__dict__", {}).keys() - set(names)
            cls: Any = type(value)
            if not extra or is_linen(cls):
                return kind, *(self.key(getattr(value, name, None)) for name in names)
        leaves, tree = jax.tree.flatten(value)
        if len(leaves) == 1 and leaves[0] is value:
            raise _CannotTell
        return kind, tree, str(tree), *map(self.key, leaves)

    def _module(self, module: types.ModuleType) -> Hashable:
        """Return the key of a module that no global names: only a library's has one."""
        if not is_library(module.__name__):
            raise _CannotTell
        return ById(module)

    def _rule(self, rule: Any) -> Hashable:
        return self.key(rule) if isinstance(rule, types.FunctionType) else None

    def _class(self, kind: type) -> Hashable:
        parts: list[Hashable] = [ById(kind)]
        for base in kind.__mro__:
            if not is_library(base.__module__):
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
        is_table = name[:2] == "__" or hasattr(value, "__get__")
        if isinstance(value, types.FunctionType) or not is_table:
            return self._attribute(name, value)[1]
        # A metaclass makes descriptors and tables, such as a dataclass's fields, that
        # have no readable content; the class itself is in the key.
        return self.key(value) if type(value) in _EXACT else ById(value)

    def _attribute(self, name: str, value: Any) -> tuple[str, Hashable]:
        """Return the key of an attribute of a class or of a function."""
        has_state = hasattr(value, "__dict__") and not isinstance(value, type)
        if is_library(type(value).__module__) and not has_state and not _is_read(value):
            return name, ById(value)
        return name, self.key(value)

    def _function(self, function: types.FunctionType) -> Hashable:
        code = function.__code__
        parts: list[Hashable] = [code]
        parts += (self.key(x) for x in (function.__defaults__, function.__kwdefaults__))
        parts += (self._attribute(n, x) for n, x in function.__dict__.items())
        for cell in function.__closure__ or ():
            try:
                inside = cell.cell_contents
            except ValueError:  # It is not filled yet.
                continue
            parts.append(self.key(inside))
        # `functools.wraps` copies the name of another module into `__module__`.
        if not is_library(function.__globals__.get("__name__")):
            names = set(names_in(code))
            if names & _LOOKED_UP:
                raise _CannotTell
            parts += self._globals(function.__globals__, names)
        return tuple(parts)

    def _globals(self, around: dict[str, Any], names: set[str]) -> Iterator[Hashable]:
        """Yield keys of the globals that a function names, also in users' modules."""
        for name in sorted(names & around.keys()):
            value = around[name]
            if isinstance(value, types.ModuleType) and not is_library(value.__name__):
                yield name, ById(value)
                yield from self._globals(vars(value), names)
            else:
                yield name, self.key(value)


# What a function looks up by these names is not among its globals.
_LOOKED_UP = {"globals", "locals", "vars", "eval", "exec", "environ", "getenv"}


def _is_read(value: Any) -> bool:
    """Tell whether a value of a library's type has contents that a key can hold."""
    plain = (*_EXACT, float, complex, *_CONTAINERS, np.generic, np.ndarray, jax.Array)
    return isinstance(value, (*plain, type, collections.abc.Mapping))


def _is_container(value: Any) -> bool:
    """Tell whether a value is its contents, and no more."""
    if isinstance(value, collections.abc.Mapping):
        return type(value) is dict or is_library(type(value).__module__)
    is_named_tuple = isinstance(value, tuple) and hasattr(value, "_fields")
    return type(value) in _CONTAINERS or is_named_tuple


def _is_of_library(value: Any) -> bool:
    """Tell whether an object is one that a library holds under the object's name."""
    module, name = (getattr(value, x, None) for x in ("__module__", "__name__"))
    if not (isinstance(module, str) and isinstance(name, str)):
        return False
    holder = sys.modules.get(module)
    return is_library(module) and getattr(holder, name, None) is value


def _is_sharding(value: Any) -> bool:
    return isinstance(value, (jax.sharding.Sharding, jax.sharding.PartitionSpec))
