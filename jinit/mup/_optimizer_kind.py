"""The kind of each tensor's update is read from a trial of the optimizer.

The kind is "adam" if the update does not grow with the gradient, and "sgd" if it grows
in proportion. A text in the place of a kind says why the kind is unclear.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._core.trees import listed
from ._factors import KINDS
from ._optimizer_trial import STEPS, Answer, NotByTensor, Response, Trial
from ._optimizer_trial import answer as answer_of

# Two sizes whose relative difference is less count as equal.
_CLOSE = 0.05

ADVICE = (
    "pass kind='adam' if updates do not grow with the gradient (Adam, Lion, RMSProp), "
    "kind='sgd' if they grow in proportion (SGD, momentum), 'muon' if they are "
    "orthogonalized; or pairs, for some tensors: kind=[('**/kernel', 'muon')]."
)


class Behaviour(NamedTuple):
    """A behaviour says how a tensor is updated.

    `kind` says whether the update grows with the gradient. A `relative` update is in
    units of the parameter. `entry` is the size of an update whose entries are equal if
    it may depend on the tensor's shape, else None. `multiplies` says that the update is
    a product of matrices, as Muon's is.
    """

    kind: str
    relative: bool = False
    entry: float | None = None
    multiplies: bool = False


def answered(tx: Any, structure: Any, types: tuple[Any, ...]) -> Answer | str:
    """Try `tx` at some shapes, or return a text that says why `tx` cannot be run."""
    try:
        return answer_of(tx, structure, types)
    except NotByTensor:
        raise
    except Exception as error:
        return f"`tx` could not be tried on gradients of these shapes ({error})"


def behaviours(
    answer: Answer | str, paths: Sequence[str], kinds: Sequence[str | None]
) -> list[Behaviour]:
    """Return how each tensor is updated, from a trial and the kinds that a user names.

    Raises:
      ValueError: for tensors whose kind is in doubt, and for updates that cannot be
        scaled tensor by tensor.
    """
    if isinstance(answer, str):
        if None in kinds:
            raise ValueError(f"{answer}, so its kind is unknown; {ADVICE}")
        return [Behaviour(str(kind)) for kind in kinds]
    responses = answer.responses
    trials = [one.trial for one in responses]
    # A rate of 0, as at the start of a long warm-up, shows nothing about the kind.
    if None in kinds and None not in trials and not any(map(any, filter(None, trials))):
        raise ValueError(f"`tx` changed nothing in {STEPS} steps; {ADVICE}")
    raise_contradictions(answer, paths, kinds)
    clipped = any(map(_is_clipped, itertools.count(), responses))
    judged = [
        _judged(index, path, kind or ("adam" if gathers else None), response, clipped)
        for index, (path, kind, response, gathers) in enumerate(
            zip(paths, kinds, responses, answer.gathers, strict=True)
        )
    ]
    raise_doubts(paths, judged)
    return [one for one in judged if isinstance(one, Behaviour)]


def raise_doubts(paths: Sequence[str], judged: Sequence[Any]) -> None:
    """Raise if an entry is a text, which says why the kind of a tensor is unclear."""
    lines = [
        f"{path}: {doubt}"
        for path, doubt in zip(paths, judged, strict=True)
        if isinstance(doubt, str)
    ]
    if lines:
        raise ValueError(
            f"the kind of `tx` is unclear for {len(lines)} of {len(paths)} tensors:"
            f"{listed(lines[:10])}\nIt is needed for their learning rates; {ADVICE}"
        )


def raise_contradictions(
    answer: Answer, paths: Sequence[str], kinds: Sequence[str | None]
) -> None:
    """Raise if the trial shows another kind than a user names, for some tensors."""
    clipped = any(map(_is_clipped, itertools.count(), answer.responses))
    lines = []
    for index, (path, kind) in enumerate(zip(paths, kinds, strict=True)):
        shown = _shown(answer, index, path, clipped) if kind else None
        # The kind "adam" says that updates do not grow with the gradient: true of Muon.
        if shown and shown != kind and (kind, shown) != ("adam", "muon"):
            lines.append(
                f"{path}: `kind` says {kind!r}, and the trial shows {shown!r}, since "
                f"{_EVIDENCE[shown]}"
            )
    if lines:
        raise ValueError(
            f"`kind` and a trial of `tx` disagree on {len(lines)} of {len(paths)} "
            f"tensors:{listed(lines[:10])}\nThe kinds are "
            f"{', '.join(map(repr, KINDS))}. Name the one that the updates have, or "
            "leave `kind` out, and the trial decides."
        )


_EVIDENCE = {
    "adam": "with twice the gradient the update is the same",
    "sgd": "with twice the gradient the update is twice as large",
    "muon": "the update is a product of matrices, the same for twice the gradient",
}


def _shown(answer: Answer, index: int, path: str, clipped: bool) -> str | None:
    """Return the kind that the trial shows for a tensor, or None if that is unclear."""
    response = answer.responses[index]
    trial = response.trial
    if trial is None or not response.depends:
        return None
    if answer.gathers[index]:
        return "adam"
    relative = _is_relative(path, trial)
    kind = _kind(index, response, relative, clipped)
    # An update of 0, as at the start of a long warm-up, shows nothing.
    if kind not in KINDS or not any(_pair(trial, relative, small=False)):
        return None
    if not response.multiplies:
        return kind
    # With adaptive=True the update of Muon grows with the gradient.
    return "muon" if kind == "adam" else None


def _judged(
    index: int, path: str, kind: str | None, response: Response, clipped: bool
) -> Behaviour | str:
    """Return how one tensor is updated, or a text that says why that is unclear."""
    trial = response.trial
    if trial is None:
        return Behaviour(kind) if kind else response.reason
    relative = _is_relative(path, trial)
    measured = _kind(index, response, relative, clipped)
    if kind is None:
        if measured not in ("adam", "sgd"):
            return measured
        if measured == "sgd" and response.multiplies:
            return (
                "its update is a product of matrices and grows with the gradient (Muon "
                "with adaptive=True), so its growth with the width depends on the "
                "gradient's rank, which a trial does not know"
            )
        kind = measured
    if measured != ("sgd" if kind == "sgd" else "adam"):
        # What the trial shows is unclear, so that the word of the user counts.
        return Behaviour(kind, relative)
    entry = _entry(measured, response, relative) if response.sums else None
    return Behaviour(measured, relative, entry, response.multiplies)


def _entry(kind: str, response: Response, relative: bool) -> float:
    """Return the size of an update for a gradient of a fixed size."""
    trial = response.trial
    assert trial is not None
    if kind == "sgd":
        # Only the small gradient is certain not to be clipped.
        pair = _pair(trial, relative, small=True)
        return pair[0] / response.small
    return _pair(trial, relative, small=False)[0]


def elsewhere(
    other: Answer | str, answer: Answer, updated: Sequence[Behaviour]
) -> list[float | None]:
    """Return the sizes of updates at other shapes than those of `answer`.

    A size is None if the tensor is updated in another way there: if its state has
    another place, or its update another kind.
    """
    if isinstance(other, str):
        return [None] * len(updated)
    clipped = any(map(_is_clipped, itertools.count(), other.responses))
    sizes: list[float | None] = []
    for index, (behaviour, response) in enumerate(
        zip(updated, other.responses, strict=True)
    ):
        relative = behaviour.relative
        same = response.trial and other.homes[index] == answer.homes[index]
        if same and _kind(index, response, relative, clipped) == behaviour.kind:
            sizes.append(_entry(behaviour.kind, response, relative))
        else:
            sizes.append(None)
    return sizes


def _kind(index: int, response: Response, relative: bool, clipped: bool) -> str:
    """Return the kind of an update, "adam" or "sgd", or a text why it is unclear.

    Gradients are tried at two sizes: the epsilon of Adam is negligible beside the
    larger ones, and the smaller ones have a norm that no clipping changes.
    """
    trial = response.trial
    assert trial is not None
    once, twice = _pair(trial, relative, small=False)
    if not (once or twice):
        return _untrained(response)
    large, small = _degree(once, twice), _degree(*_pair(trial, relative, small=True))
    kind = large
    if response.sums and small != large:
        kind = _at_two_sizes(index, response, large, small, clipped)
    if not kind:
        times = abs(twice / once) if once else float("inf")
        return f"with twice the gradient, its update is {times:.3g} times as large"
    if kind == "adam" and _shares_a_norm(trial):
        return (
            "its update depends on the gradients of other tensors (a clipping to a "
            "small norm, or a division by the norm of all)"
        )
    return kind


def _at_two_sizes(
    index: int, response: Response, large: str, small: str, clipped: bool
) -> str:
    """Return the kind of an update that shows two kinds at two sizes, or "".

    Either the larger gradients are clipped, or an epsilon counts beside the smaller
    ones. A clipping shows in that larger gradients of other tensors shrink an update.
    """
    if small == "sgd" and _is_clipped(index, response):
        return "sgd"
    epsilon = large == "adam" and response.on_others and not clipped
    return "adam" if epsilon else ""


def _untrained(response: Response) -> str:
    if not response.depends:
        return "sgd"
    return (
        f"its update is 0 in the {STEPS} steps of a trial with gradients of equal "
        "entries (a rate of 0, or gradients that are centered)"
    )


def _pair(trial: Trial, relative: bool, small: bool) -> tuple[float, float]:
    """Return the updates for the gradient and for twice the gradient."""
    # Experiments with parameters of 0 have no decay. But a relative update needs its
    # unit; and a clipping to a fraction of the parameters is the same for all
    # parameters except 0.
    clipped = alike(trial.twice, trial.both) and not alike(trial.both, trial.free)
    if relative or clipped:
        if small:
            return trial.small, trial.small_steep
        return trial.both, trial.steep
    if small:
        return trial.small_free, trial.small_free_steep
    return trial.free, trial.free_steep


def _degree(once: float, twice: float) -> str:
    # Adam's update is of degree 0 in the gradient, SGD's of degree 1.
    if alike(twice, once):
        return "adam"
    return "sgd" if alike(twice, 2 * once) else ""


def _is_clipped(index: int, response: Response) -> bool:
    """Tell whether an update shrinks if the gradients of other tensors grow."""
    trial = response.trial
    if trial is None or not response.on_others:
        return False
    # Tensors of the other parity got the large gradients, and this one kept its own.
    others = trial.more_even if index % 2 else trial.more_odd
    return not alike(others, trial.free)


def _shares_a_norm(trial: Trial) -> bool:
    """Tell whether an update changes if some gradients grow, but not if all do."""
    same = alike(trial.steep, trial.both)
    # Adam divides each tensor by its own size, so it does not see the others grow.
    return same and not alike(trial.uneven, trial.both)


def alike(a: float, b: float, close: float = _CLOSE) -> bool:
    return abs(a - b) <= close * abs(b)


def _is_relative(path: str, trial: Trial) -> bool:
    """Tell whether an update is in units of the parameter, as Adafactor's is."""
    if alike(trial.both, trial.free) or alike(trial.twice, trial.both):
        return False
    # With u(w) the update at parameters w: in units of the parameter u(2 w) = 2 u(w),
    # while a decay is an addend, u(2 w) - u(0) = 2 (u(w) - u(0)).
    if alike(trial.twice, 2 * trial.both, 1e-3):
        if not trial.still:
            return True
        raise ValueError(
            f"`tx` scales the update of {path} by the size of the weights and decays "
            "them too (adafactor, lamb and lars with weight decay); wrap it "
            "without weight decay, and chain optax.add_decayed_weights(-rate) behind: "
            "optax.chain(p.optimizer(optax.adafactor(lr)), "
            "optax.add_decayed_weights(-rate))."
        )
    if alike(trial.twice - trial.free, 2 * (trial.both - trial.free)):
        return False
    raise ValueError(
        f"`tx` uses the parameters at {path} neither for weight decay nor as a unit "
        "alone, so it cannot be scaled tensor by tensor; use adamw, or leave the decay "
        "out of it."
    )
