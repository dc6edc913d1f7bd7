"""A trial shows how the updates of an optimizer depend on gradients and parameters.

A chain of Optax's transformations is a closure. Its state does not tell sign descent
from SGD, nor whether the parameters are decayed or set the size of the update. So the
transformation is traced at the shapes of the parameters, where it takes the branches
that it takes in training (labels by size, factored states). The traced operations are
then evaluated on gradients and parameters whose entries are all equal, at a few
multiples of both. Each array is then one number: no array of a model's size is made,
and nothing is compiled. See _equal_entries.py.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._core.identity import remembered
from .._network import jaxpr
from ._equal_entries import FIRST_MARK, MULTIPLIED, SUMMED, Uniform, evaluate

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
_ADAM = {"ScaleByRssState", "ScaleBySM3State", "ScaleByAdaDeltaState"}

# Steps that a trial takes: RAdam begins as SGD, and gradients may be gathered first.
STEPS = 16
_GRADIENT, _NORM = 5e-3, 0.02
_MORE = 32.0
_MARKS = (FIRST_MARK, 2 * FIRST_MARK)


class Lane(NamedTuple):
    """An experiment multiplies even and odd tensors' gradients, and the parameters."""

    even: float
    odd: float
    parameters: float


class Trial(NamedTuple):
    """A trial has a field for each experiment: its lane, or the entry of the update."""

    both: Any
    # With parameters of 0, and so without decay; with once and twice the gradient.
    free: Any
    free_steep: Any
    # With a gradient of 0, with twice the gradient, and with twice the gradient in odd
    # tensors only.
    still: Any
    steep: Any
    uneven: Any
    # With larger parameters.
    twice: Any
    # With parameters of 0, and with gradients of the even tensors, or of the odd ones,
    # that outgrow all others.
    more_even: Any
    more_odd: Any
    # With gradients so small that no clipping changes them.
    small: Any
    small_steep: Any
    small_free: Any
    small_free_steep: Any


class Response(NamedTuple):
    """A response says how one tensor is updated, and what the update depends on.

    `small` is the factor of the small gradients. `reason` says why `trial` is None:
    which operation could not be evaluated.
    """

    trial: Trial | None
    small: float = 1.0
    depends: bool = False
    # Whether it depends on gradients of tensors that are even if this one is odd, and
    # odd if it is even.
    on_others: bool = False
    # Whether it depends on a sum over gradients, and on a product of two matrices that
    # both depend on them.
    sums: bool = False
    multiplies: bool = False
    reason: str = ""


class Answer(NamedTuple):
    """An answer says what a trial of a transformation showed for each tensor.

    `homes` are the places of a tensor in the optimizer's state. `gathers` says that its
    state is one of `_ADAM`, whose kind is "adam" whatever the trial shows.
    """

    responses: list[Response]
    homes: list[frozenset[str]]
    gathers: list[bool]


def _lanes(sizes: Sequence[int]) -> Trial:
    """Return the experiments for tensors with these numbers of entries."""
    even, odd = max(sum(sizes[::2]), 1), max(sum(sizes[1::2]), 1)
    small = min(1.0, _NORM / math.sqrt(even + odd) / _GRADIENT)
    return Trial(
        both=Lane(1, 1, 1), free=Lane(1, 1, 0), free_steep=Lane(2, 2, 0),
        still=Lane(0, 0, 1), steep=Lane(2, 2, 1), uneven=Lane(1, 2, 1),
        twice=Lane(1, 1, 2),
        more_even=Lane(_MORE * max(1, math.sqrt(odd / even)), 1, 0),
        more_odd=Lane(1, _MORE * max(1, math.sqrt(even / odd)), 0),
        small=Lane(small, small, 1), small_steep=Lane(2 * small, 2 * small, 1),
        small_free=Lane(small, small, 0),
        small_free_steep=Lane(2 * small, 2 * small, 0),
    )  # fmt: skip


