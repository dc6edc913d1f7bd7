"""The reader goes through the equations of a network and logs what parameters do.

One walk over the equations computes with views of parameters and with data
(values.py). Calls are opened, a scan is read once, and each use of a parameter is noted
in the order of execution (uses.py). What the uses mean together is decided at the end
(roles.py). Names of parameters are never asked.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from .. import equations
from ..equations import LOOKED_THROUGH
from ..interpret import Handler, inside, interpret
from ..jaxpr import is_key
from . import (
    branching,
    convolutions,
    entrywise,
    indexing,
    lookups,
    loops,
    moves,
    parameters,
    points,
    products,
    reductions,
    wrappers,
)
from .atoms import is_whole, shape_of
from .kinds import CONSTANT, kind_of
from .records import Reading
from .roles import reading_of
from .uses import FROM_INPUTS, Log
from .values import Constant, Data, View, number, whole

Control = Callable[[Log, JaxprEqn, list[Any], Handler], Sequence[Any]]

_MEETINGS = {
    "dot_general": products.dot_general,
    "conv_general_dilated": convolutions.convolution,
    "ragged_dot_general": products.ragged_dot,
    "ragged_dot": products.ragged_dot,
}
_RULES: dict[str, moves.Rule] = {
    **entrywise.RULES,
    **moves.RULES,
    **reductions.RULES,
}
# Control flow, by the primitives that JAX exports, or else by their names.
_CONTROL: dict[Any, Control] = {
    equations.SCAN: loops.scan,
    equations.WHILE: loops.while_loop,
    equations.COND: branching.cond,
    "shard_map": wrappers.shard_map,
    "optimization_barrier": lambda log, eqn, values, read: values,
}
_MOVING = {"broadcast_in_dim", "convert_element_type", "reshape", "transpose"}
# Operations that are read once for equal operands, and what tells two of them apart.
_REMEMBERED = {
    "sub", "mul", "div", "square", "sqrt", "rsqrt", "integer_pow", "reduce_sum",
    "broadcast_in_dim", "reshape", "transpose", "squeeze", "slice", "psum",
}  # fmt: skip
_SETTINGS = (
    "axes", "dimensions", "permutation", "broadcast_dimensions", "y", "start_indices",
    "limit_indices", "strides", "axis_index_groups",
)  # fmt: skip


def read(
    closed: ClosedJaxpr,
    paths: Sequence[str],
    num_params: int,
    num_arguments: int | None = None,
) -> Reading:
    """Read what each parameter does in a traced network.

    Args:
      closed: the equations, without dead code. Their first `num_params` arguments are
        the parameters; all others are data.
      paths: the path of each parameter.
      num_params: how many of the arguments are parameters.
      num_arguments: how many of the data, which come first, are inputs; the others are
        state, such as the statistics of a batch norm, and keys. None: all.

    Returns:
      The parameters in the order of their first use, the layers, the residual branches,
      and the taps, as a `Reading`.
    """
    jaxpr = closed.jaxpr
    reader = _Reader()
    count = len(jaxpr.invars)
    last = count if num_arguments is None else num_params + num_arguments
    values = [
        whole(i, shape_of(var))
        if i < num_params
        # What is drawn from a key is an input, too: the noise of a generator.
        else reader.input(shape_of(var), is_state=i >= last and not _is_key(var))
        for i, var in enumerate(closed.jaxpr.invars)
    ]
    outputs = interpret(jaxpr, closed.consts, values, reader)
    for value in outputs:
        if isinstance(value, View):
            reader.log.other(value, "the network hands it out as it is")
    points.note_outputs(reader.log, jaxpr, outputs)
    kinds = [var.aval for var in closed.jaxpr.invars[:num_params]]
    return reading_of(reader.log, paths, kinds)


class _Reader:
    """The handler of the interpreter that reads."""

    def __init__(self) -> None:
        self.log = Log()
        self._results: dict[Any, tuple[list[Any], Any]] = {}

    def input(self, shape: Sequence[int], *, is_state: bool) -> Data:
        """Return the value of an input of the network, or of its state."""
        axes = self.log.labels.axes(shape)
        sources = 0 if is_state else FROM_INPUTS
        return self.log.base(Data().copy(axes=axes, sources=sources))

    def __call__(self, eqn: JaxprEqn, values: list[Any]) -> Sequence[Any]:
        """Return the results of one equation, and note the points there."""
        before = len(self.log.points)
        self.log.place.append(eqn)
        results = self._read(eqn, values)
        points.note(self.log, eqn, values, results, before)
        self.log.place.pop()
        return results

    def _read(self, eqn: JaxprEqn, values: list[Any]) -> Sequence[Any]:
        if self.log.learned:
            values = [self.log.as_learned(value) for value in values]
        if all(kind_of(value) == CONSTANT for value in values):
            return _constants(eqn, values)
        if eqn.primitive in LOOKED_THROUGH:
            return inside(eqn, values, self)
        if eqn.primitive in _CONTROL:
            return _CONTROL[eqn.primitive](self.log, eqn, values, self)
        if eqn.primitive.name in _CONTROL:
            return _CONTROL[eqn.primitive.name](self.log, eqn, values, self)
        body = wrappers.body_inside(eqn)
        if body is not None:
            return interpret(body.jaxpr, body.consts, values, self)
        results = self._operation(eqn, values)
        return results if isinstance(results, (list, tuple)) else [results]

    def _operation(self, eqn: JaxprEqn, values: list[Any]) -> Any:
        name = eqn.primitive.name
        if name in _MEETINGS:
            results = _MEETINGS[name](self.log, eqn, values)
            return moves.other(self.log, eqn, values) if results is None else results
        if not any(isinstance(value, Data) for value in values):
            return parameters.operation(self.log, eqn, values, self)
        if name in _REMEMBERED and all(not isinstance(v, View) for v in values):
            return self._remembered(eqn, values)
        return self._of_data(eqn, values)

    def _remembered(self, eqn: JaxprEqn, values: list[Any]) -> Any:
        """Return the results of an equal equation that has been read before.

        A mean that is computed twice is one mean: a variance may be the product of two
        differences from it.
        """
        settings = tuple(map(eqn.params.get, _SETTINGS))
        operands = tuple(id(v) if number(v) is None else number(v) for v in values)
        key = (eqn.primitive, operands, settings, shape_of(eqn.outvars[0]))
        if key not in self._results:
            # The operands are kept, so that no other value gets their identity.
            self._results[key] = values, self._of_data(eqn, values)
        return self._results[key][1]

    def _of_data(self, eqn: JaxprEqn, values: list[Any]) -> Any:
        """Read an operation on data, and perhaps on parameters and constants."""
        name = eqn.primitive.name
        if isinstance(values[0], View) and name in ("gather", "dynamic_slice"):
            return self._chosen(eqn, values)
        rule: moves.Rule = _RULES.get(name, moves.other)
        return rule(self.log, eqn, values)

    def _chosen(self, eqn: JaxprEqn, values: list[Any]) -> Any:
        """Read what indices choose from a parameter."""
        if eqn.primitive.name == "gather" and isinstance(values[1], Data):
            return lookups.lookup(self.log, eqn, values)
        new = parameters.indexed(self.log, eqn, values[0])
        return new and indexing.looked_up(values[0], new)


def _is_key(var: Any) -> bool:
    return var.aval.dtype == np.uint32 or is_key(var.aval)


def _constants(eqn: JaxprEqn, values: Sequence[Any]) -> list[Constant]:
    """Return the results of an equation on constants, with its number where known."""
    name = eqn.primitive.name
    if name in ("broadcast_in_dim", "convert_element_type", "neg"):
        value = number(values[0])
        if value is not None:
            return [Constant(-value if name == "neg" else value)]
    compares = name == "eq" and all(map(is_whole, eqn.invars))
    moves_one = name in _MOVING and isinstance(values[0], Constant)
    if compares or (moves_one and values[0].is_one_hot):
        return [Constant(is_one_hot=True)]
    return [Constant()] * len(eqn.outvars)
