"""What an Optax transformation does with gradients and parameters: found by trying it.

A chain of transformations is a closure, whose state does not tell sign descent from
SGD, or whether the parameters are decayed or set the size of the update. So it runs on
a tree of the same structure with two numbers along each axis, at a few multiples of the
gradients and parameters. It touches no numbers of the user's, and costs compilations:
a second or so for a small model, several for hundreds of tensors, once for each.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Transformations whose update is no function of this step's gradient and parameters
# alone, times a rate: by the names of their states.
_REFUSED = {
    "ScaleByLBFGSState": "it approximates the Hessian from its own steps",
    "ProdigyState": "it estimates one learning rate from all parameters",
    "DAdaptAdamWState": "it estimates one learning rate from all parameters",
    "DoGState": "it estimates one learning rate from all parameters",
    "DoWGState": "it estimates one learning rate from all parameters",
    "COCOBState": "it bets from its own parameters",
    "MechanicState": "it estimates one learning rate from all parameters",
    "MomoState": "it sets one learning rate from the loss",
    "MomoAdamState": "it sets one learning rate from the loss",
    "ScheduleFreeState": "its averages hold parameters; wrap its base optimizer",
    "LookaheadState": "its averages hold parameters; wrap its fast optimizer",
    "ScaleByZoomLinesearchState": "it searches one learning rate from the loss",
    "ScaleByBacktrackingLinesearchState": "it searches one learning rate from the loss",
    "ScaleByPolyakState": "it sets one learning rate from the loss",
}
# Adagrad starts from an accumulator that a trial does not outgrow, and Adadelta's
# epsilon is no small one beside a trial's gradients.
_ADAM = {"ScaleByRssState", "ScaleBySM3State", "ScaleByAdaDeltaState"}

# Steps that a trial takes at most, and the relative difference that counts as none.
_STEPS, _CLOSE = 16, 0.05


class Behaviour(NamedTuple):
    """Of one tensor: the kind of update, and whether it is in units of the weights."""

    kind: str
    relative: bool = False


def behaviour(tx: Any, params: Any, kind: str | None) -> list[Behaviour]:
    """How `tx` updates each leaf of `params`.

    Raises:
      ValueError: where it cannot be scaled by tensors, or its kind cannot be told.
    """
    leaves, structure = jax.tree.flatten(params)
    kinds = tuple((len(leaf.shape), np.dtype(leaf.dtype)) for leaf in leaves)
    return list(_behaviour(tx, structure, kinds, kind))


@functools.lru_cache(maxsize=64)
def _behaviour(
    tx: Any, structure: Any, kinds: tuple[Any, ...], kind: str | None
) -> list[Behaviour]:
    """The same, once for trees that are tried alike."""
    params = jax.tree.unflatten(structure, [_tiny(*one) for one in kinds])
    state = jax.eval_shape(tx.init, params)
    names = {type(node).__name__ for node in _nodes(state)}
    for name in sorted(names & _REFUSED.keys()):
        raise ValueError(
            f"`tx` cannot be scaled tensor by tensor: of {name}, {_REFUSED[name]}. Use "
            "an optimizer whose update is a learning rate times a function of "
            "gradients: sgd, adam, adamw, lion, adafactor, muon."
        )
    if kind is None and names & _ADAM:
        kind = "adam"
    try:
        with jax.ensure_compile_time_eval():
            trial = _tried(tx, jax.tree.map(jnp.asarray, params))
    except Exception as error:
        if kind is None:
            raise ValueError(
                f"`tx` could not be tried on a few numbers ({error}), so its kind is "
                f"unknown; {_ADVICE}"
            ) from error
        return [Behaviour(kind)] * len(kinds)
    if kind is None and not any(map(np.any, trial.both)):
        raise ValueError(f"`tx` changed nothing in {_STEPS} steps; {_ADVICE}")
    muon = set() if kind else _orthogonalized(state, params)
    return [
        _of_tensor(path, Trial(*updates), "muon" if path in muon else kind)
        for path, *updates in zip(_paths(params), *trial, strict=True)
    ]


class Trial(NamedTuple):
    """Updates at multiples of gradient and parameters: of all tensors, or of one."""

    both: Any
    # Without parameters, and so without decay; and with twice the gradient.
    free: Any
    free_steep: Any
    # Without a gradient, with twice of it, and with twice of it in every other tensor.
    still: Any
    steep: Any
    uneven: Any
    # With larger parameters.
    twice: Any
    large: Any


_ADVICE = (
    "pass kind='adam' if updates do not grow with the gradient (Adam, Lion, RMSProp), "
    "kind='sgd' if they grow in proportion (SGD, momentum)."
)


def _nodes(state: Any) -> Iterator[Any]:
    """All that a state is nested of."""
    yield state
    below: Any = ()
    if isinstance(state, tuple | list):
        below = state
    elif isinstance(state, dict):
        below = state.values()
    for node in below:
        yield from _nodes(node)


def _paths(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)]


def _orthogonalized(state: Any, params: Any) -> set[str]:
    """The leaves that Muon has a momentum of; it leaves the others to Adam."""
    found: set[str] = set()
    for node in _nodes(state):
        if type(node).__name__ == "MuonState":
            found |= set(_paths(node.mu))
    return found & set(_paths(params))


def _tiny(ndim: int, dtype: np.dtype) -> np.ndarray:
    """Two numbers along each axis, of both signs."""
    steps = np.arange(1, 1 + 2**ndim).reshape((2,) * ndim)
    return (0.5 * (-1.0) ** steps + 0.1 * steps).astype(dtype)


def _gradient(params: Any) -> Any:
    """Of a norm that no clipping sees, and not so small that Adam's epsilon counts."""
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    size = max(0.02 / math.sqrt(max(numbers, 1)), 1e-3)
    return jax.tree.map(lambda w: size * (w[..., ::-1] if w.ndim else w), params)


