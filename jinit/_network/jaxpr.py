"""A function is traced to equations, and the equations become a flat list of steps.

A call, such as one of `jax.remat`, is replaced by the steps of its body. Steps read and
write numbered slots. JAX's variables cannot serve as slots: a body that is called twice
has the same variables both times. `materialize` cuts the list into programs, and
interpret.py runs the steps. The parts of JAX that this file relies on are in
equations.py.
"""

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from .._core.identity import remembered_weakly
from . import equations
from .equations import body_of, consts_of


class Step(NamedTuple):
    """A step is an equation that reads slots and literals, and writes slots."""

    eqn: JaxprEqn
    reads: tuple[Any, ...]
    writes: tuple[int, ...]


class Listing(NamedTuple):
    """A listing is a function as a list of steps over numbered slots.

    The first slots hold the `consts`, the next ones the arguments that are `used`.
    """

    steps: list[Step]
    consts: list[Any]
    used: list[bool]
    outputs: list[Any]


def trace(
    function: Callable[..., Any], arguments: Sequence[Any]
) -> tuple[ClosedJaxpr, Any]:
    """Return the equations of a call, and the tree of its results' shapes."""
    # Without `jit` a function inside, such as relu, would lose the name of its call.
    with jax.disable_jit(False):
        return jax.make_jaxpr(function, return_shape=True)(*arguments)


def listing(closed: ClosedJaxpr, first: int | None = None) -> Listing:
    """List those steps of a traced function that its results, or the first, need."""
    # This drops the forward pass: an init function returns parameters alone.
    kept, used = equations.without_dead_code(closed.jaxpr, first=first)
    number = itertools.count()
    slots = {var: next(number) for var in (*kept.constvars, *kept.invars)}
    steps = list(_opened(kept, slots, number))
    outputs = [_read(slots, atom) for atom in kept.outvars]
    return Listing(steps, list(closed.consts), used, outputs)


def _read(slots: dict[Any, Any], atom: Any) -> Any:
    return atom if isinstance(atom, Literal) else slots[atom]


def _opened(
    jaxpr: Jaxpr, slots: dict[Any, Any], number: Iterator[int]
) -> Iterator[Step]:
    """Yield the steps of a jaxpr; in the place of a call, the steps of its body."""
    for eqn in jaxpr.eqns:
        reads = tuple(_read(slots, atom) for atom in eqn.invars)
        body = body_of(eqn) if eqn.primitive in equations.TRANSPARENT else None
        # A body with constants would need slots for them, and is rare.
        if body is None or body.consts:
            slots.update((var, next(number)) for var in eqn.outvars)
            yield Step(eqn, reads, tuple(slots[var] for var in eqn.outvars))
        else:
            # The body has a dict of slots for this call alone.
            inner = dict(zip(body.jaxpr.invars, reads, strict=True))
            yield from _opened(body.jaxpr, inner, number)
            results = (_read(inner, atom) for atom in body.jaxpr.outvars)
            slots.update(zip(eqn.outvars, results, strict=True))


def is_literal(read: Any) -> bool:
    """Tell whether a step reads a literal, and not a slot."""
    return isinstance(read, Literal)


def literal_value(literal: Any) -> np.ndarray:
    """Return a literal as the array that an operation outside a `jit` would get."""
    # A literal may be a Python number, whose dtype is in its abstract value alone.
    return np.asarray(literal.val, literal.aval.dtype)


def size(atom: Any) -> int:
    """Return the number of elements of an operand or a result of an equation."""
    # An abstract value that is not an array, such as a token, has no shape.
    return math.prod(getattr(atom.aval, "shape", ()))


def is_key(kind: Any) -> bool:
    """Tell whether an array, or its type, is one of typed PRNG keys."""
    return bool(jax.numpy.issubdtype(kind.dtype, jax.dtypes.prng_key))


def is_threefry(kind: Any) -> bool:
    """Tell whether an array, or its type, is one of keys of JAX's default kind."""
    return is_key(kind) and implementation(kind.dtype) == "threefry2x32"


def raw_type(kind: Any) -> jax.ShapeDtypeStruct:
    """Return the type of an array, or that of the words of a key."""
    plain = jax.ShapeDtypeStruct(kind.shape, kind.dtype)
    return jax.eval_shape(jax.random.key_data, plain) if is_key(kind) else plain


def raw(value: Any) -> Any:
    """Return an array as it is, and a typed key as an array of its words.

    Compiled programs start faster on words than on typed keys.
    """
    return jax.random.key_data(value) if is_key(value) else value


def typed(value: Any, kind: Any) -> Any:
    """Undo `raw`: make typed keys of words if `kind` is a type of keys."""
    if not is_key(kind):
        return value
    return jax.random.wrap_key_data(value, impl=implementation(kind.dtype))


@functools.lru_cache(maxsize=64)
def implementation(dtype: Any) -> Hashable:
    """Return the name of the implementation of a dtype of keys.

    `jax.random.key_impl` takes arrays of keys and no dtypes, so a key is traced.
    """
    names: list[Hashable] = []
    jax.eval_shape(
        lambda key: names.append(jax.random.key_impl(key)),
        jax.ShapeDtypeStruct((), dtype),
    )
    return names[0]


def draws(eqn: JaxprEqn) -> bool:
    """Tell whether an equation draws random bits, or one inside it does."""
    inside = any(map(_draws_inside, _jaxprs(eqn.params.values())))
    return inside or eqn.primitive is equations.RANDOM_BITS


def may_draw(eqn: JaxprEqn) -> bool:
    """Tell whether an equation may be a sampler: it draws bits, or is a `jit`.

    jinit's samplers are functions under `jit`.
    """
    return draws(eqn) or eqn.primitive is equations.JIT


# JAX shares one jaxpr among the calls of a jitted function, so the answers to these
# questions are kept as long as the jaxpr lives.
@remembered_weakly
def _draws_inside(jaxpr: Jaxpr) -> bool:
    return any(map(draws, jaxpr.eqns))


def sums(eqn: JaxprEqn) -> bool:
    """Tell whether an equation sums, or has a sum inside it.

    XLA fuses the summed operations into the sum, whose rounding depends on the loop.
    """
    inside = any(map(_sums_inside, _jaxprs(eqn.params.values())))
    return inside or eqn.primitive in equations.REDUCING


@remembered_weakly
def _sums_inside(jaxpr: Jaxpr) -> bool:
    return any(map(sums, jaxpr.eqns))


def loops(eqn: JaxprEqn) -> bool:
    """Tell whether an equation is a `while`, or one inside it is."""
    inside = any(map(loops_inside, _jaxprs(eqn.params.values())))
    return inside or eqn.primitive is equations.WHILE


@remembered_weakly
def loops_inside(jaxpr: Jaxpr) -> bool:
    """Tell whether one of the equations of a jaxpr is a `while`, or holds one."""
    return any(map(loops, jaxpr.eqns))


def _jaxprs(values: Any) -> Iterator[Jaxpr]:
    for body in _bodies(values):
        yield body if isinstance(body, Jaxpr) else body.jaxpr


def _bodies(values: Any) -> Iterator[Any]:
    """Yield the jaxprs among the parameters of an equation, closed or not."""
    for value in values:
        if isinstance(value, Jaxpr | ClosedJaxpr):
            yield value
        # The branches of a `cond` are a tuple of jaxprs.
        elif isinstance(value, (tuple, list)):
            yield from _bodies(value)


def holds_arrays(eqn: JaxprEqn) -> bool:
    """Tell whether an equation, or one inside it, contains arrays."""
    bodies = list(_bodies(eqn.params.values()))
    consts = [const for body in bodies for const in consts_of(body)]
    literals = [atom.val for atom in eqn.invars if isinstance(atom, Literal)]
    inside = any(map(_holds_inside, _jaxprs(eqn.params.values())))
    # Single numbers do not count: only arrays are worth the care for their memory.
    return inside or any(map(np.ndim, consts + literals))


@remembered_weakly
def _holds_inside(jaxpr: Jaxpr) -> bool:
    return any(map(holds_arrays, jaxpr.eqns))
