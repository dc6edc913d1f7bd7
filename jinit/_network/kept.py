"""Traces of models, and the programs made of them, are kept between calls.

A trace is kept under a key of the model (see behavior.py) and the types of its
arguments, so a second call traces nothing. A program is kept under the form of the
jaxpr that it runs (see signature.py). So a model that is made anew, or whose behavior
cannot be told by looking at it, is traced again, and compiles nothing. Both stores are
small, and hold neither parameters nor batches.
"""

import collections
import itertools
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from . import jaxpr
from .behavior import SMALL
from .signature import form_of

T = TypeVar("T")
Key = Callable[[], Hashable | None]

_STORES: list["Kept[Any]"] = []


def forget() -> None:
    """Forget everything that is kept, as in a fresh process."""
    for store in _STORES:
        store.clear()


class Kept(Generic[T]):
    """A store keeps the latest values by their keys, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self.size = size
        _STORES.append(self)
        self._values: collections.OrderedDict[Hashable, T] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def made(self, key: Key, make: Callable[[], T]) -> T:
        """Return the value of a key, made now where there is none yet.

        The value is kept under the key as it is after `make`. A model may count how
        often it is traced, for example in a list of its module, and so change its key.
        """
        value = self.get(key())
        if value is None:
            value = make()
            self.put(key(), value)
        return value

    def get(self, key: Hashable | None) -> T | None:
        """Return the value of a key, or None; the key counts as just used."""
        with self._lock:
            if key is None or key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: Hashable | None, value: T) -> None:
        """Keep a value; a full store drops the one that was used least recently."""
        with self._lock:
            if key is not None:
                self._values[key] = value
                while len(self._values) > self.size:
                    self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()


class Traced(NamedTuple):
    """A traced function has a jaxpr, constants that it closes over, and results."""

    jaxpr: Jaxpr
    consts: tuple[Any, ...]
    # The tree of the results, and the type of each leaf.
    tree: Any
    types: tuple[Any, ...]
    # Differs from the forms of jaxprs that compute something else.
    form: Hashable
    # The calls of modules that were recorded while the function was traced.
    calls: Any

    @property
    def shapes(self) -> Any:
        """Return the types of the results, as a tree."""
        return jax.tree.unflatten(self.tree, self.types)

    @property
    def bare(self) -> "Traced":
        """Return the trace without its constants, which kept programs must not hold."""
        return self._replace(consts=())

    def run(self, consts: Sequence[Any], *arguments: Any) -> Any:
        """Run the function; a program takes the constants as arguments, too."""
        flat = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, tuple(consts)))
        return jax.tree.unflatten(self.tree, flat(*jax.tree.leaves(arguments)))


TRACES: Kept[Traced] = Kept(64)
PROGRAMS: Kept[Any] = Kept(32)
# A form is a deep tuple, whose hash takes milliseconds; equal ones share one token.
_FORMS: Kept[Hashable] = Kept(128)


def traced(
    key: Key,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    calls: Callable[[], Hashable] = tuple,
) -> Traced:
    """Trace a function, or take the trace of an earlier call with this key.

    Args:
      key: gives the key of what the function computes (see behavior.py), or None if
        that is unknown.
      function: the function.
      arguments: its arguments, or their shapes.
      calls: gives, after the tracing, the calls of modules that were recorded.
    """
    types = types_of(arguments), context()

    def whole() -> Hashable | None:
        model = key()
        return None if model is None else (model, types)

    known = TRACES.get(whole())
    if known is None:
        known = _trace(function, arguments, calls)
        if sum(getattr(x, "nbytes", 0) for x in known.consts) <= SMALL:
            # As in `Kept.made`, under the key as it is after the tracing.
            TRACES.put(whole(), known)
    return known


def _trace(
    function: Callable[..., Any], arguments: Sequence[Any], calls: Callable[[], Any]
) -> Traced:
    closed, shapes = jaxpr.trace(function, arguments)
    leaves, tree = jax.tree.flatten(shapes)
    recorded = calls()
    form = _token((form_of(closed.jaxpr), tree, recorded))
    consts, types = tuple(closed.consts), tuple(leaves)
    return Traced(closed.jaxpr, consts, tree, types, form, recorded)


def _token(form: Hashable) -> Hashable:
    token = _FORMS.get(form)
    if token is None:
        token = object()
        _FORMS.put(form, token)
    return token


def program(key: Hashable, make: Callable[[], Callable[..., Any]]) -> Any:
    """Return the jitted function of a key, made by `make` where there is none yet.

    `make` must close over nothing that the key does not hold.
    """
    return PROGRAMS.made(lambda: key, lambda: jax.jit(make()))


def types_of(tree: Any) -> Hashable:
    """Return the structure of a tree, and shape, dtype and kind of its arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, *map(_type, leaves)


def _type(leaf: Any) -> Hashable:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.shape, leaf.dtype, leaf.weak_type, leaf.sharding
    kind: Hashable = jax.typeof(leaf)
    return kind


_NUMBERS = itertools.count()


@jax.tree_util.register_static
class _Number(int):
    """A jitted function returns this number as a part of its result's structure."""


@jax.jit
def context() -> _Number:
    """Return a number for the settings that a trace depends on, such as x64 and a mesh.

    JAX traces this function anew in each context that it tells apart, which is the
    only public way to ask for them all.
    """
    return _Number(next(_NUMBERS))
