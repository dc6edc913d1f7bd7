"""A sampler is flat if entry i of its result depends on the key and on i alone.

The random bits of entry i are those of the key and of the number i (threefry in its
partitionable form), and JAX's samplers of the normal, the uniform and the truncated
normal law do the same to the bits of every entry. So the equations of such a sampler
say what happens to an array of any size, and all shapes can share one program
(chunks.py). Only the equations are read, never a sampler's name. A sampler with an
equation that is not understood here is not flat, and gets a program of its own.
"""

import dataclasses
import itertools
import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import JaxprEqn

from .._core.erf_inv import depends_on_loop
from .._core.identity import identity, keep
from .._network import equations, interpret, jaxpr, signature
from .intervals import Interval, bound_of, bounds_after, number
from .units import ProgramUnit

# The words of a key are the only array of more than one number beside the entries.
_MOST_WORDS = 4


class Flat(NamedTuple):
    """A Flat says what a flat sampler does to each entry, without its shape."""

    # Equal keys mean equal programs.
    key: Hashable
    # The bound that the short form of erf_inv asks for; infinity if there is none.
    bound: float


class NotFlatError(Exception):
    """A program unit has an operation that is not understood, or that mixes entries."""


_KNOWN: dict[Hashable, Flat | None] = {}
_MOST_KNOWN = 4096


def flat(unit: ProgramUnit) -> Flat | None:
    """Return what a program unit does to each entry, or None if it is not flat."""
    numbers = tuple(
        jaxpr.literal_value(r).tobytes() if jaxpr.is_literal(r) else None
        for r in unit.reads
    )
    key = unit.signature, numbers
    if key not in _KNOWN:
        try:
            result = None if unit.has_effects else _read(unit)
        except NotFlatError:
            result = None
        keep(_KNOWN, key, result, _MOST_KNOWN)
    return _KNOWN[key]


class _Number(NamedTuple):
    """A _Number stands for a single number, or for the words of a key."""

    name: Hashable
    value: Any = None


class _Entries(NamedTuple):
    """An _Entries stands for an array of as many entries as the result has."""

    name: Hashable
    interval: Interval | None = None


