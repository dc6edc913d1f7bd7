"""A function in which values are named -> its names, their values, their gradients.

`jax.ad_checkpoint.checkpoint_name(x, "name")` leaves a mark in the equations of a
function. Run again equation by equation, each marked value is handed out, and another
is put in its place: by default itself with a nudge added, whose gradient is that of the
value. A scan is run as a scan of the marked body, so its values come stacked, one for
each step. Activations that JAX calls by their names, such as relu and silu, need no
mark.
"""

import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from . import interpret
from .equations import CALLS, CUSTOM_JVP, CUSTOM_VJP, JIT, NAME, SCAN, body_of, scan_of
from .kept import Traced

# Calls that are opened if they contain a name. A custom_vjp is never opened: its body
# alone would lose the user's derivative.
_CALLS = CALLS - {CUSTOM_VJP}

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


# The number of a tap, its value, its nudge -> what goes on, and what is handed out.
Meet = Callable[[int, Any, Any], tuple[Any, Any]]


def add(number: int, value: Any, nudge: Any) -> tuple[Any, Any]:
    """The value with its nudge added, for both."""
    nudged = value + nudge
    return nudged, nudged


class Tapped(NamedTuple):
    """A traced function, and the values that it names, in the order of execution."""

    jaxpr: Jaxpr
    tree: Any
    form: Hashable
    taps: tuple[Tap, ...]

    def run(
        self,
        consts: Sequence[Any],
        arguments: Sequence[Any],
        nudges: Sequence[Any],
        meet: Meet = add,
    ) -> tuple[Any, Any]:
        """Return the function's result, and what `meet` records of each named value.

        `consts` are those of the trace, which a program takes as arguments. A nudge is
        any tree of arrays that begin with the lengths of the scans around the value.
        """
        flat = jax.tree.leaves(arguments)
        rest = _Nudges(iter(enumerate(nudges)), meet)
        results, values = _evaluate(self.jaxpr, consts, flat, rest)
        return jax.tree.unflatten(self.tree, results), values


class _Nudges(NamedTuple):
    """The nudges that are still to come, with their numbers, and what they do."""

    rest: Iterator[tuple[int, Any]]
    meet: Meet


# The taps of each jaxpr that is still alive.
_FOUND: weakref.WeakKeyDictionary[Jaxpr, tuple[Tap, ...]] = weakref.WeakKeyDictionary()


def tapped(trace: Traced, *, may_be_none: bool = False) -> Tapped:
    """Return a traced function with the values that it names.

    Raises:
      ValueError: if it names no values, unless `may_be_none`.
    """
    taps = _FOUND.get(trace.jaxpr)
    if taps is None:
        taps = _FOUND[trace.jaxpr] = tuple(_find(trace.jaxpr, ()))
    if not taps and not may_be_none:
        raise ValueError(
            "the model names no values: it has no modules in it (it may be a layer "
            "itself: put it into a Sequential), or hides them in cond or while. Name "
            "some by jax.ad_checkpoint.checkpoint_name(x, 'a name')."
        )
    return Tapped(trace.jaxpr, trace.tree, trace.form, taps)


def _find(jaxpr: Jaxpr, lengths: tuple[int, ...]) -> Iterator[Tap]:
    for eqn in jaxpr.eqns:
        name = _name(eqn)
        if name is not None:
            kind: Any = eqn.outvars[0].aval
            yield Tap(name, (*lengths, *kind.shape), kind.dtype, len(lengths))
        elif eqn.primitive is SCAN:
            scan = scan_of(eqn)
            yield from _find(scan.body.jaxpr, (*lengths, scan.length))
        elif eqn.primitive in _CALLS:
            yield from _find(body_of(eqn).jaxpr, lengths)


def _name(eqn: JaxprEqn) -> str | None:
    """The name of a marked value, or of an activation with the scopes around it."""
    if _is_mark(eqn):
        return str(eqn.params["name"])
    if len(eqn.outvars) != 1:
        return None
    call = eqn
    if eqn.primitive is CUSTOM_JVP:
        inner = body_of(eqn).jaxpr.eqns
        call = inner[0] if len(inner) == 1 else eqn
    name = call.params.get("name")
    if call.primitive is not JIT or name not in ACTIVATIONS:
        return None
    # The first scope is that of the model.
    scopes = str(eqn.source_info.name_stack).split("/")[1:]
    return "/".join([*scopes, name])


def _is_mark(eqn: JaxprEqn) -> bool:
    return eqn.primitive is NAME


def _evaluate(
    jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any], nudges: _Nudges
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
    eqn: JaxprEqn, values: list[Any], nudges: _Nudges
) -> tuple[list[Any], list[Any]]:
    """The results of one equation, and the named values in it."""
    if _name(eqn) is not None:
        value = values[0] if _is_mark(eqn) else interpret.run(eqn, values)[0]
        number, nudge = next(nudges.rest)
        goes_on, handed_out = nudges.meet(number, value, nudge)
        return [goes_on], [handed_out]
    if eqn.primitive in _CALLS and any(_find(body_of(eqn).jaxpr, ())):
        body = body_of(eqn)
        return _evaluate(body.jaxpr, body.consts, values, nudges)
    if eqn.primitive is SCAN:
        count = len(list(_find(body_of(eqn).jaxpr, ())))
        if count:
            return _scan(eqn, values, count, nudges)
    return interpret.run(eqn, values), []


def _scan(
    eqn: JaxprEqn, values: list[Any], count: int, nudges: _Nudges
) -> tuple[list[Any], list[Any]]:
    """A scan whose steps take their nudges and give their named values."""
    numbers, inside = zip(*(next(nudges.rest) for _ in range(count)), strict=True)
    body, first, number, length, reverse = scan_of(eqn)
    last = first + number

    def step(carry: list[Any], slices: Any) -> tuple[list[Any], Any]:
        xs, inside = slices
        arguments = [*values[:first], *carry, *xs]
        rest = _Nudges(zip(numbers, inside, strict=True), nudges.meet)
        results, named = _evaluate(body.jaxpr, body.consts, arguments, rest)
        return results[:number], (results[number:], named)

    carry, (ys, named) = jax.lax.scan(
        step,
        values[first:last],
        (values[last:], inside),
        length=length,
        reverse=reverse,
    )
    return [*carry, *ys], named


def rows_of(taps: Sequence[Tap], outputs: Sequence[Any]) -> Any:
    """Path, shape and numbers of every layer; a scanned one once for each step."""
    seen: dict[str, int] = {}
    for group in groups(taps):
        lengths = taps[group[0]].shape[: taps[group[0]].scans]
        for step in np.ndindex(*lengths):
            for number in group:
                tap, values = taps[number], outputs[number]
                suffix = "".join(f"[{i}]" for i in step)
                path = f"{tap.name}{suffix}"
                seen[path] = seen.get(path, 0) + 1
                again = f"#{seen[path]}" if seen[path] > 1 else ""
                yield (
                    path + again,
                    tap.shape[tap.scans :],
                    values[step],
                )


def groups(taps: Sequence[Tap]) -> list[list[int]]:
    """Neighbours in one scan, which run together, step by step."""
    groups: list[list[int]] = []
    for number, tap in enumerate(taps):
        last = taps[groups[-1][-1]] if groups else None
        lengths = tap.shape[: tap.scans]
        if last is not None and lengths and last.shape[: last.scans] == lengths:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups
