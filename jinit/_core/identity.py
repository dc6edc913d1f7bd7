"""Keys of caches are equal only for values that act exactly alike.

Python's equality is too coarse for a key: 1 == 1.0 == True and 0.0 == -0.0, and a tree
structure or a dataclass that holds them is equal, too. It is also too fine: nan differs
from itself, and JAX's makers return a new closure at each call. Every cache of jinit
that outlives a call takes its keys from here.

A key keeps no array alive. It refers weakly to whatever is compared by identity, so an
entry whose object is gone is never found again.
"""

import dis
import enum
import functools
import hashlib
import struct
import sys
import types
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
import numpy as np

Result = TypeVar("Result")

# To read a larger value costs more than to compute the result anew.
_MOST_NODES = 20_000

_SIMPLE = (type(None), bool, int, str, bytes)

# A NumPy array may change, so its numbers are compared. For a larger one this would
# take more than 10 ms, and it is compared by identity.
_MOST_BYTES = 1 << 24


def identity(value: Any) -> Hashable:
    """Return a key that is equal only for values that act alike.

    Plain data, containers, functions, partial functions, dataclasses and tree
    structures are compared by type and content. Functions of the same code are alike if
    they close over values that are alike and cannot change; all others are compared by
    identity, as in `jax.jit`. Other objects are compared by identity and, since they
    may change, by their attributes. A value that cannot be compared has a key that
    equals no other key.
    """
    kind = type(value)
    if kind in _SIMPLE:
        # Most settings of an equation, of which a large model has ten thousands.
        return kind, value
    try:
        return _Reader().read(value)
    except (_TooLargeError, RecursionError):
        return object()


class ById:
    """This key equals only keys of the same object, and refers to it weakly."""

    __slots__ = ("_hash", "_value")

    def __init__(self, value: Any) -> None:
        self._hash = id(value)
        try:
            self._value: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self._value = lambda: value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ById):
            return NotImplemented
        value = self._value()
        return self is other or (value is not None and value is other._value())

    def __hash__(self) -> int:
        return self._hash


def remembered(most: int) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorate a function to keep its latest `most` results, by exact arguments."""

    def decorated(function: Callable[..., Result]) -> Callable[..., Result]:
        results: dict[Hashable, Result] = {}

        @functools.wraps(function)
        def once(*args: Any) -> Result:
            key = identity(args)
            if key in results:
                return results[key]
            result = function(*args)
            keep(results, key, result, most)
            return result

        return once

    return decorated


def keep(results: dict[Hashable, Any], key: Hashable, result: Any, most: int) -> None:
    """Put a result into a cache that never has more than `most` entries."""
    while len(results) >= most:
        results.pop(next(iter(results), None), None)
    results[key] = result


def remembered_weakly(function: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """Decorate a function of one object to keep a result as long as its object."""
    results: weakref.WeakKeyDictionary[Any, Result] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def once(value: Any) -> Result:
        if value not in results:
            results[value] = function(value)
        return results[value]

    return once


class _TooLargeError(Exception):
    """A value has more parts than a key is worth."""


class _ChangesError(Exception):
    """A function closes over a container, in which it may count its own calls."""


class _Reader:
    """A reader makes the key of one value, also of a value that contains itself."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}
        self._functions = 0
        self._nodes = 0

    def read(self, value: Any) -> Hashable:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise _TooLargeError
        plain = _plain(value)
        if plain is not None:
            return plain
        # A value that contains itself is named by how far above it lies, so two values
        # of the same build have equal keys.
        if id(value) in self._above:
            return "cycle", self._above[id(value)]
        self._above[id(value)] = len(self._above)
        try:
            return self._read(value)
        finally:
            del self._above[id(value)]

    def _read(self, value: Any) -> Hashable:
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return "method", self.read(value.__self__), self.read(value.__func__)
        content = self._content(value)
        # JAX's own values are frozen, and its own caches rely on their equality.
        if content is None and _equals_as_jax_says(value):
            return type(value), value
        if content is None:
            # A class that defines equality and no hash says that its values may change.
            if not _hashes(value):
                return object()
            content = ById(value)
        return type(value), content, self._attributes(value)

    def _content(self, value: Any) -> Hashable | None:
        """Return the keys of the parts of a container; None for any other value."""
        if self._functions and isinstance(value, list | set | dict):
            # A function may count its calls in a container. Its key would then differ
            # at each call, so it is compared by identity, as in `jax.jit`.
            raise _ChangesError
        if isinstance(value, jax.tree_util.PyTreeDef):
            data, children = parts_of(value)
            return self.read(data), tuple(map(self.read, children))
        if isinstance(value, tuple | list):
            return _numbers(value) or tuple(map(self.read, value))
        if isinstance(value, set | frozenset):
            return frozenset(map(self.read, value))
        if isinstance(value, dict):
            return self._items(value)
        if isinstance(value, functools.partial):
            return (
                self.read(value.func),
                self.read(value.args),
                self._items(value.keywords),
            )
        kind: Any = type(value)
        by_fields = hasattr(kind, "__dataclass_fields__")
        if by_fields and not _is_ready_made(kind):
            return "dataclass"
        return None

    def _items(self, named: dict[Any, Any]) -> Hashable:
        return tuple((self.read(key), self.read(x)) for key, x in named.items())

    def _function(self, value: types.FunctionType) -> Hashable:
        self._functions += 1
        try:
            return (
                # Code is equal by its content, so a closure that is made anew at each
                # call finds the entry of the last one.
                value.__code__,
                # The same code has other globals in another module.
                ById(value.__globals__),
                tuple(map(self._cell, value.__closure__ or ())),
                self.read(value.__defaults__),
                self._items(value.__kwdefaults__ or {}),
                self._items(value.__dict__),
                self._items(_named_globals(value)),
            )
        except _ChangesError:
            return types.FunctionType, ById(value)
        finally:
            self._functions -= 1

    def _cell(self, cell: Any) -> Hashable:
        try:
            value = cell.cell_contents
        except ValueError:
            return ById(cell)
        return self.read(value)

    def _attributes(self, value: Any) -> Hashable:
        """Return the key of an object's attributes, which may change."""
        kind: Any = type(value)
        by_fields = hasattr(kind, "__dataclass_fields__")
        if isinstance(value, types.ModuleType) or _is_ready_made(kind):
            return ()
        if self._functions and not by_fields:
            return ()
        attributes = dict(getattr(value, "__dict__", ()))
        if is_linen(kind):
            fields = {k: attributes.get(k) for k in value.__dataclass_fields__}
            scope = attributes.get("scope")
            return self._items(fields), scope and ById(scope)
        # Attributes in slots are not in `__dict__`.
        for base in kind.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                    attributes[name] = getattr(value, name)
        return self._items(attributes)


