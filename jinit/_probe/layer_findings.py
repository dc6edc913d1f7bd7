"""Findings about single layers, branches, attentions and routers.

Norms hide them in the stream, so layers of one kind are compared with each other.
"""

import collections
import math
from collections.abc import Iterator, Sequence

import numpy as np

from .._core.results import Finding
from .stream import Joint, Stage, Stream

# The gain of a layer over the median of layers of its shape and roles; over the median
# of all layers; and the gain that is large for any layer.
_KIN, _OTHERS, _LARGE = 2.5, 2.2, 2.5
_HEAD = 3.0
# The median of all gains: he() has 1.41.
_ALL = 2.6
# PyTorch's default has 0.58.
_SMALL, _NO_LARGER = 0.45, 0.55
# A branch over branches of its kind, and over the stream that it is added to.
_BRANCH, _DROWNS = 4.0, 1.5
# What layers read that follow a norm, and by which factor one of them differs.
_TIGHT, _UNLIKE = 1.02, 1.5
# The std of logits, and the entropy of their softmax over the largest possible one.
_SHARP, _ENTROPY = 4.0, 0.4
_ONE_EXPERT, _UNUSED = 0.9, 0.5
_SAME_POSITIONS = 0.03


def large(stream: Stream) -> Iterator[Finding]:
    """Find layers whose gain is far above that of others."""
    stages = [s for s in stream.stages if s.gain > 0 and math.isfinite(s.gain)]
    usual = float(np.median([s.gain for s in stages])) if stages else math.nan
    outliers = [*_large_of_kin(stages), *_large_of_all(stages, usual)]
    seen_before: set[str] = set()
    for stage, normal in sorted(outliers, key=lambda pair: pair[1] / pair[0].gain):
        if stage.path in seen_before:
            continue
        seen_before.add(stage.path)
        yield Finding(
            "large layer",
            stage.path,
            stage.gain,
            f"{stage.path} multiplies what it reads by {stage.gain:.3g}, and layers "
            f"like it by {normal:.3g}. Divide its weights by "
            f"{stage.gain / normal:.2g}: {_harm(stream)}.",
        )
    # A sigmoid, whose slope is below 0.25, asks for more.
    known = {"relu", "gelu", "silu", "tanh", "leaky_relu", "elu", "swiglu", "geglu"}
    hidden = [
        stage.gain
        for stage in stages
        if not stage.has("readout", "input", "router")
        and (stage.layer.activation is None or stage.layer.activation in known)
    ]
    if not seen_before and len(hidden) > 1 and float(np.median(hidden)) > _ALL:
        first = next(s for s in stages if s.gain > _ALL)
        median = float(np.median(hidden))
        yield Finding(
            "large layer",
            first.path,
            median,
            f"the layers multiply what they read by {median:.3g} (the median; usual: "
            f"0.1 to 1.5), {first.path} first. Divide their weights by "
            f"{median / math.sqrt(2):.2g}: {_harm(stream)}.",
        )


def _harm(stream: Stream) -> str:
    """Say what a factor in the weights does, where a norm follows and where none."""
    if any(stage.is_normed for stage in stream.stages):
        return (
            "a norm may hide such a factor in the signal, but weights that are so "
            "large learn slower by its square"
        )
    return "everything that reads the signal gets the factor, and so does the gradient"


def _large_of_kin(stages: Sequence[Stage]) -> Iterator[tuple[Stage, float]]:
    """Yield the one layer of a kind that is larger than all others of the kind."""
    kinds = collections.defaultdict(list)
    for stage in stages:
        key = stage.shape, stage.layer.roles, str(stage.layer.activation)
        kinds[key].append(stage)
    for kin in kinds.values():
        if len(kin) < 3:
            continue
        *others, one = sorted(kin, key=lambda stage: stage.gain)
        gains = [stage.gain for stage in others]
        normal = float(np.median(gains))
        if one.gain > _KIN * normal * one.noise and max(gains) < 2 * normal:
            yield one, normal


def _large_of_all(
    stages: Sequence[Stage], usual: float
) -> Iterator[tuple[Stage, float]]:
    for stage in stages:
        if _is_wave(stage, stages):
            continue
        factor = _HEAD if stage.has("readout") else _OTHERS
        if stage.gain > max(_LARGE, factor * usual) * stage.noise and len(stages) > 2:
            yield stage, usual


def _is_wave(stage: Stage, stages: Sequence[Stage]) -> bool:
    """Tell whether a sine or cosine follows: random Fourier features are large."""
    return any(
        stage.layer.path in other.layer.inputs
        and any(wave in str(other.layer.activation) for wave in ("sin", "cos"))
        for other in stages
    )


