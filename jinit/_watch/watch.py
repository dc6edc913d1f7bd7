"""`watch` returns the same optimizer, which also measures what it does."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from .._core import checks, trees
from .._core.patterns import Pattern
from .._network.record import Network
from . import ordering, spectral, statistics, table
from .state import AT, WatchState, empty
from .tensors import Tensor, tensors_of, values_of

T = TypeVar("T")


class OfWeights(NamedTuple):
    """These measurements need only the parameters that a step reads."""

    rms: jax.Array
    norms: jax.Array
    directions: jax.Array
    sample: jax.Array


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
        if not tensors:
            return empty(self.tx.init(params))
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
        tensors = self._tensors(params)
        _check_same(tensors, state)
        if not tensors:
            new, inner = self.tx.update(updates, state.inner, params, **extra_args)
            return new, state._replace(inner=inner, step=state.step + 1)
        is_due = None if self.every == 1 else state.step % self.every == 0
        of_weights = _of_weights(tensors, values_of(params, tensors), state, is_due)
        read = of_weights.rms.sum() + of_weights.norms.sum() + of_weights.sample.sum()
        inner = ordering.after(state.inner, state.step, read)
        new, inner = self.tx.update(updates, inner, params, **extra_args)
        grads, moves = (values_of(tree, tensors) for tree in (updates, new))
        # Sums and slices keep every bit: XLA fuses what precedes them with the training
        # step, as without them. A condition on gradients and updates would write these
        # to memory first, and change the last bits of Adam. Updates have no sum, for
        # which XLA would compute them again: a tenth of a step.
        of_step = statistics.OfStep(
            statistics.squares(tensors, grads),
            statistics.sampled_squares(tensors, moves),
            statistics.samples(tensors, grads),
            statistics.samples(tensors, moves),
            statistics.moments(tensors, inner),
        )
        return new, self._advanced(tensors, state, inner, of_weights, of_step, is_due)

    def _tensors(self, params: Any) -> list[Tensor]:
        return tensors_of(params, self.only, self.stacks)

    def _advanced(
        self, tensors: Sequence[Tensor], state: WatchState, inner: Any,
        of_weights: OfWeights, of_step: statistics.OfStep, is_due: Any,
    ) -> WatchState:  # fmt: skip
        """Return the state after a step; its measurements change if they are due."""
        grads, moves = of_step.grads, of_step.moves

        def measured() -> tuple[jax.Array, jax.Array]:
            new = {
                "weight_rms": of_weights.rms,
                "spectral": of_weights.norms,
                "drift": statistics.drift(of_weights.sample, state.starts),
                "grad_rms": jnp.sqrt(of_step.grad_squares),
                "update_rms": jnp.sqrt(of_step.move_squares),
                "cosine": statistics.cosine(grads, state.gradients),
                "flips": statistics.flips(grads, state.gradients),
                "lost": statistics.lost(tensors, of_weights.sample, moves),
                "held": statistics.held(of_step),
                "small": statistics.small(of_step.moments, self.epsilon),
            }
            return table.advanced(state.table, state.step + 1, new), grads

        after, sample = _if(is_due, measured, lambda: (state.table, state.gradients))
        return WatchState(
            inner, state.step + 1, state.paths, after, sample, state.starts,
            of_weights.directions,
        )  # fmt: skip


def _check_same(tensors: Sequence[Tensor], state: Any) -> None:
    """Raise unless a state is that of a watch of these tensors."""
    if not isinstance(state, WatchState):
        raise TypeError(
            f"`state` is of type {type(state).__name__}; it must be the state that "
            "the init of this jinit.watch returned, or its last update. Call "
            "tx.init(params) for a first state."
        )
    keys = {key for tensor in tensors for key in tensor.keys}
    if keys != state.paths.keys():
        differ = ", ".join(sorted(keys ^ state.paths.keys()))
        raise ValueError(
            "`state` is that of other parameters: only one of the two has "
            f"{differ}. Call tx.init(params) with the parameters that are trained."
        )


def _of_weights(
    tensors: Sequence[Tensor], weights: Sequence[Any], state: WatchState, is_due: Any
) -> OfWeights:
    """Measure the parameters if it is due, else return the last measurements."""

    def measured() -> OfWeights:
        return OfWeights(
            statistics.rms(tensors, weights),
            *spectral.step(tensors, weights, state.directions),
            statistics.samples(tensors, weights),
        )

    def kept() -> OfWeights:
        rms, norms = (state.table[:, AT[name]] for name in ("weight_rms", "spectral"))
        return OfWeights(rms, norms, state.directions, state.starts)

    return _if(is_due, measured, kept)


def _if(is_due: Any, measured: Callable[[], T], kept: Callable[[], T]) -> T:
    """Return the result of one of two functions; `is_due` None means always."""
    if is_due is None:
        return measured()
    result: T = jax.lax.cond(is_due, measured, kept)
    return result


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
        inside = "/".join(trees.strip_collection(path.split("/")))
        if path not in layouts and inside not in layouts:
            raise ValueError(
                f"`network` has no parameter {path}; its parameters are "
                f"{', '.join(list(layouts)[:5])} and others. Pass the network of the "
                "model that is trained."
            )
        layout = layouts.get(path, layouts.get(inside)) or ""
        return tuple(axis for axis, letter in enumerate(layout) if letter == "b")

    return axes
