"""An Optax transformation with per-tensor learning rates, decays and epsilons.

Around the transformation, never inside: gradients and parameters are scaled on their
way in and updates on their way out, so the state is the transformation's own. Optax is
imported when a transformation is wrapped.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from . import _optimizer_trial
from ._mup_factors import Tensor
from ._mup_init import find, times
from ._optimizer_trial import Behaviour


class Scales(NamedTuple):
    """What a tensor's gradient, parameter and update are multiplied by."""

    gradient: float
    parameter: float
    update: float


def wrapped(
    tensors: Sequence[Tensor],
    tx: Any,
    kind: str | None,
    independent: bool,
    epsilon: bool,
) -> Any:
    """`tx` with the factors of a parametrization; see `Parametrization.optimizer`."""
    import optax

    if not (callable(getattr(tx, "init", None)) and hasattr(tx, "update")):
        raise TypeError(
            f"`tx` is {tx!r}, of type {type(tx).__name__}; it must be an Optax "
            "transformation with its learning rate, such as optax.adam(1e-3)."
        )
    inner = optax.with_extra_args_support(tx)
    if all(factor == 1 for tensor in tensors for factor in tensor.factors):
        # At the base width it is `tx` itself.
        return inner
    known: dict[Any, list[Behaviour]] = {}

    def scales(tree: Any, name: str) -> list[Scales]:
        # The trial runs once for each structure, while the program is traced.
        here, structure = find(tensors, tree, name), jax.tree.structure(tree)
        if structure not in known:
            known[structure] = _optimizer_trial.behaviour(tx, tree, kind)
        return [
            _scales(tensor, found, independent, epsilon)
            for tensor, found in zip(here, known[structure], strict=True)
        ]

    def init(params: Any) -> Any:
        found = scales(params, "params")
        return inner.init(times(params, [s.parameter for s in found]))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        found = scales(updates, "updates")
        if params is not None:
            params = times(params, [s.parameter for s in found])
        given = times(updates, [s.gradient for s in found])
        made, state = inner.update(given, state, params, **extra)
        return times(made, [s.update for s in found]), state

    return optax.GradientTransformationExtraArgs(init, update)


def _scales(
    tensor: Tensor, found: Behaviour, independent: bool, epsilon: bool
) -> Scales:
    factor, std = tensor.rate(found.kind), tensor.factors.std
    if factor != factor:
        raise ValueError(
            f"the parametrization has no learning rate of the kind {found.kind!r} for "
            f"{tensor.path!r}; it is for Adam-like optimizers."
        )
    gradient = 1.0
    if epsilon and found.kind == "adam":
        gradient = 1 / tensor.factors.epsilon
    if found.relative:
        # An update of so much times the parameter's size: as at the base width.
        return Scales(gradient, 1 / std if std == std else 1.0, factor)
    return Scales(gradient, 1 / factor if independent else 1.0, factor)