def _tried(tx: Any, params: Any) -> Trial:
    """The updates of all tensors."""
    gradient, first, again = _gradient(params), jax.jit(tx.init), jax.jit(tx.update)
    flat, structure = jax.tree.flatten(gradient)
    unflatten = functools.partial(jax.tree.unflatten, structure)

    def updates(of_gradient: float, of_params: float, of_odd: float) -> Iterator[Any]:
        scales = [of_gradient * (of_odd if i % 2 else 1.0) for i in range(len(flat))]
        given = unflatten([s * g for s, g in zip(scales, flat, strict=True)])
        at = jax.tree.map(lambda w: of_params * w, params)
        state = first(at)
        for _ in range(_STEPS):
            made, state = again(given, state, at)
            yield made

    # RAdam begins as SGD, a warm-up at 0, and gradients may be gathered first: so it is
    # the last step that changes something.
    every = list(map(_numbers, updates(1.0, 1.0, 1.0)))
    at = max((i for i, made in enumerate(every) if any(map(np.any, made))), default=0)

    def update(of_gradient: float, of_params: float, of_odd: float = 1.0) -> Any:
        made = itertools.islice(updates(of_gradient, of_params, of_odd), at, None)
        return _numbers(next(made))

    return Trial(
        both=every[at],
        free=update(1.0, 0.0),
        free_steep=update(2.0, 0.0),
        still=update(0.0, 1.0),
        steep=update(2.0, 1.0),
        uneven=update(1.0, 1.0, of_odd=2.0),
        twice=update(1.0, 2.0),
        large=update(1.0, 1e3),
    )


def _numbers(tree: Any) -> list[np.ndarray]:
    return [np.asarray(u, np.float64) for u in jax.tree.leaves(tree)]


def _of_tensor(name: str, trial: Trial, kind: str | None) -> Behaviour:
    relative = _is_relative(name, trial)
    # Without parameters there is no decay, and no unit either.
    pair = (trial.both, trial.steep) if relative else (trial.free, trial.free_steep)
    found = kind or _kind(name, *pair)
    if kind is None and found == "adam" and _shares_a_norm(trial):
        raise ValueError(
            f"the kind of `tx` is unclear: the update of {name} depends on the "
            "gradients of other tensors (a clipping to a small norm, or a division by "
            f"the norm of all); {_ADVICE}"
        )
    return Behaviour(found, relative)


def _shares_a_norm(trial: Trial) -> bool:
    """Whether more of some gradients is another update, and more of all is none."""
    same = _alike(trial.steep, trial.both)
    return same and not _alike(trial.uneven, trial.both)


def _alike(a: np.ndarray, b: np.ndarray, close: float = _CLOSE) -> bool:
    return bool(np.max(abs(a - b)) <= close * np.max(abs(b)))


def _kind(name: str, once: np.ndarray, twice: np.ndarray) -> str:
    """Whether the update grows with the gradient."""
    if not np.any(once):
        # A tensor that is not trained.
        return "sgd"
    if _alike(twice, once):
        return "adam"
    if _alike(twice, 2 * once):
        return "sgd"
    raise ValueError(
        f"the kind of `tx` is unclear: with twice the gradient, the update of {name} "
        f"is {np.max(abs(twice)) / np.max(abs(once)):.3g} times as large; {_ADVICE}"
    )


def _is_relative(name: str, trial: Trial) -> bool:
    """Whether the update is in units of the parameter, as Adafactor's; else decay."""
    if _alike(trial.both, trial.free):
        return False
    if _alike(trial.twice, 2 * trial.both, 1e-3):
        if not np.any(trial.still):
            return True
        raise ValueError(
            f"`tx` scales the update of {name} by the size of the weights and "
            "decays them too (adafactor with weight_decay_rate); wrap it without, "
            "and chain optax.add_decayed_weights(-rate) behind: "
            "optax.chain(p.optimizer(optax.adafactor(lr)), "
            "optax.add_decayed_weights(-rate))."
        )
    decays = _alike(trial.twice - trial.free, 2 * (trial.both - trial.free))
    # Decay that is added to the gradient goes through Adam's normalization.
    bounded = np.max(abs(trial.large)) <= 10 * np.max(abs(trial.both))
    if decays or bounded:
        return False
    raise ValueError(
        f"`tx` uses the parameters at {name} neither for weight decay nor as a unit "
        "alone (lamb and lars with weight decay), so it cannot be scaled tensor by "
        "tensor; use adamw, or leave the decay out of it."
    )