@remembered(64)
def answer(tx: Any, structure: Any, types: tuple[Any, ...]) -> Answer:
    """Try a transformation on a tree of arrays of such shapes and dtypes.

    Raises:
      NotByTensor: if it cannot be scaled tensor by tensor.
      Exception: what `tx` raises, if it cannot be run on these.
    """
    leaves = [jax.ShapeDtypeStruct(*one) for one in types]
    params = jax.tree.unflatten(structure, leaves)
    init, state = jaxpr.trace(tx.init, (params,))
    _check_states({type(node).__name__ for node in _nodes(state)})
    update, _ = jaxpr.trace(tx.update, (params, state, params))
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    gathering = [node for node in _nodes(state) if type(node).__name__ in _ADAM]
    gathered = _homes(gathering, paths)
    return Answer(
        _responses(init, update, leaves),
        _homes(state, paths),
        [bool(places) for places in gathered],
    )


class NotByTensor(ValueError):
    """This error says that an optimizer's updates cannot be scaled tensor by tensor."""


def _check_states(names: set[str]) -> None:
    for name in sorted(names & _REFUSED.keys()):
        raise NotByTensor(
            f"`tx` has a {name} and cannot be scaled tensor by tensor: "
            f"{_REFUSED[name]}. Use an optimizer whose update is a learning rate "
            "times a function of gradients: sgd, adam, adamw, lion, adafactor, muon."
        )


def _nodes(state: Any) -> Iterator[Any]:
    """Yield a state and all the states inside it."""
    yield state
    below: Any = ()
    if isinstance(state, tuple | list):
        below = state
    elif isinstance(state, dict):
        below = state.values()
    for node in below:
        yield from _nodes(node)


def _homes(state: Any, paths: Sequence[Any]) -> list[frozenset[str]]:
    """Return, for each path of a tensor, the places of the state that end in it."""
    places: dict[Any, set[str]] = {path: set() for path in paths}
    for path, _ in jax.tree.leaves_with_path(state):
        for first in range(len(path) + 1):
            # Some states have several arrays for each tensor, such as one per axis.
            for last in range(first, len(path) + 1):
                if path[first:last] in places:
                    place = jax.tree_util.keystr(path[:first])
                    places[path[first:last]].add(place)
    return [frozenset(places[path]) for path in paths]


def _responses(init: Any, update: Any, leaves: Sequence[Any]) -> list[Response]:
    """Run the experiments, and return those of the last step that changes something."""
    lanes = _lanes([math.prod(leaf.shape) for leaf in leaves])
    gradients, params = _inputs(len(leaves), np.array(lanes))
    last: list[Any] = []
    with np.errstate(all="ignore"):
        state = evaluate(init, params)
        for _ in range(STEPS):
            results = evaluate(update, [*gradients, *state, *params])
            updates, state = results[: len(leaves)], results[len(leaves) :]
            if not last or any(map(_changes, updates)):
                last = updates
    return [_response(i, value, lanes.small.even) for i, value in enumerate(last)]


def _inputs(count: int, lanes: np.ndarray) -> tuple[list[Uniform], list[Uniform]]:
    """Return gradients, marked as even or odd, and parameters."""
    # Tensors differ a little, so that no two of them agree by chance. A gradient is
    # below a hundredth of its parameter, where adaptive clipping begins.
    sizes = [1 + 0.01 * (index % 7) for index in range(count)]
    gradients = [
        Uniform(_GRADIENT * size * lanes[:, index % 2], _MARKS[index % 2])
        for index, size in enumerate(sizes)
    ]
    return gradients, [Uniform(0.8 * size * lanes[:, 2]) for size in sizes]


def _changes(value: Any) -> bool:
    return isinstance(value, Uniform) and bool(np.any(value.entry))


def _response(index: int, value: Any, small: float) -> Response:
    if not isinstance(value, Uniform):
        reason = getattr(value, "reason", "the entries of its update are constants")
        return Response(None, reason=reason)
    marks = value.marks
    lanes = np.broadcast_to(np.real(value.entry) * 1.0, len(Trial._fields))
    return Response(
        Trial(*lanes.tolist()),
        small,
        depends=marks >= FIRST_MARK,
        on_others=bool(marks & _MARKS[1 - index % 2]),
        sums=bool(marks & SUMMED),
        multiplies=bool(marks & MULTIPLIED),
    )
