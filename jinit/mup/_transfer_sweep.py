"""A sweep trains models of one width at every rate and seed, in one program."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._materialize.materialize import materialize
from .._network.behavior import key_of
from .._network.kept import Traced, program, traced
from .._network.record import Network
from ._coordinate_models import Model, Settings, model_of
from ._parametrization import Parametrization


class Observed(Parametrization):
    """This parametrization is inferred when it is first read, and shows that it was.

    An optimizer that does not read its parametrization is a standard one, for models
    that are drawn as they are. Their classes may be ambiguous, so nothing infers them.
    """

    def __init__(self, infer: Callable[[], Parametrization]) -> None:
        object.__setattr__(self, "_infer", infer)

    def __getattribute__(self, name: str) -> Any:
        fields = object.__getattribute__(self, "__dict__")
        # `isinstance` asks for the class of everything that it is shown.
        if "tensors" not in fields and name != "__class__":
            inferred = fields["_infer"]()
            for field in dataclasses.fields(inferred):
                fields[field.name] = getattr(inferred, field.name)
        return object.__getattribute__(self, name)


def is_read(p: Observed) -> bool:
    """Tell whether somebody has read an observed parametrization."""
    return "tensors" in object.__getattribute__(p, "__dict__")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep has the losses of one width, an array (rates, seeds, steps)."""

    losses: np.ndarray
    # Whether the models were started by the parametrization, and whether the optimizer
    # took a traced rate, so that one program served all rates.
    is_parametrized: bool
    is_one_program: bool
    # The shapes of the parameters, in the order of the tree.
    shapes: tuple[tuple[int, ...], ...]


def sweep(
    settings: Settings,
    base: int,
    width: int,
    rates: Sequence[float],
    keys: Any,
    batches: Any,
) -> Sweep:
    """Train models of one width, for all rates and seeds."""
    x = jax.tree.map(lambda values: values[0], batches[0])
    first = jax.eval_shape(lambda keys: keys[0], keys)
    model = model_of(settings, width, first, x)
    p = Observed(lambda: _parametrization(settings, base, model.net, first, x))
    # A call with a number shows whether `tx` returns an optimizer and reads `p`.
    _check(settings.tx(rates[0], p), rates[0])
    is_parametrized = is_read(p)

    def start(key: jax.Array) -> tuple[Any, Any]:
        params, rest = model.draw(key)
        if settings.init is not None:
            return settings.init(p, params), rest
        return p.init(params) if is_parametrized else params, rest

    drawn = materialize(jax.vmap(start))(keys)

    def key() -> Hashable | None:
        return key_of(vars(settings), base, width)

    train = functools.partial(_losses, settings, model, p)
    grid = jnp.asarray(rates, float)
    trace: Traced | None = None
    # An optimizer may need a number, for example to compare it. Any other error is
    # raised again by the runs with numbers, and reaches the caller.
    with contextlib.suppress(Exception):
        trace = traced(key, _over_rates(train), (*drawn, grid, batches))
    shapes = tuple(jnp.shape(x) for x in jax.tree.leaves(model.net.params))
    if trace is not None:
        return Sweep(_run(trace, *drawn, grid, batches), is_parametrized, True, shapes)
    losses = [_of_one_rate(key, train, rate, drawn, batches) for rate in rates]
    return Sweep(np.stack(losses), is_parametrized, False, shapes)


def _check(tx: Any, rate: float) -> None:
    if not (callable(getattr(tx, "init", None)) and hasattr(tx, "update")):
        raise TypeError(
            f"`tx({rate:g}, p)` gave {tx!r}, of type {type(tx).__name__}; it must give "
            "an Optax transformation, such as p.optimizer(optax.adam(rate))."
        )


def _parametrization(
    settings: Settings, base: int, target: Network, key: Any, x: Any
) -> Parametrization:
    return settings.parametrization(model_of(settings, base, key, x).net, target)


def _over_rates(train: Callable[..., Any]) -> Callable[..., Any]:
    """Train for each rate, and in it for each seed."""
    seeds = jax.vmap(train, (0, 0, None, None))
    return jax.vmap(seeds, (None, None, 0, None))


def _of_one_rate(
    key: Callable[[], Any], train: Any, rate: float, drawn: Any, batches: Any
) -> np.ndarray:
    """Return the losses (seeds, steps) of a rate that is a number in its program."""

    def losses(params: Any, rest: Any, batches: Any) -> Any:
        return train(params, rest, rate, batches)

    def with_rate() -> Hashable | None:
        width = key()
        return None if width is None else (width, rate)

    seeds = jax.vmap(losses, (0, 0, None))
    return _run(traced(with_rate, seeds, (*drawn, batches)), *drawn, batches)


def _run(trace: Traced, *arguments: Any) -> np.ndarray:
    bare = trace.bare
    run = program(("transfer", trace.form), lambda: functools.partial(bare.run))
    return np.asarray(jax.device_get(run(trace.consts, *arguments)), np.float64)


def _losses(
    settings: Settings,
    model: Model,
    p: Any,
    params: Any,
    rest: Any,
    rate: Any,
    batches: Any,
) -> Any:
    """Return the loss of each step of one run, before the step."""
    import optax

    tx, loss = settings.tx(rate, p), settings.scalar_loss(model, rest)

    def step(carry: Any, batch: Any) -> Any:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    _, losses = jax.lax.scan(step, (params, tx.init(params)), batches)
    return losses
