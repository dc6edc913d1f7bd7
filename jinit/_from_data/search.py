"""Scales that are learned: one for each tensor, by gradient descent on an objective."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks, trees
from .._core.results import Row
from .._core.terminal import track
from .._core.trees import trained_in
from .._network.losses import scalar

# Steps without a gain of `tol` after which the search ends.
_PATIENCE = 25


class Measured(NamedTuple):
    """What is minimized, and whether it counts yet."""

    value: jax.Array
    # The larger, the worse, before anything else: 0 where a constraint is met.
    violation: jax.Array
    told: dict[str, jax.Array]


class Trained(NamedTuple):
    """Variables apart: those that are scaled, and how to put them back."""

    numbers: Sequence[int]
    flat: list[Any]
    tree: Any

    def scaled(self, logs: jax.Array) -> list[Any]:
        """The tensors, each times the exponential of its number."""
        return [
            (self.flat[i] * jnp.exp(log)).astype(self.flat[i].dtype)
            for i, log in zip(self.numbers, logs, strict=True)
        ]

    def put_back(self, tensors: Sequence[Any]) -> Any:
        """Variables with these tensors."""
        flat = list(self.flat)
        for i, tensor in zip(self.numbers, tensors, strict=True):
            flat[i] = tensor
        return jax.tree.unflatten(self.tree, flat)


def trained_of(variables: Any) -> Trained:
    """The floating parameters that are not 0 all over, which no scale changes.

    Raises:
      ValueError: if there are none, or one has a value that is not finite.
    """
    leaves, (flat, tree) = trees.leaves(variables), jax.tree.flatten(variables)
    numbers = trained_in(leaves)
    for i in numbers:
        if not bool(jnp.isfinite(flat[i]).all()):
            raise ValueError(
                f"the parameter at {leaves[i].path!r} has values that are not finite. "
                "Nothing was changed."
            )
    kept = [i for i in numbers if bool((flat[i] != 0).any())]
    if not kept:
        raise ValueError(
            "every parameter is 0, which no scale changes; start from another "
            "initializer. Nothing was changed."
        )
    return Trained(kept, flat, tree)


def objective(
    forward: Callable[..., Any],
    trained: Trained,
    batch: tuple[Any, ...],
    loss: Callable[[Any], Any],
) -> Callable[[list[Any]], jax.Array]:
    """The loss as a function of the tensors that are scaled."""

    def run(tensors: list[Any]) -> jax.Array:
        return scalar(loss(forward(trained.put_back(tensors), batch)))

    return run


def learn(
    trained: Trained,
    measure: Callable[[list[Any]], Measured],
    *,
    steps: int,
    learning_rate: float,
    tol: float,
    progress: bool,
    title: str,
) -> tuple[Any, tuple[Row, ...]]:
    """The variables whose scales measure best, and what was measured on the way.

    A gain that is less than `tol` of the value is none, so that the result of one
    search is left by the next as it is.

    Raises:
      ValueError: if what is measured at the start is not finite.
    """
    import optax

    steps = checks.count("steps", steps) or 1
    tx = optax.adam(checks.real("learning_rate", learning_rate, positive=True))
    tol = checks.real("tol", tol, minimum=0.0)

    @jax.jit
    def step(logs: jax.Array, state: Any) -> tuple[jax.Array, Any, Measured]:
        found = measure(trained.scaled(logs))
        # Apart, since a value that is not finite must not spoil the other's slope.
        slope = jax.lax.cond(
            found.violation > 0,
            jax.grad(lambda logs: measure(trained.scaled(logs)).violation),
            jax.grad(lambda logs: measure(trained.scaled(logs)).value),
            logs,
        )
        slope = jnp.nan_to_num(slope, posinf=0.0, neginf=0.0)
        # Optax's Adam divides by a Python float to the power of a whole number.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(slope, state)
        return optax.apply_updates(logs, updates), state, found

    logs = best = jnp.zeros(len(trained.numbers), np.float32)
    state = tx.init(logs)
    rows: list[Row] = []
    least: tuple[float, float] | None = None
    last = 0
    for number in track(range(steps + 1), title, show=progress):
        after, state, found = step(logs, state)
        found = jax.device_get(found)
        rank = float(found.violation), float(found.value)
        told = {name: float(value) for name, value in found.told.items()}
        rows.append({"step": number, **told})
        counts = np.isfinite(rank[0] or rank[1])
        if least is None and not counts:
            raise ValueError(
                f"at the start {told} is not finite: look at the batch and at the "
                "parameters. Nothing was changed."
            )
        if least is None or _is_better(rank, least, tol):
            best, least, last = logs, rank, number
        if number - last >= _PATIENCE or not counts:
            break
        logs = after
    return trained.put_back(trained.scaled(best)), tuple(rows)


def _is_better(a: tuple[float, float], b: tuple[float, float], tol: float) -> bool:
    """Whether a violates less than b, or as little and has a smaller value."""
    if a[0] > 0 or b[0] > 0:
        return a[0] < b[0] - tol * abs(b[0])
    return a[1] < b[1] - tol * abs(b[1])
