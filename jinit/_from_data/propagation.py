"""The law of a model's input is propagated through the equations of the traced model.

A value that depends on parameters alone is computed. A value that depends on the input
is a signal: it has the law of an entry where that is known (signals.py), and a specimen
where a layer needs more (specimens.py). Where a weight multiplies a signal there is a
layer, and the function `on_layer` of the caller sets the weight (see autoinit.py).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn

from .._network.equations import (
    COND,
    LOOKED_THROUGH,
    SCAN,
    WHILE,
    branches_of,
    while_of,
)
from .._network.interpret import fused, inside, interpret, run, unrolled
from .._network.reader.wrappers import body_inside
from . import layer_terms, signal_rules, signals
from .signal_rules import dtype_of
from .signals import Moments, SignalLaw
from .specimens import Input, Specimens, moments_of, spread_of

# The number of a weight's leaf, and the steps of the scans around its use.
Origin = tuple[int, tuple[int, ...]]


class Known(NamedTuple):
    """A known array depends on parameters and constants alone."""

    array: Any
    # The origin of the weight of a layer. A weight keeps it while it is moved, cut into
    # parts, or multiplied by a number.
    origin: Origin | None = None
    # The product of the numbers that the weight was multiplied by.
    multiplier: float = 1.0


class Signal(NamedTuple):
    """A signal has a law or None, and a specimen or, in the analysis, None."""

    law: SignalLaw | None
    specimen: Any = None
    # The numbers of the inputs that its whole numbers are computed from.
    choices: frozenset[int] = frozenset()
    # A signal that is a part of a weight, chosen by data: an expert of a router.
    weight: Known | None = None


# While the laws go through the equations, a known array that is not the weight of a
# layer is a plain array, without `Known` around it.
Value = Signal | Known | Any

# on_layer(weight, moments of the input, terms of an output) -> factor of the weight.
OnLayer = Callable[[Known, Moments, float], float]


def propagate(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    arguments: Sequence[Known | Input],
    on_layer: OnLayer,
) -> None:
    """Follow the inputs' laws through a jaxpr, and call `on_layer` for each layer.

    The analysis with laws alone costs little at any size. Only where the input of a
    layer has no exact law are the equations run a second time, with specimens.

    Raises:
      NotImplementedError: if the law of an operation is not known; the text names it.
    """
    analysis = _Propagation(on_layer, None)
    analysis.through(jaxpr, consts, arguments)
    if analysis.is_stuck:
        specimens = Specimens(jaxpr, analysis.choices)
        _Propagation(on_layer, specimens).through(jaxpr, consts, arguments)


class _Propagation:
    """This handler computes with arrays as they are, and with signals by their laws."""

    def __init__(self, on_layer: OnLayer, specimens: Specimens | None) -> None:
        self.on_layer = on_layer
        self.specimens = specimens
        self.factors: dict[Origin, float] = {}
        # How many numbers an input may choose from, by the tables that it indexes.
        self.choices: dict[int, int] = {}
        # The analysis has met a layer whose input has no law.
        self.is_stuck = False

    def through(
        self, jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Known | Input]
    ) -> None:
        """Go through the equations of a model."""
        values = [self._argument(i, x) for i, x in enumerate(arguments)]
        interpret(jaxpr, consts, values, self)

    def _argument(self, index: int, argument: Known | Input) -> Value:
        if isinstance(argument, Known):
            return argument if argument.origin else argument.array
        specimen = self.specimens and self.specimens.draw(index, argument)
        dtype = argument.leaf.dtype
        if jnp.issubdtype(dtype, jnp.integer):
            return Signal(None, specimen, frozenset([index]))
        if jnp.issubdtype(dtype, jnp.complexfloating):
            return Signal(None, specimen)
        law = signals.gaussian(argument.mean, argument.variance, dtype)
        return Signal(law, specimen)

    def __call__(self, eqn: JaxprEqn, values: list[Value]) -> Sequence[Value]:
        is_array = not any(isinstance(value, Signal) for value in values)
        has_weights = any(_is_weight(value) for value in values)
        if eqn.primitive in _CONTROL:
            # A loop without weights is run as it is, which takes less time.
            if has_weights:
                return _CONTROL[eqn.primitive](self, eqn, values)
        elif has_weights or not is_array:
            if eqn.primitive in LOOKED_THROUGH:
                return inside(eqn, values, self)
            body = body_inside(eqn)
            if body is not None:
                return interpret(body.jaxpr, body.consts, values, self)
        return self._computed(eqn, values) if is_array else self._signals(eqn, values)

    def _computed(self, eqn: JaxprEqn, values: list[Value]) -> Sequence[Value]:
        """Compute with arrays; a weight that is only moved or cut stays a weight."""
        weights = [value for value in values if isinstance(value, Known)]
        if len(weights) != 1:
            return run(eqn, list(map(self._array, values)), fused)
        (weight,) = weights
        place = next(i for i, value in enumerate(values) if value is weight)
        arrays = [weight.array if i == place else x for i, x in enumerate(values)]
        multiplier = signal_rules.multiplier(eqn, arrays, place)
        if multiplier is None and not (place == 0 and signal_rules.cuts(eqn)):
            return run(eqn, list(map(self._array, values)), fused)
        results = run(eqn, arrays, fused)
        multiplier = weight.multiplier * (multiplier or 1.0)
        return [Known(x, weight.origin, multiplier) for x in results]

    def _array(self, value: Value) -> Any:
        """Return a known array, with the factor that its layer has set."""
        if not isinstance(value, Known):
            return value
        factor = self.factors.get(value.origin) if value.origin else None
        return value.array if factor is None else _scaled(value.array, factor)

    def _signals(self, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
        for place in layer_terms.weight_places(eqn):
            weight = _weight_of(values[place])
            # Of two signals, the one that is a part of a weight is the weight.
            if weight is not None:
                return [self._layer(eqn, values, place, weight)]
        choices = self._chosen(eqn, values)
        laws = signal_rules.laws(eqn, list(map(_law, values)), values)
        weight = _weight_of(values[0]) if signal_rules.cuts(eqn) else None
        return [
            Signal(
                law,
                specimen,
                choices if jnp.issubdtype(dtype_of(var), jnp.integer) else frozenset(),
                weight,
            )
            for law, specimen, var in zip(
                laws, self._run(eqn, values), eqn.outvars, strict=True
            )
        ]

    def _run(self, eqn: JaxprEqn, values: Sequence[Value]) -> list[Any]:
        if self.specimens is None:
            return [None] * len(eqn.outvars)
        is_signal = [isinstance(value, Signal) for value in values]
        arrays = [
            x.specimen if isinstance(x, Signal) else self._array(x) for x in values
        ]
        return self.specimens.run(eqn, arrays, is_signal)

    def _layer(
        self, eqn: JaxprEqn, values: list[Value], place: int, weight: Known
    ) -> Signal:
        """Let the caller set a weight, and return the outputs of the layer."""
        x, dtype = values[1 - place], dtype_of(eqn.outvars[0])
        law = _law(x)
        specimen = self._specimen(x) if self.specimens and law is None else None
        # The analysis goes on, to learn what whole numbers choose from.
        if self.is_stuck or (law is None and specimen is None):
            self.is_stuck = True
            is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
            return Signal(None if is_complex else signals.gaussian(0.0, 1.0, dtype))
        terms = layer_terms.terms(eqn)
        moments = moments_of(specimen) if law is None else law.moments()
        factor = self.factors[_origin(weight)] = self.on_layer(weight, moments, terms)
        values[place] = _times(values[place], factor)
        outputs = self._run(eqn, values)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            return Signal(None, *outputs)
        square = terms * moments.square * (rms(weight.array) * factor) ** 2
        axes = layer_terms.summed_axes(eqn, 1 - place)
        spread = spread_of(specimen, axes) if law is None else law.spread(terms)
        # Two uses of a layer depend on each other as its inputs do.
        roots = frozenset([("layer", weight.origin)])
        output = signals.output(square, spread, dtype, roots)
        return Signal(output, *outputs)

    def _chosen(self, eqn: JaxprEqn, values: Sequence[Value]) -> frozenset[int]:
        """Return the inputs that choose; note how many rows they choose from."""
        chosen = [x.choices for x in values if isinstance(x, Signal)]
        choices = frozenset().union(*chosen)
        number = signal_rules.choices(eqn, values) if choices else None
        if number is not None:
            for index in choices:
                self.choices[index] = min(number, self.choices.get(index, number))
        return choices

    def scan(self, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
        """Go through a scan step by step; the outputs of its steps are mixed."""
        carry, columns = unrolled(eqn, values, self, _slice)
        if eqn.params["reverse"]:
            columns = [column[::-1] for column in columns]
        return [*carry, *map(self._stacked, columns)]

    def _stacked(self, column: Sequence[Value]) -> Value:
        if not any(isinstance(value, Signal) for value in column):
            return jnp.stack(list(map(self._array, column)))
        law = signals.mixture(list(map(_law, column)), [1 / len(column)] * len(column))
        if self.specimens is None:
            return Signal(law)
        return Signal(law, jnp.stack(list(map(self._specimen, column)), 1))

    def _specimen(self, value: Value) -> Any:
        if isinstance(value, Signal):
            return value.specimen
        return self.specimens and self.specimens.repeat(self._array(value))

    def cond(self, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
        """Go through the branch that is taken, or through all if data decide."""
        index, *operands = values
        branches = branches_of(eqn)
        if not isinstance(index, Signal):
            number = min(max(0, int(self._array(index))), len(branches) - 1)
            taken = branches[number]
            return interpret(taken.jaxpr, taken.consts, operands, self)
        results = [interpret(b.jaxpr, b.consts, operands, self) for b in branches]
        return [self._one_of(index, cases) for cases in zip(*results, strict=True)]

    def _one_of(self, index: Signal, cases: Sequence[Value]) -> Signal:
        if self.specimens is None:
            return Signal(None)
        select = jax.vmap(jax.lax.select_n)
        return Signal(None, select(index.specimen, *map(self._specimen, cases)))

    def loop(self, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
        """Go through a `while` step by step, as long as data do not decide its end."""
        parts = while_of(eqn)
        test_consts, consts, carry = parts.parts(values)
        test, body = parts.test, parts.body
        while True:
            (goes_on,) = interpret(
                test.jaxpr, test.consts, [*test_consts, *carry], self
            )
            if isinstance(goes_on, Signal):
                # The first step sets the layers, and the loop runs with them as it is.
                interpret(body.jaxpr, body.consts, [*consts, *carry], self)
                values[len(values) - len(carry) :] = carry
                return [Signal(None, specimen) for specimen in self._run(eqn, values)]
            if not bool(goes_on):
                return carry
            carry = interpret(body.jaxpr, body.consts, [*consts, *carry], self)


_CONTROL: dict[Any, Callable[[_Propagation, JaxprEqn, list[Value]], list[Value]]] = {
    SCAN: _Propagation.scan,
    COND: _Propagation.cond,
    WHILE: _Propagation.loop,
}


def rms(array: Any) -> float:
    """Return the root of the mean square of an array's entries, by their size."""
    return float(np.sqrt(moments_of(array).square))


