"""The sentences below the table name the tensors that a user has to look at."""

import re
from collections.abc import Iterable, Sequence

from ._growth import ClassifiedTensor

_NAMED = 4

# For each doubt of a classification: a sentence with the paths of its tensors.
_DOUBTS = {
    "order": (
        "taken as (inputs, outputs), since no bias shows the order: {paths}. For "
        "(outputs, inputs) pass networks in the place of shapes, or an override 'oi'"
    ),
    "use": (
        "taken as vectors, since the network does not tell their use: {paths}. An "
        "override names another class"
    ),
    "unused": "never used in the network: {paths}",
    "fused": (
        "kernels of queries, keys and values in one, of which the queries alone grow: "
        "{paths}. Muon and p.init treat all parts as queries; at initialization "
        "the keys and values are sqrt(n) too large"
    ),
}
_DRAWN = {
    "drawn": (
        "too few numbers, or none that are finite, to measure how the std of the "
        "initializer depends on the width: {paths}. p.init takes the most usual law "
        "that they allow; `drawn` names another"
    ),
    "law": (
        "drawn with a std that depends on the width as in no usual law: {paths}. "
        "p.init divides by the measured ratio; pass shapes for arrays that are trained"
    ),
}
_INSIDE = (
    "outputs that {feed} other layers: {paths}. Their std and rates have the factor "
    "1 / n, so nothing has to multiply what they compute"
)
_TIED = (
    "an embedding and a readout at once: {paths}. Multiply the logits, and not the "
    "embedding"
)
_NO_READOUT = (
    "no tensor is {known}a readout of the width, so there are no logits to multiply, "
    "and p.readout_scale is 1"
)
_PERHAPS_TIED = (
    ". If a tied embedding makes them, name it: overrides=[({path!r}, 'output')]"
)


def remarks(
    tensors: Sequence[ClassifiedTensor], *, by_network: bool, absolute: bool = False
) -> tuple[str, ...]:
    """Return the sentences about tensors that the shapes or the networks leave open.

    Args:
      tensors: the tensors of a parametrization.
      by_network: whether networks told the classes.
      absolute: whether the factors are absolute, so that no law of a std counts.
    """
    outputs = [tensor for tensor in tensors if tensor.mup_class == "output"]
    inside = [tensor for tensor in outputs if not tensor.is_readout]
    tied = [tensor for tensor in outputs if tensor.is_tied]
    lines = []
    if len(inside) == len(outputs) and any(tensor.axes for tensor in tensors):
        lines.append(_no_readout(tensors, by_network))
    feed = "feed" if by_network else "may feed"
    lines += _sentence(_TIED, tied) + _sentence(_INSIDE, inside, feed=feed)
    for doubt, text in (_DOUBTS if absolute else _DOUBTS | _DRAWN).items():
        lines += _sentence(text, [one for one in tensors if doubt in one.doubts])
    return tuple(lines)


def _no_readout(tensors: Iterable[ClassifiedTensor], by_network: bool) -> str:
    """Say that no logits are to be multiplied; name the table that may be tied."""
    if by_network:
        return _NO_READOUT.format(known="")
    tables = [
        one.path
        for one in tensors
        if one.mup_class == "input" and re.search("emb|wte", one.path.lower())
    ]
    text = _NO_READOUT.format(known="known to be ")
    return text + (_PERHAPS_TIED.format(path=tables[0]) if tables else "")


def _sentence(
    text: str, tensors: Sequence[ClassifiedTensor], **words: str
) -> list[str]:
    """Return a list with the sentence, or an empty one if there are no tensors."""
    paths = [tensor.path for tensor in tensors]
    return [text.format(paths=enumerated(paths), **words)] if paths else []


def enumerated(paths: Sequence[str]) -> str:
    """Return the first few paths as text, and the number of the others."""
    more = len(paths) - _NAMED
    names = ", ".join(path or "the array" for path in paths[:_NAMED])
    return f"{names} and {more} more" if more > 0 else names
