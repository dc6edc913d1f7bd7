"""A scan that draws several parameters is taken apart: each is drawn in a scan alone.

Layers that are stacked by a `scan` draw all their parameters in one body. Compiled
whole, it holds a sampler for each of them, although most have one shape and one law:
two scans of a T5 had 18 samplers, of 3 kinds, and took 2 s each to compile. Here the
keys of all layers are derived first, and then each parameter has a scan over its keys.
The scans of equal parameters are equal, so that one program serves them all. The body
of each scan has the equations that it had before, so that the bits are the same.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from .._network import interpret, jaxpr
from .._network.equations import BROADCAST, SCAN, Scan, scan_of
from .._network.jaxpr import Listing, Step

# A key has one entry, or two to four words; a split of two keys has eight.
_MOST_WORDS = 8


def taken_apart(listing: Listing) -> Listing:
    """Return a listing whose scans of several parameters are scans of one each."""
    slots = (slot for step in listing.steps for slot in step.writes)
    number = itertools.count(max(slots, default=0) + 1)
    steps: list[Step] = []
    for step in listing.steps:
        inside = _taken_apart(step.eqn) if step.eqn.primitive is SCAN else None
        steps += [step] if inside is None else _renumbered(inside, step, number)
    return listing._replace(steps=steps)


def _renumbered(inside: Listing, step: Step, number: Iterator[int]) -> Iterator[Step]:
    """Yield the steps in the place of a step, which read and write the same slots."""
    operands = (r for r, used in zip(step.reads, inside.used, strict=True) if used)
    slots: dict[int, Any] = dict(enumerate(operands))
    slots |= zip(inside.outputs, step.writes, strict=True)
    for eqn, reads, writes in inside.steps:
        read = tuple(r if jaxpr.is_literal(r) else slots[r] for r in reads)
        for slot in writes:
            slots.setdefault(slot, next(number))
        yield Step(eqn, read, tuple(slots[slot] for slot in writes))


def _taken_apart(eqn: JaxprEqn) -> Listing | None:
    """Return the steps of a scan over its operands, or None if it stays whole."""
    scan = scan_of(eqn)
    # With a carry a step depends on the one before, so it cannot be drawn alone. The
    # carry of a model's forward pass is dropped with the forward pass.
    if scan.num_carry or eqn.effects or scan.body.consts or not _has_threefry_keys(eqn):
        return None
    parts = _parts(scan)
    if parts is None:
        return None

    def run(*operands: Any) -> list[Any]:
        return _run(scan, parts, operands)

    avals: list[Any] = [x.aval for x in eqn.invars]
    kinds = [jax.ShapeDtypeStruct(kind.shape, kind.dtype) for kind in avals]
    closed, _ = jaxpr.trace(run, kinds)
    inside = jaxpr.listing(closed)
    computed = {slot for step in inside.steps for slot in step.writes}
    outputs = [None if jaxpr.is_literal(o) else o for o in inside.outputs]
    # Each result needs a slot that it alone has.
    alone = len({*outputs}) == len(outputs) and computed.issuperset(outputs)
    return inside if alone and not inside.consts else None


def _has_threefry_keys(eqn: JaxprEqn) -> bool:
    """Tell whether all keys in a body are threefry's; others may depend on a vmap."""
    body = scan_of(eqn).body.jaxpr
    variables = [*body.invars, *(var for e in body.eqns for var in e.outvars)]
    keys = [var.aval for var in variables if _is_key(var)]
    return all(jaxpr.is_threefry(kind) for kind in keys)


def _is_key(var: Any) -> bool:
    return hasattr(var.aval, "dtype") and jaxpr.is_key(var.aval)


class _Parts(NamedTuple):
    """The parts of a body are equations of keys, and groups that draw parameters.

    A group has its equations, the variables that it reads, and the places of its
    results among those of the body.
    """

    of_keys: list[JaxprEqn]
    groups: list[tuple[list[JaxprEqn], list[Any], list[int]]]


def _parts(scan: Scan) -> _Parts | None:
    body = scan.body.jaxpr
    of_keys, known = _equations_of_keys(body)
    writers = {
        var: i for i, e in enumerate(body.eqns) for var in e.outvars if var not in known
    }
    if not all(output in writers for output in body.outvars):
        return None
    slices = [_slice(body.eqns, writers, output) for output in body.outvars]
    varies = _varying(body, known)
    groups = []
    for places in _sharing([s & varies for s in slices]):
        eqns = [body.eqns[i] for i in sorted(set().union(*(slices[p] for p in places)))]
        inside = {var for e in eqns for var in e.outvars}
        reads = [x for e in eqns for x in e.invars if not isinstance(x, Literal)]
        outside = [x for x in dict.fromkeys(reads) if x not in inside]
        groups.append((eqns, outside, places))
    return _Parts(of_keys, groups) if of_keys or len(groups) > 1 else None


