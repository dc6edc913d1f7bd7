"""Traces of models, and the programs made of them, are kept between calls.

A trace is kept under a key of the model (see behavior.py) and the types of its
arguments, so a second call traces nothing. A program is kept under the form of the
jaxpr that it runs (see signature.py). So a model that is made anew, or whose behavior
cannot be told by looking at it, is traced again, and compiles nothing. Both stores are
small, and hold neither parameters nor batches.
"""

import collections
import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

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

    def made(
        self,
        key: Key,
        make: Callable[[], T],
        may_be_kept: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Return the value of a key; make it if the store does not have it.

        The value is kept under the key as it is after `make`. A model may count how
        often it is traced, for example in a list of its module, and so change its key.
        """
        value = self.get(key())
        if value is None:
            value = make()
            if may_be_kept(value):
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


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A traced function has a jaxpr, constants that it closes over, and results."""

    jaxpr: Jaxpr
    consts: tuple[Any, ...]
    # The tree of the results, and the type of each leaf.
    tree: Any
    types: tuple[Any, ...]

    @functools.cached_property
    def form(self) -> Hashable:
        """Return a key: traces with equal forms compute the same (see signature.py)."""
        return _token((form_of(self.jaxpr), self.tree))

    @property
    def shapes(self) -> Any:
        """Return the types of the results, as a tree."""
        return jax.tree.unflatten(self.tree, self.types)

    @property
    def bare(self) -> "Traced":
        """Return the trace without its constants, which kept programs must not hold."""
        bare = dataclasses.replace(self, consts=())
        # The form costs milliseconds, and is that of the jaxpr alone.
        vars(bare)["form"] = self.form
        return bare

    def run(self, consts: Sequence[Any], *arguments: Any) -> Any:
        """Run the function; a program takes the constants as arguments, too."""
        flat = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, tuple(consts)))
        return jax.tree.unflatten(self.tree, flat(*jax.tree.leaves(arguments)))


TRACES: Kept[Traced] = Kept(64)
PROGRAMS: Kept[Any] = Kept(32)
# A form is a deep tuple, whose hash takes milliseconds; equal ones share one token.
_FORMS: Kept[Hashable] = Kept(128)


def traced(key: Key, function: Callable[..., Any], arguments: Sequence[Any]) -> Traced:
    """Trace a function, or take the trace of an earlier call with this key.

    Args:
      key: gives the key of what the function computes (see behavior.py), or None if
        that is unknown.
      function: the function.
      arguments: its arguments, or their shapes.
    """
    types = types_of(arguments), context()

    def full_key() -> Hashable | None:
        model = key()
        return None if model is None else (model, types)

    return TRACES.made(
        full_key,
        lambda: traced_of(*jaxpr.trace(function, arguments)),
        has_small_constants,
    )


def traced_of(closed: ClosedJaxpr, shapes: Any) -> Traced:
    """Return a trace from the equations of a call, and the tree of its results."""
    leaves, tree = jax.tree.flatten(shapes)
    return Traced(closed.jaxpr, tuple(closed.consts), tree, tuple(leaves))


def has_small_constants(trace: Traced) -> bool:
    """Tell whether a trace may be kept: it keeps the arrays of closures alive."""
    return sum(getattr(x, "nbytes", 0) for x in trace.consts) <= SMALL


def _token(form: Hashable) -> Hashable:
    token = _FORMS.get(form)
    if token is None:
        token = object()
        _FORMS.put(form, token)
    return token


def program(key: Hashable, make: Callable[[], Callable[..., Any]]) -> Any:
    """Return the jitted function of a key; make it if the store does not have it.

    `make` must close over nothing that the key does not hold.
    """
    return PROGRAMS.made(lambda: key, lambda: jax.jit(make()))


def types_of(tree: Any) -> Hashable:
    """Return the structure of a tree, and the types of its arrays, as a key."""
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