def _named_globals(function: types.FunctionType) -> dict[str, Any]:
    """Return the globals that a user's function names, and what they are now."""
    around = function.__globals__
    if is_library(around.get("__name__")):
        return {}
    names = sorted(names_in(function.__code__) & around.keys())
    return {name: around[name] for name in names}


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> frozenset[str]:
    """Return the names that code may look up, also by `getattr` and a literal."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= names_in(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            names.add(constant)
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME" and not is_library(instruction.argval):
            names.add("globals")
    return frozenset(names)


def _plain(value: Any) -> Hashable | None:
    """Return the key of a value without parts; None for all others."""
    kind = type(value)
    if kind in _SIMPLE:
        return kind, value
    # Bits tell 0.0 from -0.0, and equal nans have equal bits.
    if kind is float:
        return kind, struct.pack("d", value)
    if kind is complex:
        return kind, struct.pack("dd", value.real, value.imag)
    if isinstance(value, np.generic | np.ndarray) and not value.dtype.hasobject:
        # A digest, since a key that held the numbers would keep a copy of the array
        # alive.
        content = ById(value) if value.nbytes > _MOST_BYTES else _digest(value)
        return kind, value.dtype, value.shape, content
    if isinstance(value, np.dtype):
        return kind, value
    # An array of JAX cannot change, so the object stands for its numbers, and nobody
    # waits for a device to read them.
    if isinstance(value, type | enum.Enum | jax.Array | types.BuiltinFunctionType):
        return kind, ById(value)
    return None


def _digest(array: Any) -> bytes:
    return hashlib.blake2b(array.tobytes(), digest_size=16).digest()


# A table in nested tuples has more numbers than a key may have parts.
def _numbers(values: Any) -> bytes | None:
    """Return the digest of 64 or more Python numbers; None for anything else."""
    if len(values) < 64 or not all(type(x) in (bool, int, float) for x in values):
        return None
    # The text tells apart 1, 1.0 and True, and 0.0 and -0.0; all nans act alike.
    return hashlib.blake2b(repr(list(values)).encode(), digest_size=16).digest()


def _equals_as_jax_says(value: Any) -> bool:
    kind: Any = type(value)
    defines_equality = kind.__eq__ is not object.__eq__
    return defines_equality and _is_ready_made(kind) and _hashes(value)


def _hashes(value: Any) -> bool:
    try:
        hash(value)
    except Exception:
        return False
    return True


@functools.lru_cache(maxsize=1024)
def _is_ready_made(kind: Any) -> bool:
    """Tell whether a type is one of JAX's, which nobody changes."""
    return kind.__module__.partition(".")[0] in ("jax", "jaxlib")


@functools.lru_cache(maxsize=1024)
def is_linen(kind: Any) -> bool:
    """Tell whether a class is a module of flax.linen, without importing it."""
    return any(
        base.__name__ == "Module" and base.__module__.startswith("flax.linen")
        for base in kind.__mro__
    )


@functools.lru_cache(maxsize=4096)
def is_library(module: str | None) -> bool:
    """Tell whether a module is installed or Python's own, so that its code is fixed."""
    root = (module or "").partition(".")[0]
    if root in sys.stdlib_module_names or root == __package__.partition(".")[0]:
        return root != "__main__"
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    # Debian installs its own packages into dist-packages.
    return "site-packages" in file or "dist-packages" in file


def parts_of(structure: Any) -> tuple[Any, list[Any]]:
    """Return the kind and the static data of a tree's root, and its subtrees."""
    return structure.node_data(), structure.children()