def _equations_of_keys(body: Any) -> tuple[list[JaxprEqn], set[Any]]:
    """Return the equations that derive keys from keys, and all variables of keys."""
    known = {var for var in (*body.invars, *body.constvars) if _is_few_words(var)}
    of_keys = []
    for eqn in body.eqns:
        reads = [x for x in eqn.invars if not isinstance(x, Literal)]
        # An equation of numbers alone is a constant, which belongs to what reads it.
        derives = bool(reads) and known.issuperset(reads) and not jaxpr.draws(eqn)
        if derives and not eqn.effects and all(map(_is_few_words, eqn.outvars)):
            of_keys.append(eqn)
            known.update(eqn.outvars)
    return of_keys, known


def _is_few_words(var: Any) -> bool:
    kind = var.aval
    if not hasattr(kind, "dtype") or jaxpr.size(var) > _MOST_WORDS:
        return False
    return jaxpr.is_key(kind) or jax.numpy.issubdtype(kind.dtype, np.unsignedinteger)


def _slice(
    eqns: Sequence[JaxprEqn], writers: dict[Any, int], output: Any
) -> frozenset[int]:
    """Return the indices of the equations that an output depends on."""
    needed: set[int] = set()
    open_variables = [output]
    while open_variables:
        index = writers.get(open_variables.pop())
        if index is not None and index not in needed:
            needed.add(index)
            reads = eqns[index].invars
            open_variables += [x for x in reads if not isinstance(x, Literal)]
    return frozenset(needed)


def _varying(body: Any, known: set[Any]) -> set[int]:
    """Return the indices of the equations that depend on keys or operands.

    All others compute constants, such as a std, and may stand in several scans.
    """
    varying = known | {*body.invars, *body.constvars}
    indices = set()
    for index, eqn in enumerate(body.eqns):
        if any(not isinstance(x, Literal) and x in varying for x in eqn.invars):
            varying.update(eqn.outvars)
            indices.add(index)
    return indices


def _sharing(slices: Sequence[Iterable[int]]) -> list[list[int]]:
    """Return the places of the slices, in groups that have no equation in common."""
    groups: list[tuple[set[int], list[int]]] = []
    for place, indices in enumerate(slices):
        merged, places = {*indices}, [place]
        for group in [g for g in groups if not g[0].isdisjoint(merged)]:
            groups.remove(group)
            merged |= group[0]
            places = group[1] + places
        groups.append((merged, places))
    return [sorted(places) for _, places in groups]


def _run(scan: Scan, parts: _Parts, operands: Sequence[Any]) -> list[Any]:
    """Derive the keys of all steps, and scan over the keys of each group."""
    body = scan.body.jaxpr
    consts, _, stacked = scan.parts(operands)
    fixed = dict(zip(body.invars[: scan.num_consts], consts, strict=True))
    rows = dict(zip(body.invars[scan.num_consts :], stacked, strict=True))
    reads = {var for _, outside, _ in parts.groups for var in outside}
    derived = [v for e in parts.of_keys for v in e.outvars if v in reads]

    def derive(slices: Sequence[Any]) -> list[Any]:
        values = fixed | dict(zip(rows, slices, strict=True))
        return _evaluated(parts.of_keys, values, derived)

    if derived and rows:
        rows |= zip(derived, jax.vmap(derive)([*rows.values()]), strict=True)
    elif derived:
        fixed |= zip(derived, derive(()), strict=True)
    results: dict[int, Any] = {}
    for eqns, outside, places in parts.groups:
        outputs = [body.outvars[place] for place in places]
        stacked_reads = {var: rows[var] for var in outside if var in rows}
        drawn = _drawn(scan, eqns, outputs, fixed, stacked_reads)
        results |= zip(places, drawn, strict=True)
    return [results[place] for place in range(len(body.outvars))]


def _drawn(
    scan: Scan,
    eqns: Sequence[JaxprEqn],
    outputs: Sequence[Any],
    fixed: dict[Any, Any],
    rows: dict[Any, Any],
) -> Sequence[Any]:
    """Return some stacked results of a scan, from the equations of these alone."""
    only, *others = eqns
    if (
        not others
        and only.primitive is BROADCAST
        and isinstance(only.invars[0], Literal)
    ):
        # Zeros and ones of all steps are one array, which needs no loop.
        number = jaxpr.literal_value(only.invars[0])
        shape = scan.length, *outputs[0].aval.shape
        return [jax.lax.broadcast(number, shape)]

    def step(_: None, slices: Sequence[Any]) -> tuple[None, list[Any]]:
        values = fixed | dict(zip(rows, slices, strict=True))
        return None, _evaluated(eqns, values, outputs)

    length, unroll = scan.length, scan.unroll
    results = jax.lax.scan(step, None, [*rows.values()], length, unroll=unroll)
    stacked: list[Any] = results[1]
    return stacked


def _evaluated(
    eqns: Sequence[JaxprEqn], values: dict[Any, Any], outputs: Sequence[Any]
) -> list[Any]:
    steps = ((eqn, eqn.invars, eqn.outvars) for eqn in eqns)
    return interpret.evaluate(steps, {**values}, outputs, lambda *_: None)
