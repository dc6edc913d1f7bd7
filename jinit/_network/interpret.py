"""Equations are evaluated one after another, with rules for calls, scans and bits."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from ..random import _threefry
from . import equations
from .equations import body_of
from .jaxpr import Listing, draws, sums


def run(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """The results of one equation; its random bits come from the fused loop."""
    rule = _RULES.get(eqn.primitive) if draws(eqn) and not sums(eqn) else None
    with eqn.ctx.manager:
        if rule is not None:
            return rule(eqn, values)
        return equations.bind(eqn, values)


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
    equations.RANDOM_BITS: _bits,
    equations.JIT: _inlined,
    equations.SCAN: _scanned,
}
