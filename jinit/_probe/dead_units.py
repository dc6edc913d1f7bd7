"""Findings about units that are 0 for each input of the batch."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .._core.results import Finding
from .chances import Suspect
from .stream import Stage, Stream

# Activations that are 0 far below 0, in float32 at least.
_HAS_ZEROS = {"relu", "relu6", "relu_squared", "gelu", "gelu_exact", "silu", "mish"}
_HAS_ZEROS |= {"swiglu", "geglu", "reglu"}
# At 0 itself a relu has no slope, and the others have half of the largest one.
_FLAT_AT_0 = {"relu", "relu6", "relu_squared"}
# A share of dead units that is greater than chance by so much does harm.
_MORE = 0.2
# A healthy network with a hundred layers passes all of the tests in 99 of 100 cases.
_LEVEL = 1e-4
# If a product cannot be drawn anew, its inputs may be equal: then half of the units
# are dead by chance.
_ALIKE = 0.5


class _Place(NamedTuple):
    """The dead units behind a layer: `path` is where they are seen."""

    path: str
    share: float
    behind: str
    units: int
    stage: Stage | None


def suspects(stream: Stream) -> list[Suspect]:
    """Return the products behind which there may be too many dead units."""
    stages = [
        place.stage for place in _places(stream) if place.share > _MORE and place.stage
    ]
    return list(dict.fromkeys(Suspect(stage.product, stage.first) for stage in stages))


def dead(stream: Stream, chances: Mapping[Suspect, float]) -> Iterator[Finding]:
    """Find layers of which more units are 0 for each input than chance explains.

    Given the inputs, units whose weights have one law are independent of each other. So
    the number of dead ones is binomial, with the share that fresh kernels have.
    """
    before: _Place | None = None
    for place in _places(stream):
        stage = place.stage
        suspect = Suspect(stage.product, stage.first) if stage else None
        chance = chances.get(suspect, _ALIKE) if suspect else _ALIKE
        # Adding a branch of zeros to a stream changes none of its dead units.
        if before is not None and before.units == place.units:
            chance = max(chance, before.share)
        if place.share - chance <= _MORE or _tail(place, chance) > _LEVEL:
            before = place
            continue
        before = None
        yield Finding(
            "dead",
            place.path,
            place.share,
            f"{place.share:.0%} of the units behind {place.behind} are 0 for every "
            f"input of the batch, at {place.path} (usual: {chance:.0%}, which is the "
            "share of units with fresh weights on these inputs). Try biases of 0, "
            "centred inputs, or leaky_relu, since a unit that is always 0 gets no "
            "gradient.",
        )


def _tail(place: _Place, chance: float) -> float:
    """Return the probability that chance leaves at least this share of units dead."""
    count = round(place.share * place.units)
    # A share of 0 was measured on a few hundred units, so the true one may be 0.1 %.
    chance = max(chance, 1e-3)
    return sum(
        math.exp(_log_binomial(place.units, k, chance))
        for k in range(count, place.units + 1)
    )


def _log_binomial(n: int, k: int, share: float) -> float:
    if share >= 1:
        return 0.0 if k == n else -math.inf
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(share) + (n - k) * math.log1p(-share)


def _places(stream: Stream) -> Iterator[_Place]:
    """Yield activations with zeros, and layers that read one that has no row."""
    by_path = {stage.path: stage for stage in stream.stages}
    rows = {one.name for one in stream.activations}
    for one in stream.activations:
        stage = by_path.get(one.behind)
        if one.name in _HAS_ZEROS and not _is_zero(stage, one.name):
            share = one.numbers["dead"]
            yield _Place(one.path, share, one.behind, one.units, stage)
    for number, stage in enumerate(stream.stages):
        name, fans = str(stage.layer.activation), stage.layer.fans
        if stage.reads is None or fans is None or name not in _HAS_ZEROS - rows:
            continue
        maker = _maker(stage, stream.stages[:number])
        if maker is not None and not _is_zero(maker, name):
            share = stage.reads["dead"]
            yield _Place(maker.path, share, maker.path, fans.fan_in, maker)


def _is_zero(stage: Stage | None, name: str) -> bool:
    """Tell whether an activation is 0 because its input is, and has a slope at 0."""
    return name not in _FLAT_AT_0 and stage is not None and stage.gives["rms"] == 0


def _maker(stage: Stage, before: tuple[Stage, ...]) -> Stage | None:
    """Return the last layer before a stage that feeds it."""
    makers = [s for s in before if s.layer.path in stage.layer.inputs]
    # The layer before a norm is not among the inputs, since the norm's scale is.
    return next(reversed(makers or before), None)
