"""Findings about the signal on its way to the output, and the gradient on its way back.

Each limit was chosen on half of the architectures of benchmarks/verdicts.py.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from .._core.results import Finding, Row
from . import advice
from .stream import Loss, Stage, Stream

# The share of the rms that differs between inputs. Below the first limit a readout has
# nothing to tell inputs apart; below the second one it has if only the readout reads so
# little, behind a mean over many positions.
_ALIKE, _ALIKE_BEFORE, _LOST = 0.01, 0.05, 1e-3
# A steady growth from end to end of what layers read.
_GROWN = 10.0
# The relative gradient at the first layer over that at the last.
_WIDE_GRADIENT = 1e3
# The share of entries at both ends of a sigmoid or tanh, and at the rarer end.
_SATURATED, _AT_EACH_END = 0.5, 0.15
# Adam divides by the root of the mean square plus 1e-8.
_EPSILON = 1e-8
_TANH = {"tanh", "hard_tanh", "soft_sign"}
_SIGMOID = {"sigmoid", "hard_sigmoid"}


def not_finite(
    stream: Stream, layers: Sequence[Row], parameters: Sequence[Row]
) -> Iterator[Finding]:
    """Find the first layer from which on values or gradients are not finite.

    A weight, or a batch, that is not finite itself is named in its place.

    A mask of -inf is no trouble, as long as what comes after it is finite.
    """
    sick = [row for row in layers if not math.isfinite(row["rms"])]
    if not sick:
        return
    last = layers[-1]
    slopes = [row["grad_rms"] for row in (*parameters, *layers)]
    if math.isfinite(last["rms"]) and all(map(math.isfinite, slopes)):
        return
    path = sick[0]["path"]
    yield _source(stream, path, parameters) or Finding(
        "not finite",
        path,
        sick[0]["rms"],
        f"{path} is the first layer whose output is not finite (rms "
        f"{sick[0]['rms']:.3g}; usual: 0.1 to 10), so neither are the loss and the "
        "gradient. Scale down what is before it, or look for a division "
        "by 0, a logarithm of a number that is not positive, or a NaN in the batch.",
    )


def _source(stream: Stream, path: str, parameters: Sequence[Row]) -> Finding | None:
    """Return the finding of a weight, or of a batch, that is not finite itself."""
    weight = next((row for row in parameters if not math.isfinite(row["rms"])), None)
    if weight is not None:
        return Finding(
            "not finite",
            weight["path"],
            weight["rms"],
            f"the parameter {weight['path']} itself has entries that are NaN or "
            f"infinite (its rms is {weight['rms']:.3g}; usual: 0.01 to 1), so "
            "neither the loss nor the gradient is finite. Draw it anew, and look at "
            "how it was made: at a logarithm of 0, a division by 0, or a std that "
            "overflows.",
        )
    for stage in stream.stages:
        if stage.path != path or stage.reads is None or not stage.has("input"):
            continue
        if not math.isfinite(stage.reads["rms"]) and stage.layer.inputs == ("data",):
            return Finding(
                "not finite",
                path,
                stage.reads["rms"],
                f"the batch that {path} reads has entries that are NaN or infinite "
                f"(its rms is {stage.reads['rms']:.3g}; usual: 0.1 to 10), so "
                "neither the loss nor the gradient is finite. Look at the inputs and "
                "at what is computed from them before the layer.",
            )
    return None


def lost(stream: Stream) -> Iterator[Finding]:
    """Find where the signal is lost on its way to a readout.

    A branch that gives 0 loses nothing: what the next layers read is the stream.
    """
    known = [stage for stage in stream.stages if stage.reads is not None]
    varied = [_varied(stage) for stage in known]
    best = max((share for share in varied if share is not None), default=0)
    # Inputs that are equal, as jnp.ones are, tell nothing.
    if best < 10 * _ALIKE:
        return
    for number, stage in enumerate(known):
        share = varied[number]
        if not stage.has("readout") or share is None:
            continue
        before = [v for v in varied[:number] if v is not None]
        fades = bool(before) and min(before[-1:]) < _ALIKE_BEFORE
        if share >= (_ALIKE if fades else _LOST):
            continue
        limit = _ALIKE_BEFORE if fades else _LOST
        healthy = [n for n, v in enumerate(varied[:number]) if (v or 0) >= limit]
        if not healthy:
            continue
        culprit = known[healthy[-1]]
        assert stage.reads is not None
        if stage.reads["rms"] == 0:
            yield Finding(
                "zero",
                culprit.path,
                0.0,
                f"{stage.path} reads 0 for every input (usual: an rms of 0.1 to 10), "
                f"and {culprit.path} is the last layer before it that reads a signal. "
                "Start the layers between them at other numbers than 0: nothing before "
                "a constant can learn.",
            )
        else:
            yield Finding(
                "alike",
                culprit.path,
                share,
                f"different inputs look alike to {stage.path}: the share of the rms "
                f"that differs between them is {share:.2g} (usual: 0.05 to 1), and "
                f"{culprit.path} is the last layer before it that tells them apart. "
                "Try jinit.critical() of your activation, smaller biases, or "
                "shortcuts, which keep what tells inputs apart.",
            )
        return


def _varied(stage: Stage) -> float | None:
    assert stage.reads is not None
    share = stage.reads["varied"]
    return share if math.isfinite(share) else None


def drifts(
    stream: Stream, layers: Sequence[Row], parameters: Sequence[Row]
) -> Iterator[Finding]:
    """Find a signal that grows or shrinks from layer to layer."""
    sizes = [
        stage.reads["rms"]
        for stage in stream.stages
        if stage.reads is not None and stage.reads["rms"] > 0
    ]
    change = _drift(sizes)
    if abs(change) <= math.log(_GROWN):
        return
    verb = "grows" if change > 0 else "shrinks"
    rows = [row for row in layers if row["rms"] > 0]
    first, last = rows[0], rows[-1]
    row = next(
        (r for r in rows if _is_beyond(r["rms"] / first["rms"], change > 0)), last
    )
    yield Finding(
        f"signal {verb}",
        row["path"],
        row["rms"],
        f"the signal {verb} from layer to layer: its rms is {first['rms']:.3g} at "
        f"{first['path']}, {row['rms']:.3g} at {row['path']} and {last['rms']:.3g} at "
        f"{last['path']} (usual: within a factor of {_GROWN:g}). "
        f"{_cure(stream, parameters, verb)}",
    )


def _is_beyond(factor: float, grows: bool) -> bool:
    return factor > _GROWN if grows else factor < 1 / _GROWN


def _cure(stream: Stream, parameters: Sequence[Row], verb: str) -> str:
    """Say what to try, from what is there."""
    if stream.joints:
        return (
            "Try residual_scale() for the last layers of the branches, or a norm, "
            "since each branch adds to the stream."
        )
    gains = [stage.gain for stage in stream.stages if not stage.has("readout")]
    gain = float(np.nanmedian(gains)) if gains else math.nan
    names = {s.layer.activation for s in stream.stages if s.layer.activation}
    name = next((n for n in sorted(map(str, names)) if n.isidentifier()), "relu")
    is_normed = any(stage.is_normed for stage in stream.stages)
    measured = None if is_normed else advice.cure(name, gain)
    if measured is not None:
        return measured
    if name == "relu" and verb == "grows" and gain < math.sqrt(2):
        # A larger std would make it worse: something between the layers is at fault.
        return (
            f"Try lsuv(), or a mean in the place of a sum: the layers have a gain of "
            f"{gain:.3g}, which is no more than the 1.41 that a relu asks for, so what "
            "stands between them, such as a sum over neighbours, makes it larger."
        )
    if name == "relu" and not _is_of_he(gain):
        if _is_of_he(_gain_of_weights(stream, parameters)):
            return (
                "Try lsuv(), which measures: the kernels have the std of he() already, "
                f"and the layers have a gain of {gain:.3g}, not 1.41, since a padding "
                "with zeros, a stride or inputs that depend on each other change it."
            )
        return (
            f"Try he(): the layers have a gain of {gain:.3g}, and a relu, which drops "
            "half of the signal, asks for 1.41."
        )
    return (
        f"Try kaiming({name!r}) or lsuv(), which set the gain that your activation "
        f"asks for; it is {gain:.3g} here."
    )


def _is_of_he(gain: float) -> bool:
    return abs(gain / math.sqrt(2) - 1) <= 0.1


def _gain_of_weights(stream: Stream, parameters: Sequence[Row]) -> float:
    """Return the median over the layers of the weights' rms times sqrt(fan_in)."""
    rms = {row["path"]: row["rms"] for row in parameters}
    gains = [
        rms[stage.layer.path] * math.sqrt(stage.layer.fans.fan_in)
        for stage in stream.stages
        if stage.layer.fans is not None and stage.layer.path in rms
    ]
    return float(np.median(gains)) if gains else math.nan


