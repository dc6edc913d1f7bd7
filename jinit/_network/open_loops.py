"""A `while` of unknown length runs forward, and has no gradient back.

JAX refuses to differentiate a program backward that has such a loop anywhere between a
perturbed value and the loss. But the layers behind the loop have gradients, and all
layers have outputs. So the loop passes NaN back: exactly what depends on the gradient
through the loop comes out as NaN, which says that it is unknown.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from .equations import (
    COND,
    CUSTOM_JVP,
    CUSTOM_VJP,
    LOOKED_THROUGH,
    SCAN,
    WHILE,
    bind,
    branches_of,
)
from .interpret import fused, inside, interpret, scanned
from .jaxpr import loops

# The rule of a custom derivative says what the gradient is, also around a loop.
_OPENED = LOOKED_THROUGH - {CUSTOM_JVP, CUSTOM_VJP}


def forward(eqn: JaxprEqn, values: list[Any]) -> Sequence[Any] | None:
    """Run an equation whose `while` loops pass NaN back, as a handler.

    An equation without a `while` is left to `fused`.
    """
    if not loops(eqn):
        return fused(eqn, values)
    if eqn.primitive is WHILE:
        return _one_way(eqn, values)
    if eqn.primitive in _OPENED:
        return inside(eqn, values, forward)
    if eqn.primitive is SCAN:
        return scanned(eqn, values, lambda xs, _: (inside(eqn, xs, forward), ()))[0]
    if eqn.primitive is COND:
        return _chosen(eqn, values)
    return fused(eqn, values)


def _one_way(eqn: JaxprEqn, values: list[Any]) -> Sequence[Any]:
    @jax.custom_vjp
    def run(values: list[Any]) -> list[Any]:
        return bind(eqn, values)

    def back(_: None, __: Any) -> tuple[list[Any]]:
        return ([_unknown(var.aval) for var in eqn.invars],)

    run.defvjp(lambda values: (run(values), None), back)
    results: list[Any] = run(values)
    return results


def _unknown(kind: Any) -> jax.Array | None:
    is_real = jnp.issubdtype(kind.dtype, np.inexact)
    return jnp.full(kind.shape, np.nan, kind.dtype) if is_real else None


def _chosen(eqn: JaxprEqn, values: list[Any]) -> Sequence[Any]:
    index, *operands = values
    branches = [
        lambda *operands, body=body: interpret(
            body.jaxpr, body.consts, operands, forward
        )
        for body in branches_of(eqn)
    ]
    results: list[Any] = jax.lax.switch(index, branches, *operands)
    return results