@dataclasses.dataclass(frozen=True)
class Index:
    """An Index is the sum of the positions along the axes, each times a number.

    jinit's samplers count their entries in this way.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_flat(self) -> bool:
        """Tell whether it counts the entries in their order, in 32 bits."""
        flat = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        pairs = zip(self.shape, self.strides, flat, strict=True)
        is_counter = all(size == 1 or stride == f for size, stride, f in pairs)
        return is_counter and math.prod(self.shape) <= 1 << 32

    def times(self, factor: int) -> "Index":
        return Index(self.shape, tuple(s * factor for s in self.strides))

    def plus(self, other: "Index") -> "Index":
        pairs = zip(self.strides, other.strides, strict=True)
        return Index(self.shape, tuple(a + b for a, b in pairs))


def counted(eqn: JaxprEqn, values: Sequence[Any]) -> Index | None:
    """Return the result of an equation if it is an Index again."""
    if eqn.primitive is equations.IOTA:
        shape, axis = eqn.params["shape"], eqn.params["dimension"]
        if eqn.params["dtype"] != np.uint32:
            raise NotFlatError
        return Index(tuple(shape), tuple(int(i == axis) for i in range(len(shape))))
    indices = [x for x in values if isinstance(x, Index)]
    if not indices or eqn.primitive not in (equations.ADD, equations.MULTIPLY):
        return None
    if len(indices) == 2 and eqn.primitive is equations.ADD:
        return indices[0].plus(indices[1])
    (factor,) = [_literal(a) for a in eqn.invars if jaxpr.is_literal(a)] or [None]
    if factor is None or len(indices) == 2:
        return None
    if eqn.primitive is equations.MULTIPLY:
        return indices[0].times(factor)
    return indices[0] if factor == 0 else None


def _literal(atom: Any) -> int | None:
    value = jaxpr.literal_value(atom)
    return int(value) if value.size == 1 else None


def opened(
    eqn: JaxprEqn, values: list[Any], handler: interpret.Handler
) -> list[Any] | None:
    """Return the results of a call, or of the case that is taken."""
    if eqn.primitive in equations.LOOKED_THROUGH or equations.has_own_vmap(eqn):
        return interpret.inside(eqn, values, handler)
    if eqn.primitive is equations.COND and isinstance(values[0], int):
        branch = equations.branches_of(eqn)[values[0]]
        return interpret.interpret(branch.jaxpr, branch.consts, values[1:], handler)
    # All platforms have the same bits and values. A CPU has its bits in a loop apart
    # (`random/_apart.py`), which the chunks do in their own way.
    index = equations.platform_index(eqn, "cuda")
    return None if index is None else [index]


def passes_on(eqn: JaxprEqn) -> bool:
    """Tell whether an equation leaves the entries, and their order, as they are."""
    if eqn.primitive in equations.ELEMENTWISE:
        return False
    sizes = {jaxpr.size(eqn.invars[0]), jaxpr.size(eqn.outvars[0])}
    same = eqn.primitive in equations.IDENTITIES
    return same or (equations.keeps_order(eqn) and len(sizes) == 1)


def _read(unit: ProgramUnit) -> Flat:
    reader = _Reader(jaxpr.size(unit.steps[-1].eqn.outvars[0]))
    kinds = unit.read_types()
    operands: list[Any] = [
        _Number(("operand", i), jaxpr.literal_value(r) if jaxpr.is_literal(r) else None)
        for i, r in enumerate(unit.reads)
    ]
    if any(math.prod(kind.shape) > _MOST_WORDS for kind in kinds):
        raise NotFlatError
    first, *others = unit.steps
    slots = dict(enumerate(operands))
    interpret.evaluate([first], slots, (), reader)
    reader.lines.append("the first step ends")
    results = interpret.evaluate(others, slots, unit.steps[-1].writes, reader)
    (kind,) = unit.write_types()
    # A complex division is many operations, which two loops may round differently.
    if not isinstance(results[0], _Entries) or kind.weak_type or kind.dtype.kind == "c":
        raise NotFlatError
    types = tuple((str(k.dtype), k.weak_type, k.size) for k in kinds)
    lines = tuple(reader.lines), results[0].name
    key = types, lines, reader.bound, str(kind.dtype)
    return Flat(key, reader.bound)


class _Reader:
    """A reader goes through the equations of a program unit and notes what they do."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._names = itertools.count()
        self.lines: list[Hashable] = []
        self.bound = 0.0

    def __call__(self, eqn: JaxprEqn, values: list[Any]) -> list[Any]:
        results = opened(eqn, values, self)
        if results is not None:
            return results
        index = counted(eqn, values)
        if index is not None:
            return [index]
        values = [self._named(a, x) for a, x in zip(eqn.invars, values, strict=True)]
        if len(eqn.outvars) != 1 or eqn.effects:
            raise NotFlatError
        if eqn.primitive is equations.RANDOM_BITS:
            return [self._bits(eqn, values)]
        if any(isinstance(x, _Entries) for x in values):
            return [self._of_entries(eqn, values)]
        return [self._of_numbers(eqn, values)]

    def _named(self, atom: Any, value: Any) -> Any:
        if isinstance(value, Index):
            if not value.is_flat or math.prod(value.shape) != self._size:
                raise NotFlatError
            return _Entries("index")
        if isinstance(value, _Number | _Entries):
            return value
        constant = np.asarray(value, atom.aval.dtype)
        if constant.size != 1:
            raise NotFlatError
        return _Number((constant.tobytes(), str(constant.dtype)), constant)

    def _new(self, *line: Hashable) -> Hashable:
        self.lines.append(line)
        return next(self._names)

    def _bits(self, eqn: JaxprEqn, values: list[Any]) -> _Entries:
        (key,) = values
        size, width = math.prod(eqn.params["shape"]), eqn.params["bit_width"]
        kind: Any = eqn.invars[0].aval
        if size != self._size or kind.shape != ():
            raise NotFlatError
        if not isinstance(key, _Number) or not jaxpr.is_threefry(kind):
            raise NotFlatError
        name = self._new("bits", width, key.name)
        top = 2**width - 1
        return _Entries(name, Interval(*np.array([0, top], f"uint{width}")))

    def _of_entries(self, eqn: JaxprEqn, values: list[Any]) -> _Entries:
        (out,) = eqn.outvars
        kind: Any = out.aval
        if jaxpr.size(out) != self._size or depends_on_loop(kind.shape):
            raise NotFlatError
        if passes_on(eqn):
            result: _Entries = values[0]
            return result
        if eqn.primitive not in equations.ELEMENTWISE:
            raise NotFlatError
        line = self._line(eqn, values)
        if eqn.primitive is equations.INVERSE_ERF:
            self.bound = max(self.bound, bound_of(_ends(values[0])))
        ends = [_ends(x) for x in values]
        return _Entries(self._new(*line), bounds_after(eqn, ends))

    def _of_numbers(self, eqn: JaxprEqn, values: list[Any]) -> _Number:
        (out,) = eqn.outvars
        single = all(jaxpr.size(a) == 1 for a in eqn.invars)
        first: _Number = values[0] if values else _Number(None)
        if eqn.primitive is equations.BROADCAST and single:
            # A number that is repeated goes on as a number.
            return first
        if jaxpr.size(out) > _MOST_WORDS:
            raise NotFlatError
        if single and values and passes_on(eqn):
            return first
        if single and eqn.primitive in equations.ELEMENTWISE:
            name = self._new(*self._line(eqn, values))
            return _Number(name, number(eqn, [x.value for x in values]))
        kinds: list[Any] = [atom.aval for atom in eqn.invars]
        if any(kind.ndim and kind.size == 1 for kind in kinds):
            raise NotFlatError
        names = tuple(x.name for x in values)
        return _Number(self._new(signature.signature(eqn), names))

    def _line(self, eqn: JaxprEqn, values: list[Any]) -> tuple[Hashable, ...]:
        params = tuple((k, identity(x)) for k, x in eqn.params.items())
        names = tuple(x.name for x in values)
        return eqn.primitive, params, identity(eqn.ctx), names


def _ends(x: Any) -> Interval | None:
    if isinstance(x, _Entries):
        return x.interval
    return None if x.value is None else Interval(x.value, x.value)