def _drift(sizes: Sequence[float]) -> float:
    """Return the logarithm of the growth from end to end, or 0 if it is not steady.

    The embedding before a LayerNorm is small in a healthy transformer. So the growth is
    read from a line through the logarithms of all layers, and only where the line
    explains them.
    """
    logs = np.log([s for s in sizes if s > 0 and math.isfinite(s)])
    if len(logs) < 4 or np.ptp(logs) == 0:
        return 0.0
    layer = np.arange(len(logs))
    correlation = np.corrcoef(layer, logs)[0, 1]
    slope = np.polyfit(layer, logs, 1)[0]
    is_steady = abs(correlation) > (0.8 if len(logs) > 4 else 0.95)
    return float(slope * (len(logs) - 1)) if is_steady else 0.0


def gradient(stream: Stream) -> Iterator[Finding]:
    """Compare the gradient at the first layer with the gradient at the last.

    If the signal grows, the gradient alone shrinks as much, without harm. So the change
    of the loss by a relative change of the signal counts. A layer that gives 0 has
    none. Layers on branches may give little on purpose, and those that only weigh have
    little to say at first: neither is counted.
    """
    sized = [
        (_relative(stage), stage)
        for stage in stream.stages
        if stage.layer.path not in stream.inside
        and not stage.has("query", "key", "router")
    ]
    sized = [pair for pair in sized if math.isfinite(pair[0]) and pair[0] > 0]
    if len(sized) < 3:
        return
    (before, first), (after, last) = sized[0], sized[-1]
    factor = before / after
    if 1 / _WIDE_GRADIENT <= factor <= _WIDE_GRADIENT:
        return
    word = "vanishes" if factor < 1 else "explodes"
    yield Finding(
        f"gradient {word}",
        first.path,
        first.gives["grad_rms"],
        f"the gradient {word} on its way back: a relative change of {first.path} "
        f"changes the loss {factor:.2g} times as much as one of {last.path} (usual: "
        f"{1 / _WIDE_GRADIENT:g} to {_WIDE_GRADIENT:g}). Try orthogonal() with the "
        "gain of your activation, shortcuts, or fewer layers, since each layer "
        "multiplies the gradient.",
    )


