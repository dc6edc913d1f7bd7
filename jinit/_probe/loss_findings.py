"""Findings about the loss: what it starts at, and whether it has a gradient."""

import math
from collections.abc import Iterator, Sequence

from .._core.results import Finding, Row
from .stream import Loss, Stream

# The first loss above that of guessing, in nats.
_EXCESS = 1.5
# The loss of equal logits over that of guessing, of a loss that is another one.
_OTHER = 1.5
# The rms of a large input, how far from it the layers keep it, and the std of logits
# that a healthy network makes of an input of 1.
_LARGE_INPUT, _KEPT, _HEALTHY = 2.0, 5.0, 2.0


def first_loss(stream: Stream, loss: Loss) -> Iterator[Finding]:
    """Find a first loss far above that of guessing."""
    if loss.value is None or loss.guess is None:
        return
    excess = loss.value - loss.guess
    heads = [stage for stage in stream.stages if stage.has("readout")]
    if not excess > _EXCESS or not heads:
        return
    head = heads[-1]
    if loss.flat is not None and _OTHER * loss.guess < loss.flat < math.inf:
        yield _another(head.path, loss.value, loss.guess, loss.flat)
        return
    # A scale or a cap behind the head changes its logits.
    size = head.gives["std"] if loss.logits is None else loss.logits
    source = _large_input(stream)
    if source is not None and size < _HEALTHY * source[1]:
        yield _of_input(*source, loss.value, loss.guess)
        return
    yield Finding(
        "first loss",
        head.path,
        loss.value,
        f"the first loss is {loss.value:.3g}, and guessing costs {loss.guess:.3g}: the "
        f"readout {head.path} is {size:.2g} times too large, since its logits have a "
        f"std of {size:.3g} (usual: below 1). Scale down the last layer, or set it to "
        "0: the first steps only undo such logits.",
    )


def _large_input(stream: Stream) -> tuple[str, float] | None:
    """Return the first layer and the rms of a large input that every layer keeps."""
    reading = [stage for stage in stream.stages if stage.reads is not None]
    sizes = [stage.reads["rms"] for stage in reading if stage.reads is not None]
    if not reading or not reading[0].has("input") or not sizes[0] > _LARGE_INPUT:
        return None
    is_kept = all(1 / _KEPT < size / sizes[0] < _KEPT for size in sizes)
    return (reading[0].path, sizes[0]) if is_kept else None


def _of_input(path: str, size: float, value: float, guess: float) -> Finding:
    return Finding(
        "large input",
        path,
        size,
        f"the input that {path} reads has an rms of {size:.3g} (usual: about 1), and "
        f"every layer keeps it, so that the first loss is {value:.3g}, where guessing "
        f"costs {guess:.3g}. Scale the input to 1: divide it by {size:.2g}, or "
        "standardize it, since the layers themselves are not too large.",
    )


def _another(path: str, value: float, guess: float, flat: float) -> Finding:
    """Return the finding of a loss that is no mean of the cross entropies."""
    return Finding(
        "first loss",
        path,
        value,
        f"the first loss is {value:.3g}, and guessing one of {math.exp(guess):.0f} "
        f"classes costs {guess:.3g}, but an output of zeros costs {flat:.3g}, which is "
        f"{flat / guess:.3g} times as much: the loss is a sum over about "
        f"{flat / guess:.0f} examples, or another loss than the cross entropy of so "
        "many classes. Take its mean, or correct `classes`: a sum makes the gradient "
        "grow with the batch.",
    )


def without_gradient(
    layers: Sequence[Row], parameters: Sequence[Row], loss: Loss
) -> Iterator[Finding]:
    """Find a loss of the user's whose gradients are all exactly 0."""
    slopes = [row["grad_rms"] for row in parameters]
    if loss.value is None or not slopes or any(slope != 0 for slope in slopes):
        return
    yield Finding(
        "no gradient",
        layers[-1]["path"],
        0.0,
        f"the gradient of each of the {len(slopes)} parameters is exactly 0 (usual: an "
        f"rms of 1e-7 to 1): the loss, {loss.value:.3g} here, does not depend on the "
        "parameters in a way that has a gradient, or it is flat at this point. Pass a "
        "loss that is differentiable in the output, such as a mean cross entropy or a "
        "squared error, since argmax, rounding, comparisons and stop_gradient let no "
        "gradient pass.",
    )
