"""Findings are read from the stream: trouble, layer, number and remedy."""

import math
from collections.abc import Iterator, Mapping, Sequence

from .._core.results import Finding, Row
from . import dead_units, formats, layer_findings, loss_findings, signal_findings
from .chances import Suspect
from .stream import Loss, Stream


def findings(
    stream: Stream,
    layers: Sequence[Row],
    parameters: Sequence[Row],
    loss: Loss,
    chances: Mapping[Suspect, float],
    losses: Sequence[formats.Losses] = (),
) -> list[Finding]:
    """Return a finding for each trouble, what harms the loss most first.

    Args:
      stream: what the layers read, and what the branches add.
      layers: the rows of a report, in the order of execution.
      parameters: the rows of its parameters.
      loss: the first loss, and that of guessing.
      chances: the share of units that would be dead by chance, for each suspect.
      losses: what narrow formats lose of each array.
    """
    broken = list(signal_findings.not_finite(stream, layers, parameters))
    if broken:
        # Behind NaN and infinity no other number means anything.
        return broken
    lost = list(signal_findings.lost(stream))
    names = tuple(losses[0].shares) if losses else ()
    has_loss = loss.value is not None
    everything = [
        *lost,
        # Where the signal is lost, the layer that loses it is to be mended first.
        *(() if lost else loss_findings.without_gradient(layers, parameters, loss)),
        *formats.beyond(losses, names, has_loss),
        *layer_findings.large(stream),
        *layer_findings.branches(stream),
        *layer_findings.unnormalized(stream),
        *signal_findings.drifts(stream, layers, parameters),
        *layer_findings.small(stream),
        *layer_findings.attention(stream),
        *loss_findings.first_loss(stream, loss),
        *signal_findings.gradient(stream),
        *dead_units.dead(stream, chances),
        *signal_findings.saturated(stream),
        *layer_findings.routers(stream),
        *layer_findings.positions(stream),
        *(signal_findings.untrained(parameters) if lost else ()),
        *formats.lost(losses, names, has_loss),
        *signal_findings.below_epsilon(stream, parameters, loss),
    ]
    # An input comes before the layers that keep its size.
    everything.sort(key=lambda one: one.category != "large input")
    return list({(one.category, one.path): one for one in everything}.values())


def outside(
    layers: Sequence[Row], limits: dict[str, tuple[float, float]]
) -> Iterator[Finding]:
    """Find the layers whose statistics leave the limits (low, high) of a user."""
    for name, (low, high) in limits.items():
        for row in layers:
            # Equal entries have no kurtosis, and break no limit of it.
            is_undefined = name == "kurtosis" and math.isnan(row[name])
            if not (is_undefined or low <= row[name] <= high):
                yield Finding(
                    name,
                    row["path"],
                    row[name],
                    f"{row['path']}: {name} is {row[name]:.4g}, outside of {low:g} to "
                    f"{high:g}.",
                )
