"""A loop is read once: its body with carries that stand for all the steps.

A carry begins as the first carry and descends from it. What the steps make of it joins
its sources at the end, so that a network that is scanned knows what feeds its layers.
"""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, JaxprEqn

from ..equations import scan_of, while_of
from ..interpret import Handler, interpret
from . import views
from .atoms import shape_of
from .kinds import DATA, changing, kind_of
from .uses import Log, Loop
from .values import Constant, Data, View


def scan(log: Log, eqn: JaxprEqn, values: list[Any], read: Handler) -> list[Any]:
    """Read a scan; `read` is the handler of the equations inside it."""
    parts = scan_of(eqn)
    consts, first, stacked = parts.parts(values)
    loop = Loop(parts.length, reverse=parts.reverse)
    body = _Body(log, parts.body, loop, consts, first)
    body.begin(list(map(kind_of, values)), eqn.invars[parts.num_consts :])
    results = body.run([_step(log, value, id(body.loop)) for value in stacked], read)
    ys = [_stacked(log, y, body.loop) for y in results[parts.num_carry :]]
    return [*body.end(results[: parts.num_carry]), *ys]


def while_loop(log: Log, eqn: JaxprEqn, values: list[Any], read: Handler) -> list[Any]:
    """Read the body of a `while` once, since nobody knows how often it runs."""
    parts = while_of(eqn)
    _, consts, first = parts.parts(values)
    body = _Body(log, parts.body, Loop(1), consts, first)
    places = eqn.invars[len(values) - len(first) :]
    body.begin(list(map(kind_of, [*consts, *first])), places)
    return body.end(body.run([], read))


class _Body:
    """The body of a loop while it is read."""

    def __init__(
        self, log: Log, closed: ClosedJaxpr, loop: Loop, consts: list[Any], first: Any
    ) -> None:
        self.log, self.closed, self.loop = log, closed, loop
        self.consts, self.first = consts, first
        self.carry: list[Any] = []
        self.uses_before = len(log.uses)

    def begin(self, kinds: Sequence[int], places: Sequence[Any]) -> None:
        """Make the carries as the body meets them."""
        counts = (len(self.consts), len(self.first))
        self.moving = changing(self.closed.jaxpr, kinds, *counts)
        for value, kind, var in zip(self.first, self.moving, places, strict=False):
            if kind is None:
                self.carry.append(value)
            elif kind < DATA:
                self.carry.append(Constant())
            else:
                self.carry.append(self._carried(value, shape_of(var)))

    def _carried(self, value: Any, shape: Sequence[int]) -> Data:
        """Return a carry that descends from the first, and has a source of its own."""
        # A learned first state is data from the second step on.
        if isinstance(value, View):
            self.log.other(value, "a loop begins with it")
        if isinstance(value, Data):
            data = value
        else:
            data = Data().copy(axes=self.log.labels.axes(shape))
        token = self.log.note("carry", View(()), None)
        self.log.carried[token.number] = data.sources
        self.loop.tokens |= token.bit
        new = Data().copy(
            axes=data.axes,
            ancestors=data.ancestors,
            layers=data.layers,
            sources=token.bit,
        )
        self.loop.carries |= self.log.base(new).stream
        new.stream |= data.stream
        return new

    def run(self, steps: list[Any], read: Handler) -> list[Any]:
        """Return the results of one step."""
        self.log.loops.append(self.loop)
        arguments = [*self.consts, *self.carry, *steps]
        results = interpret(self.closed.jaxpr, self.closed.consts, arguments, read)
        self.log.loops.pop()
        return results

    def end(self, last: list[Any]) -> list[Any]:
        """Join the last carries with the first; return the loop's results."""
        read = self._read_by_products(last)
        for value, result in zip(self.carry, last, strict=True):
            if isinstance(value, Data) and isinstance(result, Data):
                self._join(value, result, read)
        rows = zip(self.moving, self.first, last, strict=True)
        return [_after(*row) for row in rows]

    def _read_by_products(self, last: list[Any]) -> int:
        """Return the bases that the loop's products read.

        A product that reads the state, but whose result is not carried on, is no
        recurrent one: it is the output of a step.
        """
        carried = read = 0
        for result in last:
            carried |= result.layers if isinstance(result, Data) else 0
        for use in self.log.uses[self.uses_before :]:
            if use.data is None or use.kind not in ("product", "convolution"):
                continue
            read |= use.data.ancestors
            if use.data.sources & self.loop.tokens and not use.bit & carried:
                use.roles.discard("recurrent")
        return read

    def _join(self, value: Data, result: Data, read: int) -> None:
        # A mask that is carried along unchanged is no state.
        if value is result:
            return
        # A carry has the same axes before and after a step.
        for one, other in zip(value.axes, result.axes, strict=True):
            self.log.labels.unite(other, one)
        for token in self.log.members(value.sources & self.loop.tokens):
            self.log.carried[token.number] |= result.sources
        if value.stream & self.loop.carries & read:
            # The products of the next step follow those of this one.
            self.log.followed |= result.layers & ~value.layers


def _after(kind: int | None, first: Any, last: Any) -> Any:
    """Return a carry behind the loop; a counter has another number there."""
    if kind is None:
        return first
    return last if kind == DATA else Constant()


def _step(log: Log, value: Any, loop: int) -> Any:
    """Return what one step gets of a stacked value."""
    if isinstance(value, View):
        return views.step_of(value, loop)
    if isinstance(value, Data):
        pending = value.pending
        if pending is not None:
            # Kernels that were masked together, before the scan, are kernels in it.
            view, use, _ = pending
            pending = views.step_of(view, loop), use, None
        new = value.copy(axes=value.axes[1:], scalar=None, pending=pending)
        new.is_part = True
        return log.base(new)
    return Constant()


def _stacked(log: Log, value: Any, loop: Loop) -> Any:
    """Return what the steps hand out together."""
    if isinstance(value, View):
        return views.stacked(value, loop.length, id(loop))
    if isinstance(value, Data):
        return value.copy(
            axes=(log.labels.axis(loop.length), *value.axes), pending=None
        )
    return Constant()
