"""A function that acts on each entry between two layers is named by its values.

A function of one number is evaluated on a grid and compared with the activations that
jinit knows, up to a factor: a dropout divides by what it keeps. So a GELU has its name
whether it is called `jax.nn.gelu` or is written out.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..._scale.activations import ACTIVATIONS, GATES
from .. import equations
from .values import Scalar

_GRID = np.array(
    [-7.5, -4.1, -2.4, -1.3, -0.7, -0.2, 0.1, 0.4, 0.9, 1.7, 3.2, 5.3, 8.0]
)
# Names that mean one thing to a reader: `jax.nn.gelu` is by default an approximation.
_SHORT = {"gelu_tanh": "gelu"}
_GATE_NAMES = {phi: name for name, phi in GATES.items()}


class TracedFunction:
    """A function of one number that has been traced: call it with an array."""

    def __init__(self, curve: Scalar) -> None:
        self._curve = curve

    def __call__(self, x: Any) -> Any:
        x = jnp.asarray(x)
        return _applied(self._curve, x)

    def __repr__(self) -> str:
        return f"<traced function {'-'.join(_steps(self._curve))}>"


class Activations:
    """The names of the activations of one network, each of which is read once."""

    def __init__(self) -> None:
        self._names: dict[int, str | None] = {}

    def of(self, curve: Scalar | None, gate: Scalar | None) -> Any:
        """Return None for a straight line, or a function's name, or the function."""
        if gate is not None:
            return _GATE_NAMES.get(self._name(gate) or "", "gated")
        if curve is None or not curve.bends:
            return None
        return self._name(curve) or TracedFunction(curve)

    def _name(self, curve: Scalar) -> str | None:
        if curve.key not in self._names:
            self._names[curve.key] = name_of(curve)
        return self._names[curve.key]


def name_of(curve: Scalar) -> str | None:
    """Return the name of the activation that a function is, up to a factor."""
    with np.errstate(all="ignore"):
        values = _evaluated(curve, {})
    # Outside of their domain, such as log at -1, functions have no values to compare.
    if values is None or np.iscomplexobj(values) or not np.all(np.isfinite(values)):
        return None
    values = np.broadcast_to(np.asarray(values, np.float64), _GRID.shape)
    for name, reference in _references().items():
        factor = (values @ reference) / (reference @ reference)
        error = np.max(np.abs(values - factor * reference))
        # GELU and its approximation differ by 5e-4, float32 literals by 1e-8.
        if factor > 0 and error <= 2e-5 * factor * np.max(np.abs(reference)):
            return _SHORT.get(name, name)
    return None


_REFERENCES: dict[str, np.ndarray] = {}


def _references() -> dict[str, np.ndarray]:
    """Return the values of each activation on the grid."""
    if not _REFERENCES:
        for name, entry in ACTIVATIONS.items():
            if name not in ("linear", "identity"):
                rest = () if entry.param is None else (entry.param,)
                _REFERENCES[name] = np.asarray(entry.f(_GRID, *rest), np.float64)
    return _REFERENCES


def _steps(curve: Scalar) -> list[str]:
    """Return the names of the operations, those that go first before the others."""
    names: dict[int, str] = {}

    def visit(curve: Scalar) -> None:
        for argument in curve.arguments:
            if isinstance(argument, Scalar) and id(argument) not in names:
                visit(argument)
        if curve.eqn is not None:
            names[id(curve)] = curve.eqn.primitive.name

    visit(curve)
    return list(names.values())


def _evaluated(curve: Scalar, known: dict[int, Any]) -> Any:
    """Return the values of a function on the grid, or None where a step is unknown."""
    if curve.eqn is None:
        return _GRID
    if id(curve) not in known:
        arguments = [
            _evaluated(a, known) if isinstance(a, Scalar) else a
            for a in curve.arguments
        ]
        known[id(curve)] = _computed(curve.eqn, arguments)
    return known[id(curve)]


def _computed(eqn: Any, arguments: list[Any]) -> Any:
    """Return the values of one operation, or None where it is unknown."""
    if any(argument is None for argument in arguments):
        return None
    if "y" in eqn.params:
        return np.power(np.asarray(arguments[0], float), eqn.params["y"])
    rule = _NUMPY.get(eqn.primitive.name)
    return None if rule is None else rule(*arguments)


def _applied(curve: Scalar, x: Any) -> Any:
    """Return the values of a function at x, by JAX."""
    if curve.eqn is None:
        return x
    arguments = []
    for argument, atom in zip(curve.arguments, curve.eqn.invars, strict=True):
        if isinstance(argument, Scalar):
            arguments.append(_applied(argument, x))
        else:
            arguments.append(jnp.full(jnp.shape(x), argument, atom.aval.dtype))
    return equations.bind(curve.eqn, arguments)[0]


_NUMPY: dict[str, Callable[..., Any]] = {
    "add": operator.add, "add_any": operator.add, "sub": operator.sub,
    "mul": operator.mul, "div": np.divide, "max": np.maximum, "min": np.minimum,
    "neg": operator.neg, "pow": np.power, "exp": np.exp, "exp2": np.exp2,
    "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "tanh": np.tanh,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "square": np.square,
    "abs": np.abs, "sign": np.sign, "sin": np.sin, "cos": np.cos,
    "floor": np.floor, "cbrt": np.cbrt, "sinh": np.sinh, "cosh": np.cosh,
    "erf": np.vectorize(math.erf), "erfc": np.vectorize(math.erfc),
    "logistic": lambda x: 0.5 * (1 + np.tanh(x / 2)),
    "gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le,
    "eq": operator.eq, "ne": operator.ne, "and": np.logical_and,
    "or": np.logical_or, "not": np.logical_not, "is_finite": np.isfinite,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "select_n": lambda test, *cases: np.where(test, cases[-1], cases[0]),
}  # fmt: skip
