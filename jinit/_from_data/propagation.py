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

from .._network import interpret
from .._network.equations import (
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
from . import signals
from .signals import SignalLaw


class Known(NamedTuple):
    """An array of parameters and constants; if it is a weight, which and which step."""

    array: Any
    origin: tuple[int, tuple[int, ...]] | None = None


# (leaf, step), incoming law, the terms of an output -> the law of the outputs.
Meet = Callable[[tuple[int, tuple[int, ...]], Any, SignalLaw, float], SignalLaw]

# Larger than any activation: what masks put where nothing shall be seen.
_MASKED = 1e4


def propagate(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    arguments: Sequence[Known | SignalLaw],
    meet: Meet,
) -> list[Known | SignalLaw]:
    """The laws of a jaxpr's results.

    Raises:
      NotImplementedError: for an operation whose law is not known; it is named.
    """
    slots: dict[Any, Known | SignalLaw] = dict(
        zip(jaxpr.constvars, map(Known, consts), strict=True)
    )
    slots |= zip(jaxpr.invars, arguments, strict=True)

    def value(atom: Any) -> Known | SignalLaw:
        return Known(atom.val) if isinstance(atom, Literal) else slots[atom]

    for eqn in jaxpr.eqns:
        results = _step(eqn, [value(atom) for atom in eqn.invars], meet)
        slots |= zip(eqn.outvars, results, strict=True)
    return [value(atom) for atom in jaxpr.outvars]


def _step(
    eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet
) -> list[Known | SignalLaw]:
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


def _has_weights(values: Sequence[Known | SignalLaw]) -> bool:
    return any(isinstance(v, Known) and v.origin is not None for v in values)


def _computed(eqn: JaxprEqn, values: list[Any]) -> list[Known | SignalLaw]:
    """Of parameters and constants; a weight that only moves stays a weight."""
    results = interpret.run(eqn, [value.array for value in values])
    origin = values[0].origin if _moves(eqn) else None
    return [Known(x, origin) for x in results]


def _moves(eqn: JaxprEqn) -> bool:
    """Tell whether an equation moves its entries without changing them."""
    return moves(eqn) or eqn.primitive in IDENTITIES


def _law(value: Known | SignalLaw) -> SignalLaw:
    return value if isinstance(value, SignalLaw) else signals.of_array(value.array)


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)


def _same(eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet) -> SignalLaw:
    law = _law(values[0])
    if eqn.primitive is CONVERT:
        return law._replace(values=law.values.astype(eqn.params["new_dtype"]))
    return law


def _part(eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet) -> SignalLaw:
    return _law(values[0]).apart()


def _terms(eqn: JaxprEqn) -> int:
    """How many entries a reduction, or a pooling, takes for one."""
    window = eqn.params.get("window_dimensions")
    if window is not None:
        return math.prod(window)
    size = math.prod(_shape(eqn.outvars[0]))
    return math.prod(_shape(eqn.invars[0])) // size if size else 1


def _sum(eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet) -> SignalLaw:
    return signals.total(_law(values[0]), _terms(eqn))


def _max(eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet) -> SignalLaw:
    return signals.largest(_law(values[0]), _terms(eqn))


def _min(eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet) -> SignalLaw:
    law = _law(values[0])
    most = signals.largest(law._replace(values=-law.values), _terms(eqn))
    return most._replace(values=-most.values)


def _concatenate(
    eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet
) -> SignalLaw:
    sizes = [math.prod(_shape(atom)) for atom in eqn.invars]
    shares = [size / max(1, sum(sizes)) for size in sizes]
    return signals.mixture(list(map(_law, values)), shares)


def _pad(eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet) -> SignalLaw:
    before, after = math.prod(_shape(eqn.invars[0])), math.prod(_shape(eqn.outvars[0]))
    share = min(1.0, before / max(1, after))
    return signals.mixture(list(map(_law, values[:2])), [share, 1 - share])


