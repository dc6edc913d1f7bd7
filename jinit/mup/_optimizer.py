"""`wrapped` gives an Optax transformation learning rates and decays for each tensor.

The transformation itself is not changed. Gradients and parameters are scaled on their
way in, and updates on their way out, so the state is that of the transformation. Optax
is imported when a transformation is wrapped.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._core import checks
from .._watch.state import states_in
from ._decay_rule import DecayRule
from ._factors import KINDS, Tensor, muon_norm
from ._growth import checked, overridden
from ._optimizer_kind import (
    Behaviour,
    alike,
    answered,
    behaviours,
    elsewhere,
    raise_contradictions,
    raise_doubts,
)
from ._optimizer_trial import Answer, NotByTensor, Response
from ._rescale import find, named_leaves, times

# Two measured sizes whose relative difference is less count as equal: at another width
# an epsilon of the optimizer is a little more, or a little less, of the update.
_SAME = 0.02


class Scales(NamedTuple):
    """Scales multiply a tensor's gradient, its parameter and its update."""

    gradient: float
    parameter: float
    update: float


def wrapped(
    tensors: Sequence[Tensor],
    tx: Any,
    kind: Any,
    rule: DecayRule,
    epsilon: bool,
    structure: Any,
) -> Any:
    """Return `tx` with the factors of a parametrization around it.

    See `Parametrization.optimizer`.
    """
    import optax

    if not (callable(getattr(tx, "init", None)) and hasattr(tx, "update")):
        raise TypeError(
            f"`tx` is {tx!r}, of type {type(tx).__name__}; it must be an Optax "
            "transformation with its learning rate, such as optax.adam(1e-3)."
        )
    _check_kind(kind)
    _check_words(tensors, tx, kind, rule, structure)
    # So that a loss or a value that a chain asks for passes through the wrapper.
    inner = optax.with_extra_args_support(tx)
    if all(factor == 1 for tensor in tensors for factor in tensor.factors):
        # At the base width it is `tx` itself.
        return inner
    scales_of = _scales_by_structure(tensors, tx, kind, rule, epsilon)

    def init(params: Any) -> Any:
        _check_unwatched(jax.eval_shape(inner.init, params))
        scales = scales_of(params, "params")
        return inner.init(times(params, [s.parameter for s in scales]))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        scales = scales_of(updates, "updates")
        if params is not None:
            # f lr decay (w / f) = lr decay w: dividing w by f cancels the factor in the
            # decay.
            params = times(params, [s.parameter for s in scales])
        scaled = times(updates, [s.gradient for s in scales])
        changes, state = inner.update(scaled, state, params, **extra)
        return times(changes, [s.update for s in scales]), state

    return optax.GradientTransformationExtraArgs(init, update)


def _check_unwatched(state: Any) -> None:
    """Raise if a watch is inside of an optimizer with this state."""
    if any(True for _ in states_in(state)):
        raise ValueError(
            "a jinit.watch is inside of `tx`, where parameters and updates are scaled, "
            "so that it would measure wrong sizes. Watch the result in its place: "
            "jinit.watch(p.optimizer(tx))."
        )


def _scales_by_structure(
    tensors: Sequence[Tensor], tx: Any, kind: Any, rule: DecayRule, epsilon: bool
) -> Callable[[Any, str], list[Scales]]:
    """Return a function from a tree and its name to the scales of its leaves."""
    kept: dict[Any, list[Scales]] = {}

    def scales_of(tree: Any, name: str) -> list[Scales]:
        ordered, structure = find(tensors, tree, name), jax.tree.structure(tree)
        if structure not in kept:
            rates = _rates(tx, ordered, tree, kind, rule)
            kept[structure] = [
                _scales(tensor, *rate, rule.is_independent, epsilon)
                for tensor, rate in zip(ordered, rates, strict=True)
            ]
        return kept[structure]

    return scales_of


def _check_kind(kind: Any) -> None:
    """Raise unless `kind` is None, a kind, or pairs of a pattern and a kind."""
    if kind is None or isinstance(kind, str):
        names = [kind] if kind else []
    else:
        names = [name for _, name in checked(kind, "kind")]
    for name in names:
        checks.choice("kind", name, KINDS)


def _check_words(
    tensors: Sequence[Tensor], tx: Any, kind: Any, rule: DecayRule, structure: Any
) -> None:
    """Raise if a kind or a rule that a user names contradicts a trial.

    The trial runs on a tree like the one that the parametrization was made from, so the
    call itself raises the error, also at the base width, where nothing is scaled.
    """
    if structure is None or (kind is None and not rule.is_named):
        return
    shapes = [tensor.shape for tensor in tensors]
    leaves = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    tree = jax.tree.unflatten(structure, leaves)
    try:
        answer = _answered(tx, tree, shapes)
    except NotByTensor:
        # At the base width such an optimizer works all the same.
        return
    # The parameters may have another structure, for which `tx` has its labels.
    if not isinstance(answer, str):
        rule.check(answer)
        paths = [tensor.path for tensor in tensors]
        raise_contradictions(answer, paths, _kinds(kind, tensors, tree, answer))


def _kinds(
    kind: Any, tensors: Sequence[Tensor], tree: Any, answer: Answer | str
) -> list[str | None]:
    """Return the kind that a user names for each leaf."""
    if kind == "muon" and not isinstance(answer, str):
        return _orthogonalized(answer.responses)
    if kind is None or isinstance(kind, str):
        return [kind] * len(tensors)
    return overridden(kind, named_leaves(tensors, tree), "kind")


