"""The points of a network become taps, once everything has been read.

A layer has the name of the module that its weight lies in, or the path of the weight
where the module has several. Logits are named after the module of their queries and
keys.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..equations import COND, CUSTOM_VJP, LOOKED_THROUGH, SCAN, WHILE, scan_of
from .adjust import adjustable, biases_of, inner_axes, other_uses, summed_dims
from .curves import name_of
from .points import Place, Point, scoped
from .records import Adjustable, Fed, Product, Sum, Tap
from .uses import Addition, Log, Use

# The names of the parameters that a set of bits stands for.
Names = Callable[[int], tuple[str, ...]]
_LAYERS = ("product", "convolution")
_WRITTEN_OUT = {
    "tanh", "sigmoid", "relu", "gelu", "gelu_exact", "silu", "mish", "sin", "elu",
    "leaky_relu", "softplus", "softsign",
}  # fmt: skip


def taps_of(
    log: Log,
    uses: Sequence[Use],
    paths: Sequence[str],
    shapes: Sequence[Sequence[int]],
) -> tuple[
    tuple[Tap, ...],
    tuple[Adjustable, ...],
    tuple[Fed | None, ...],
    frozenset[int],
    tuple[int, ...],
    tuple[Product, ...],
]:
    """Return the fields of a `Reading` from `taps` on, without the last one."""
    layers = [use for use in uses if use.kind in _LAYERS and use.point is not None]
    names = layer_names(layers, paths)
    _release(log.points, set(map(id, layers)))
    _name_activations(log.points)
    points = [p for p in log.points if _counts(p) and _is_in_reach(p.place)]
    _give_names(points, names)
    taps = tuple(map(_tap, points))
    numbers = {id(point.use): i for i, point in enumerate(points) if point.use}
    reached = [use for use in layers if id(use) in numbers]
    every = _adjustable(log, reached, names, shapes, numbers)
    uses_of = {numbers[id(use)]: use for use in reached}
    fed = tuple(_fed(uses_of[layer.taps[0]]) for layer in every)
    inner = tuple(inner_axes(uses, n, shape) for n, shape in enumerate(shapes))
    products = tuple(_products(uses, numbers))
    return taps, tuple(every), fed, frozenset(biases_of(layers)), inner, products


def _products(uses: Sequence[Use], numbers: dict[int, int]) -> Iterator[Product]:
    """Yield each execution of a layer whose output has a tap, in their order."""
    layers = [use for use in uses if use.kind in _LAYERS]
    for number, use in enumerate(layers):
        if id(use) in numbers:
            fed = _fed(use)
            shared = tuple(
                all(term.factor_of(id(loop)) is None for term in use.view.terms)
                for loop in use.loops
            )
            units = () if fed is None else tuple(dim for dim, _ in fed.dims)
            tap = None if fed is None else fed.tap
            yield Product(
                number, numbers[id(use)], tap, units, shared, use.is_modulated
            )


def sums_of(additions: Sequence[Addition], names: Names) -> tuple[Sum, ...]:
    """Return the residual sums whose operands can be recorded."""
    sums: dict[int, Sum] = {}
    for addition in additions:
        place, shortcut = addition.place, addition.shortcut
        if shortcut is None or not _is_in_reach(place):
            continue
        layers, ends = names(addition.layers), names(addition.ends)
        # Parallel branches are summed before they meet the stream, as one operand.
        before = sums.get(addition.sum)
        if before is not None:
            layers, ends = before.layers + layers, before.ends + ends
        one = _tap(Point("shortcut", place, shortcut, is_operand=True))
        other = _tap(Point("branch", place, 1 - shortcut, is_operand=True))
        sums[addition.sum] = Sum(one, other, layers, ends)
    return tuple(sums.values())


def _release(points: Sequence[Point], layers: set[int]) -> None:
    """Let the points of uses that turned out to be no layers stand for themselves.

    Such a use is the lookup of an embedding, whose module has a name.
    """
    for point in points:
        if point.use is not None and id(point.use) not in layers:
            point.kind = "module" if point.use.is_module else "name"
            point.use = None


def _name_activations(points: Sequence[Point]) -> None:
    """Name the activations that are written out; the others keep no name."""
    known: dict[int, str | None] = {}
    for point in points:
        if point.curve is None:
            continue
        key = point.curve.key
        if not point.name and key not in known:
            known[key] = name_of(point.curve)
        name = point.name or known[key]
        is_whole = name in _WRITTEN_OUT and not point.curve.inside
        point.name = scoped(point.place[-1], str(name)) if is_whole else ""


def _counts(point: Point) -> bool:
    if point.kind == "logits":
        return bool(point.projections)
    return point.use is not None or bool(point.name)


def _is_in_reach(place: Place) -> bool:
    """Tell whether a program that goes through the equations meets a value.

    The branches of a condition and the steps of a `while` leave no record.
    """
    around = {eqn.primitive for eqn in place[:-1]}
    # The body of a custom_vjp lacks the derivative that the user defined, and taps
    # exist to take derivatives.
    return around <= LOOKED_THROUGH | {SCAN} and CUSTOM_VJP not in around


def hidden_of(uses: Sequence[Use], paths: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the layers whose outputs cannot be recorded, each with where it lies."""
    places = [
        (paths[use.main.parameter], use.point.place)
        for use in uses
        if use.kind in _LAYERS and use.point is not None
    ]
    hidden = [(path, _where(at)) for path, at in places if not _is_in_reach(at)]
    return tuple(dict.fromkeys(hidden))


