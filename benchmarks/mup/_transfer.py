"""Sweep over rates at each size, and judge by how far the best rates move."""

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
    """The best rate is where the loss on the grid is least."""

    # The rate is 2^exponent, by a parabola through the least loss and its neighbours.
    exponent: float
    loss: float  # the least on the grid
    inside: bool  # whether the grid has larger losses on both sides


def run(study: Study) -> Result:
    """Sweep with the parametrization and without it, and compare the best rates."""
    standard = [_sweep(study, size, study.standard(size)) for size in study.sizes]
    # At the smallest size both parametrizations are equal, to the last bit.
    ours = [_sweep(study, size, study.infer(size)) for size in study.sizes[1:]]
    sweeps = {study.rule: [standard[0], *ours], "standard": standard}
    bests = {name: [best(study, row["score"]) for row in rows]
             for name, rows in sweeps.items()}  # fmt: skip
    moves = {name: moved(points) for name, points in bests.items()}
    measured = {
        name: {
            "best": [point.exponent for point in points],
            "least": [point.loss for point in points],
            "inside": [point.inside for point in points],
            "move": moves[name],
            "late move": moved([best(study, row["late"]) for row in sweeps[name]]),
            "transferred": transferred(study, sweeps[name]),
            **{key: [row[key] for row in sweeps[name]]
               for key in ("score", "late", "accuracy", "seconds")},
        }
        for name, points in bests.items()
    }  # fmt: skip
    return Result(
        study.paper,
        f"the best rate of Adam does not move with {study.grows} under {study.rule}, "
        "but does under the standard parametrization",
        outcome(study, measured),
        {"sizes": study.sizes, "exponents": list(study.exponents), **measured},
        checks(study, measured),
        figure(study, measured),
    )


def _sweep(study: Study, size: int, p: Any) -> dict[str, Any]:
    """Return the scores of one size, (seeds, rates), over the run and late in it."""
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
    """Return the best rate of one size, by the mean over seeds."""
    losses = scores.mean(axis=0)
    i = int(np.argmin(losses))
    inside = 0 < i < len(losses) - 1
    shift = 0.0
    if inside and np.isfinite(losses[i - 1 : i + 2]).all():
        left, least, right = np.log(losses[i - 1 : i + 2])
        # The middle loss is the least: the curvature is positive, or all are equal.
        curvature = left - 2 * least + right
        shift = (left - right) / (2 * curvature) if curvature > 0 else 0.0
    return Best(study.exponents[i] + float(shift), float(losses[i]), inside)


def moved(bests: list[Best]) -> float:
    """Return how far the best rate moves with size, in steps of the grid."""
    return bests[-1].exponent - bests[0].exponent


def transferred(study: Study, rows: list[dict[str, Any]]) -> list[float]:
    """Return the loss of each size at the best rate of the smallest size."""
    index = int(np.argmin(rows[0]["score"].mean(axis=0)))
    return [float(row["score"].mean(axis=0)[index]) for row in rows]


def checks(study: Study, measured: dict[str, Any]) -> dict[str, bool]:
    """Return the checks that decide the claim."""
    ours, standard = measured[study.rule], measured["standard"]
    return {
        f"{study.rule}: the best rate moves by less than one step": (
            abs(ours["move"]) < 1 and ours["inside"][0] and ours["inside"][-1]
        ),
        "standard: the best rate moves by two steps or more": (
            abs(standard["move"]) >= 2
        ),
        f"at the smallest model's rate the largest is better under {study.rule}": (
            ours["transferred"][-1] < standard["transferred"][-1]
        ),
    }


def outcome(study: Study, measured: dict[str, Any]) -> str:
    """Describe the moves, and the losses at the transferred rate."""
    first, last = study.sizes[0], study.sizes[-1]
    parts = [
        f"{name}: the best rate moves by {sweep['move']:+.2f} steps, and the loss at "
        f"the smallest model's rate is {sweep['transferred'][-1]:.3g}"
        for name, sweep in measured.items()
    ]
    return f"{study.title}, {study.grows} {first} to {last}: " + "; ".join(parts)


def figure(study: Study, measured: dict[str, Any]) -> Figure:
    """Draw loss against rate, a line per size, with the best rate of each marked."""
    result, axes = panels(
        [f"{study.title}: {name}" for name in measured],
        ["learning rate"] * 2,
        ["training loss, mean over the run"] * 2,
        log=True,
    )
    colours = _colours(len(study.sizes))
    for ax, sweep in zip(axes, measured.values(), strict=True):
        rows = zip(study.sizes, sweep["score"], colours, strict=True)
        for size, scores, colour in rows:
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
    """Give both panels one range of losses; runs that diverged leave it at the top."""
    scores = [score for sweep in measured.values() for score in sweep["score"]]
    means = np.stack([score.mean(axis=0) for score in scores])
    low = means[np.isfinite(means)].min()
    # The losses at the smallest rate are the largest that are worth showing.
    high = max(float(means[:, 0].max()), low * math.e)
    for ax in axes:
        ax.set_ylim(low / 1.2, high * 1.2 if np.isfinite(high) else None)
