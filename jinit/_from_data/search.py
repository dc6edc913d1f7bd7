"""A search learns one scale for each tensor, by gradient descent on an objective."""

import dataclasses
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
from .._network.network import Called

# The search ends after this many steps without a gain of `tol`.
_PATIENCE = 25


@dataclasses.dataclass(frozen=True)
class Search:
    """A Search has the settings of a search, as the user passed them."""

    steps: int
    learning_rate: float
    tol: float
    progress: bool


class Measured(NamedTuple):
    """A Measured has a value to minimize, and the violation of a constraint.

    Violations are minimized before values. A violation is 0 if its constraint is met.
    """

    value: jax.Array
    violation: jax.Array
    # The row of the history.
    report: dict[str, jax.Array]


class Trained(NamedTuple):
    """A Trained has flattened variables, and the indices of the tensors to scale."""

    numbers: Sequence[int]
    flat: list[Any]
    tree: Any

    def scaled(self, logs: jax.Array) -> list[Any]:
        """Return the tensors, each times the exponential of its number in `logs`."""
        return [
            (self.flat[i] * jnp.exp(log)).astype(self.flat[i].dtype)
            for i, log in zip(self.numbers, logs, strict=True)
        ]

    def put_back(self, tensors: Sequence[Any]) -> Any:
        """Return the variables with these tensors in the place of the scaled ones."""
        flat = list(self.flat)
        for i, tensor in zip(self.numbers, tensors, strict=True):
            flat[i] = tensor
        return jax.tree.unflatten(self.tree, flat)


def trained_of(variables: Any) -> Trained:
    """Return the floating parameters, without those of zeros, which no scale changes.

    Raises:
      ValueError: if there are none, or one has a value that is not finite.
    """
    leaves, (flat, tree) = trees.leaves(variables), jax.tree.flatten(variables)
    numbers = trained_in(leaves)
    for i in numbers:
        if not bool(jnp.isfinite(flat[i]).all()):
            raise ValueError(
                f"the parameter at {leaves[i].path!r} has values that are not finite; "
                "start from finite parameters. Nothing was changed."
            )
    kept = [i for i in numbers if bool((flat[i] != 0).any())]
    if not kept:
        raise ValueError(
            "every parameter is 0, which no scale changes; start from another "
            "initializer. Nothing was changed."
        )
    return Trained(kept, flat, tree)


def objective(
    called: Called, trained: Trained, loss: Callable[[Any], Any]
) -> Callable[[list[Any]], jax.Array]:
    """Return the loss as a function of the tensors that are scaled."""

    def run(tensors: list[Any]) -> jax.Array:
        return scalar(loss(called.forward(trained.put_back(tensors), called.beside)))

    return run


def learn(
    trained: Trained,
    measure: Callable[[list[Any]], Measured],
    search: Search,
    title: str,
) -> tuple[Any, tuple[Row, ...]]:
    """Return the variables with the scales that measure best, and the history.

    A gain of less than `tol` of the value does not count, so that a second search
    leaves the result of the first one as it is.

    Raises:
      ValueError: if the measurement at the start is not finite.
    """
    # Only searches need Optax, so `import jinit` does not load it.
    import optax

    steps = checks.count("steps", search.steps) or 1
    rate = checks.real("learning_rate", search.learning_rate, positive=True)
    tol = checks.real("tol", search.tol, minimum=0.0)
    tx = optax.adam(rate)
    step = jax.jit(_step_of(trained, measure, tx))
    logs = best = jnp.zeros(len(trained.numbers), np.float32)
    # The best scales so far are kept, since a search may end far from them.
    state = tx.init(logs)
    rows: list[Row] = []
    least: tuple[float, float] | None = None
    best_number = 0
    for number in track(range(steps + 1), title, show=search.progress):
        next_logs, state, measured = step(logs, state)
        measured = jax.device_get(measured)
        rank = float(measured.violation), float(measured.value)
        rows.append(
            {"step": number} | {n: float(x) for n, x in measured.report.items()}
        )
        # A value that violates a constraint is not looked at, so it may be infinite.
        is_finite = np.isfinite(rank[0] or rank[1])
        if least is None and not is_finite:
            report = {name: x for name, x in rows[0].items() if name != "step"}
            raise ValueError(
                f"at the start {report} is not finite; look at the batch and at the "
                "parameters. Nothing was changed."
            )
        if least is None or _is_better(rank, least, tol):
            best, least, best_number = logs, rank, number
        if number - best_number >= _PATIENCE or not is_finite:
            break
        logs = next_logs
    return trained.put_back(trained.scaled(best)), tuple(rows)


def _step_of(
    trained: Trained, measure: Callable[[list[Any]], Measured], tx: Any
) -> Callable[[jax.Array, Any], tuple[jax.Array, Any, Measured]]:
    """Return one step of the search, a function of the logarithms and Adam's state."""
    import optax

    def step(logs: jax.Array, state: Any) -> tuple[jax.Array, Any, Measured]:
        measured = measure(trained.scaled(logs))
        # The two gradients are separate, since a value that is not finite must not
        # spoil the gradient of the violation.
        slope = jax.lax.cond(
            measured.violation > 0,
            jax.grad(lambda logs: measure(trained.scaled(logs)).violation),
            jax.grad(lambda logs: measure(trained.scaled(logs)).value),
            logs,
        )
        slope = jnp.nan_to_num(slope, posinf=0.0, neginf=0.0)
        # Optax's Adam divides by a Python float to the power of a whole number.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(slope, state)
        return jnp.asarray(optax.apply_updates(logs, updates)), state, measured

    return step


def _is_better(a: tuple[float, float], b: tuple[float, float], tol: float) -> bool:
    """Tell whether (violation, value) `a` is less than `b` by more than `tol`."""
    if a[0] > 0 or b[0] > 0:
        return a[0] < b[0] - tol * abs(b[0])
    return a[1] < b[1] - tol * abs(b[1])
