"""Findings are read from the statistics of layers: trouble, place and remedy."""

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from .._core.results import Finding, Row
from .._network.reader.points import ACTIVATIONS

# Limits for the size of a layer's output over that of the first layer: for a steady
# growth over all layers, and for a single layer. A single layer may differ by more
# without harm, as an embedding before a LayerNorm does.
_GROWN, _JUMPED = 10.0, 1e3
# Limits for the share of dead units, for the cosine of two inputs, and for the share of
# saturated entries.
_DEAD, _ALIKE, _SATURATED = 0.5, 0.99, 0.5
# The limit for the first layer's gradient over the last layer's.
_WIDE_GRADIENT = 1e3


def findings(layers: Sequence[Row], parameters: Sequence[Row]) -> list[Finding]:
    """Return a finding for each trouble, the most telling first.

    Args:
      layers: the rows of a report, in the order of execution.
      parameters: the rows of its parameters.
    """
    everything = [
        *_not_finite(layers),
        *_signal(layers),
        *_gradient(layers),
        *_dead(layers),
        *_alike(layers),
        *_saturated(layers),
        *_untrained(parameters),
    ]
    return list({(one.category, one.path): one for one in everything}.values())


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
    """Find the layer where the signal leaves the size that the first layer has."""
    sized = [row for row in layers if math.isfinite(row["rms"])]
    if not sized:
        return
    first, last = sized[0], sized[-1]
    if first["rms"] == 0:
        yield Finding(
            "zero",
            first["path"],
            0.0,
            f"{first['path']} gives 0 for every input: nothing after it can learn.",
        )
        return
    change = _first_change([row["rms"] / first["rms"] for row in sized])
    if change is None:
        return
    index, verb = change
    row = sized[index]
    yield Finding(
        f"signal {verb}",
        row["path"],
        row["rms"],
        f"the signal {verb}: rms {first['rms']:.3g} at {first['path']}, "
        f"{row['rms']:.3g} at {row['path']}, {last['rms']:.3g} at "
        f"{last['path']}. Try he(), or kaiming() of your activation; in "
        "residual branches residual_scale().",
    )


def _first_change(factors: Sequence[float]) -> tuple[int, str] | None:
    """Return the layer where a signal is too large or too small, and the verb for it.

    Args:
      factors: the size in each layer over the size in the first.
    """
    far = [max(f, 1 / f) if f else math.inf for f in factors]
    drift = _drift(factors)
    is_steady = abs(drift) > math.log(_GROWN)
    if not is_steady and max(far) <= _JUMPED:
        return None
    limit = _GROWN if is_steady else _JUMPED
    grows = drift > 0 if is_steady else factors[far.index(max(far))] > 1
    beyond = [f > limit if grows else f < 1 / limit for f in factors]
    # A line through all layers can cross the limit where no single layer does.
    index = beyond.index(True) if any(beyond) else len(factors) - 1
    return index, "grows" if grows else "shrinks"


def _drift(factors: Sequence[float]) -> float:
    """Return the logarithm of the growth from end to end, or 0 if it is not steady.

    The embedding before a LayerNorm is small in a healthy transformer. So the growth is
    read from a line through the logarithms of all layers, and only where the line
    explains them.
    """
    logs = np.log([f for f in factors if f > 0])
    if len(logs) < 5 or np.ptp(logs) == 0:
        return 0.0
    layer = np.arange(len(logs))
    correlation = np.corrcoef(layer, logs)[0, 1]
    slope = np.polyfit(layer, logs, 1)[0]
    return float(slope * (len(logs) - 1)) if abs(correlation) > 0.8 else 0.0


def _gradient(layers: Sequence[Row]) -> Iterator[Finding]:
    """Compare the gradient at the first layer with the gradient at the last."""
    sized = [r for r in layers if math.isfinite(r["grad_rms"]) and r["grad_rms"] > 0]
    if len(sized) < 3:
        return
    first, last = sized[0], sized[-1]
    # If the signal grows, the gradient alone shrinks as much, without harm. So the
    # product counts, which is the gradient in relative changes of the signal.
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
        # A layer that gives nothing may be the last of a branch that starts at 0.
        if row["dead"] > _DEAD and (row["rms"] > 0 or last in ACTIVATIONS):
            yield Finding(
                "dead",
                row["path"],
                row["dead"],
                f"{row['dead']:.0%} of the units of {row['path']} are 0 for every "
                "input of the batch: try smaller biases, centred inputs, leaky_relu.",
            )


def _alike(layers: Sequence[Row]) -> Iterator[Finding]:
    """Find the layer from which on different inputs have the same output."""
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
        # Entries at two ends, as those of a saturated tanh, have a kurtosis near -2.
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
            "that starts at zero does that for one step; after more steps it is a "
            "dead part.",
        )


def outside(
    layers: Sequence[Row], limits: dict[str, tuple[float, float]]
) -> Iterator[Finding]:
    """Find the layers whose statistics leave the limits (low, high) of a user."""
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