def small(stream: Stream) -> Iterator[Finding]:
    """Find a network all of whose layers are small.

    Kernels that all have one std, such as GPT-2's 0.02, are small in narrow models, on
    purpose. So it counts only if the std follows the fans and not the gain.
    """
    stages = [
        s
        for s in stream.stages
        if s.gain > 0
        and math.isfinite(s.gain)
        and s.layer.fans
        and not s.has("readout")
    ]
    if len(stages) < 3:
        return
    gains = np.log([stage.gain for stage in stages])
    fans = np.log([stage.layer.fans.fan_in for stage in stages if stage.layer.fans])
    follows = np.std(fans) > 0.2 and np.std(gains) < 0.5 * np.std(gains - fans / 2)
    median = float(np.exp(np.median(gains)))
    if follows and median < _SMALL and float(np.exp(gains.max())) < _NO_LARGER:
        first = stages[0]
        harm = "the signal (or the state, if gates keep one) fades layer by layer"
        if any(stage.is_normed for stage in stages):
            harm = (
                "norms hide the factor in the signal, but the first steps change such "
                "weights by more than their own size"
            )
        yield Finding(
            "small layers",
            first.path,
            median,
            f"the layers multiply what they read by {median:.3g} (the median; usual: "
            f"0.5 to 1.5), {first.path} first. Multiply their weights by "
            f"{1 / median:.2g}: {harm}.",
        )


def branches(stream: Stream) -> Iterator[Finding]:
    """Find branches that drown the stream that they are added to."""
    kinds: dict[object, list[Joint]] = collections.defaultdict(list)
    for joint in stream.joints:
        if joint.branch > 0 and joint.shortcut > 0:
            kinds[joint.key].append(joint)
    for kin in kinds.values():
        for one in kin:
            others = [joint for joint in kin if joint is not one]
            if not others or one.share < _DROWNS:
                continue
            # The first branch may drown a small embedding, and branches without norms
            # grow with their stream: neither is an outlier in both ways.
            factor = min(
                one.branch / float(np.median([joint.branch for joint in others])),
                one.share / float(np.median([joint.share for joint in others])),
            )
            if factor > _BRANCH:
                yield Finding(
                    "large branch",
                    one.path,
                    one.share,
                    f"the branch that {one.path} ends is {one.share:.3g} times as "
                    f"large as the stream that it is added to (usual: below "
                    f"{_DROWNS:g}), and {factor:.2g} times as large as branches like "
                    "it. Scale down its last layer, as residual_scale() does: what the "
                    "layers before have put into the stream is drowned.",
                )


def unnormalized(stream: Stream) -> Iterator[Finding]:
    """Find a layer that reads no normalized values, as layers like it do."""
    kinds = collections.defaultdict(list)
    windows = collections.defaultdict(list)
    for stage in stream.stages:
        # What attention has made has no fixed size.
        is_behind = stage.has("attention_output")
        if stage.reads is not None and stage.reads["rms"] > 0 and not is_behind:
            kinds[stage.shape, stage.layer.roles].append(stage)
            if stage.layer.kind == "convolution" and stage.layer.activation is not None:
                windows[_window(stage), stage.has("readout")].append(stage)
    missing = [one for kin in kinds.values() for one in _without_norm(kin, 2)]
    # The channels of a U-Net differ from block to block, and its windows do not.
    missing += [one for kin in windows.values() for one in _without_norm(kin, 4)]
    for one, others in {id(pair[0]): pair for pair in missing}.values():
        assert one.reads is not None
        yield Finding(
            "no norm",
            one.path,
            one.reads["rms"],
            f"{one.path} reads no norm, and the {others} layers like it do; the rms "
            f"that it reads is {one.reads['rms']:.3g} (usual: the same at each). Put "
            "the norm before it, unless it is left out on purpose: the size of what it "
            "reads is free to drift in training.",
        )
    sick = {id(pair[0]) for pair in missing}
    for kin in kinds.values():
        for one in kin[1:]:
            rest = [s for s in kin if s is not one]
            sizes = [s.reads["rms"] for s in rest if s.reads]
            is_tight = len(sizes) > 1 and max(sizes) <= _TIGHT * min(sizes)
            if not is_tight or not _are_normed(rest) or _is_gated(one, rest):
                continue
            # The output of an activation has no fixed size, either.
            if one.layer.activation is None and id(one) not in sick:
                yield from _unlike(one, float(np.median(sizes)))


def _window(stage: Stage) -> tuple[int, ...]:
    letters = stage.layer.layout or ""
    return tuple(n for n, x in zip(stage.shape, letters, strict=False) if x == "k")