def _answered(tx: Any, tree: Any, shapes: Sequence[tuple[int, ...]]) -> Answer | str:
    """Return what a trial shows for a tree whose leaves have such shapes."""
    flat, structure = jax.tree.flatten(tree)
    types = [np.dtype(leaf.dtype) for leaf in flat]
    return answered(tx, structure, tuple(zip(shapes, types, strict=True)))


def _rates(
    tx: Any, tensors: Sequence[Tensor], tree: Any, kind: Any, rule: DecayRule
) -> list[tuple[Behaviour, float]]:
    """Return how each tensor is updated, and the factor of its learning rate."""
    answer = _answered(tx, tree, [tensor.shape for tensor in tensors])
    rule.check(answer)
    paths = [tensor.path for tensor in tensors]
    kinds = _kinds(kind, tensors, tree, answer)
    updated = behaviours(answer, paths, kinds)
    rates: list[Any] = [
        tensor.rate(one.kind) for tensor, one in zip(tensors, updated, strict=True)
    ]
    shaped = [i for i, one in enumerate(updated) if one.entry is not None]
    # Only an update that sums over entries, as a norm or a matrix product does, can
    # depend on the shape. For all others the table is right, and one trial is enough.
    if shaped and not isinstance(answer, str):
        base = elsewhere(
            _answered(tx, tree, list(map(_base, tensors))), answer, updated
        )
        wide: list[float | None] = [None] * len(tensors)
        if any(base[i] is None for i in shaped):
            wide = elsewhere(
                _answered(tx, tree, list(map(_wider, tensors))), answer, updated
            )
        for i in shaped:
            rates[i] = _rate(tensors[i], updated[i], base[i], wide[i], kinds[i])
        raise_doubts(paths, rates)
    return list(zip(updated, rates, strict=True))


def _orthogonalized(responses: Sequence[Response]) -> list[str | None]:
    """Return "muon" for each tensor that may be orthogonalized, and else None.

    One kind names the whole optimizer, and `optax.contrib.muon` runs Adam on some
    tensors.
    """
    some = any(one.multiplies for one in responses)
    return [
        None if some and one.trial and not one.multiplies else "muon"
        for one in responses
    ]


def _wider(tensor: Tensor) -> tuple[int, ...]:
    """Return a shape whose axes that grow with the width are twice as long."""
    grows = tensor.axes if tensor.base else range(len(tensor.shape))
    return tuple(2 * n if axis in grows else n for axis, n in enumerate(tensor.shape))


def _base(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape at the base width; for absolute rates that of one number."""
    return tensor.base or (1,) * len(tensor.shape)


def _rate(
    tensor: Tensor,
    behaviour: Behaviour,
    base: float | None,
    wide: float | None,
    kind: str | None,
) -> float | str:
    """Return the factor of the learning rate if an update may depend on its shape.

    A gradient of equal entries has rank one, and so has its update, of entries u. Its
    spectral norm is |u| sqrt(n_in n_out), whatever Muon multiplies it by, and it has to
    grow as the weights' norm does, as sqrt(n_out / n_in):

    |f dW| = f |u| sqrt(n_in n_out), so f = growth(intended norm) / growth(measured).

    For Adam |u| is the learning rate, which gives the table's 1 / n. For updates that
    grow with the gradient it is the table's factor over growth(|u|).

    Yang, Simon and Bernstein, "A spectral condition for feature learning", 2023.
    """
    here = behaviour.entry
    assert here is not None
    other = (None if behaviour.multiplies else wide) if base is None else base
    if other is not None and alike(other, here, _SAME):
        return tensor.rate(behaviour.kind)
    if base is None and kind is None:
        return (
            "its update depends on its shape, and at the base shape "
            f"{_base(tensor)} it is updated in another way than at {tensor.shape}, so "
            "that the growth of the update cannot be measured"
        )
    if base is None:
        return tensor.rate(str(kind))
    # The table's rate is for the plain gradient. What the shape adds to it, as measured
    # for equal gradients at both widths, is divided out.
    if behaviour.kind == "sgd":
        return tensor.rate("sgd") * base / here
    return (
        _norm_growth(tensor)
        * _size(tensor, _base(tensor), base)
        / _size(tensor, tensor.shape, here)
    )


def _norm_growth(tensor: Tensor) -> float:
    """Return the factor by which the norm of an update has to grow.

    Muon's rates are for the norms of Optax, sqrt(max(1, n_out / n_in)).
    """
    norms = [muon_norm(shape, tensor.layout) for shape in (tensor.shape, _base(tensor))]
    return tensor.rate("muon") * norms[0] / norms[1]


def _size(tensor: Tensor, shape: tuple[int, ...], entry: float) -> float:
    """Return the norm of an update of equal entries; of one member if it is a stack."""
    pairs = zip(shape, tensor.layout, strict=True)
    return abs(entry) * math.sqrt(math.prod(n for n, letter in pairs if letter != "b"))


def _scales(
    tensor: Tensor,
    behaviour: Behaviour,
    factor: float,
    independent: bool,
    epsilon: bool,
) -> Scales:
    std = tensor.factors.std
    # NaN marks a rate that the scheme's paper does not give.
    if factor != factor:
        kind = "muon" if behaviour.multiplies else behaviour.kind
        raise ValueError(
            f"the parametrization has no learning rate of the kind {kind!r} "
            f"for {tensor.path!r}; it is for Adam-like optimizers, so pass one of them."
        )
    gradient = 1.0
    if epsilon and behaviour.kind == "adam":
        gradient = 1 / tensor.factors.epsilon
    if behaviour.relative:
        return Scales(gradient, 1 / std if std == std else 1.0, factor)
    return Scales(gradient, 1 / factor if independent else 1.0, factor)