def _select(eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet) -> SignalLaw:
    """A mask that is known mixes; what hides an entry is not mixed in."""
    which, *cases = values
    laws = list(map(_law, cases))
    if isinstance(which, SignalLaw):
        return _elementwise(eqn, values)[0]
    seen = [law for law in laws if law.source is not None or _is_seen(law)]
    if len(seen) == 1:
        return seen[0]
    mask = np.asarray(which.array).astype(int)
    shares = [float((mask == i).mean()) for i in range(len(laws))]
    return signals.mixture(laws, shares)


def _is_seen(law: SignalLaw) -> bool:
    return bool(abs(float(law.values[0])) < _MASKED)


def _dot(eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet) -> SignalLaw:
    (left, right), _ = eqn.params["dimension_numbers"]
    count = math.prod(_shape(eqn.invars[0])[axis] for axis in left)
    a, b = values
    for x, w in ((a, b), (b, a)):
        if isinstance(w, Known) and w.origin is not None:
            return meet(w.origin, w.array, _law(x), float(count))
    return signals.products(_law(a), _law(b), count)


def _convolution(
    eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet
) -> SignalLaw:
    """Each output has fan_in terms, of which a padding takes some."""
    x, w = values
    numbers = eqn.params["dimension_numbers"]
    kernel = _shape(eqn.invars[1])
    per_output = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    inside = per_output * _covered(eqn)
    if isinstance(w, Known) and w.origin is not None:
        return meet(w.origin, w.array, _law(x), inside)
    return signals.products(_law(x), _law(w), round(inside))


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


def _scan(
    eqn: JaxprEqn, values: list[Known | SignalLaw], meet: Meet
) -> list[Known | SignalLaw]:
    """Step by step; what steps give out is mixed."""
    body, first, num_carry, length, reverse = scan_of(eqn)
    last = first + num_carry
    carry: list[Known | SignalLaw] = values[first:last]
    steps: list[list[Known | SignalLaw]] = []
    for i in reversed(range(length)) if reverse else range(length):
        xs = [_slice(value, i) for value in values[last:]]
        arguments = [*values[:first], *carry, *xs]
        results = propagate(body.jaxpr, body.consts, arguments, meet)
        carry, ys = results[:num_carry], results[num_carry:]
        steps.append(ys)
    shares = [1 / max(1, length)] * length
    stacked = [
        signals.mixture(list(map(_law, ys)), shares) for ys in zip(*steps, strict=True)
    ]
    return [*carry, *stacked]


def _slice(value: Known | SignalLaw, index: int) -> Known | SignalLaw:
    if isinstance(value, SignalLaw):
        return value.apart()
    origin = value.origin and (value.origin[0], (*value.origin[1], index))
    return Known(value.array[index], origin)


def _elementwise(eqn: JaxprEqn, values: list[Known | SignalLaw]) -> list[SignalLaw]:
    """The operation itself, on the values of the laws."""
    if eqn.primitive in MIXING or not _fits(eqn):
        raise NotImplementedError(f"the law of {eqn.primitive.name} is not known")

    def run(*grids: np.ndarray) -> list[Any]:
        kinds: list[Any] = [atom.aval for atom in eqn.invars]
        arrays = [
            jax.numpy.asarray(grid, kind.dtype)
            for grid, kind in zip(grids, kinds, strict=True)
        ]
        return interpret.run(eqn, arrays)

    return signals.pointwise(run, list(map(_law, values)))


def _fits(eqn: JaxprEqn) -> bool:
    """Whether the result has the shape of what goes in."""
    try:
        shape = np.broadcast_shapes(*map(_shape, eqn.invars))
    except ValueError:
        return False
    return all(_shape(var) == shape for var in eqn.outvars)


_RULES: dict[Any, Callable[[JaxprEqn, list[Known | SignalLaw], Meet], SignalLaw]] = {
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
