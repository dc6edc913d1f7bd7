"""Equations of a network -> what each parameter does in it: the reader.

One walk over the equations computes with views of parameters and with data
(values.py). Calls are opened, a scan is read once, and each use of a parameter is noted
in the order of execution (uses.py). What the uses mean together is decided at the end
(roles.py). Names of parameters are never asked.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from . import (
    convolutions,
    entries,
    entrywise,
    equations,
    indexing,
    lookups,
    meetings,
    moves,
    parameters,
    products,
    views,
)
from .atoms import shape_of
from .axes import size_of
from .equations import LOOKED_THROUGH, branches_of, scan_of, while_of
from .interpret import inside, interpret
from .jaxpr import is_key
from .kinds import DATA, changing, kind_of
from .reading import Reading
from .roles import reading_of
from .uses import FROM_INPUTS, Log, Loop
from .values import Constant, Data, View, number, whole

_MEETINGS = {
    "dot_general": products.dot_general,
    "conv_general_dilated": convolutions.convolution,
    "ragged_dot_general": products.ragged_dot,
    "ragged_dot": products.ragged_dot,
}
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
      closed: the equations. Their first `num_params` arguments are the parameters; all
        others are data.
      paths: the path of each parameter.
      num_params: how many of the arguments are parameters.
      num_arguments: how many of the data, which come first, are inputs; the others are
        state, such as the statistics of a batch norm, and keys. None: all.

    Returns:
      The parameters in the order of their first use, the layers, the residual branches.
    """
    jaxpr, used = equations.without_dead_code(closed.jaxpr)
    reader = _Reader()
    last = len(used) if num_arguments is None else num_params + num_arguments
    values = [
        whole(i, shape_of(var))
        if i < num_params
        # What is drawn from a key is an input, too: the noise of a generator.
        else reader.input(shape_of(var), is_state=i >= last and not _is_key(var))
        for i, var in enumerate(closed.jaxpr.invars)
    ]
    arguments = [value for value, is_used in zip(values, used, strict=True) if is_used]
    outputs = interpret(jaxpr, closed.consts, arguments, reader)
    for value in outputs:
        if isinstance(value, View):
            reader.log.other(value, "the network hands it out as it is")
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
        """Return the results of one equation."""
        if self.log.learned:
            values = [self.log.as_learned(value) for value in values]
        if all(kind_of(value) == 0 for value in values):
            return _constants(eqn, values)
        primitive = eqn.primitive
        if primitive in LOOKED_THROUGH:
            return inside(eqn, values, self)
        body = _wrapped(eqn)
        if body is not None:
            return interpret(body.jaxpr, body.consts, values, self)
        if primitive is equations.SCAN:
            return self._scan(eqn, values)
        if primitive is equations.COND:
            return self._cond(eqn, values)
        if primitive is equations.WHILE:
            return self._while(eqn, values)
        if primitive.name == "shard_map":
            return self._shard_map(eqn, values)
        if primitive.name == "optimization_barrier":
            return values
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
        if name in entrywise.RULES:
            return entrywise.RULES[name](self.log, eqn, values)
        if isinstance(values[0], View) and name in ("gather", "dynamic_slice"):
            return self._chosen(eqn, values)
        rule: moves.Rule = moves.RULES.get(name, moves.other)
        return rule(self.log, eqn, values)

    def _chosen(self, eqn: JaxprEqn, values: list[Any]) -> Any:
        """Read what indices choose from a parameter."""
        if eqn.primitive.name == "gather" and isinstance(values[1], Data):
            return lookups.lookup(self.log, eqn, values)
        new = parameters.indexed(self.log, eqn, values[0])
        return new and indexing.looked_up(values[0], new)

    def _scan(self, eqn: JaxprEqn, values: list[Any]) -> list[Any]:
        scan = scan_of(eqn)
        consts, first, stacked = scan.parts(values)
        loop = Loop(scan.length)
        kinds = [kind_of(value) for value in values]
        moving = changing(scan.body.jaxpr, kinds, scan.num_consts, scan.num_carry)
        before = len(self.log.uses)
        places = eqn.invars[scan.num_consts :]
        carry = self._carry(loop, first, moving, places)
        self.log.loops.append(loop)
        steps = [self._step(value, id(loop)) for value in stacked]
        arguments = [*consts, *carry, *steps]
        results = interpret(scan.body.jaxpr, scan.body.consts, arguments, self)
        self.log.loops.pop()
        last = results[: scan.num_carry]
        self._close(loop, carry, last, before)
        out = [v if m else f for v, m, f in zip(last, moving, first, strict=True)]
        ys = results[scan.num_carry :]
        return [*out, *(self._stacked(y, scan.length, id(loop)) for y in ys)]

    def _carry(
        self,
        loop: Loop,
        first: list[Any],
        moving: list[int | None],
        places: Sequence[Any],
    ) -> list[Any]:
        """Return the carries of a loop as its body meets them."""
        carry: list[Any] = []
        for value, kind, var in zip(first, moving, places, strict=False):
            if kind is None:
                carry.append(value)
            elif kind < DATA:
                carry.append(Constant())
            else:
                carry.append(self._carried(loop, value, shape_of(var)))
        return carry

    def _carried(self, loop: Loop, value: Any, shape: Sequence[int]) -> Data:
        if isinstance(value, View):
            self.log.other(value, "a loop begins with it")
        data = value if isinstance(value, Data) else Data()
        if data is not value:
            data.axes = self.log.labels.axes(shape)
        token = self.log.note("carry", View(()), None)
        self.log.carried[token.number] = data.sources
        loop.tokens |= token.bit
        new = self.log.base(
            Data().copy(
                axes=data.axes,
                ancestors=data.ancestors,
                layers=data.layers,
                sources=token.bit,
            )
        )
        loop.carries |= 1 << (len(self.log.bases) - 1)
        new.stream |= data.stream
        return new

    def _close(
        self, loop: Loop, carry: list[Any], last: list[Any], before: int
    ) -> None:
        """Join the last carries of a loop with the first."""
        carried = read = 0
        for result in last:
            carried |= result.layers if isinstance(result, Data) else 0
        for use in self.log.uses[before:]:
            if use.data is not None and use.kind in ("product", "convolution"):
                read |= use.data.ancestors
                if use.data.sources & loop.tokens and not use.bit & carried:
                    # It reads the state and hands the result out of the loop.
                    use.roles.discard("recurrent")
        for value, result in zip(carry, last, strict=True):
            if not (isinstance(value, Data) and isinstance(result, Data)):
                continue
            for one, other in zip(value.axes, result.axes, strict=False):
                self.log.labels.unite(other, one)
            (token,) = [
                u for u in self.log.members(value.sources) if u.kind == "carry"
            ][:1]
            self.log.carried[token.number] |= result.sources
            if value.stream & loop.carries & read:
                self.log.followed |= result.layers & ~value.layers

    def _step(self, value: Any, loop: int) -> Any:
        if isinstance(value, View):
            return views.step_of(value, loop)
        if isinstance(value, Data):
            new = value.copy(axes=value.axes[1:], scalar=None, pending=None)
            return self.log.base(new.copy(is_part=True))
        return Constant()

    def _stacked(self, value: Any, length: int, loop: int) -> Any:
        if isinstance(value, View):
            return views.stacked(value, length, loop)
        if isinstance(value, Data):
            axes = (self.log.labels.axis(length), *value.axes)
            return value.copy(axes=axes, pending=None)
        return Constant()

    def _while(self, eqn: JaxprEqn, values: list[Any]) -> list[Any]:
        loop = while_of(eqn)
        _, consts, first = loop.parts(values)
        arguments = [*consts, *first]
        kinds = [kind_of(value) for value in arguments]
        moving = changing(loop.body.jaxpr, kinds, len(consts), len(first))
        before, here = len(self.log.uses), Loop(1)
        places = eqn.invars[len(values) - len(first) :]
        carry = self._carry(here, first, moving, places)
        self.log.loops.append(here)
        last = interpret(loop.body.jaxpr, loop.body.consts, [*consts, *carry], self)
        self.log.loops.pop()
        self._close(here, carry, last, before)
        pairs = zip(last, moving, first, strict=True)
        return [value if kind is not None else start for value, kind, start in pairs]

    def _cond(self, eqn: JaxprEqn, values: list[Any]) -> list[Any]:
        index, *operands = values
        if isinstance(index, View):
            self.log.other(index, "it decides between branches")
        branches = branches_of(eqn)
        results = [interpret(b.jaxpr, b.consts, operands, self) for b in branches]
        return [
            self._either(eqn, i, [result[i] for result in results])
            for i in range(len(eqn.outvars))
        ]

    def _either(self, eqn: JaxprEqn, place: int, cases: list[Any]) -> Any:
        """Return the value that one of several branches gives."""
        datas = [case for case in cases if isinstance(case, Data)]
        parts = [case for case in cases if isinstance(case, View)]
        if not datas:
            if not parts:
                return Constant()
            one, shape = parts[0], shape_of(eqn.outvars[place])
            for part in parts[1:]:
                one = views.combined(one, part, shape, multiplies=False)
            return one
        for part in parts:
            self.log.other(part, "a branch of a condition hands it out as it is")
        new = datas[0]
        for data in datas[1:]:
            stream = new.stream & data.stream
            axes = entries.axes_of(self.log, (new, data), shape_of(eqn.outvars[place]))
            new = meetings.joined(new, data).copy(axes=axes)
            self.log.base(new)
            new.stream |= stream
        return new

    def _shard_map(self, eqn: JaxprEqn, values: list[Any]) -> list[Any]:
        """Read the equations that one device executes on its parts of the arrays."""
        body = equations.body_of(eqn)
        arguments = [
            self._resized(value, shape_of(var))
            for value, var in zip(values, body.jaxpr.invars, strict=True)
        ]
        results = interpret(body.jaxpr, body.consts, arguments, self)
        return [
            self._resized(value, shape_of(var))
            for value, var in zip(results, eqn.outvars, strict=True)
        ]

    def _resized(self, value: Any, shape: Sequence[int]) -> Any:
        if isinstance(value, View):
            return views.local(value, shape)
        if not isinstance(value, Data):
            return value
        axes = tuple(
            axis if size_of(axis) == size else _resized_axis(self.log, axis, size)
            for axis, size in zip(value.axes, shape, strict=True)
        )
        return value.copy(axes=axes)