def _without_norm(kin: Sequence[Stage], least: int) -> Iterator[tuple[Stage, int]]:
    """Yield the one layer of a kind without a norm, and the number of the others."""
    # The first layer of a stack may read an embedding, without a norm.
    skipped = not kin[0].is_normed
    rest = kin[skipped:]
    bare = [stage for stage in rest if not stage.is_normed]
    if len(bare) != 1 or len(rest) <= least or bare[0] is kin[0]:
        return
    if not _is_gated(bare[0], [stage for stage in rest if stage is not bare[0]]):
        yield bare[0], len(rest) - 1


def _are_normed(kin: Sequence[Stage]) -> bool:
    """Tell whether all of some layers read norms: by their scales, or an rms of 1.

    Layers that read one value, as the kernels of a recurrent cell do, are alike without
    a norm.
    """
    if all(stage.is_normed for stage in kin):
        return True
    sizes = [stage.reads["rms"] for stage in kin if stage.reads]
    return len(set(sizes)) > 1 and all(1 / _TIGHT < size < _TIGHT for size in sizes)


def _is_gated(one: Stage, others: Sequence[Stage]) -> bool:
    """Tell whether a layer reads what another does, times a gate, and so less of it.

    The reset gate of a GRU multiplies the state before one of the three products. The
    sum of a norm and a branch comes from both as well, and it is larger than the norm.
    """
    return any(
        set(one.layer.inputs) > set(other.layer.inputs)
        and one.reads is not None
        and other.reads is not None
        and one.reads["rms"] < other.reads["rms"]
        for other in others
    )


def _unlike(one: Stage, usual: float) -> Iterator[Finding]:
    assert one.reads is not None
    factor = one.reads["rms"] / usual
    if not 1 / _UNLIKE < factor < _UNLIKE:
        word = "grows" if factor > 1 else "shrinks"
        yield Finding(
            f"signal {word}",
            one.path,
            one.reads["rms"],
            f"{one.path} reads a signal of rms {one.reads['rms']:.3g}, and layers like "
            f"it read {usual:.3g}. Put the norm, or the scale, before it that the "
            f"others have: the layer gives {factor:.2g} times as much as they do.",
        )


def attention(stream: Stream) -> Iterator[Finding]:
    """Find attentions whose softmax is nearly a choice of one key."""
    for one in stream.softmaxes:
        size, entropy = one.std, one.least_entropy
        if one.keys > 1 and size > _SHARP and entropy < _ENTROPY:
            yield Finding(
                "sharp attention",
                one.path,
                size,
                f"the logits of {one.path} have a std of {size:.3g} (usual: below 2), "
                f"so that the softmax over {one.keys} keys has {entropy:.0%} of the "
                "largest entropy in one head (usual: above 80%). Scale down the "
                "queries or the keys, or divide their product by the root of the "
                "head's width: a saturated softmax passes no gradient.",
            )


def routers(stream: Stream) -> Iterator[Finding]:
    """Find routers that send all tokens to one expert, and experts that get nothing."""
    for stage in stream.stages:
        numbers = stage.router
        # Equal logits, as those of a router of zeros, route nothing yet.
        if numbers is None or numbers["std"] < 1e-3:
            continue
        experts = stage.shape[-1] if stage.shape else 1
        tokens = stage.size / max(1, experts)
        if tokens >= 8 and numbers["largest"] > _ONE_EXPERT:
            yield Finding(
                "router",
                stage.path,
                numbers["largest"],
                f"{stage.path} sends {numbers['largest']:.0%} of the tokens to one "
                "expert first (usual: a few times an equal share). Scale down the "
                "router's weights or centre what it reads: experts without tokens "
                "learn nothing.",
            )
        elif tokens >= 8 and numbers["unused"] > _UNUSED:
            yield Finding(
                "dead experts",
                stage.path,
                numbers["unused"],
                f"{numbers['unused']:.0%} of the experts of {stage.path} get less than "
                f"a tenth of an equal share of the probability (usual: below "
                f"{_UNUSED:.0%}). Scale down the router's weights: experts without "
                "tokens learn nothing.",
            )


def positions(stream: Stream) -> Iterator[Finding]:
    """Find an attention network whose positions have become alike."""
    askers = [s for s in stream.stages if s.has("query") and s.reads is not None]
    known = [s for s in askers if s.reads and math.isfinite(s.reads["spread"])]
    if len(known) < 2:
        return
    first, last = known[0], known[-1]
    assert first.reads is not None and last.reads is not None
    share = last.reads["spread"]
    if share < _SAME_POSITIONS and first.reads["spread"] > 10 * _SAME_POSITIONS:
        yield Finding(
            "positions alike",
            last.path,
            share,
            f"the positions that {last.path} reads are alike: the share of their rms "
            f"that differs is {share:.2g} (usual: above {_SAME_POSITIONS:g}), and it "
            f"is {first.reads['spread']:.2g} at {first.path}. Try shortcuts around the "
            "attention, or smaller weights of values: attention averages over "
            "positions until none is left to tell apart.",
        )
