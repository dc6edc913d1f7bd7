"""Points are the values in the equations of a network that can be looked at.

A point is the output of a layer, of a module or of an activation, a value with a name,
the logits of attention, or an output of the network. Its place is the equation that
gives the value (or takes it), behind the calls and scans around that equation: the body
of a jitted block is one object, however often the block is called.

The output of a layer is its product, or the sum of the product and a bias.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jax.extend.core import Jaxpr, JaxprEqn

from ..equations import CUSTOM_JVP, JIT, NAME, body_of, moves
from .axes import Axes
from .uses import Log, Use
from .values import Data, Scalar, View, number

# The name of a value that is the output of a module begins with this.
MODULE = "jinit: the output of "

ACTIVATIONS = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "sigmoid",
    "log_sigmoid", "softplus", "hard_tanh", "hard_sigmoid", "hard_silu", "squareplus",
    "mish", "soft_sign",
}  # fmt: skip

# Primitives that are activations, unless they are parts of longer ones.
_PLAIN = {"tanh": "tanh", "logistic": "sigmoid", "sin": "sin"}

Place = tuple[JaxprEqn, ...]


@dataclasses.dataclass(slots=True, eq=False)
class Point:
    """A Point is a value that can be looked at, while the equations are read."""

    # "layer", "module", "name", "activation", "logits" or "output".
    kind: str
    place: Place
    # The number of the result of the equation, or of its operand.
    number: int = 0
    is_operand: bool = False
    name: str = ""
    value: Data | None = None
    # The use of a parameter whose output the point of a layer is.
    use: Use | None = None
    # For logits: the products that make their queries and keys, and the dimensions of
    # keys and of heads.
    projections: tuple[Use, ...] = ()
    keys: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    # The function of an activation that is written out, and not called by a name.
    curve: Scalar | None = None


def begin_layer(log: Log, use: Use, output: Data) -> None:
    """Note the point of a product with a parameter."""
    use.product = tuple(log.place)
    use.point = Point("layer", use.product, value=output, use=use)
    output.output_of = use
    log.points.append(use.point)


def note(
    log: Log, eqn: JaxprEqn, values: Sequence[Any], results: Sequence[Any], before: int
) -> None:
    """Note the point at an equation that was read, if there is one.

    `before` is the number of the points that were noted before the equation was read.
    """
    data = results[0] if len(results) == 1 else None
    if not isinstance(data, Data):
        return
    if eqn.primitive is NAME:
        _named(log, str(eqn.params["name"]), data)
    elif eqn.primitive.name in ("add", "add_any"):
        _biased(log, values, data)
    elif moves(eqn) or _scales(eqn, values):
        data.output_of = _first(values).output_of
    else:
        name = activation_name(eqn)
        if name is not None:
            # Points inside of the activation go: a relu6 is made of a relu.
            del log.points[before:]
            log.points.append(
                Point("activation", tuple(log.place), name=name, value=data)
            )
        else:
            _written_out(log, eqn, data)


def _written_out(log: Log, eqn: JaxprEqn, data: Data) -> None:
    """Note a function of one number that may turn out to be an activation.

    It does not if it is a part of a longer one: the tanh in a GELU.
    """
    curve = data.scalar
    # A variance is kept from falling below 0, too, and so is a number that is drawn.
    if curve is None or curve.eqn is not eqn or data.norm or not data.layers:
        return
    name = _PLAIN.get(eqn.primitive.name, "")
    inner = [a for a in curve.arguments if isinstance(a, Scalar)]
    if eqn.primitive.name == "max" and 0 in curve.arguments:
        name = "relu"
    if name or len(inner) > 1:
        point = Point("activation", tuple(log.place), name=name, value=data)
        point.curve = curve
        log.points.append(point)


def _first(values: Sequence[Any]) -> Data:
    return next(value for value in values if isinstance(value, Data))


def _scales(eqn: JaxprEqn, values: Sequence[Any]) -> bool:
    """Tell whether an equation multiplies data by one number."""
    name = eqn.primitive.name
    is_factor = name == "mul" or (name == "div" and isinstance(values[0], Data))
    constants = [value for value in values if not isinstance(value, Data)]
    return is_factor and len(constants) == 1 and number(constants[0]) is not None


def _named(log: Log, name: str, data: Data) -> None:
    """Note a value with a name: the output of a layer, or another value."""
    is_module = name.startswith(MODULE)
    name = name.removeprefix(MODULE)
    use, here = data.output_of, tuple(log.place)
    if use is not None and not use.point.name:
        use.point.name, use.is_module = name, is_module
        _moved(log, use.point, data)
    else:
        kind = "module" if is_module else "name"
        log.points.append(Point(kind, here, name=name, value=data))


def _biased(log: Log, values: Sequence[Any], data: Data) -> None:
    """Note that a bias is added to the output of a layer."""
    outputs = [v for v in values if isinstance(v, Data) and v.output_of is not None]
    biases = [value for value in values if isinstance(value, View)]
    if len(outputs) != 1 or len(biases) != 1:
        return
    use: Use = outputs[0].output_of
    if use.bias is None and not use.point.name and _is_bias(use, biases[0], data.axes):
        use.bias, data.output_of = biases[0], use
        _moved(log, use.point, data)


def _is_bias(use: Use, view: View, axes: Axes) -> bool:
    """Tell whether a parameter varies along the units of a layer alone.

    A table of positions varies along the positions, too.
    """
    if len(view.terms) != 1:
        return False
    (term,) = view.terms
    units = {label for axis in use.outputs.values() for label, _ in axis}
    units |= {label for axis in use.batched.values() for label, _ in axis}
    varying = [
        labels
        for axis, labels in zip(term.axes, axes, strict=True)
        if any(name >= 0 and size > 1 for name, size in axis)
    ]
    is_whole = not (term.part or term.mapped or term.gathered or term.is_reduced)
    return is_whole and all(
        label in units for labels in varying for label, size in labels if size > 1
    )


def _moved(log: Log, point: Point, data: Data) -> None:
    """Move the point of a layer to the equation that is read now, as the last point."""
    log.points.remove(point)
    log.points.append(point)
    point.place, point.value = tuple(log.place), data


def begin_logits(log: Log, data: Data) -> Point:
    """Note the point of the operand of an exponential, before shift and mask.

    It counts if the exponential turns out to be the softmax of an attention.
    """
    here, operand = data.unshifted or (tuple(log.place), 0)
    point = Point("logits", here, operand, is_operand=True)
    log.points.append(point)
    return point


def shifted(log: Log, data: Data, before: Data, operand: int) -> None:
    """Note that `data` are `before`, shifted for a softmax or masked.

    `operand` is the number of the operand of the equation that `before` is.
    """
    data.unshifted = before.unshifted or (tuple(log.place), operand)


def note_outputs(log: Log, jaxpr: Jaxpr, values: Sequence[Any]) -> None:
    """Note the outputs of the network that are at no other point."""
    known = {id(point.value) for point in log.points}
    makers = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
    outputs = [
        (i, var)
        for i, (var, value) in enumerate(zip(jaxpr.outvars, values, strict=True))
        if isinstance(value, Data) and id(value) not in known and var in makers
    ]
    for i, var in outputs:
        eqn = makers[var]
        name = "output" if len(jaxpr.outvars) == 1 else f"output/{i}"
        log.points.append(
            Point("output", (eqn,), eqn.outvars.index(var), name=name, value=values[i])
        )


def activation_name(eqn: JaxprEqn) -> str | None:
    """Return the name of the JAX activation that an equation calls, or None.

    The scopes around the call, such as modules, stand before the name.
    """
    if len(eqn.outvars) != 1:
        return None
    call = eqn
    if eqn.primitive is CUSTOM_JVP:
        inner = body_of(eqn).jaxpr.eqns
        call = inner[0] if len(inner) == 1 else eqn
    name = call.params.get("name")
    if call.primitive is not JIT or name not in ACTIVATIONS:
        return None
    return scoped(eqn, name)


def scoped(eqn: JaxprEqn, name: str) -> str:
    """Return a name behind the scopes of an equation, without that of the model."""
    # The first scope is that of the model, which is no part of a path.
    stack = str(eqn.source_info.name_stack).split("/")[1:]
    # The scope of a `vmap` without a name is "vmap()".
    scopes = [scope for scope in stack if not scope.endswith("()")]
    return "/".join([*scopes, name])
