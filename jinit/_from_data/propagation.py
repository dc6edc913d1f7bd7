"""The law of a model's input is propagated to every value in the traced model.

A value that depends on parameters alone is computed; a value that depends on the input
has a law. Where a weight multiplies a signal there is a layer, and its caller sets the
weight (see autoinit.py).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn

from .._network.equations import (
    CONCATENATE,
    CONVERT,
    CONVOLUTION,
    IDENTITIES,
    LOOKED_THROUGH,
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
    moves,
)
from .._network.interpret import fused, inside, interpret, run, unrolled
from . import signals
from .signals import SignalLaw


class Known(NamedTuple):
    """A known array depends on parameters and constants alone."""

    array: Any
    # For the weight of a layer: the number of its leaf, and the steps of the scans
    # around its use.
    origin: tuple[int, tuple[int, ...]] | None = None


# While the laws go through the equations, a known array that is no weight is plain.
Value = SignalLaw | Known | Any

# on_layer(origin, weight, law of the input, terms of an output) -> law of the output.
OnLayer = Callable[[tuple[int, tuple[int, ...]], Any, SignalLaw, float], SignalLaw]

# Masks write larger numbers than any activation where an entry shall not count.
_MASKED = 1e4


def propagate(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    arguments: Sequence[Known | SignalLaw],
    on_layer: OnLayer,
) -> list[Value]:
    """Return the laws of a jaxpr's results.

    Raises:
      NotImplementedError: for an operation whose law is not known; it is named.
    """
    values = [x if isinstance(x, SignalLaw) or x.origin else x.array for x in arguments]
    return interpret(jaxpr, consts, values, _Propagation(on_layer))


class _Propagation:
    """This handler computes with arrays as they are, and with signals by their laws."""

    def __init__(self, on_layer: OnLayer) -> None:
        self.on_layer = on_layer

    def __call__(self, eqn: JaxprEqn, values: list[Value]) -> Sequence[Value] | None:
        is_array = not any(isinstance(value, SignalLaw) for value in values)
        has_weights = any(isinstance(value, Known) for value in values)
        if eqn.primitive in LOOKED_THROUGH and (has_weights or not is_array):
            return inside(eqn, values, self)
        if is_array:
            return _computed(eqn, values)
        if eqn.primitive is SCAN:
            return self._scan(eqn, values)
        if eqn.primitive is SPLIT:
            return [_law(values[0]).apart() for _ in eqn.outvars]
        rule = _same if _moves(eqn) else _RULES.get(eqn.primitive)
        if rule is not None:
            return [rule(eqn, values, self.on_layer)]
        return _elementwise(eqn, values)

    def _scan(self, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
        """Go through a scan step by step; the outputs of its steps are mixed."""
        carry, columns = unrolled(eqn, values, self, _slice)
        return [*carry, *(_mixed(column) for column in columns)]


def _mixed(laws: Sequence[Value]) -> SignalLaw:
    return signals.mixture(list(map(_law, laws)), [1 / len(laws)] * len(laws))


def _array(value: Value) -> Any:
    return value.array if isinstance(value, Known) else value


def _computed(eqn: JaxprEqn, values: list[Value]) -> Sequence[Value]:
    """Compute with arrays; a weight that only moves stays a weight."""
    results = run(eqn, list(map(_array, values)), fused)
    if values and isinstance(values[0], Known) and _moves(eqn):
        return [Known(x, values[0].origin) for x in results]
    return results


def _moves(eqn: JaxprEqn) -> bool:
    """Tell whether an equation moves its entries without changing them."""
    return moves(eqn) or eqn.primitive in IDENTITIES


def _law(value: Value) -> SignalLaw:
    return value if isinstance(value, SignalLaw) else signals.of_array(_array(value))


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)


def _same(eqn: JaxprEqn, values: list[Value], on_layer: OnLayer) -> SignalLaw:
    law = _law(values[0])
    if eqn.primitive is CONVERT:
        return law._replace(values=law.values.astype(eqn.params["new_dtype"]))
    return law


def _part(eqn: JaxprEqn, values: list[Value], on_layer: OnLayer) -> SignalLaw:
    return _law(values[0]).apart()


def _terms(eqn: JaxprEqn) -> int:
    """Count the entries that a reduction, or a pooling, takes for one."""
    window = eqn.params.get("window_dimensions")
    if window is not None:
        return math.prod(window)
    size = math.prod(_shape(eqn.outvars[0]))
    return math.prod(_shape(eqn.invars[0])) // size if size else 1


def _sum(eqn: JaxprEqn, values: list[Value], on_layer: OnLayer) -> SignalLaw:
    return signals.total(_law(values[0]), _terms(eqn))


def _max(eqn: JaxprEqn, values: list[Value], on_layer: OnLayer) -> SignalLaw:
    return signals.largest(_law(values[0]), _terms(eqn))


def _min(eqn: JaxprEqn, values: list[Value], on_layer: OnLayer) -> SignalLaw:
    law = _law(values[0])
    most = signals.largest(law._replace(values=-law.values), _terms(eqn))
    return most._replace(values=-most.values)


def _concatenate(eqn: JaxprEqn, values: list[Value], on_layer: OnLayer) -> SignalLaw:
    sizes = [math.prod(_shape(atom)) for atom in eqn.invars]
    shares = [size / max(1, sum(sizes)) for size in sizes]
    return signals.mixture(list(map(_law, values)), shares)


def _pad(eqn: JaxprEqn, values: list[Value], on_layer: OnLayer) -> SignalLaw:
    before, after = math.prod(_shape(eqn.invars[0])), math.prod(_shape(eqn.outvars[0]))
    share = min(1.0, before / max(1, after))
    return signals.mixture(list(map(_law, values[:2])), [share, 1 - share])


def _select(eqn: JaxprEqn, values: list[Value], on_layer: OnLayer) -> SignalLaw:
    """Mix the cases by a mask that is known, without the case that hides entries."""
    which, *cases = values
    laws = list(map(_law, cases))
    if isinstance(which, SignalLaw):
        return _elementwise(eqn, values)[0]
    shown = [law for law in laws if law.source is not None or not _hides(law)]
    if len(shown) == 1:
        return shown[0]
    mask = np.asarray(_array(which)).astype(int)
    shares = [float((mask == i).mean()) for i in range(len(laws))]
    return signals.mixture(laws, shares)


def _hides(law: SignalLaw) -> bool:
    return not abs(float(law.values[0])) < _MASKED


def _dot(eqn: JaxprEqn, values: list[Value], on_layer: OnLayer) -> SignalLaw:
    (left, _), _ = eqn.params["dimension_numbers"]
    count = math.prod(_shape(eqn.invars[0])[axis] for axis in left)
    a, b = values
    for x, w in ((a, b), (b, a)):
        if isinstance(w, Known) and w.origin:
            return on_layer(w.origin, w.array, _law(x), float(count))
    return signals.products(_law(a), _law(b), count)


def _convolution(eqn: JaxprEqn, values: list[Value], on_layer: OnLayer) -> SignalLaw:
    """Set a convolution; of the fan_in terms of an output some lie on padding."""
    x, w = values
    numbers = eqn.params["dimension_numbers"]
    kernel = _shape(eqn.invars[1])
    per_output = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    terms = per_output * _covered(eqn)
    if isinstance(w, Known) and w.origin:
        return on_layer(w.origin, w.array, _law(x), terms)
    return signals.products(_law(x), _law(w), round(terms))


def _covered(eqn: JaxprEqn) -> float:
    """Return the mean share of a kernel that lies on entries, not on padding."""
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


def _slice(value: Value, index: int) -> Value:
    if isinstance(value, SignalLaw):
        return value.apart()
    if isinstance(value, Known):
        origin = value.origin and (value.origin[0], (*value.origin[1], index))
        return Known(value.array[index], origin)
    return value[index]


def _elementwise(eqn: JaxprEqn, values: list[Value]) -> list[SignalLaw]:
    """Apply an operation to the values of the laws, entry by entry."""
    if eqn.primitive in MIXING or not _fits(eqn):
        raise NotImplementedError(f"the law of {eqn.primitive.name} is not known")

    def compute(*grids: np.ndarray) -> list[Any]:
        kinds: list[Any] = [atom.aval for atom in eqn.invars]
        arrays = [
            jax.numpy.asarray(grid, kind.dtype)
            for grid, kind in zip(grids, kinds, strict=True)
        ]
        return list(run(eqn, arrays, fused))

    return signals.pointwise(compute, list(map(_law, values)))


def _fits(eqn: JaxprEqn) -> bool:
    """Tell whether the results have the shape of the operands."""
    try:
        shape = np.broadcast_shapes(*map(_shape, eqn.invars))
    except ValueError:
        return False
    return all(_shape(var) == shape for var in eqn.outvars)


_RULES: dict[Any, Callable[[JaxprEqn, list[Value], OnLayer], SignalLaw]] = {
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
