"""Named values of a traced function are recorded, or changed, while it runs.

`jax.ad_checkpoint.checkpoint_name(x, "name")` leaves a mark in the equations of a
function. When the function runs again, equation by equation, each named value is
recorded, and another value goes on in its place: by default itself plus a perturbation
of zeros, whose gradient is the gradient of the value. A scan is run as a scan of the
marked body, so its values come stacked, one for each step. Activations that JAX calls
by their names, such as relu and silu, need no mark.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn

from .._core.identity import remembered_weakly
from .equations import (
    CUSTOM_JVP,
    CUSTOM_VJP,
    JIT,
    LOOKED_THROUGH,
    NAME,
    SCAN,
    body_of,
    scan_of,
)
from .interpret import fused, inside, interpret, run, scanned
from .kept import Traced

ACTIVATIONS = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "sigmoid",
    "log_sigmoid", "softplus", "hard_tanh", "hard_sigmoid", "hard_silu", "squareplus",
    "mish", "soft_sign",
}  # fmt: skip


class Tap(NamedTuple):
    """A tap is a named value; its shape begins with the scans around it."""

    name: str
    shape: tuple[int, ...]
    dtype: Any
    # The number of scans around the value, whose axes are the first ones.
    scans: int


# on_value(index, value, perturbation) -> (the value that goes on, the value to record).
OnValue = Callable[[int, Any, Any], tuple[Any, Any]]


def add(index: int, value: Any, perturbation: Any) -> tuple[Any, Any]:
    """Add its perturbation to a value; record the sum."""
    perturbed = value + perturbation
    return perturbed, perturbed


class Tapped(NamedTuple):
    """A tapped function is traced, and names values, in the order of execution."""

    jaxpr: Jaxpr
    tree: Any
    form: Hashable
    taps: tuple[Tap, ...]

    def run(
        self,
        consts: Sequence[Any],
        arguments: Sequence[Any],
        perturbations: Sequence[Any],
        on_value: OnValue = add,
    ) -> tuple[Any, list[Any]]:
        """Return the function's result, and what `on_value` records of each tap.

        `consts` are those of the trace, which a program takes as arguments. A
        perturbation is any tree of arrays that begin with the lengths of the scans
        around the value.
        """
        flat = jax.tree.leaves(arguments)
        handler = _Recorder(enumerate(perturbations), on_value)
        results = interpret(self.jaxpr, consts, flat, handler)
        return jax.tree.unflatten(self.tree, results), handler.records


def tapped(trace: Traced, *, may_be_none: bool = False) -> Tapped:
    """Return a traced function with the values that it names.

    Raises:
      ValueError: if it names no values, unless `may_be_none`.
    """
    taps = _taps_of(trace.jaxpr)
    if not taps and not may_be_none:
        raise ValueError(
            "the model names no values: it has no modules in it (it may be a layer "
            "itself: put it into a Sequential), or hides them in cond or while. Name "
            "some by jax.ad_checkpoint.checkpoint_name(x, 'a name')."
        )
    return Tapped(trace.jaxpr, trace.tree, trace.form, taps)


@remembered_weakly
def _taps_of(jaxpr: Jaxpr) -> tuple[Tap, ...]:
    return tuple(tap for eqn in jaxpr.eqns for tap in _taps_in(eqn))


def _taps_in(eqn: JaxprEqn) -> Sequence[Tap]:
    """Return the named value of an equation, or those of the equations inside it."""
    name = _name(eqn)
    if name is not None:
        kind: Any = eqn.outvars[0].aval
        return [Tap(name, tuple(kind.shape), kind.dtype, 0)]
    # A custom_vjp is not looked through: its body alone has not the derivative that
    # the user gave it, and the taps exist to take derivatives.
    if eqn.primitive is CUSTOM_VJP:
        return ()
    if eqn.primitive is SCAN:
        scan = scan_of(eqn)
        return [
            tap._replace(shape=(scan.length, *tap.shape), scans=tap.scans + 1)
            for tap in _taps_of(scan.body.jaxpr)
        ]
    return _taps_of(body_of(eqn).jaxpr) if eqn.primitive in LOOKED_THROUGH else ()


def _name(eqn: JaxprEqn) -> str | None:
    """Return the name of a marked value, or of an activation with its scopes."""
    if eqn.primitive is NAME:
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


class _Recorder:
    """This handler records the named values and puts other values in their place."""

    def __init__(self, rest: Iterator[tuple[int, Any]], on_value: OnValue) -> None:
        # The perturbations that are still to come, with their indices.
        self.rest = rest
        self.on_value = on_value
        self.records: list[Any] = []

    def __call__(self, eqn: JaxprEqn, values: list[Any]) -> Sequence[Any] | None:
        if _name(eqn) is not None:
            return [self._named(eqn, values)]
        count = len(_taps_in(eqn))
        if not count:
            return fused(eqn, values)
        if eqn.primitive is SCAN:
            return self._scan(eqn, values, count)
        return inside(eqn, values, self)

    def _named(self, eqn: JaxprEqn, values: list[Any]) -> Any:
        value = values[0] if eqn.primitive is NAME else run(eqn, values, fused)[0]
        index, perturbation = next(self.rest)
        goes_on, record = self.on_value(index, value, perturbation)
        self.records.append(record)
        return goes_on

    def _scan(self, eqn: JaxprEqn, values: list[Any], count: int) -> list[Any]:
        """Run a scan whose steps take their perturbations and record their values."""
        pairs = [next(self.rest) for _ in range(count)]
        indices, perturbations = zip(*pairs, strict=True)

        def step(arguments: list[Any], slices: Any) -> tuple[list[Any], list[Any]]:
            handler = _Recorder(zip(indices, slices, strict=True), self.on_value)
            return inside(eqn, arguments, handler), handler.records

        results, records = scanned(eqn, values, step, perturbations)
        self.records += records
        return results


def rows_of(
    taps: Sequence[Tap], outputs: Sequence[Any]
) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Yield path, shape and numbers of each tap; of a scanned tap for each step."""
    uses: dict[str, int] = {}
    for group in groups(taps):
        lengths = taps[group[0]].shape[: taps[group[0]].scans]
        for step in np.ndindex(*lengths):
            for number in group:
                tap, values = taps[number], outputs[number]
                suffix = "".join(f"[{i}]" for i in step)
                path = f"{tap.name}{suffix}"
                uses[path] = uses.get(path, 0) + 1
                again = f"#{uses[path]}" if uses[path] > 1 else ""
                yield path + again, tap.shape[tap.scans :], values[step]


def groups(taps: Sequence[Tap]) -> list[list[int]]:
    """Return the taps' indices, grouped: neighbors in one scan run step by step."""
    groups: list[list[int]] = []
    for number, tap in enumerate(taps):
        last = taps[groups[-1][-1]] if groups else None
        lengths = tap.shape[: tap.scans]
        if last is not None and lengths and last.shape[: last.scans] == lengths:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups
