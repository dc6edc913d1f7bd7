"""A traced function is a list of steps, which this file makes and runs.

The parts of JAX that this relies on are in _internals.py.
"""

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from . import _internals, _threefry
from ._identity import ById, identity, keep, remembered_weakly
from ._internals import body_of, consts_of


class Step(NamedTuple):
    """One equation; what it reads (slots, or literals) and writes (slots)."""

    eqn: JaxprEqn
    reads: tuple[Any, ...]
    writes: tuple[int, ...]


class Listing(NamedTuple):
    """A function as a list of steps over numbered slots.

    The first slots are those of `consts`, then those of the arguments that are `used`.
    """

    steps: list[Step]
    consts: list[Any]
    used: list[bool]
    outputs: list[Any]


def trace(function: Callable, arguments: Sequence[Any]) -> tuple[ClosedJaxpr, Any]:
    """The equations of `function(*arguments)`, and the tree of its results' shapes."""
    # Without `jit` a function inside, such as relu, would lose the name of its call.
    with jax.disable_jit(False):
        return jax.make_jaxpr(function, return_shape=True)(*arguments)


def listing(closed: ClosedJaxpr) -> Listing:
    """The steps that the results need, and no others."""
    kept, used = _internals.without_dead_code(closed.jaxpr)
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
    """The steps of a jaxpr, and in place of a transparent call those of its body."""
    for eqn in jaxpr.eqns:
        reads = tuple(_read(slots, atom) for atom in eqn.invars)
        body = body_of(eqn) if eqn.primitive in _internals.TRANSPARENT else None
        if body is None or body.consts:
            slots.update((var, next(number)) for var in eqn.outvars)
            yield Step(eqn, reads, tuple(slots[var] for var in eqn.outvars))
        else:
            inner = dict(zip(body.jaxpr.invars, reads, strict=True))
            yield from _opened(body.jaxpr, inner, number)
            results = (_read(inner, atom) for atom in body.jaxpr.outvars)
            slots.update(zip(eqn.outvars, results, strict=True))


def is_literal(read: Any) -> bool:
    """Whether a step reads a number that is written into it."""
    return isinstance(read, Literal)


def literal_value(literal: Any) -> np.ndarray:
    """A literal as what an operation outside a `jit` would be given."""
    return np.asarray(literal.val, literal.aval.dtype)


def size(atom: Any) -> int:
    """The number of elements of what an equation reads or writes."""
    return math.prod(getattr(atom.aval, "shape", ()))


def is_key(kind: Any) -> bool:
    """Whether an array, or its type, is one of typed PRNG keys."""
    return jax.dtypes.issubdtype(kind.dtype, jax.dtypes.prng_key)


def raw_type(kind: Any) -> jax.ShapeDtypeStruct:
    """The type of an array, or of the words of a key: programs start faster on them."""
    plain = jax.ShapeDtypeStruct(kind.shape, kind.dtype)
    return jax.eval_shape(jax.random.key_data, plain) if is_key(kind) else plain


def raw(value: Any) -> Any:
    """An array, or the words of a key."""
    return jax.random.key_data(value) if is_key(value) else value


def typed(value: Any, kind: Any) -> Any:
    """What `raw` took apart."""
    if not is_key(kind):
        return value
    return jax.random.wrap_key_data(value, impl=_implementation(kind.dtype))


@functools.lru_cache(maxsize=64)
def _implementation(dtype: Any) -> Hashable:
    found: list[Hashable] = []
    jax.eval_shape(
        lambda key: found.append(jax.random.key_impl(key)),
        jax.ShapeDtypeStruct((), dtype),
    )
    return found[0]


