"""A layer that cannot be set has a trouble, and each trouble has words."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._core.results import Row
from .._network.layers import scan_axes
from .._network.reader.records import Adjustable

# The reason why no factor of a kernel reaches the target, by the number of the trouble.
# The number 0 means that there is no trouble.
ZERO_OUTPUT, NO_VARIATION, LARGE_BIAS = 1, 2, 3
_WORDS = {
    ZERO_OUTPUT: "its output is 0 for the whole batch",
    NO_VARIATION: "its output does not vary over the batch",
    LARGE_BIAS: "its bias alone varies more than the target",
}
_ZERO_WEIGHTS = "its weights are 0"
_NOT_SET = "it was not set in "

# (path of a layer, index of a step or a member) -> the reason in words.
Reasons = dict[tuple[str, tuple[int, ...]], str]


class CannotSet(ValueError):
    """A CannotSet error says for each layer why it cannot be set."""

    def __init__(self, message: str, reasons: Mapping[str, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


class Measured(NamedTuple):
    """A Measured has the numbers of a rescaled layer, or of one step of a stack.

    `step` is the index of the step, and of the member, such as an expert.
    """

    layer: Adjustable
    step: tuple[int, ...]
    row: Row
    error: float
    trouble: int

    @property
    def place(self) -> tuple[str, tuple[int, ...]]:
        """Return the key of its reason."""
        return self.layer.path, self.step

    def __str__(self) -> str:
        hidden = ("step", "path", "factor")
        shown = (name for name in self.row if name not in hidden)
        return ", ".join(
            f"{name.replace('_', ' ')} {self.row[name]:.4g}" for name in shown
        )


def check(measured: Sequence[Measured], params: Any, leaves: bool) -> None:
    """Raise for the first layer that is sick, or that cannot be set.

    With `leaves`, layers that cannot be set are an error only if no layer can be set.

    Raises:
      CannotSet: for layers that cannot be set.
      ValueError: for a layer whose output is not finite.
    """
    for one in measured:
        # Without `leaves`, the outputs behind a layer that cannot be set may not be
        # finite either, so the error names the first layer.
        if one.trouble and not leaves:
            break
        if not np.isfinite(one.error):
            raise ValueError(
                f"the output of {one.row['path']} is not finite ({one}); look at "
                "its weights, the batch and the layers before it. Nothing was changed."
            )
    troubled = [one for one in measured if one.trouble]
    if not troubled or (leaves and len(troubled) < len(measured)):
        return
    flat, first = jax.tree.leaves(params), troubled[0]
    raise CannotSet(
        f"{first.row['path']} cannot be scaled ({first}): {_reason(flat, first)}. "
        "skip=[...] leaves it out. Nothing was changed.",
        {one.layer.path: _reason(flat, one) for one in troubled},
    )


def not_set(unset: Sequence[Measured], passes: int) -> CannotSet:
    """Return the error of layers that several passes did not set."""
    return CannotSet(
        f"after {passes} passes {len(unset)} layers are not set: {_listed(unset)}. "
        "Their outputs do not follow their kernels. Leave such layers out by "
        "skip=[...], or try a larger `max_iter` or `tol`. Nothing was changed.",
        dict.fromkeys(
            _paths(unset), _NOT_SET + (f"{passes} passes" if passes > 1 else "one pass")
        ),
    )


def _listed(layers: Sequence[Measured]) -> str:
    return ", ".join(f"{one.row['path']} ({one})" for one in layers[:3])


def _paths(layers: Sequence[Measured]) -> list[str]:
    return [one.layer.path for one in layers]


def reasons_of(measured: Sequence[Measured], params: Any) -> Reasons:
    """Return the reasons why layers, steps or members cannot be set.

    A layer of which no step and no member can be set has one reason, under no index.
    """
    flat = jax.tree.leaves(params)
    some_set = {one.layer.path for one in measured if not one.trouble}
    return {
        (path, one.step if path in some_set else ()): _reason(flat, one)
        for one in measured
        if one.trouble and (path := one.layer.path)
    }


def _reason(flat: Sequence[Any], one: Measured) -> str:
    is_empty = one.trouble == ZERO_OUTPUT and _is_zero(flat, one)
    return _ZERO_WEIGHTS if is_empty else _WORDS[one.trouble]


def warn_of(reasons: Mapping[Any, str]) -> None:
    """Warn of the layers that were left for a reason that a user must know.

    Weights of 0, and experts without tokens, are not worth a warning.
    """
    for (path, _), reason in reasons.items():
        if reason == _WORDS[LARGE_BIAS] or reason.startswith(_NOT_SET):
            warnings.warn(
                f"{path} was left as it is, since {reason}. Look at what its output "
                "depends on, or leave it out by skip=[...].",
                stacklevel=4,
            )


def _is_zero(flat: Sequence[Any], one: Measured) -> bool:
    """Tell whether the weights of a layer, a step or a member are 0."""
    for part in {one.layer.kernel, one.layer.scale}:
        dims, weights = dict(part.dims), flat[part.number]
        axes = [*scan_axes(part), *(dims.get(dim) for dim in one.layer.members)]
        chosen: list[Any] = [slice(None)] * weights.ndim
        for axis, place in zip(axes, one.step, strict=False):
            if axis is not None:
                chosen[axis] = place
        if not np.any(np.asarray(weights[tuple(chosen)], np.float32)):
            return True
    return False