def _origin(weight: Known) -> Origin:
    assert weight.origin is not None
    return weight.origin


def _times(weight: Value, factor: float) -> Value:
    """Return a weight with its factor, if it is a part that data have chosen."""
    if not isinstance(weight, Signal) or weight.specimen is None:
        return weight
    return weight._replace(specimen=_scaled(weight.specimen, factor))


def _scaled(array: Any, factor: float) -> Any:
    return (array * factor).astype(array.dtype)


def _is_weight(value: Value) -> bool:
    return _weight_of(value) is not None


def _weight_of(value: Value) -> Known | None:
    if isinstance(value, Signal):
        return value.weight
    return value if isinstance(value, Known) and value.origin else None


def _law(value: Value) -> SignalLaw | None:
    if isinstance(value, Signal):
        return value.law
    return signals.of_array(value.array if isinstance(value, Known) else value)


def _slice(value: Value, index: int) -> Value:
    """Return what one step of a scan gets of a stacked operand."""
    if isinstance(value, Signal):
        law = value.law and value.law.apart()
        part = None if value.specimen is None else value.specimen[:, index]
        return value._replace(law=law, specimen=part)
    if isinstance(value, Known):
        origin = value.origin and (value.origin[0], (*value.origin[1], index))
        return value._replace(array=value.array[index], origin=origin)
    return value[index]
