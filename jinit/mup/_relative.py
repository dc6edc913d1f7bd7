"""Maximal-update parametrization compares a model with its base model."""

from collections.abc import Sequence
from typing import Any

from .._core import checks
from .._core.trees import strip_collection
from ._classify import KINDS, pair
from ._factors import DEPTH_RULES, Depth, factors, tensor_of
from ._growth import Classed
from ._parametrization import Parametrization

READOUTS = ("multiplier", "weights")


def of_depth(depth: Any, rule: str | None) -> Depth:
    if depth is None and rule is None:
        return Depth()
    if depth is None or rule is None:
        raise ValueError(
            f"`depth` is {depth!r} and `depth_rule` {rule!r}; give both: the residual "
            "blocks (base, target), and 'completep' or 'depth_mup'."
        )
    base, target = pair("depth", depth)
    checks.choice("depth_rule", rule, tuple(DEPTH_RULES))
    return Depth(target / base, DEPTH_RULES[rule])


def relative(
    tensors: Sequence[Classed],
    *,
    kind: str,
    depth: Any,
    depth_rule: str | None,
    readout: str,
) -> Parametrization:
    """Maximal-update factors of classed tensors."""
    checks.choice("kind", kind, KINDS)
    checks.choice("readout", readout, READOUTS)
    deeper = of_depth(depth, depth_rule)
    blocks = _blocks(tensors)
    made = []
    for tensor in tensors:
        fold = readout == "weights" and tensor.role == "output"
        if fold and tensor.parts[-1:] == ("embedding",):
            raise ValueError(
                f"{'/'.join(tensor.parts)!r} is an output that is an embedding too, so "
                "its weights cannot take the readout's factor; leave readout="
                "'multiplier', and multiply the logits by p.readout_scale."
            )
        found = factors(tensor, fold)
        if tensor.role == "hidden" or _inside(tensor, blocks):
            found = deeper.scaled(found)
        made.append(tensor_of(tensor, found))
    return Parametrization(
        tuple(made), kind, residual_scale=deeper.residual, depth_rule=depth_rule
    )


def _blocks(tensors: Sequence[Classed]) -> set[tuple[str, ...]]:
    """The modules that hold hidden tensors, below the root."""
    return {
        parts[:length]
        for tensor in tensors if tensor.role == "hidden"
        for parts in [strip_collection(tensor.parts)]
        for length in range(1, len(parts))
    }  # fmt: skip


def _inside(tensor: Classed, blocks: set[tuple[str, ...]]) -> bool:
    """Whether a vector lies beside hidden tensors: a bias, a norm of a block."""
    if tensor.role not in ("vector", "scalar"):
        return False
    parts = strip_collection(tensor.parts)
    return any(parts[:length] in blocks for length in range(len(parts)))
