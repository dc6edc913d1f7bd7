"""Findings of a watch say which tensor has which trouble, and what to try."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence

from .._core.results import Finding, Row

_VALUES = {1: "gradient", 2: "update", 3: "weight"}
# A mean of fewer measurements than this says nothing.
ENOUGH = 5
_SPIKE = 100.0
# An update of a tenth of a weight at each step turns a layer around in ten steps.
FAST = 0.1
# The gradient of a key's bias is 0 but for rounding. Such noise, so much below the
# other gradients, says nothing about Adam's epsilon.
_NOISE = 1e-5


def findings(rows: Sequence[Row]) -> list[Finding]:
    """Return a finding for each trouble, the worst first."""
    broken = list(_not_finite(rows))
    if broken:
        # No number after the first NaN means anything. Updates that were too large
        # before it are its likeliest cause.
        return [*_worst("fast", rows, _fastness, _fast), *broken]
    measured = [row for row in rows if row["measured"] >= ENOUGH]
    return [
        *_worst("skipped", rows, lambda row: row["skipped"] / ENOUGH, _skipped),
        *_nothing_moves(measured),
        *_worst("spike", rows, lambda row: row["spike"] / _SPIKE, _spike),
        *_worst("fast", rows, _fastness, _fast),
        *_worst("oscillates", measured, _oscillation, _oscillates),
        *_worst("grows", measured, _growth(measured), _grows),
        *_worst("lost", measured, _loss_by_rounding, _lost),
        # An unused layer and a network that died are two causes, with two cures.
        *_worst("no_gradient", measured, _silence_from_the_start, _no_gradient),
        *_worst("no_gradient", measured, _silence_since_then, _no_gradient),
        *_worst("still", measured, _stillness, _still),
        *_worst("epsilon", measured, _smallness(measured), _epsilon),
    ]


def _worst(
    category: str,
    rows: Sequence[Row],
    severity: Callable[[Row], float],
    text: Callable[[Row], tuple[float, str]],
) -> Iterator[Finding]:
    """Yield a finding of the worst row whose severity is 1 or more, if there is one.

    One cause shows in many tensors at once, and a list of them would hide the worst.
    """
    sick = sorted((row for row in rows if severity(row) >= 1), key=severity)
    if sick:
        *others, row = sick
        value, message = text(row)
        yield Finding(category, row["path"], value, message + _also(others[::-1]))


def _also(others: Sequence[Row]) -> str:
    if not others:
        return ""
    names = ", ".join(row["path"] for row in others[:3])
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f" The same holds for {names}{more}."


def _not_finite(rows: Sequence[Row]) -> Iterator[Finding]:
    bad = [row for row in rows if row["bad_step"]]
    if not bad:
        return
    first = min(row["bad_step"] for row in bad)
    here = [row for row in bad if row["bad_step"] == first]
    # A loss that is NaN makes every gradient NaN. The tensor whose gradient had grown
    # most before then is the likeliest source.
    worst = max(here, key=lambda row: (row["bad_value"], row["spike"]))
    value = _VALUES[int(worst["bad_value"])]
    others = f" (and in all, {len(here)} tensors at that step)" if here[1:] else ""
    yield Finding(
        "not_finite",
        worst["path"],
        first,
        f"{worst['path']}: the {value} was first not finite at step {first}{others}. "
        "Look at the batch of that step, lower the learning rate, or clip gradients "
        "(optax.clip_by_global_norm(1.0)).",
    )


def _skipped(row: Row) -> tuple[float, str]:
    return row["skipped"], (
        f"{row['path']}: the last {row['skipped']} gradients were not finite, and the "
        "optimizer skipped them, where one in a thousand is usual. Lower the scale of "
        "the loss, or look for the operation that overflows (jax.debug_nans)."
    )


def _nothing_moves(rows: Sequence[Row]) -> Iterator[Finding]:
    """Find that no tensor moves. A few that do not are frozen on purpose."""
    if rows and all(row["frozen"] or not row["grad_rms"] for row in rows):
        frozen = [row for row in rows if row["frozen"]]
        if frozen:
            worst = max(frozen, key=lambda row: row["grad_rms"])
            yield Finding(
                "still",
                worst["path"],
                0.0,
                f"{worst['path']} does not move, and neither does any other tensor: "
                f"its gradient is {worst['grad_rms']:.2g}, and all updates are 0. "
                "Raise the learning rate, or look at its schedule.",
            )


def _is_sized(row: Row) -> bool:
    """Tell whether a tensor starts at a size that an update can be compared with.

    Biases start at 0. Tables of positions and readouts often start so small that the
    first steps make them what they are.
    """
    return bool(row["start_rms"] * math.sqrt(row["width"]) >= 0.3)


def _spike(row: Row) -> tuple[float, str]:
    return row["spike"], (
        f"{row['path']}: the gradient was {row['spike']:.3g} times its usual size at "
        f"step {row['spike_step']}, where a factor below 10 is usual. Look at the "
        "batch of that step, and clip gradients (optax.clip_by_global_norm(1.0))."
    )


def _fastness(row: Row) -> float:
    return row["ratio_peak"] / FAST if _is_sized(row) else 0.0


def _fast(row: Row) -> tuple[float, str]:
    peak = row["ratio_peak"]
    times = max(2, round(2 * peak / FAST))
    factor = f"{times} times" if times <= 1000 else "a thousand times or more"
    return peak, (
        f"{row['path']}: an update was {peak:.2g} times as large as the weights, where "
        f"1e-3 is usual and {FAST:g} is the most that trains well. Lower the learning "
        f"rate {factor}, or warm it up."
    )


def _oscillation(row: Row) -> float:
    return -(row["cosine"] or 0) / 0.7


def _oscillates(row: Row) -> tuple[float, str]:
    return row["cosine"], (
        f"{row['path']}: each gradient points against the one before (their cosine is "
        f"{row['cosine']:.2f}, where -0.5 to 1 is usual), so the steps jump across a "
        "valley. Lower the learning rate by half."
    )


def _growth(rows: Sequence[Row]) -> Callable[[Row], float]:
    sized = [row["weight_rms"] / row["start_rms"] for row in rows if _is_sized(row)]
    # One tensor may settle at another size than its first one. If all tensors grow at
    # once, the optimizer is the cause.
    median = statistics.median(sized) if sized else 0.0

    def severity(row: Row) -> float:
        # A weight that stopped growing has found its size, and does no harm.
        grows_on = row["weight_rms"] > 1.3 * math.exp(row["weight_before"])
        if not (_is_sized(row) and grows_on):
            return 0.0
        growth = float(row["weight_rms"] / row["start_rms"])
        return max(growth / 3, min(growth, median) / 2)

    return severity


def _grows(row: Row) -> tuple[float, str]:
    growth = row["weight_rms"] / row["start_rms"]
    usual = "3 is usual" if growth > 3 else "2 is usual for most tensors together"
    return growth, (
        f"{row['path']}: the weights are {growth:.3g} times as large as at the start, "
        f"where a factor below {usual}, and they still grow. Lower the learning "
        "rate, or decay the weights (optax.adamw)."
    )


def _loss_by_rounding(row: Row) -> float:
    return (row["lost"] or 0) / 0.5 if row["bits"] <= 16 else 0.0


def _lost(row: Row) -> tuple[float, str]:
    return row["lost"], (
        f"{row['path']}: rounding to {row['bits']} bits undoes {row['lost']:.0%} of "
        "the updates, where none is usual. Keep the weights in float32, and cast them "
        "in the forward pass."
    )


def _silence_from_the_start(row: Row) -> float:
    return row["zeros"] / ENOUGH if row["zeros"] == row["measured"] else 0.0


def _silence_since_then(row: Row) -> float:
    return row["zeros"] / ENOUGH if row["zeros"] < row["measured"] else 0.0


def _no_gradient(row: Row) -> tuple[float, str]:
    began = (
        "does not depend" if row["zeros"] == row["measured"] else "depends no longer"
    )
    return 0.0, (
        f"{row['path']}: the last {row['zeros']} gradients were 0. The loss {began} on "
        "these weights; jinit.probe shows in which layer the signal ends. If it is "
        "meant so, leave them out: only=lambda path, leaf: not path.startswith(...)."
    )


def _stillness(row: Row) -> float:
    # A tensor without a gradient has the finding `no_gradient` already.
    # Updates of exactly 0 beside a gradient are the optimizer's choice: it is frozen.
    is_frozen = row["largest_update"] == 0
    if row["zeros"] or not row["start_rms"] or not row["grad_rms"] or is_frozen:
        return 0.0
    return float(min(1e-7 / max(row["ratio_peak"], 1e-30), 1e30))


def _still(row: Row) -> tuple[float, str]:
    return row["largest_update"], (
        f"{row['path']} does not move: its gradient is {row['grad_rms']:.2g}, and an "
        f"update is {row['ratio_peak']:.1g} times the size of the weights, where 1e-3 "
        "is usual. Raise its learning rate."
    )


def _smallness(rows: Sequence[Row]) -> Callable[[Row], float]:
    usual = statistics.median(row["grad_rms"] for row in rows) if rows else 0.0

    def severity(row: Row) -> float:
        is_noise = row["grad_rms"] < _NOISE * usual
        # Behind a gate that starts at 0 the first gradients are small, and grow.
        grows = row["grad_rms"] > 1.5 * math.exp(row["grad_before"])
        return 0.0 if is_noise or grows else (row["small"] or 0) / 0.5

    return severity


def _epsilon(row: Row) -> tuple[float, str]:
    return row["small"], (
        f"{row['path']}: {row['small']:.0%} of the gradients are below Adam's epsilon, "
        "where none is usual, so its updates shrink with them. Scale the loss up, or "
        "lower the epsilon (optax.adam(rate, eps=1e-15))."
    )
