"""A gain of the wrong activation matters where it compounds over plain layers."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.results import Finding
from ..._network.record import Network
from .audited import Audited, Everything
from .first_loss import output_of

# Gains count if they make the signal so many times too small or too large.
_FAR = 30.0
# The output must change by this factor when the gains are set right: norms, shortcuts,
# or tanh, which bends large signals back, may hide the change that gains predict.
_FELT = 10.0


def wrong_gains(net: Network, everything: Everything) -> Iterator[Finding]:
    """Report chains of layers whose gain is that of another activation."""
    inside = {path for branch in net.branches for path in branch.layers}
    chains: dict[tuple[str, Any], list[Audited]] = {}
    for one in everything.values():
        name = _gain_of(one)
        if name is not None and one.path not in inside and _is_plain(one, everything):
            key = name, one.parameter.activation
            chains.setdefault(key, []).append(one)
    for (name, activation), chain in chains.items():
        factor = math.prod(float(one.ratio or 1) for one in chain)
        if max(factor, 1 / factor) > _FAR and _is_felt(net, chain, factor):
            yield _finding(name, activation, chain, factor)


def _gain_of(one: Audited) -> str | None:
    """Return the name of the law if it is a gain over the fan_in of the product."""
    law, fans = one.judged.law, one.parameter.fans
    if law is None or fans is None or one.ratio is None or not one.is_kernel:
        return None
    if not isinstance(one.parameter.activation, str):
        return None
    name, _, rest = law.text.partition(": ")
    is_gain = name in ("lecun", "he") or name.startswith(("xavier", "kaiming"))
    return name if is_gain and rest.startswith(f"fan_in {fans.fan_in}") else None


def _is_plain(one: Audited, everything: Everything) -> bool:
    """Tell whether a layer reads one other layer, with no norm between."""
    inputs = one.parameter.inputs
    before = everything.get(inputs[0]) if len(inputs) == 1 else None
    return before is not None and before.is_kernel


def _is_felt(net: Network, chain: list[Audited], factor: float) -> bool:
    """Set the gains right, and tell whether the output changes as they predict."""
    ratios = {one.path: one.ratio for one in chain}
    leaves = jax.tree.leaves(net.params)
    structure: Any = jax.tree.structure(net.params)
    right = [
        jnp.asarray(leaf / ratios[path], leaf.dtype) if path in ratios else leaf
        for path, leaf in zip(net._adapted.paths, leaves, strict=True)
    ]
    before = _rms(output_of(net))
    after = _rms(output_of(net, structure.unflatten(right)))
    change = after / before if before > 0 else math.inf
    return change > _FELT if factor < 1 else change < 1 / _FELT


def _rms(output: Any) -> float:
    leaves = [np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(output)]
    values = np.concatenate([x for x in leaves if x.size] or [np.zeros(1)])
    return float(np.sqrt(np.mean(values**2)))


def _finding(
    name: str, activation: str, chain: list[Audited], factor: float
) -> Finding:
    first = chain[0]
    size = f"{factor:.2g}"
    return Finding(
        "wrong gain",
        first.path,
        factor,
        f"{len(chain)} layers in a row without norms or shortcuts, from {first.path} "
        f"to {chain[-1].path}, read {activation} and are drawn by {name}: std "
        f"{first.measured.std:.3g} at the first, where {first.right_std:.3g} keeps the "
        f"signal, and a factor of {size} over all. Draw them with "
        f"jinit.kaiming({activation!r}).",
    )