def _where(place: Place) -> str:
    """Name the equation around a value whose inside cannot be recorded."""
    for eqn in place[:-1]:
        if eqn.primitive in _AROUND:
            return _AROUND[eqn.primitive]
        if eqn.primitive not in LOOKED_THROUGH | {SCAN}:
            return f"the body of a `{eqn.primitive.name}`"
    return "the body of a call"


_AROUND = {
    COND: "a branch of a `cond`",
    WHILE: "the body of a `while`",
    CUSTOM_VJP: "a function with a custom_vjp",
}


def layer_names(uses: Sequence[Use], paths: Sequence[str]) -> dict[int, str]:
    """Return the name of the layers of each parameter, by the parameter's number."""
    numbers = dict.fromkeys(use.main.parameter for use in uses)
    modules = [paths[n].rpartition("/")[0] for n in numbers]
    return {
        n: module if module and modules.count(module) == 1 else paths[n]
        for n, module in zip(numbers, modules, strict=True)
    }


def _give_names(points: Sequence[Point], names: dict[int, str]) -> None:
    for point in points:
        if point.use is not None:
            name = names[point.use.main.parameter]
            # A name that the user has given to the output stays.
            is_from_user = point.name and not point.use.is_module
            point.name = point.name if is_from_user else name or "kernel"
        elif point.kind == "logits":
            modules = [names[use.main.parameter] for use in point.projections]
            point.name = _below(modules, "softmax")
    _rename_repeated(points)


def _below(layers: Sequence[str], name: str) -> str:
    """Return a name in the module that some layers lie in."""
    above = [layer.rpartition("/")[0] for layer in layers]
    common = os.path.commonpath(above) if all(above) else ""
    return f"{common}/{name}" if common else name


def _rename_repeated(points: Sequence[Point]) -> None:
    """Name the modules inside of a body that several calls share.

    JAX traces a jitted block once for all its calls, so that the names of its modules
    are those of the first call. The names of layers, which are paths of weights, say
    which part of a name differs.
    """
    first: dict[int, Point] = {}
    layers = {tuple(map(id, p.place)): p.name for p in points if p.use is not None}
    for point in points:
        before = first.setdefault(id(point.place[-1]), point)
        is_same = before is point or len(before.place) != len(point.place)
        if point.kind != "module" or is_same:
            continue
        for first_name, name in _renamings(layers, before.place, point.place):
            if f"{point.name}/".startswith(f"{first_name}/"):
                point.name = name + point.name[len(first_name) :]
                break


def _renamings(
    layers: dict[tuple[int, ...], str], before: Place, here: Place
) -> list[tuple[str, str]]:
    """Return the pairs of names that a module has in two calls of one body."""
    differ = [
        i for i, (a, b) in enumerate(zip(before, here, strict=True)) if a is not b
    ]
    if not differ:
        return []
    first_call, call = (tuple(map(id, p[: differ[-1] + 1])) for p in (before, here))
    renamed = []
    for key, name in layers.items():
        is_inside = key[: len(first_call)] == first_call
        twin = layers.get(call + key[len(first_call) :]) if is_inside else None
        if twin is not None:
            renamed.append(_without_end(name, twin))
    return renamed


def _without_end(one: str, other: str) -> tuple[str, str]:
    """Drop the parts that two paths have in common at their ends."""
    left, right = one.split("/"), other.split("/")
    while left and right and left[-1] == right[-1]:
        left.pop()
        right.pop()
    return "/".join(left), "/".join(right)


def _tap(point: Point) -> Tap:
    eqn = point.place[-1]
    atoms: Any = eqn.invars if point.is_operand else eqn.outvars
    kind = atoms[point.number].aval
    scans = [scan_of(e).length for e in point.place[:-1] if e.primitive is SCAN]
    return Tap(
        point.name,
        point.kind,
        point.place,
        point.number,
        point.is_operand,
        (*scans, *kind.shape),
        kind.dtype,
        len(scans),
        point.keys,
        point.heads,
    )


def _fed(use: Use) -> Fed | None:
    if use.side is None or use.data is None:
        return None
    point = Point("input", use.product, use.side, is_operand=True)
    return Fed(_tap(point), summed_dims(use))


def _adjustable(
    log: Log,
    uses: Sequence[Use],
    names: dict[int, str],
    shapes: Sequence[Sequence[int]],
    numbers: dict[int, int],
) -> list[Adjustable]:
    """Return the layers that can be set; a weight that is used again is one layer."""
    layers: dict[int, Adjustable | None] = {}
    for use in uses:
        tap, kernel = numbers[id(use)], use.main.parameter
        if kernel not in layers:
            one = adjustable(use, names[kernel], shapes)
            if one is not None and other_uses(log, kernel):
                # A factor would change what is looked up or added as well.
                one = None
            layers[kernel] = one and one._replace(path=use.point.name)
        layer = layers[kernel]
        if layer is not None and _is_alike(layer, use, shapes):
            layers[kernel] = layer._replace(taps=(*layer.taps, tap))
    return [layer for layer in layers.values() if layer is not None]


def _is_alike(layer: Adjustable, use: Use, shapes: Sequence[Sequence[int]]) -> bool:
    """Tell whether a use of the layer's kernel has its axes and its bias, too.

    The transposed kernel of a tied decoder has other units and another bias, so its
    output does not follow the factors of the encoder's units.
    """
    again = adjustable(use, layer.path, shapes)
    return again is not None and again._replace(path=layer.path) == layer._replace(
        taps=()
    )