def _is_key(var: Any) -> bool:
    return var.aval.dtype == np.uint32 or is_key(var.aval)


def _wrapped(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Return the body of a call that jinit has no name for, if it is only a wrapper.

    A wrapper has one body, which takes what the equation takes and gives what it gives.
    The body of a Pallas call, for example, takes references instead.
    """
    if eqn.primitive in (equations.SCAN, equations.WHILE, equations.COND):
        return None
    values = eqn.params.values()
    bodies = [value for value in values if isinstance(value, ClosedJaxpr | Jaxpr)]
    if len(bodies) != 1:
        return None
    (body,) = bodies
    closed = body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, ())
    pairs = ((closed.jaxpr.invars, eqn.invars), (closed.jaxpr.outvars, eqn.outvars))
    is_same = all(
        len(one) == len(other)
        and all(
            a.aval.strip_weak_type() == b.aval.strip_weak_type()
            for a, b in zip(one, other, strict=True)
        )
        for one, other in pairs
    )
    return closed if is_same else None


def _resized_axis(log: Log, axis: Any, size: int) -> Any:
    """Return an axis with the length of a shard, and the label of the whole."""
    return ((axis[0][0], size),) if len(axis) == 1 else log.labels.axis(size)


def _constants(eqn: JaxprEqn, values: Sequence[Any]) -> list[Constant]:
    """Return the results of an equation on constants, with its number where known."""
    if eqn.primitive.name in ("broadcast_in_dim", "convert_element_type", "neg"):
        value = number(values[0])
        if value is not None:
            return [Constant(-value if eqn.primitive.name == "neg" else value)]
    return [Constant()] * len(eqn.outvars)
