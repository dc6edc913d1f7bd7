"""The uses of a parameter decide its roles, its layout and its fans, at the end.

Some facts need the whole walk: whether any product follows a layer, whether an output
axis is a batch axis in later layers, which part of attention a product is.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from . import attention, modulations, places, taps
from .curves import Activations, TracedFunction
from .layouts import fans_of, layout_of
from .members import find_members
from .records import UNUSED, Branch, Layer, Parameter, Passage, Reading
from .uses import FROM_INPUTS, Log, Use
from .values import Scalar, Term
from .windows import windows_of

_PLACES = {"input", "hidden", "readout", "router", "query", "key"}
_KINDS = {"product": "matrix", "convolution": "convolution", "lookup": "embedding"}


def reading_of(log: Log, paths: Sequence[str], kinds: Sequence[Any]) -> Reading:
    """Return the records of everything that a log has noted."""
    attention.give_roles(log)
    modulations.give_roles(log)
    find_members(log)
    depth, ends = _depth(log)
    _give_roles(log, ends)
    # The halves of uses that turned out to be one, and carries, are no uses.
    uses = [use for use in log.uses if use.kind not in ("half", "carry")]
    by_parameter: dict[int, list[tuple[Use, Term]]] = {}
    for use in uses:
        for term in use.view.terms:
            by_parameter.setdefault(term.parameter, []).append((use, term))
    unused = [n for n in range(len(paths)) if n not in by_parameter]
    names = _Names(log, paths)
    parameters = {
        paths[n]: _parameter(paths[n], kinds[n], n, by_parameter.get(n, []), names)
        for n in (*by_parameter, *unused)
    }
    layers = tuple(
        _layer(use, names, parameters)
        for use in uses
        if use.kind in ("product", "convolution")
    )
    branches = tuple(_branches(log, names))
    shapes = [tuple(kind.shape) for kind in kinds]
    tap_fields = taps.taps_of(log, uses, paths, shapes)
    sums = taps.sums_of(log.additions, names.of)
    order = (
        places.places_of(log, paths, shapes),
        places.steps_of(log, uses, paths, shapes),
    )
    passages = {paths[n]: _passage(pairs, names) for n, pairs in by_parameter.items()}
    hidden = taps.hidden_of(uses, paths), windows_of(log, paths, shapes)
    after_taps = sums, *order, passages, *hidden
    return Reading(parameters, layers, branches, depth, *tap_fields, *after_taps)


def _passage(uses: list[tuple[Use, Term]], names: "_Names") -> Passage:
    """Return what the first use of a parameter says about the data around it."""
    use, term = uses[0]
    shifts, mixes = (0, 0) if use.data is None else (use.data.shifts, use.data.mixes)
    function = TracedFunction(term.function or Scalar())
    return Passage(function, names.of(shifts), names.of(mixes), frozenset(use.after))


class _Names:
    """The paths of what sets of bits stand for."""

    def __init__(self, log: Log, paths: Sequence[str]) -> None:
        self.log, self.paths = log, paths
        self.activations = Activations()
        self._known: dict[int, tuple[str, ...]] = {}

    def of(self, bits: int) -> tuple[str, ...]:
        """Return "data" and paths of parameters, in the order of their uses."""
        if bits not in self._known:
            self._known[bits] = self._read(bits)
        return self._known[bits]

    def _read(self, bits: int) -> tuple[str, ...]:
        bits = self._without_carries(bits)
        names = ["data"] if bits & FROM_INPUTS else []
        for use in self.log.members(bits):
            kept = [t for t in use.view.terms if not (t.is_scale or t.is_reduced)]
            names += [self.paths[t.parameter] for t in kept or use.view.terms]
        return tuple(dict.fromkeys(names))

    def _without_carries(self, bits: int) -> int:
        """Put what the first and the last carry come from in the place of a carry."""
        done = 0
        for number, sources in self.log.carried.items():
            done |= 2 << number
            if bits >> 1 & 1 << number:
                bits |= sources
        # A carry may come from another, which was noted before it.
        for number, sources in reversed(self.log.carried.items()):
            if bits >> 1 & 1 << number:
                bits |= sources
        return bits & ~done


def _products(log: Log) -> int:
    """Return the set of the products and convolutions."""
    bits = 0
    for use in log.uses:
        if use.kind in ("product", "convolution"):
            bits |= use.bit
    return bits


def _depth(log: Log) -> tuple[int, int]:
    """Count the residual additions; return the set of the products that end them."""
    # Only now is it known which lookups were halves of products: see `replaced`.
    products = _products(log)
    log.additions = [a for a in log.additions if a.layers & products]
    ends = 0
    for addition in log.additions:
        addition.layers &= products
        addition.ends &= products
        ends |= addition.ends
    # Parallel branches that are summed first are added to the stream once.
    counts = {addition.sum: addition.count for addition in log.additions}
    return sum(counts.values()), ends


def _give_roles(log: Log, ends: int) -> None:
    """Give the roles that depend on what comes before and after a layer."""
    followed = log.followed
    for use in log.uses:
        if use.kind in ("product", "convolution") and use.data is not None:
            followed |= use.data.layers
    for number in log.routers:
        log.uses[number].roles.add("router")
    for use in log.uses:
        if use.kind not in _KINDS:
            continue
        use.roles.add(_KINDS[use.kind])
        if use.bit & ends:
            use.roles.add("residual_output")
        if use.bit & log.experts:
            use.roles.add("expert")
        reads_inputs = use.data is not None and (
            use.data.sources & FROM_INPUTS and not use.data.layers
        )
        # An embedding reads inputs by its nature, and is followed or not.
        if use.kind == "lookup":
            continue
        if reads_inputs:
            use.roles.add("input")
        # Queries, keys and routers only weigh: the readout is what they weigh.
        if not use.bit & followed and not use.roles & {"router", "query", "key"}:
            use.roles.add("readout")
        elif use.data is not None and use.data.ancestors and not reads_inputs:
            use.roles.add("hidden")


def _parameter(
    path: str, kind: Any, number: int, uses: list[tuple[Use, Term]], names: _Names
) -> Parameter:
    shape = tuple(kind.shape)
    if not uses:
        return Parameter(path, shape, kind.dtype, frozenset({"other"}), reason=UNUSED)
    roles, reason = _roles(uses)
    # A tied embedding is laid out as its lookup, which comes first, says.
    first = next((u for u, t in uses if u.kind in _KINDS and not t.is_scale), None)
    known = next((u for u, t in uses if u.letters and not t.is_scale), None)
    layout = None if known is None else layout_of(known, number, shape)
    read = first or uses[0][0]
    inputs = 0
    for use, _ in uses:
        inputs |= use.data.sources if use.data is not None else 0
    return Parameter(
        path,
        shape,
        kind.dtype,
        roles,
        layout,
        None if known is None else fans_of(known, number, shape, layout),
        1 if known is None else known.groups,
        names.of(inputs),
        names.activations.of(read.activation, read.gate),
        _count(uses),
        _members(shape, layout),
        reason,
    )


def _roles(uses: list[tuple[Use, Term]]) -> tuple[frozenset[str], str | None]:
    roles: set[str] = set()
    for use, term in uses:
        roles |= _scale_roles(use) if term.is_scale else use.roles
    reasons = [use.reason for use, _ in uses if use.reason]
    if any(term.is_scale for _, term in uses):
        reasons.append("it multiplies another parameter entry by entry")
    if roles & {"matrix", "convolution"} and not roles & _PLACES:
        # It multiplies constants alone, such as coordinates.
        roles.add("input")
    if roles:
        return frozenset(roles), None
    return frozenset({"other"}), reasons[0] if reasons else "its use is not understood"


def _scale_roles(use: Use) -> set[str]:
    """Return the roles of the gain of a weight norm, or none."""
    return {"scale"} if any(t.is_normalized for t in use.view.terms) else set()


def _count(uses: list[tuple[Use, Term]]) -> int:
    """Count how often a parameter is used; uses of different parts count once."""
    counts: dict[Any, int] = {}
    for use, term in uses:
        counts[term.part] = counts.get(term.part, 0) + use.shared
    # The slices of a fused kernel are used once each, and the kernel so, too.
    whole_uses = counts.pop((), 0)
    return whole_uses + max(counts.values(), default=0)


def _members(shape: Sequence[int], layout: str | None) -> int:
    count = 1
    for size, letter in zip(shape, layout or "", strict=False):
        count *= size if letter == "b" else 1
    return count


def _layer(use: Use, names: _Names, parameters: dict[str, Parameter]) -> Layer:
    number = use.main.parameter
    path = names.paths[number]
    layout = layout_of(use, number, parameters[path].shape)
    terms: Iterable[Term] = use.view.terms
    return Layer(
        path,
        use.kind,
        tuple(dict.fromkeys(names.paths[t.parameter] for t in terms)),
        frozenset(use.roles),
        layout,
        fans_of(use, number, parameters[path].shape, layout),
        names.of(use.data.sources if use.data is not None else 0),
        names.activations.of(use.activation, use.gate),
        use.count,
    )


def _branches(log: Log, names: _Names) -> Iterable[Branch]:
    for addition in log.additions:
        yield Branch(
            names.of(addition.sources),
            names.of(addition.layers),
            names.of(addition.ends),
            addition.count,
        )
