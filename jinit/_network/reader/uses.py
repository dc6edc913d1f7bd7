"""The log of a reading: each use of a parameter, in the order of execution."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from .axes import Axis, Labels
from .values import Attention, Data, Meeting, Scalar, Term, View, place

# Bit 0 of `Data.sources` stands for the inputs of the network.
FROM_INPUTS = 1


@dataclasses.dataclass(slots=True)
class Loop:
    """A scan or a while around the equations that are being read."""

    length: int
    # The bits of `Data.ancestors` that its carries have.
    carries: int = 0
    # The numbers of the entries of the log that stand for its carries.
    tokens: int = 0
    # Whether its steps run from the last to the first.
    reverse: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class Use:
    """One use of a view of parameters, or the carry of a loop (without a view)."""

    number: int
    # "product", "convolution", "lookup", "multiply", "add", "other"; "carry" of a loop;
    # or "half" of a use that another entry describes as a whole.
    kind: str
    view: View
    # A letter for each factor of each parameter that the use knows.
    letters: dict[int, str] = dataclasses.field(default_factory=dict)
    # The axis of the result for each output axis; that of the data for the others.
    outputs: dict[int, Axis] = dataclasses.field(default_factory=dict)
    contracted: dict[int, Axis] = dataclasses.field(default_factory=dict)
    batched: dict[int, Axis] = dataclasses.field(default_factory=dict)
    data: Data | None = None
    roles: set[str] = dataclasses.field(default_factory=set)
    groups: int = 1
    # How many taps of a window fall between the entries of a dilated input.
    idle: int = 1
    activation: Scalar | None = None
    gate: Scalar | None = None
    reason: str | None = None
    # How often the equation is executed, and how often with the same parameters.
    count: int = 1
    shared: int = 1
    # The loops around the use, the place of the product, and its operand that is data.
    loops: tuple[Loop, ...] = ()
    product: tuple[Any, ...] = ()
    side: int | None = None
    # The functions that the data go through after a bias was added to them.
    after: set[str] = dataclasses.field(default_factory=set)
    # The bias that is added to the product, and the point of the output (points.py).
    bias: View | None = None
    point: Any = None
    # Whether the name of the output is that of a module.
    is_module: bool = False
    # Whether data have scaled or chosen the kernel.
    is_modulated: bool = False

    @property
    def bit(self) -> int:
        """The bit of this use in a set of uses."""
        return 2 << self.number

    @property
    def main(self) -> Term:
        """The term of the parameter that the use is named after."""
        terms = [t for t in self.view.terms if not (t.is_scale or t.is_reduced)]
        return max(terms or self.view.terms, key=lambda term: len(term.axes))


@dataclasses.dataclass(slots=True, eq=False)
class Addition:
    """One branch of a residual sum."""

    # The number of the sum: parallel branches may be summed before they are added.
    sum: int
    layers: int
    ends: int
    sources: int
    count: int
    # The equation of the sum, behind the calls and scans around it, and which of its
    # operands is the shortcut; None where the equation is no plain sum of two.
    place: tuple[Any, ...] = ()
    shortcut: int | None = None
    # The loops that carry the stream, the outermost first.
    loops: tuple[Loop, ...] = ()


class Log:
    """Everything that is noted while the equations are read."""

    def __init__(self) -> None:
        self.labels = Labels()
        self.uses: list[Use] = []
        self.loops: list[Loop] = []
        # The equation that is being read, behind the calls and scans around it.
        self.place: list[Any] = []
        self.points: list[Any] = []
        self.additions: list[Addition] = []
        self.attentions: list[Attention] = []
        # Numbers that multiply a product of two values, or are added to it.
        self.numbers: list[tuple[Use, Meeting]] = []
        # The values whose bits are in `Data.stream`, by their numbers.
        self.bases: list[Data] = []
        # Uses whose results a later product reads, found at the end of loops.
        self.followed = 0
        # What the carries come from: the sources of the first, and of the last.
        self.carried: dict[int, int] = {}
        # For each router its labels, and the layers that it chooses among.
        self.routers: dict[int, set[int]] = {}
        # Sets of uses that multiplied data entry by entry, their products being added.
        self.mixed: set[int] = set()
        self.experts = 0
        # Parameters that are read like inputs: by the identity of the view, which is
        # kept, the view and its data.
        self.learned: dict[int, tuple[View, Data]] = {}

    def base(self, data: Data) -> Data:
        """Make a value one that others can be known to descend from."""
        bit = 1 << len(self.bases)
        self.bases.append(data)
        data.ancestors |= bit
        data.stream = bit
        return data

    def note(self, kind: str, view: View, data: Data | None, **facts: Any) -> Use:
        """Add a use to the log."""
        use = Use(len(self.uses), kind, view, data=data, **facts)
        use.loops = tuple(self.loops)
        for loop in self.loops:
            use.count *= loop.length
            if not any(term.factor_of(id(loop)) is not None for term in view.terms):
                use.shared *= loop.length
        self.uses.append(use)
        if data is not None and data.sources & self._tokens_of(view):
            use.roles.add("recurrent")
        return use

    def other(self, view: View, reason: str) -> None:
        """Note a use that says nothing about the roles of its parameters."""
        self.note("other", view, None, reason=reason)

    def as_learned(self, value: Any) -> Any:
        """Return the data that a view has turned out to be, or the value itself."""
        entry = self.learned.get(id(value))
        return value if entry is None else entry[1]

    def members(self, bits: int) -> list[Use]:
        """Return the uses that a set of bits stands for."""
        bits >>= 1
        uses = []
        while bits:
            low = bits & -bits
            uses.append(self.uses[low.bit_length() - 1])
            bits ^= low
        return uses

    def _tokens_of(self, view: View) -> int:
        """Return the carries of the loops whose steps share a view's parameters."""
        tokens = 0
        for loop in self.loops:
            if not any(term.factor_of(id(loop)) is not None for term in view.terms):
                tokens |= loop.tokens
        return tokens


def letters_of(view: View, dims: Sequence[str]) -> dict[int, str]:
    """Return the letter of each factor of each parameter of a view."""
    letters: dict[int, str] = {}
    for term in view.terms:
        for axis, letter in zip(term.axes, dims, strict=True):
            letters |= {name: letter for name, _ in axis if name >= 0}
        for axis in term.members:
            letters |= {name: "b" for name, _ in axis if name >= 0}
        _inner_letters(term, letters)
    return letters


def sizes_of(view: View) -> dict[int, int]:
    """Return the length of each factor of each parameter of a view."""
    return {
        name: size
        for term in view.terms
        for axis in (*term.axes, *term.members, term.inner)
        for name, size in axis
        if name >= 0
    }


def _inner_letters(term: Term, letters: dict[int, str]) -> None:
    """Give letters to the axes that a product of two parameters sums over.

    The parameter that meets the data sums over its other axes, so that the axis between
    the two is its output, and the input of the next.
    """
    for name, _ in term.inner:
        parameter, _ = place(name)
        outside = {x for n, x in letters.items() if place(n)[0] == parameter}
        letters[name] = "o" if "i" in outside else "i"
