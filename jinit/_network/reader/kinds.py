"""The carries of a loop: which of them come to depend on the inputs."""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import Jaxpr, JaxprEqn, Literal

from .. import equations
from ..equations import LOOKED_THROUGH, body_of, scan_of, while_of
from .values import Data, View

CONSTANT, PARAMETER, DATA = 0, 1, 2


def kind_of(value: Any) -> int:
    """Return what a value depends on."""
    if isinstance(value, Data):
        return DATA
    return PARAMETER if isinstance(value, View) else CONSTANT


def changing(
    body: Jaxpr, kinds: Sequence[int], num_consts: int, num_carry: int
) -> list[int | None]:
    """Return the kind of each carry of a loop, or None where no step changes it.

    A recurrent network begins with zeros, which are constants, and carries data from
    the first step on, so that kinds are passed on until they stay.
    """
    first, last = num_consts, num_consts + num_carry
    kinds = list(kinds)
    names = zip(body.invars[first:last], body.outvars[:num_carry], strict=True)
    same = [before is after for before, after in names]
    # Most scans carry data from the first step on, and cost nothing here.
    if not all(same) and not all(k == DATA for k in kinds[first:last]):
        while True:
            results = _passed(body, kinds)[:num_carry]
            new = [max(pair) for pair in zip(kinds[first:last], results, strict=True)]
            if new == kinds[first:last]:
                break
            kinds[first:last] = new
    # A parameter that a loop changes without data is rare; it counts as data.
    return [
        None if is_same else (DATA if kind else CONSTANT)
        for is_same, kind in zip(same, kinds[first:last], strict=True)
    ]


def _passed(jaxpr: Jaxpr, kinds: Sequence[int]) -> list[int]:
    """Return the kinds of the results of a jaxpr."""
    known: dict[Any, int] = dict(zip(jaxpr.invars, kinds, strict=True))

    def kind(atom: Any) -> int:
        return CONSTANT if isinstance(atom, Literal) else known.get(atom, CONSTANT)

    for eqn in jaxpr.eqns:
        operands = list(map(kind, eqn.invars))
        known |= zip(eqn.outvars, _results(eqn, operands), strict=True)
    return list(map(kind, jaxpr.outvars))


def _results(eqn: JaxprEqn, kinds: list[int]) -> list[int]:
    if eqn.primitive in LOOKED_THROUGH:
        return _passed(body_of(eqn).jaxpr, kinds)
    if eqn.primitive is equations.SCAN:
        scan = scan_of(eqn)
        return _looped(scan.body.jaxpr, kinds, scan.num_consts, scan.num_carry)
    if eqn.primitive is equations.WHILE:
        loop = while_of(eqn)
        return _looped(
            loop.body.jaxpr,
            kinds[loop.num_test :],
            loop.num_body,
            len(eqn.outvars),
        )
    return [max(kinds, default=CONSTANT)] * len(eqn.outvars)


def _looped(
    body: Jaxpr, kinds: list[int], num_consts: int, num_carry: int
) -> list[int]:
    moving = changing(body, kinds, num_consts, num_carry)
    carry = slice(num_consts, num_consts + num_carry)
    kinds[carry] = [
        kind if new is None else new
        for kind, new in zip(kinds[carry], moving, strict=True)
    ]
    return kinds[carry] + _passed(body, kinds)[num_carry:]