def _relative(stage: Stage) -> float:
    return stage.gives["rms"] * stage.gives["grad_rms"] * stage.size


def saturated(stream: Stream) -> Iterator[Finding]:
    """Find sigmoids and tanhs most of whose values are at their two ends."""
    known: set[str] = set()
    for path, name, numbers, behind, *_ in stream.activations:
        if name not in _TANH | _SIGMOID:
            continue
        low = numbers["bottom" if name in _TANH else "middle"]
        high = numbers["top"]
        # The steps of a recurrent cell have one gate.
        is_new = path.partition("[")[0] not in known
        # A gate that starts open, or shut, is at one end on purpose.
        if is_new and low + high > _SATURATED and min(low, high) > _AT_EACH_END:
            known.add(path.partition("[")[0])
            yield Finding(
                "saturated",
                path,
                low + high,
                f"{low + high:.0%} of the entries of {path} are within 3 % of an end "
                f"of {name} (usual: below {_SATURATED:.0%}). Try a smaller gain of "
                f"{behind} before it, since the slope is nearly 0 at both ends.",
            )


def untrained(parameters: Sequence[Row]) -> Iterator[Finding]:
    """Find the parameters without a gradient; called where a signal is lost."""
    silent = [row for row in parameters if row["grad_rms"] == 0]
    if not silent or len(silent) == len(parameters):
        return
    paths = ", ".join(row["path"] for row in silent[:3])
    more = f" and {len(silent) - 3} more" if len(silent) > 3 else ""
    yield Finding(
        "no gradient",
        silent[0]["path"],
        float(len(silent)),
        f"{len(silent)} parameters get no gradient (usual: none): {paths}{more}. "
        "First mend the layer that loses the signal, since these parameters learn "
        "nothing until the signal reaches the output.",
    )


def below_epsilon(
    stream: Stream, parameters: Sequence[Row], loss: Loss
) -> Iterator[Finding]:
    """Find gradients that Adam's epsilon hides, if most parameters have such."""
    if loss.value is None:
        return
    # A head of 1e-5 makes all gradients small, for a few steps and on purpose.
    heads = [stage.gain for stage in stream.stages if stage.has("readout")]
    if any(not gain > 0.01 for gain in heads):
        return
    slopes = [row["grad_rms"] for row in parameters if row["grad_rms"] > 0]
    small = [row for row in parameters if 0 < row["grad_rms"] < _EPSILON]
    if small and 2 * len(small) > len(slopes):
        row = min(small, key=lambda row: row["grad_rms"])
        yield Finding(
            "gradient below epsilon",
            row["path"],
            row["grad_rms"],
            f"the gradients of {len(small)} of {len(slopes)} parameters have an rms "
            f"below {_EPSILON:g} (usual: 1e-7 to 1), the least that of {row['path']}: "
            f"{row['grad_rms']:.2g}. Adam adds its epsilon of {_EPSILON:g} to them, so "
            "try a smaller epsilon or a loss that is not divided by so large a number.",
        )
