"""Rules give the laws of an equation's results, where entries do not meet others."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from .._network.equations import (
    CONCATENATE,
    CONVERT,
    IDENTITIES,
    MIXING,
    PAD,
    PARTS,
    REDUCING,
    SELECT,
    SPLIT,
    STACK,
    UNSTACK,
    by_primitive,
    moves,
)
from .._network.interpret import fused, run
from . import signals
from .signals import SignalLaw

Laws = list[SignalLaw | None]

# An operation with one of these settings does not go entry by entry, although its
# results may have the shape of its operands.
_SETTINGS = {
    "axes", "axis", "dimension", "dimensions", "dimension_numbers", "jaxpr", "branches",
    "window_dimensions", "call_jaxpr", "callback", "target_name", "fft_lengths",
}  # fmt: skip


def shape_of(atom: Any) -> tuple[int, ...]:
    """Return the shape of a variable or a literal."""
    return tuple(atom.aval.shape)


def dtype_of(atom: Any) -> Any:
    """Return the dtype of a variable or a literal."""
    return atom.aval.dtype


def cuts(eqn: JaxprEqn) -> bool:
    """Tell whether the results are entries of the first operand, unchanged."""
    return _same(eqn) or eqn.primitive in PARTS | {SPLIT, UNSTACK}


def _same(eqn: JaxprEqn) -> bool:
    """Tell whether an equation moves its entries without changing them."""
    return moves(eqn) or eqn.primitive in IDENTITIES


def laws(eqn: JaxprEqn, operands: Laws, values: Sequence[Any]) -> Laws:
    """Return the laws of an equation's results, from those of its operands.

    `values` are the operands themselves, of which known arrays count.
    """
    unknown: Laws = [None] * len(eqn.outvars)
    if cuts(eqn):
        return [_cut(eqn, operands[0]) for _ in eqn.outvars]
    if eqn.primitive in _RULES:
        return [_RULES[eqn.primitive](eqn, operands, values)]
    if eqn.primitive in REDUCING and len(eqn.invars) == 1:
        is_alone = math.prod(shape_of(eqn.invars[0])) == _size(eqn.outvars[0])
        return operands if is_alone and _settles(eqn) else unknown
    return _entrywise(eqn, operands) or unknown


def _settles(eqn: JaxprEqn) -> bool:
    """Tell whether a reduction of one entry is that entry."""
    return "axes" in eqn.params and dtype_of(eqn.invars[0]) == dtype_of(eqn.outvars[0])


def _size(atom: Any) -> int:
    return math.prod(shape_of(atom))


def _cut(eqn: JaxprEqn, law: SignalLaw | None) -> SignalLaw | None:
    if law is None:
        return None
    if eqn.primitive is CONVERT:
        dtype = eqn.params["new_dtype"]
        is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
        return None if is_complex else law._replace(values=law.values.astype(dtype))
    return law if _same(eqn) and _stays(eqn) else law.apart()


def _stays(eqn: JaxprEqn) -> bool:
    """Tell whether each entry stays in its place, and so meets the same others.

    In x[:, None] - x[None] an entry meets all the others of its array.
    """
    is_larger = _size(eqn.outvars[0]) > _size(eqn.invars[0])
    return not is_larger and eqn.primitive.name not in ("transpose", "rev")


def _concatenate(eqn: JaxprEqn, operands: Laws, values: Any) -> SignalLaw | None:
    sizes = list(map(_size, eqn.invars))
    return signals.mixture(operands, [size / max(1, sum(sizes)) for size in sizes])


def _pad(eqn: JaxprEqn, operands: Laws, values: Any) -> SignalLaw | None:
    share = min(1.0, _size(eqn.invars[0]) / max(1, _size(eqn.outvars[0])))
    return signals.mixture(operands[:2], [share, 1 - share])


def _select(eqn: JaxprEqn, operands: Laws, values: Sequence[Any]) -> SignalLaw | None:
    """Mix the cases by a mask that is known, such as that of dropout."""
    if not isinstance(values[0], (jax.Array, np.ndarray)):
        return (_entrywise(eqn, operands) or [None])[0]
    cases, which = operands[1:], np.asarray(values[0]).astype(int)
    return signals.mixture(cases, [(which == i).mean() for i in range(len(cases))])


_RULES: dict[Any, Callable[[JaxprEqn, Laws, Any], SignalLaw | None]] = {
    CONCATENATE: _concatenate,
    STACK: _concatenate,
    PAD: _pad,
    SELECT: _select,
}


def _entrywise(eqn: JaxprEqn, operands: Laws) -> Laws:
    """Apply an operation to the values of the laws, entry by entry, if it is one."""
    if any(law is None for law in operands) or not _is_entrywise(eqn):
        return []
    shape = shape_of(eqn.outvars[0])
    whole = [
        # An operand that is spread over an axis meets others than itself.
        law if shape_of(atom) == shape else law.apart()
        for law, atom in zip(operands, eqn.invars, strict=True)
        if law is not None
    ]

    def compute(*grids: np.ndarray) -> list[Any]:
        kinds: list[Any] = [atom.aval for atom in eqn.invars]
        arrays = [
            jnp.asarray(grid, kind.dtype)
            for grid, kind in zip(grids, kinds, strict=True)
        ]
        return list(run(eqn, arrays, fused))

    return signals.pointwise(compute, whole)


def _is_entrywise(eqn: JaxprEqn) -> bool:
    if eqn.primitive in MIXING or eqn.effects or _SETTINGS & set(eqn.params):
        return False
    try:
        shape = np.broadcast_shapes(*map(shape_of, eqn.invars))
    except ValueError:
        return False
    return all(shape_of(var) == shape for var in eqn.outvars)


def multiplier(eqn: JaxprEqn, arrays: Sequence[Any], place: int) -> float | None:
    """Return the number by which an equation multiplies one operand, or None."""
    rule = _MULTIPLIERS.get(eqn.primitive)
    others = [np.asarray(x) for i, x in enumerate(arrays) if i != place]
    if rule is None or any(x.size != 1 or x.dtype.kind == "c" for x in others):
        return None
    return rule([float(x.item()) for x in others], place)


def _inverse(numbers: list[float], place: int) -> float | None:
    """Return 1 / number for a weight that is divided by the number."""
    return 1 / numbers[0] if place == 0 and numbers[0] else None


_MULTIPLIERS: dict[Any, Callable[[list[float], int], float | None]] = by_primitive(
    {
        "mul": lambda numbers, place: numbers[0],
        "div": _inverse,
        "neg": lambda numbers, place: -1.0,
    }
)


def choices(eqn: JaxprEqn, values: Sequence[Any]) -> int | None:
    """Return how many rows whole numbers choose from in an equation, or None."""
    rule = _CHOICES.get(eqn.primitive)
    return rule(eqn, values) if rule else None


def _rows(eqn: JaxprEqn, values: Sequence[Any]) -> int | None:
    shape, axes = (
        shape_of(eqn.invars[0]),
        eqn.params["dimension_numbers"].start_index_map,
    )
    return min((shape[axis] for axis in axes), default=None)


def _one_hot(eqn: JaxprEqn, values: Sequence[Any]) -> int | None:
    """Return how many numbers a comparison has on its known side, as a one-hot does."""
    known = [np.asarray(x) for x in values if isinstance(x, (jax.Array, np.ndarray))]
    return int(known[0].max()) + 1 if known and known[0].size > 1 else None


_CHOICES: dict[Any, Callable[[JaxprEqn, Sequence[Any]], int | None]] = by_primitive(
    {"gather": _rows, "eq": _one_hot}
)
