"""Findings of a watch: which tensor has which trouble, by which number, and the cure."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from .._core.results import Finding, Row

_VALUES = {1: "gradient", 2: "update", 3: "weight"}
# So many measurements must have been made before a mean says anything.
_ENOUGH = 5
_SPIKE = 100.0
_HIGH_RATIO, _LOW_RATIO = 1e-1, 1e-5


def findings(rows: Sequence[Row], step: int) -> list[Finding]:
    """Return a finding for each trouble, the worst first."""
    broken = list(_not_finite(rows))
    if broken:
        # Behind NaN and infinity no other number means anything.
        return broken
    measured = [row for row in rows if row["measured"] >= _ENOUGH]
    return [
        *_spikes(rows),
        *_too_fast(measured),
        *_grows(measured),
        *_lost(measured),
        *_no_gradient(measured),
        *_still(measured),
        *_epsilon(measured),
    ]


def _not_finite(rows: Sequence[Row]) -> Iterator[Finding]:
    bad = [row for row in rows if row["bad_step"]]
    if not bad:
        return
    first = min(row["bad_step"] for row in bad)
    here = [row for row in bad if row["bad_step"] == first]
    # A loss that is NaN makes every gradient NaN. The tensor whose gradient had grown
    # most before then is the likeliest source.
    row = max(here, key=lambda row: (row["bad_value"], row["spike"]))
    others = f" So are {len(here) - 1} others." if len(here) > 1 else ""
    yield Finding(
        "not_finite",
        row["path"],
        first,
        f"{row['path']}: the {_VALUES[int(row['bad_value'])]} is not finite from step "
        f"{first} on.{others} Lower the learning rate, clip the gradient "
        "(optax.clip_by_global_norm(1.0)), or probe the model at the weights before.",
    )


def _spikes(rows: Sequence[Row]) -> Iterator[Finding]:
    spiky = [row for row in rows if row["spike"] >= _SPIKE]
    for row in sorted(spiky, key=lambda row: -row["spike"]):
        yield Finding(
            "spike",
            row["path"],
            row["spike"],
            f"{row['path']}: its gradient was {row['spike']:.3g} times its usual size "
            f"at step {row['spike_step']}. Usual are factors below 10; look at that "
            "batch, and clip gradients (optax.clip_by_global_norm(1.0)).",
        )


def _growth(now: float, before: float) -> float:
    """Return how many times larger a size is than what was usual."""
    return now / math.exp(before) if now > 0 else 0.0


def _too_fast(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        ratio = row["update_ratio"]
        if ratio is not None and ratio > _HIGH_RATIO and _trained(row):
            yield Finding(
                "fast",
                row["path"],
                ratio,
                f"{row['path']}: an update is {ratio:.2g} times the size of the weight, "
                "where 1e-3 is usual, and 1e-1 is the most that trains well. Lower "
                "the learning rate, or warm it up.",
            )


def _trained(row: Row) -> bool:
    # Biases and other tensors that begin at 0 have no size yet to compare with.
    return bool(row["start_rms"] > 0)


def _grows(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        start = row["start_rms"]
        growth = row["weight_rms"] / start if start > 0 else 0.0
        if growth > 10 and _growth(row["weight_rms"], row["weight_before"]) > 1.1:
            yield Finding(
                "grows",
                row["path"],
                growth,
                f"{row['path']}: the weights are {growth:.3g} times as large as at the "
                "start, and grow on. Usual is a factor below 3; use weight decay "
                "(optax.adamw), or a lower learning rate.",
            )


def _lost(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        if row["lost"] is not None and row["lost"] > 0.5:
            yield Finding(
                "lost",
                row["path"],
                row["lost"],
                f"{row['path']}: rounding undoes {row['lost']:.0%} of its updates, "
                f"which a number of {row['bits']} bits does not show. Keep these weights in "
                "float32, and cast them in the forward pass.",
            )


def _no_gradient(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        if row["grad_rms"] == 0:
            yield Finding(
                "no_gradient",
                row["path"],
                0.0,
                f"{row['path']}: its gradient is 0 at every step. The loss does not "
                "depend on it, or a factor of 0 stands behind it; jinit.probe shows "
                "where the signal ends.",
            )


def _still(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        ratio = row["update_ratio"]
        stands = row["largest_update"] == 0 or (ratio is not None and ratio < 1e-8)
        if stands and row["grad_rms"] > 0 and _trained(row):
            yield Finding(
                "still",
                row["path"],
                row["largest_update"],
                f"{row['path']} does not move: it has a gradient of "
                f"{row['grad_rms']:.2g}, and its updates are {row['update_rms']:.2g}. "
                "If it is frozen on purpose, leave it out by `only`; otherwise raise "
                "its learning rate.",
            )


def _epsilon(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        if row["small"] is not None and row["small"] > 0.5:
            yield Finding(
                "epsilon",
                row["path"],
                row["small"],
                f"{row['path']}: Adam's epsilon decides {row['small']:.0%} of its "
                "updates, since the gradients are smaller. Scale the loss up, or lower "
                "the epsilon (optax.adam(eps=1e-15)).",
            )
