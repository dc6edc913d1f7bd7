"""Sweeps over rates at each size -> the best rates, how far they move, the verdict."""

import math
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks.mup._studies import Study, rates
from benchmarks.papers._result import Result, panels
from examples.mup_transfer import score, train


class Best(NamedTuple):
    """Where the loss is least on the grid."""

    exponent: float  # of 2, with a parabola through the least loss and its neighbours
    loss: float  # on the grid
    inside: bool  # whether the grid has larger losses on both sides


def run(study: Study) -> Result:
    """Sweep, with the parametrization and without, and compare."""
    standard = [_sweep(study, size, study.standard(size)) for size in study.sizes]
    # Of the smallest size both are one, to the last bit.
    ours = [_sweep(study, size, study.infer(size)) for size in study.sizes[1:]]
    found = {study.rule: [standard[0], *ours], "standard": standard}
    bests = {name: [best(study, row["score"]) for row in rows]
             for name, rows in found.items()}  # fmt: skip
    moves = {name: moved(of) for name, of in bests.items()}
    measured = {
        name: {
            "best": [b.exponent for b in of],
            "least": [b.loss for b in of],
            "inside": [b.inside for b in of],
            "move": moves[name],
            "late move": moved([best(study, row["late"]) for row in found[name]]),
            "transferred": transferred(study, found[name]),
            **{key: [row[key] for row in found[name]]
               for key in ("score", "late", "accuracy", "seconds")},
        }
        for name, of in bests.items()
    }  # fmt: skip
    return Result(
        study.paper,
        f"the best rate of Adam does not move with {study.grows} under {study.rule}, "
        "and does without",
        found_in_words(study, measured),
        {"sizes": study.sizes, "exponents": list(study.exponents), **measured},
        checks(study, measured),
        figure(study, measured),
    )


def _sweep(study: Study, size: int, p: Any) -> dict[str, Any]:
    """Of one size: the scores (seeds, rates), early and late, and the seconds."""
    begun = time.perf_counter()
    problem, key = study.problem, jax.random.key(0)
    curves = train(study.model(size, p), p, problem, rates(study), key, study.seeds)
    return {
        "score": score(curves.loss),
        "late": score(curves.loss[..., -(problem.steps // 10) :]),
        "accuracy": curves.accuracy,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def best(study: Study, scores: np.ndarray) -> Best:
    """The best rate of one size, by the mean over seeds."""
    losses = scores.mean(axis=0)
    i = int(np.argmin(losses))
    inside = 0 < i < len(losses) - 1
    shift = 0.0
    if inside and np.isfinite(losses[i - 1 : i + 2]).all():
        left, least, right = np.log(losses[i - 1 : i + 2])
        # At the least, so that the curvature is positive, or all three are equal.
        curvature = left - 2 * least + right
        shift = (left - right) / (2 * curvature) if curvature > 0 else 0.0
    return Best(study.exponents[i] + float(shift), float(losses[i]), inside)


def moved(bests: list[Best]) -> float:
    """From the smallest size to the largest, in steps of the grid."""
    return bests[-1].exponent - bests[0].exponent


def transferred(study: Study, rows: list[dict[str, Any]]) -> list[float]:
    """The loss of each size at the rate of the grid that is best for the smallest."""
    index = int(np.argmin(rows[0]["score"].mean(axis=0)))
    return [float(row["score"].mean(axis=0)[index]) for row in rows]


def checks(study: Study, measured: dict[str, Any]) -> dict[str, bool]:
    """What the claim comes down to."""
    ours, standard = measured[study.rule], measured["standard"]
    return {
        f"{study.rule}: the best rate moves by less than one step": (
            abs(ours["move"]) < 1 and ours["inside"][0] and ours["inside"][-1]
        ),
        "standard: it moves by two steps or more": abs(standard["move"]) >= 2,
        f"at the smallest one's rate the largest is better under {study.rule}": (
            ours["transferred"][-1] < standard["transferred"][-1]
        ),
    }


def found_in_words(study: Study, measured: dict[str, Any]) -> str:
    """The moves and the losses at the transferred rate."""
    first, last = study.sizes[0], study.sizes[-1]
    parts = [
        f"{name} moves by {of['move']:+.2f} steps, and has the loss "
        f"{of['transferred'][-1]:.3g} at the smallest one's rate"
        for name, of in measured.items()
    ]
    return f"{study.title}, {study.grows} {first} to {last}: " + "; ".join(parts)


def figure(study: Study, measured: dict[str, Any]) -> Figure:
    """Loss against rate, a line per size; the best of each is marked."""
    result, axes = panels(
        [f"{study.title}: {name}" for name in measured],
        ["learning rate"] * 2,
        ["training loss, mean over the run"] * 2,
        log=True,
    )
    colours = _colours(len(study.sizes))
    for ax, of in zip(axes, measured.values(), strict=True):
        for size, scores, colour in zip(study.sizes, of["score"], colours, strict=True):
            losses = scores.mean(axis=0)
            label = f"{study.grows} {size}"
            ax.plot(rates(study), losses, ".-", color=colour, label=label)
            least = int(np.argmin(losses))
            ax.plot(rates(study)[least], losses[least], "*", ms=12, color=colour)
        ax.set_xscale("log", base=2)
    axes[0].legend(fontsize=8)
    _same_range(axes, measured, study)
    return result


def _colours(number: int) -> Any:
    import matplotlib

    return matplotlib.colormaps["viridis"](np.linspace(0, 0.9, number))


def _same_range(axes: Any, measured: dict[str, Any], study: Study) -> None:
    """One range of losses for both panels; what diverged leaves it at the top."""
    means = np.stack([s.mean(axis=0) for of in measured.values() for s in of["score"]])
    low = means[np.isfinite(means)].min()
    # The loss of the slowest runs is the most that is worth looking at.
    high = max(float(means[:, 0].max()), low * math.e)
    for ax in axes:
        ax.set_ylim(low / 1.2, high * 1.2 if np.isfinite(high) else None)
