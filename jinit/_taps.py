"""A function in which values are named -> its names, their values, their gradients.

`jax.ad_checkpoint.checkpoint_name(x, "name")` leaves a mark in the equations of a
function. Run again equation by equation, each marked value is handed out, and a nudge
is added to it, whose gradient is that of the value. A scan is run as a scan of the
marked body, so its values come stacked, one for each step. Activations that JAX calls
by their names, such as relu and silu, need no mark.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, primitives

from . import _jaxpr

# What is opened where a name is inside: calls that do no more than their body.
_CALLS = {
    primitives.jit_p, primitives.remat_p, primitives.closed_call_p, primitives.call_p,
    primitives.custom_jvp_call_p,
}  # fmt: skip

ACTIVATIONS = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "sigmoid",
    "log_sigmoid", "softplus", "hard_tanh", "hard_sigmoid", "hard_silu", "squareplus",
    "mish", "soft_sign",
}  # fmt: skip


class Tap(NamedTuple):
    """A named value: its name, and its type with the lengths of the scans around it."""

    name: str
    shape: tuple[int, ...]
    dtype: Any
    # How many of the first axes are those of scans.
    scans: int


class Tapped(NamedTuple):
    """A traced function, and the values that it names, in the order of execution."""

    closed: ClosedJaxpr
    tree: Any
    taps: list[Tap]

    def run(self, arguments: Sequence[Any], nudges: Sequence[Any]) -> tuple[Any, Any]:
        """The function's result, and the named values, each with its nudge added."""
        flat = jax.tree.leaves(arguments)
        rest = iter(nudges)
        results, values = _evaluate(self.closed.jaxpr, self.closed.consts, flat, rest)
        return jax.tree.unflatten(self.tree, results), values


def tapped(function: Callable[..., Any], arguments: Sequence[Any]) -> Tapped:
    """Trace a function, and find what it names."""
    closed, shapes = _jaxpr.trace(function, arguments)
    return Tapped(closed, jax.tree.structure(shapes), list(_find(closed.jaxpr, ())))


def _find(jaxpr: Jaxpr, lengths: tuple[int, ...]) -> Iterator[Tap]:
    for eqn in jaxpr.eqns:
        name = _name(eqn)
        if name is not None:
            kind: Any = eqn.outvars[0].aval
            yield Tap(name, (*lengths, *kind.shape), kind.dtype, len(lengths))
        elif eqn.primitive is primitives.scan_p:
            inside = (*lengths, eqn.params["length"])
            yield from _find(eqn.params["jaxpr"].jaxpr, inside)
        elif eqn.primitive in _CALLS:
            yield from _find(_jaxpr.body_of(eqn).jaxpr, lengths)


def _name(eqn: JaxprEqn) -> str | None:
    """The name of a marked value, or of an activation with the scopes around it."""
    if _is_mark(eqn):
        return str(eqn.params["name"])
    if len(eqn.outvars) != 1:
        return None
    call = eqn
    if eqn.primitive is primitives.custom_jvp_call_p:
        inner = _jaxpr.body_of(eqn).jaxpr.eqns
        call = inner[0] if len(inner) == 1 else eqn
    name = call.params.get("name")
    if call.primitive is not primitives.jit_p or name not in ACTIVATIONS:
        return None
    # The first scope is that of the model.
    scopes = str(eqn.source_info.name_stack).split("/")[1:]
    return "/".join([*scopes, name])


def _is_mark(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name == "name" and "name" in eqn.params


def _evaluate(
    jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any], nudges: Iterator[Any]
) -> tuple[list[Any], list[Any]]:
    slots = dict(zip(jaxpr.constvars, consts, strict=True))
    slots |= zip(jaxpr.invars, arguments, strict=True)
    found: list[Any] = []

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else slots[atom]

    for eqn in jaxpr.eqns:
        results, named = _step(eqn, [value(atom) for atom in eqn.invars], nudges)
        slots |= zip(eqn.outvars, results, strict=True)
        found += named
    return [value(atom) for atom in jaxpr.outvars], found


def _step(
    eqn: JaxprEqn, values: list[Any], nudges: Iterator[Any]
) -> tuple[list[Any], list[Any]]:
    """The results of one equation, and the named values in it."""
    if _name(eqn) is not None:
        value = values[0] if _is_mark(eqn) else _jaxpr.run(eqn, values)[0]
        nudged = value + next(nudges)
        return [nudged], [nudged]
    if eqn.primitive in _CALLS and any(_find(_jaxpr.body_of(eqn).jaxpr, ())):
        body = _jaxpr.body_of(eqn)
        return _evaluate(body.jaxpr, body.consts, values, nudges)
    if eqn.primitive is primitives.scan_p:
        count = len(list(_find(eqn.params["jaxpr"].jaxpr, ())))
        if count:
            return _scan(eqn, values, [next(nudges) for _ in range(count)])
    return _jaxpr.run(eqn, values), []


def _scan(
    eqn: JaxprEqn, values: list[Any], nudges: list[Any]
) -> tuple[list[Any], list[Any]]:
    """A scan whose steps take their nudges and give their named values."""
    body, first = eqn.params["jaxpr"], eqn.params["num_consts"]
    last = first + eqn.params["num_carry"]

    def step(carry: list[Any], slices: Any) -> tuple[list[Any], Any]:
        xs, nudges = slices
        arguments = [*values[:first], *carry, *xs]
        results, named = _evaluate(body.jaxpr, body.consts, arguments, iter(nudges))
        number = last - first
        return results[:number], (results[number:], named)

    carry, (ys, named) = jax.lax.scan(
        step,
        values[first:last],
        (values[last:], nudges),
        length=eqn.params["length"],
        reverse=eqn.params["reverse"],
    )
    return [*carry, *ys], named
