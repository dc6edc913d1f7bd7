"""`watch` returns the same optimizer, which also measures what it does."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core import checks
from .._core.patterns import Pattern
from .._network.record import Network
from . import spectral, statistics, table
from .state import AT, WatchState
from .tensors import Tensor, tensors_of, values_of


class Step(NamedTuple):
    """A step has the values of all watched tensors before an update of them."""

    weights: list[jax.Array]
    grads: list[jax.Array]
    updates: list[jax.Array]


def watch(
    tx: Any,
    *,
    every: int = 1,
    only: Any = None,
    network: Network | None = None,
    epsilon: float = 1e-8,
) -> Any:
    """Return an optimizer that trains as `tx` does, and measures every tensor.

    The updates are those of `tx`, bit for bit. Around the state of `tx` lies a state
    with the measurements, a few numbers for each tensor, which `jinit.watched` reads.

    Args:
      tx: an Optax transformation with its learning rate, such as `optax.adam(1e-3)`.
      every: measure at each `every`-th step, beginning with the first.
      only: a pattern, or a sequence of them, of the tensors to watch; None for all.
      network: a `jinit.Network` of the model, which says which axes of a tensor count
        the layers of a stack. These have a row for each layer. Without it each tensor
        has one row.
      epsilon: the epsilon of Adam, if `tx` has one.

    Returns:
      An `optax.GradientTransformationExtraArgs`. Its `update` must get the parameters.

    Raises:
      TypeError: if `tx` is not an Optax transformation, or `network` not a `Network`.
      ValueError: if `every` is below 1; and from `init`, if `only` matches no tensor.

    Example:
      >>> import jax, jax.numpy as jnp, jinit, optax
      >>> tx = jinit.watch(optax.adam(1e-3))
      >>> params = {"kernel": jinit.he()(jax.random.key(0), (8, 4))}
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     grads = jax.grad(lambda p: jnp.sum(p["kernel"] ** 2))(params)
      ...     updates, state = tx.update(grads, state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> report = jinit.watched(state)
      >>> report.rows[0]["path"], round(report.rows[0]["update_rms"], 6)
      ('kernel', 0.001)
    """
    import optax

    if not (callable(getattr(tx, "init", None)) and hasattr(tx, "update")):
        raise TypeError(
            f"`tx` is {tx!r}, of type {type(tx).__name__}; it must be an Optax "
            "transformation with its learning rate, such as optax.adam(1e-3)."
        )
    watcher = _Watcher(
        optax.with_extra_args_support(tx),
        checks.positive("every", every),
        None if only is None else Pattern.of("`only`", only),
        _stacks_of(network),
        checks.real("epsilon", epsilon, minimum=0),
    )
    return optax.GradientTransformationExtraArgs(watcher.init, watcher.update)


@dataclasses.dataclass(frozen=True)
class _Watcher:
    """A watcher has the optimizer that it watches, and says what it measures when."""

    tx: Any
    every: int
    only: Pattern | None
    stacks: Callable[[str], tuple[int, ...]]
    epsilon: float

    def init(self, params: Any) -> WatchState:
        """Return the state before the first step."""
        tensors = self._tensors(params)
        weights = values_of(params, tensors)
        facts = statistics.facts(tensors, weights)
        # The samples of weights are a copy: the weights themselves may be donated.
        starts = statistics.samples(tensors, weights)
        return WatchState(
            self.tx.init(params),
            jnp.zeros((), jnp.int32),
            {key: () for tensor in tensors for key in tensor.keys},
            table.empty(facts, statistics.rms(tensors, weights)),
            jnp.zeros_like(starts),
            starts,
            spectral.first_directions(tensors),
        )

    def update(
        self, updates: Any, state: WatchState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, WatchState]:
        """Return the updates of the optimizer, and the state after the step."""
        if params is None:
            raise ValueError(
                "`params` is None; jinit.watch compares updates with parameters. Call "
                "tx.update(grads, state, params)."
            )
        new, inner = self.tx.update(updates, state.inner, params, **extra_args)
        tensors = self._tensors(params)
        step = Step(*(values_of(tree, tensors) for tree in (params, updates, new)))
        return new, self._measured(tensors, step, state, inner)

    def _tensors(self, params: Any) -> list[Tensor]:
        return tensors_of(params, self.only, self.stacks)

    def _measured(
        self, tensors: Sequence[Tensor], step: Step, state: WatchState, inner: Any
    ) -> WatchState:
        is_due = state.step % self.every == 0
        gradients = statistics.samples(tensors, step.grads)
        of_weights, directions = _of_weights(tensors, step.weights, state, is_due)
        new = {
            **of_weights,
            "weight_rms": statistics.rms(tensors, step.weights),
            "grad_rms": statistics.rms(tensors, step.grads),
            "update_rms": statistics.rms(tensors, step.updates),
            "cosine": statistics.cosine(gradients, state.gradients),
            "flips": statistics.flips(gradients, state.gradients),
            "lost": statistics.lost(tensors, step.weights, step.updates),
            "small": statistics.small(tensors, inner, self.epsilon),
        }
        after = table.advanced(state.table, state.step + 1, new)
        return WatchState(
            inner,
            state.step + 1,
            state.paths,
            jnp.where(is_due, after, state.table),
            jnp.where(is_due, gradients, state.gradients),
            state.starts,
            directions,
        )


def _of_weights(
    tensors: Sequence[Tensor], weights: Sequence[Any], state: WatchState, is_due: Any
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Return the drift and the spectral norm, and the vectors of the power iteration.

    They need the parameters alone, so they are computed when they are due. A condition
    on gradients and updates would keep XLA from fusing them with the training step, and
    change its last bits. So their statistics are computed at every step.
    """

    def measured() -> tuple[jax.Array, ...]:
        now = statistics.samples(tensors, weights)
        norms = spectral.step(tensors, weights, state.directions)
        return statistics.drift(now, state.starts), *norms

    def kept() -> tuple[jax.Array, ...]:
        drift, norms = (state.table[:, AT[name]] for name in ("drift", "spectral"))
        return drift, norms, state.directions

    drift, norms, directions = jax.lax.cond(is_due, measured, kept)
    return {"drift": drift, "spectral": norms}, directions


def _stacks_of(network: Any) -> Any:
    """Return a function from a path to the axes that count the layers of a stack."""
    if network is None:
        return lambda path: ()
    if not isinstance(network, Network):
        raise TypeError(
            f"`network` is of type {type(network).__name__}; it must be a Network: "
            "jinit.network(model, *arguments)."
        )
    layouts = {path: p.layout for path, p in network.parameters.items()}

    def axes(path: str) -> tuple[int, ...]:
        layout = layouts.get(path) or ""
        return tuple(axis for axis, letter in enumerate(layout) if letter == "b")

    return axes
