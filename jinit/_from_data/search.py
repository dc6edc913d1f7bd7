"""A search learns one scale for each tensor, by gradient descent on an objective."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks, trees
from .._core.results import Row
from .._core.terminal import track
from .._core.trees import trained_in
from .._network.kept import Traced, program
from .._network.losses import loss_of
from .._network.record import Network

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


# A loss as a function of the tensors that are scaled, and a measurement by such a loss.
Loss = Callable[[list[Any]], jax.Array]
Measure = Callable[[Loss, list[Any]], Measured]


class Task(NamedTuple):
    """A task says what a search scales, and by which loss it measures.

    `measure` closes over nothing but `settings`, so that equal tasks share a program.
    """

    title: str
    net: Network
    # The numbers of the parameters that are scaled.
    numbers: tuple[int, ...]
    loss: Traced
    measure: Measure
    settings: Hashable


def task_of(
    title: str,
    net: Network,
    loss: Callable[[Any], Any],
    measure: Measure,
    settings: Hashable = (),
) -> Task:
    """Return the task of scaling all parameters but those of zeros.

    Raises:
      ValueError: if there are none, or one has a value that is not finite.
    """
    leaves = trees.leaves(net.params)
    numbers = trained_in(leaves)
    for i in numbers:
        if not bool(jnp.isfinite(leaves[i].value).all()):
            raise ValueError(
                f"the parameter at {leaves[i].path!r} has values that are not finite; "
                "start from finite parameters. Nothing was changed."
            )
    # No scale changes a tensor of zeros.
    kept = tuple(i for i in numbers if bool((leaves[i].value != 0).any()))
    if not kept:
        raise ValueError(
            "every parameter is 0, which no scale changes; start from another "
            "initializer. Nothing was changed."
        )
    traced_loss = loss_of(loss, net._read.trace)
    return Task(title, net, kept, traced_loss, measure, settings)


def learn(task: Task, search: Search) -> tuple[Any, tuple[Row, ...]]:
    """Return the parameters with the scales that measure best, and the history.

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
    step = _program(task, rate)
    flat, tree = jax.tree.flatten(task.net.params)
    fixed = (task.net._read.trace.consts, task.loss.consts), flat, task.net.inputs
    logs = best = jnp.zeros(len(task.numbers), np.float32)
    # The best scales so far are kept, since a search may end far from them.
    state = optax.adam(rate).init(logs)
    rows: list[Row] = []
    least: tuple[float, float] | None = None
    best_number = 0
    for number in track(range(steps + 1), task.title, show=search.progress):
        next_logs, state, measured = step(fixed, logs, state)
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
    for i, tensor in zip(task.numbers, _scaled(flat, task.numbers, best), strict=True):
        flat[i] = tensor
    return jax.tree.unflatten(tree, flat), tuple(rows)


def _scaled(flat: Sequence[Any], numbers: Sequence[int], logs: jax.Array) -> list[Any]:
    """Return tensors, each times the exponential of its number in `logs`."""
    return [
        (flat[i] * jnp.exp(log)).astype(flat[i].dtype)
        for i, log in zip(numbers, logs, strict=True)
    ]


def _program(task: Task, rate: float) -> Any:
    """Return the compiled step of a search; equal searches share it."""
    trace, loss = task.net._read.trace.bare, task.loss.bare
    key = task.title, trace.form, loss.form, task.numbers, task.settings, rate
    tree = jax.tree.structure(task.net.params)
    # The program must not close over the network, which holds arrays.
    numbers, measure = task.numbers, task.measure

    def step(fixed: Any, logs: jax.Array, state: Any) -> Any:
        consts, flat, inputs = fixed

        def loss_at(tensors: list[Any]) -> jax.Array:
            values = list(flat)
            for i, tensor in zip(numbers, tensors, strict=True):
                values[i] = tensor
            output = trace.run(consts[0], jax.tree.unflatten(tree, values), inputs)
            return jnp.asarray(loss.run(consts[1], output))

        return _step(
            lambda logs: measure(loss_at, _scaled(flat, numbers, logs)),
            rate,
            logs,
            state,
        )

    return program(("search", *key), lambda: step)


def _step(
    measure: Callable[[jax.Array], Measured], rate: float, logs: jax.Array, state: Any
) -> tuple[jax.Array, Any, Measured]:
    """Return the next logarithms of the scales, Adam's state, and a measurement."""
    import optax

    # The two gradients are separate, since a value that is not finite must not spoil
    # the gradient of the violation.
    measured = measure(logs)
    slope = jax.lax.cond(
        measured.violation > 0,
        jax.grad(lambda logs: measure(logs).violation),
        jax.grad(lambda logs: measure(logs).value),
        logs,
    )
    slope = jnp.nan_to_num(slope, posinf=0.0, neginf=0.0)
    # Optax's Adam divides by a Python float to the power of a whole number.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optax.adam(rate).update(slope, state)
    return jnp.asarray(optax.apply_updates(logs, updates)), state, measured


def _is_better(a: tuple[float, float], b: tuple[float, float], tol: float) -> bool:
    """Tell whether (violation, value) `a` is less than `b` by more than `tol`."""
    if a[0] > 0 or b[0] > 0:
        return a[0] < b[0] - tol * abs(b[0])
    return a[1] < b[1] - tol * abs(b[1])
