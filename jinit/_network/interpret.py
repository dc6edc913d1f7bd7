"""One loop evaluates the equations of a traced function, with the help of a handler.

The loop goes through the equations of a traced function in their order and asks the
handler for the results of each. Where the handler returns None, JAX runs the equation.
So a new way to look at a traced function is a new handler: jinit's random bits
(`fused`), named values (taps.py), the law of a signal (`_from_data/propagation.py`) and
arrays of equal entries (`mup/_equal_entries.py`). The values may be anything that the
handler understands. Constants and literals reach it as the arrays and numbers that they
are.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from ..random import _threefry
from . import equations
from .equations import JIT, RANDOM_BITS, SCAN, body_of, scan_of
from .jaxpr import Listing, draws, sums

# handler(equation, values of its operands) -> its results, or None for "run it".
Handler = Callable[[JaxprEqn, list[Any]], Sequence[Any] | None]


def interpret(
    jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any], handler: Handler
) -> list[Any]:
    """Return the results of a jaxpr, equation by equation, as the handler says."""
    slots = dict(zip(jaxpr.constvars, consts, strict=True))
    slots |= zip(jaxpr.invars, arguments, strict=True)
    return evaluate(_freeing(jaxpr, slots), slots, jaxpr.outvars, handler)


def _freeing(
    jaxpr: Jaxpr, slots: dict[Any, Any]
) -> Iterator[tuple[JaxprEqn, Sequence[Any], Sequence[Any]]]:
    """Yield a jaxpr's equations, and drop each value behind the last that reads it.

    Otherwise all activations of a model that is run here would be in memory at once.
    """
    last: dict[Any, int] = {}
    for number, eqn in enumerate(jaxpr.eqns):
        variables = [x for x in eqn.invars if not isinstance(x, Literal)]
        last |= dict.fromkeys([*variables, *eqn.outvars], number)
    for output in jaxpr.outvars:
        if not isinstance(output, Literal):
            last.pop(output, None)
    dropped: dict[int, list[Any]] = {}
    for variable, number in last.items():
        dropped.setdefault(number, []).append(variable)
    for number, eqn in enumerate(jaxpr.eqns):
        yield eqn, eqn.invars, eqn.outvars
        for variable in dropped.get(number, ()):
            del slots[variable]


def evaluate(
    steps: Iterable[tuple[JaxprEqn, Sequence[Any], Sequence[Any]]],
    slots: dict[Any, Any],
    outputs: Sequence[Any],
    handler: Handler,
) -> list[Any]:
    """Run steps, which read slots and fill others; return the values of the outputs."""

    def value(read: Any) -> Any:
        return read.val if isinstance(read, Literal) else slots[read]

    for eqn, reads, writes in steps:
        results = run(eqn, list(map(value, reads)), handler)
        slots |= zip(writes, results, strict=True)
    return list(map(value, outputs))


def run(eqn: JaxprEqn, values: list[Any], handler: Handler) -> Sequence[Any]:
    """Return the results of one equation: the handler's, or else JAX's."""
    results = handler(eqn, values)
    return equations.bind(eqn, values) if results is None else results


def inside(eqn: JaxprEqn, values: Sequence[Any], handler: Handler) -> list[Any]:
    """Return the results of a call from the equations inside it."""
    body = body_of(eqn)
    return interpret(body.jaxpr, body.consts, values, handler)


def scanned(
    eqn: JaxprEqn,
    values: Sequence[Any],
    step: Callable[[list[Any], Any], tuple[Sequence[Any], Any]],
    beside: Any = (),
) -> tuple[list[Any], Any]:
    """Run a scan with another step, which also returns something to record.

    Args:
      eqn: the equation of the scan.
      values: its operands.
      step: a function of the arguments of the scan's body, and of a slice of `beside`,
        that returns the results of the body, and a tree of arrays to record.
      beside: a tree of arrays that begin with the axis of the scan.

    Returns:
      The results of the scan, and the records, stacked.
    """
    scan = scan_of(eqn)
    consts, first, stacked = scan.parts(values)

    def whole(carry: list[Any], slices: Any) -> tuple[Any, Any]:
        xs, extra = slices
        results, record = step([*consts, *carry, *xs], extra)
        return list(results[: scan.num_carry]), (results[scan.num_carry :], record)

    carry, (ys, records) = jax.lax.scan(
        whole,
        first,
        (stacked, beside),
        length=scan.length,
        reverse=scan.reverse,
        unroll=scan.unroll,
    )
    return [*carry, *ys], records


def unrolled(
    eqn: JaxprEqn,
    values: Sequence[Any],
    handler: Handler,
    part: Callable[[Any, int], Any],
) -> tuple[list[Any], list[tuple[Any, ...]]]:
    """Run a scan step by step in Python, for values that are not arrays of JAX.

    `part(value, i)` returns what step i gets of a stacked operand.

    Returns:
      The last carry; and for each stacked output its parts, in the order of execution.
    """
    scan = scan_of(eqn)
    consts, carry, stacked = scan.parts(values)
    rows = []
    for i in reversed(range(scan.length)) if scan.reverse else range(scan.length):
        slices = [part(value, i) for value in stacked]
        arguments = [*consts, *carry, *slices]
        results = interpret(scan.body.jaxpr, scan.body.consts, arguments, handler)
        carry = results[: scan.num_carry]
        rows.append(results[scan.num_carry :])
    return carry, list(zip(*rows, strict=True))


def fused(eqn: JaxprEqn, values: list[Any]) -> Sequence[Any] | None:
    """Draw random bits in one fused loop, also those inside of a jit or a scan.

    This handler gives the bits that JAX gives, several times faster on a CPU.
    """
    rule = _FUSED.get(eqn.primitive)
    # XLA fuses a draw into a sum behind it, whose rounding depends on the loop.
    if rule is None or not draws(eqn) or sums(eqn):
        return None
    with eqn.ctx.manager:
        return rule(eqn, values)


def replay(listing: Listing, inputs: Sequence[Any]) -> list[Any]:
    """Return the outputs of a listing, step by step, as a part of an outer trace."""
    return evaluate(listing.steps, dict(enumerate(inputs)), listing.outputs, fused)


def spend_keys(listing: Listing, inputs: Sequence[Any]) -> None:
    """Let JAX's checker of key reuse see what a listing does with the keys in `inputs`.

    The checker reads the equations of a `jit`. The `jit` returns nothing, so that XLA
    has nothing to compute.
    """
    jax.jit(lambda *inputs: replay(listing, inputs) and None)(*inputs)


def _bits(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    draw = functools.partial(
        _threefry.bits, shape=eqn.params["shape"], width=eqn.params["bit_width"]
    )
    (key,) = values
    # A vmap over keys is an equation whose operand is an array of keys.
    for _ in key.shape:
        draw = jax.vmap(draw)
    return [draw(key)]


def _inside_jit(eqn: JaxprEqn, values: list[Any]) -> list[Any]:
    return inside(eqn, values, fused)


def _inside_scan(eqn: JaxprEqn, values: list[Any]) -> list[Any]:
    return scanned(eqn, values, lambda xs, _: (inside(eqn, xs, fused), ()))[0]


# Among the calls only a `jit` is opened. If a remat or a custom_jvp were opened, the
# remat or the user's derivative would be lost. So JAX draws the bits inside these.
_FUSED: dict[Any, Callable[[JaxprEqn, list[Any]], list[Any]]] = {
    RANDOM_BITS: _bits,
    JIT: _inside_jit,
    SCAN: _inside_scan,
}