def run(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """The results of one equation; its random bits come from the fused loop."""
    rule = _RULES.get(eqn.primitive) if draws(eqn) and not sums(eqn) else None
    with eqn.ctx.manager:
        if rule is not None:
            return rule(eqn, values)
        return _internals.bind(eqn, values)


def replay(listing: Listing, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of a listing, step by step, as a part of what is being traced."""
    slots = dict(enumerate(inputs))

    def value(read: Any) -> Any:
        return read.val if isinstance(read, Literal) else slots[read]

    for step in listing.steps:
        results = run(step.eqn, list(map(value, step.reads)))
        slots |= zip(step.writes, results, strict=True)
    return list(map(value, listing.outputs))


def spend_keys(listing: Listing, inputs: Sequence[Any]) -> None:
    """Let JAX's checker of key reuse see what a listing does with the keys in `inputs`.

    The checker reads the equations of a `jit`; without results there is nothing to run.
    """
    jax.jit(lambda *inputs: replay(listing, inputs) and None)(*inputs)


def _evaluated(closed: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    jaxpr = closed.jaxpr
    slots = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    slots |= zip(jaxpr.invars, arguments, strict=True)

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else slots[atom]

    for eqn in jaxpr.eqns:
        results = run(eqn, [value(atom) for atom in eqn.invars])
        slots |= zip(eqn.outvars, results, strict=True)
    return [value(atom) for atom in jaxpr.outvars]


def _bits(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    draw = functools.partial(
        _threefry.bits, shape=eqn.params["shape"], width=eqn.params["bit_width"]
    )
    (key,) = values
    for _ in key.shape:
        draw = jax.vmap(draw)
    return [draw(key)]


def _inlined(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    return _evaluated(body_of(eqn), values)


def _scanned(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    body = body_of(eqn)

    def fused(*arguments: Any) -> list[Any]:
        return _evaluated(body, arguments)

    closed = jax.make_jaxpr(fused)(*body.in_avals)
    return eqn.primitive.bind(*values, **(eqn.params | {"jaxpr": closed}))


_RULES: dict[Any, Callable[[JaxprEqn, Sequence[Any]], list[Any]]] = {
    _internals.RANDOM_BITS: _bits,
    _internals.JIT: _inlined,
    _internals.SCAN: _scanned,
}


def draws(eqn: JaxprEqn) -> bool:
    """Whether random bits are drawn in an equation, or inside it."""
    inside = any(map(_draws_inside, _jaxprs(eqn.params.values())))
    return inside or eqn.primitive is _internals.RANDOM_BITS


def may_draw(eqn: JaxprEqn) -> bool:
    """Whether an equation is a sampler: JAX's, or a call, as jinit's own are."""
    return draws(eqn) or eqn.primitive is _internals.JIT


@remembered_weakly
def _draws_inside(jaxpr: Jaxpr) -> bool:
    return any(map(draws, jaxpr.eqns))


def sums(eqn: JaxprEqn) -> bool:
    """Tell whether an equation sums, or has a sum inside it.

    XLA fuses the summed operations into the sum, whose rounding depends on the loop.
    """
    inside = any(map(_sums_inside, _jaxprs(eqn.params.values())))
    return inside or eqn.primitive in _internals.REDUCING


@remembered_weakly
def _sums_inside(jaxpr: Jaxpr) -> bool:
    return any(map(sums, jaxpr.eqns))


def _jaxprs(values: Any) -> Iterator[Jaxpr]:
    for body in _bodies(values):
        yield body if isinstance(body, Jaxpr) else body.jaxpr


def _bodies(values: Any) -> Iterator[Any]:
    """Yield the jaxprs among the parameters of an equation, closed or not."""
    for value in values:
        if isinstance(value, Jaxpr | ClosedJaxpr):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _bodies(value)


def signature(eqn: JaxprEqn) -> Hashable:
    """Return a key that equations share if they do the same to other variables.

    The key keeps neither the equation nor its arrays alive.
    """
    inputs = tuple(_type(atom) for atom in eqn.invars)
    params = tuple((name, _signed(value)) for name, value in eqn.params.items())
    return eqn.primitive, inputs, params, _signed(eqn.ctx)


def _type(atom: Any) -> Hashable:
    return _spelled(atom.aval)


@functools.lru_cache(maxsize=4096)
def _spelled(kind: Any) -> str:
    return str(kind)


def _signed(value: Any) -> Hashable:
    if isinstance(value, Jaxpr | ClosedJaxpr):
        jaxpr = value if isinstance(value, Jaxpr) else value.jaxpr
        return _number_of(jaxpr), tuple(map(ById, consts_of(value)))
    if isinstance(value, (tuple, list)):
        return tuple(map(_signed, value))
    # `==` is too coarse: x**1 is not x**1.0, and a pad of 0.0 is not one of -0.0.
    return identity(value)


# What a jaxpr does -> its number. A number is never given again.
_KNOWN: dict[Hashable, int] = {}
_MOST_KNOWN = 4096
_NUMBERS = itertools.count()


@remembered_weakly
def _number_of(jaxpr: Jaxpr) -> int:
    """Equal for jaxprs that do the same."""
    slots = {v: i for i, v in enumerate((*jaxpr.constvars, *jaxpr.invars))}
    inputs = tuple(map(_type, slots))

    def name(atom: Any) -> Hashable:
        if isinstance(atom, Literal):
            return literal_value(atom).tobytes(), _type(atom)
        return slots[atom]

    lines = []
    for eqn in jaxpr.eqns:
        lines.append((signature(eqn), tuple(map(name, eqn.invars))))
        slots |= {var: len(slots) + i for i, var in enumerate(eqn.outvars)}
    text = inputs, tuple(lines), tuple(map(name, jaxpr.outvars))
    if text not in _KNOWN:
        keep(_KNOWN, text, next(_NUMBERS), _MOST_KNOWN)
    return _KNOWN[text]


def holds_arrays(eqn: JaxprEqn) -> bool:
    """Tell whether an equation, or one inside it, contains arrays."""
    bodies = list(_bodies(eqn.params.values()))
    consts = [const for body in bodies for const in consts_of(body)]
    literals = [atom.val for atom in eqn.invars if isinstance(atom, Literal)]
    inside = any(map(_holds_inside, _jaxprs(eqn.params.values())))
    return inside or any(map(np.ndim, consts + literals))


@remembered_weakly
def _holds_inside(jaxpr: Jaxpr) -> bool:
    return any(map(holds_arrays, jaxpr.eqns))
