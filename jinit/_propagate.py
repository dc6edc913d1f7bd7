"""A traced model and the law of its input -> the law of every value in it.

What depends on parameters alone is computed; what depends on the input has a law. Where
the two are multiplied there is a layer, and its weights are set.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from . import _jaxpr, _laws
from ._internals import (
    CALLS,
    CONCATENATE,
    CONVERT,
    CONVOLUTION,
    IDENTITIES,
    MAXIMA,
    MINIMUM,
    MIXING,
    PAD,
    PARTS,
    PRODUCT,
    SCAN,
    SELECT,
    SPLIT,
    SUMS,
    body_of,
    moves,
    scan_of,
)
from ._laws import Law


class Known(NamedTuple):
    """An array of parameters and constants; if it is a weight, which and which step."""

    array: Any
    origin: tuple[int, tuple[int, ...]] | None = None


# (leaf, step), incoming law, the terms of an output -> the law of the outputs.
Meet = Callable[[tuple[int, tuple[int, ...]], Any, Law, float], Law]

# Larger than any activation: what masks put where nothing shall be seen.
_MASKED = 1e4


def propagate(
    jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Known | Law], meet: Meet
) -> list[Known | Law]:
    """The laws of a jaxpr's results.

    Raises:
      NotImplementedError: for an operation whose law is not known; it is named.
    """
    slots: dict[Any, Known | Law] = dict(
        zip(jaxpr.constvars, map(Known, consts), strict=True)
    )
    slots |= zip(jaxpr.invars, arguments, strict=True)

    def value(atom: Any) -> Known | Law:
        return Known(atom.val) if isinstance(atom, Literal) else slots[atom]

    for eqn in jaxpr.eqns:
        results = _step(eqn, [value(atom) for atom in eqn.invars], meet)
        slots |= zip(eqn.outvars, results, strict=True)
    return [value(atom) for atom in jaxpr.outvars]


def _step(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> list[Known | Law]:
    known = all(isinstance(value, Known) for value in values)
    if eqn.primitive in CALLS and not (known and not _has_weights(values)):
        body = body_of(eqn)
        return propagate(body.jaxpr, body.consts, values, meet)
    if eqn.primitive is SCAN and not known:
        return _scan(eqn, values, meet)
    if known:
        return _computed(eqn, values)
    if eqn.primitive is SPLIT:
        return [_law(values[0]).apart() for _ in eqn.outvars]
    rule = _same if _moves(eqn) else _RULES.get(eqn.primitive)
    if rule is not None:
        return [rule(eqn, values, meet)]
    return list(_elementwise(eqn, values))


def _has_weights(values: Sequence[Known | Law]) -> bool:
    return any(isinstance(v, Known) and v.origin is not None for v in values)


def _computed(eqn: JaxprEqn, values: list[Any]) -> list[Known | Law]:
    """Of parameters and constants; a weight that only moves stays a weight."""
    results = _jaxpr.run(eqn, [value.array for value in values])
    origin = values[0].origin if _moves(eqn) else None
    return [Known(x, origin) for x in results]


def _moves(eqn: JaxprEqn) -> bool:
    """Tell whether an equation moves its entries without changing them."""
    return moves(eqn) or eqn.primitive in IDENTITIES


def _law(value: Known | Law) -> Law:
    return value if isinstance(value, Law) else _laws.of_array(value.array)


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)


def _same(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> Law:
    law = _law(values[0])
    if eqn.primitive is CONVERT:
        return law._replace(values=law.values.astype(eqn.params["new_dtype"]))
    return law


def _part(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> Law:
    return _law(values[0]).apart()


def _terms(eqn: JaxprEqn) -> int:
    """How many entries a reduction, or a pooling, takes for one."""
    window = eqn.params.get("window_dimensions")
    if window is not None:
        return math.prod(window)
    size = math.prod(_shape(eqn.outvars[0]))
    return math.prod(_shape(eqn.invars[0])) // size if size else 1


def _sum(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> Law:
    return _laws.total(_law(values[0]), _terms(eqn))


def _max(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> Law:
    return _laws.largest(_law(values[0]), _terms(eqn))


def _min(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> Law:
    law = _law(values[0])
    most = _laws.largest(law._replace(values=-law.values), _terms(eqn))
    return most._replace(values=-most.values)


def _concatenate(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> Law:
    sizes = [math.prod(_shape(atom)) for atom in eqn.invars]
    shares = [size / max(1, sum(sizes)) for size in sizes]
    return _laws.mixture(list(map(_law, values)), shares)


def _pad(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> Law:
    before, after = math.prod(_shape(eqn.invars[0])), math.prod(_shape(eqn.outvars[0]))
    share = min(1.0, before / max(1, after))
    return _laws.mixture(list(map(_law, values[:2])), [share, 1 - share])


def _select(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> Law:
    """A mask that is known mixes; what hides an entry is not mixed in."""
    which, *cases = values
    laws = list(map(_law, cases))
    if isinstance(which, Law):
        return _elementwise(eqn, values)[0]
    seen = [law for law in laws if law.source is not None or _is_seen(law)]
    if len(seen) == 1:
        return seen[0]
    mask = np.asarray(which.array).astype(int)
    shares = [float((mask == i).mean()) for i in range(len(laws))]
    return _laws.mixture(laws, shares)


def _is_seen(law: Law) -> bool:
    return bool(abs(float(law.values[0])) < _MASKED)


def _dot(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> Law:
    (left, right), _ = eqn.params["dimension_numbers"]
    count = math.prod(_shape(eqn.invars[0])[axis] for axis in left)
    a, b = values
    for x, w in ((a, b), (b, a)):
        if isinstance(w, Known) and w.origin is not None:
            return meet(w.origin, w.array, _law(x), float(count))
    return _laws.products(_law(a), _law(b), count)


def _convolution(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> Law:
    """Each output has fan_in terms, of which a padding takes some."""
    x, w = values
    numbers = eqn.params["dimension_numbers"]
    kernel = _shape(eqn.invars[1])
    per_output = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    inside = per_output * _covered(eqn)
    if isinstance(w, Known) and w.origin is not None:
        return meet(w.origin, w.array, _law(x), inside)
    return _laws.products(_law(x), _law(w), round(inside))


def _covered(eqn: JaxprEqn) -> float:
    """The share of a kernel that lies on entries, not on padding, on average."""
    p = eqn.params
    numbers = p["dimension_numbers"]
    share = 1.0
    for i in range(len(p["window_strides"])):
        size = _shape(eqn.invars[0])[numbers.lhs_spec[2 + i]]
        taps = _shape(eqn.invars[1])[numbers.rhs_spec[2 + i]]
        outputs = _shape(eqn.outvars[0])[numbers.out_spec[2 + i]]
        spread = p["lhs_dilation"][i]
        places = (
            np.arange(outputs)[:, None] * p["window_strides"][i]
            + np.arange(taps)[None] * p["rhs_dilation"][i]
            - p["padding"][i][0]
        )
        there = (places >= 0) & (places <= (size - 1) * spread) & (places % spread == 0)
        share *= float(there.mean()) if there.size else 0.0
    return share


def _scan(eqn: JaxprEqn, values: list[Known | Law], meet: Meet) -> list[Known | Law]:
    """Step by step; what steps give out is mixed."""
    body, first, num_carry, length, reverse = scan_of(eqn)
    last = first + num_carry
    carry: list[Known | Law] = values[first:last]
    steps: list[list[Known | Law]] = []
    for i in reversed(range(length)) if reverse else range(length):
        xs = [_slice(value, i) for value in values[last:]]
        arguments = [*values[:first], *carry, *xs]
        results = propagate(body.jaxpr, body.consts, arguments, meet)
        carry, ys = results[:num_carry], results[num_carry:]
        steps.append(ys)
    shares = [1 / max(1, length)] * length
    stacked = [
        _laws.mixture(list(map(_law, ys)), shares) for ys in zip(*steps, strict=True)
    ]
    return [*carry, *stacked]


def _slice(value: Known | Law, index: int) -> Known | Law:
    if isinstance(value, Law):
        return value.apart()
    origin = value.origin and (value.origin[0], (*value.origin[1], index))
    return Known(value.array[index], origin)


def _elementwise(eqn: JaxprEqn, values: list[Known | Law]) -> list[Law]:
    """The operation itself, on the values of the laws."""
    if eqn.primitive in MIXING or not _fits(eqn):
        raise NotImplementedError(f"the law of {eqn.primitive.name} is not known")

    def run(*grids: np.ndarray) -> list[Any]:
        kinds: list[Any] = [atom.aval for atom in eqn.invars]
        arrays = [
            jax.numpy.asarray(grid, kind.dtype)
            for grid, kind in zip(grids, kinds, strict=True)
        ]
        return _jaxpr.run(eqn, arrays)

    return _laws.pointwise(run, list(map(_law, values)))


def _fits(eqn: JaxprEqn) -> bool:
    """Whether the result has the shape of what goes in."""
    try:
        shape = np.broadcast_shapes(*map(_shape, eqn.invars))
    except ValueError:
        return False
    return all(_shape(var) == shape for var in eqn.outvars)


_RULES: dict[Any, Callable[[JaxprEqn, list[Known | Law], Meet], Law]] = {
    **dict.fromkeys(PARTS, _part),
    **dict.fromkeys(SUMS, _sum),
    **dict.fromkeys(MAXIMA, _max),
    MINIMUM: _min,
    CONCATENATE: _concatenate,
    PAD: _pad,
    SELECT: _select,
    PRODUCT: _dot,
    CONVOLUTION: _convolution,
}
