"""Statistics of layers -> what is wrong, where, by how much, and what to try."""

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from .._core.results import Finding, Row
from .._network.taps import ACTIVATIONS

# Beyond these a signal, or a gradient, is sick: each a factor of the first, or last.
_GROWN, _JUMPED, _DEAD, _ALIKE, _SATURATED = 10.0, 1e3, 0.5, 0.99, 0.5
_WIDE_GRADIENT = 1e3


def findings(layers: Sequence[Row], parameters: Sequence[Row]) -> list[Finding]:
    """All that is wrong, the most telling first."""
    found = [
        *_not_finite(layers),
        *_signal(layers),
        *_gradient(layers),
        *_dead(layers),
        *_alike(layers),
        *_saturated(layers),
        *_untrained(parameters),
    ]
    return list({(f.category, f.path): f for f in found}.values())


def _not_finite(layers: Sequence[Row]) -> Iterator[Finding]:
    for row in layers:
        if not math.isfinite(row["rms"]):
            yield Finding(
                "not finite",
                row["path"],
                row["rms"],
                f"{row['path']} is the first layer whose output is not finite: scale "
                "down what is before it, or look for a division by 0 or a logarithm.",
            )
            return


def _signal(layers: Sequence[Row]) -> Iterator[Finding]:
    """Whether the signal leaves the size that it has in the first layer, and where."""
    sized = [row for row in layers if math.isfinite(row["rms"])]
    if not sized:
        return
    first = sized[0]["rms"]
    if first == 0:
        yield Finding(
            "zero", sized[0]["path"], 0.0,
            f"{sized[0]['path']} gives 0 for every input: nothing after it can learn.",
        )  # fmt: skip
        return
    factors = [row["rms"] / first for row in sized]
    far = [max(f, 1 / f) if f else math.inf for f in factors]
    steadily = abs(drift := _drift(factors)) > math.log(_GROWN)
    if not steadily and max(far) <= _JUMPED:
        return
    limit = _GROWN if steadily else _JUMPED
    grows = drift > 0 if steadily else factors[far.index(max(far))] > 1
    found = [f > limit if grows else f < 1 / limit for f in factors]
    row = sized[found.index(True) if any(found) else -1]
    verb = "grows" if grows else "shrinks"
    yield Finding(
        f"signal {verb}",
        row["path"],
        row["rms"],
        f"the signal {verb}: rms {first:.3g} at {sized[0]['path']}, "
        f"{row['rms']:.3g} at {row['path']}, {sized[-1]['rms']:.3g} at "
        f"{sized[-1]['path']}. Try he(), or kaiming() of your activation; in "
        "residual branches residual_scale().",
    )


def _drift(factors: Sequence[float]) -> float:
    """The logarithm by which a signal grows from end to end, if it does so steadily.

    An embedding before a LayerNorm is small, and that is no disease: what counts is
    a line through the logarithms, where it explains them.
    """
    logs = np.log([f for f in factors if f > 0])
    if len(logs) < 5 or np.ptp(logs) == 0:
        return 0.0
    layer = np.arange(len(logs))
    steady = np.corrcoef(layer, logs)[0, 1]
    slope = np.polyfit(layer, logs, 1)[0]
    return float(slope * (len(logs) - 1)) if abs(steady) > 0.8 else 0.0


def _gradient(layers: Sequence[Row]) -> Iterator[Finding]:
    """How the gradient at the first layer compares with that at the last."""
    sized = [r for r in layers if math.isfinite(r["grad_rms"]) and r["grad_rms"] > 0]
    if len(sized) < 3:
        return
    first, last = sized[0], sized[-1]
    # Per unit of the signal: what counts is the relative change.
    factor = first["grad_rms"] * first["rms"] / (last["grad_rms"] * last["rms"] or 1)
    if not factor or 1 / _WIDE_GRADIENT <= factor <= _WIDE_GRADIENT:
        return
    word = "vanishes" if factor < 1 else "explodes"
    yield Finding(
        f"gradient {word}",
        first["path"],
        first["grad_rms"],
        f"the gradient {word} on its way back: rms {last['grad_rms']:.3g} at "
        f"{last['path']}, {first['grad_rms']:.3g} at {first['path']}. Try "
        "orthogonal() or kaiming(mode='fan_out'), residual branches, or fewer layers.",
    )


def _dead(layers: Sequence[Row]) -> Iterator[Finding]:
    for row in layers:
        last = re.split(r"[#\[]", row["path"].rpartition("/")[2])[0]
        # A layer that gives nothing at all may be meant so: the last of a branch.
        if row["dead"] > _DEAD and (row["rms"] > 0 or last in ACTIVATIONS):
            yield Finding(
                "dead",
                row["path"],
                row["dead"],
                f"{row['dead']:.0%} of the units of {row['path']} are 0 for every "
                "input of the batch: try smaller biases, centred inputs, leaky_relu.",
            )


def _alike(layers: Sequence[Row]) -> Iterator[Finding]:
    """Rank collapse: inputs that differ, and outputs that do not."""
    known = [row for row in layers if math.isfinite(row["cosine"])]
    if not known or known[0]["cosine"] > _ALIKE:
        return
    for row in known[1:]:
        if row["cosine"] > _ALIKE:
            yield Finding(
                "alike",
                row["path"],
                row["cosine"],
                f"different inputs look alike from {row['path']} on: their mean cosine "
                f"is {row['cosine']:.4f}, and was {known[0]['cosine']:.2f} at "
                f"{known[0]['path']}. Try jinit.critical() of your activation, "
                "orthogonal(), or shortcuts.",
            )
            return


def _saturated(layers: Sequence[Row]) -> Iterator[Finding]:
    for row in layers:
        varied = row["std"] > 0 and row["kurtosis"] < -1
        if row["saturation"] > _SATURATED and varied:
            yield Finding(
                "saturated",
                row["path"],
                row["saturation"],
                f"{row['saturation']:.0%} of the entries of {row['path']} are at its "
                "largest value: their gradient is nearly 0. Try a smaller gain.",
            )


def _untrained(parameters: Sequence[Row]) -> Iterator[Finding]:
    silent = [row for row in parameters if row["grad_rms"] == 0]
    if silent and len(silent) < len(parameters):
        paths = ", ".join(row["path"] for row in silent[:3])
        more = f" and {len(silent) - 3} more" if len(silent) > 3 else ""
        yield Finding(
            "no gradient",
            silent[0]["path"],
            float(len(silent)),
            f"{len(silent)} parameters get no gradient: {paths}{more}. A last layer "
            "that starts at zero does that for one step; more is a dead part.",
        )


def outside(
    layers: Sequence[Row], limits: dict[str, tuple[float, float]]
) -> Iterator[Finding]:
    """The layers whose statistics leave the limits that a user sets."""
    for name, (low, high) in limits.items():
        for row in layers:
            if not low <= row[name] <= high:
                yield Finding(
                    name,
                    row["path"],
                    row[name],
                    f"{row['path']}: {name} is {row[name]:.4g}, outside of {low:g} to "
                    f"{high:g}.",
                )
