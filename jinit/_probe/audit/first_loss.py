"""The first loss of a network is compared with that of guessing."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.results import Finding
from ..._network.kept import program
from ..._network.losses import scalar
from ..._network.record import Network
from ..statistics import may_be_infinite
from .audited import Everything

# A cross-entropy in nats; LeCun's law costs 0.5 above guessing, and He's 1.
_NATS = 2.0
# Other losses have no unit; an output of std 3 has 10 times the squares of guessing.
_TIMES = 10.0


def output_of(net: Network, params: Any = None) -> Any:
    """Return the output of a network for its inputs; a second call compiles nothing."""
    params, trace = net.params if params is None else params, net._read.trace
    # A kept program must not keep arrays, so the constants are left out.
    run = program(("output", trace.form), lambda: trace.bare.run)
    with may_be_infinite():
        return run(trace.consts, params, net.inputs)


def first_loss(
    net: Network, loss: Callable[[Any], Any], everything: Everything
) -> Iterator[Finding]:
    """Report a first loss that is far above that of guessing, or is not finite."""
    output = output_of(net)
    with may_be_infinite():
        first = float(scalar(loss(output)))
        guess = float(scalar(loss(jax.tree.map(_guess, output))))
    name = _readout(everything)
    if not math.isfinite(first):
        yield Finding(
            "first loss",
            name,
            first,
            f"the first loss is {first}, where guessing costs {guess:.4g}: look for a "
            "logarithm, a division or an overflow in the network or in the loss.",
        )
    elif math.isfinite(guess) and guess > 0 and _is_far(first, guess, output):
        yield Finding(
            "first loss",
            name,
            first,
            f"the first loss is {first:.4g}, where guessing costs {guess:.4g}: the "
            f"outputs are too large ({_sizes(output)}). {_advice(name, everything)}",
        )


def _is_far(first: float, guess: float, output: Any) -> bool:
    """Tell whether a loss is far above guessing, in nats if it is a cross-entropy."""
    classes = {leaf.shape[-1] for leaf in _floats(output) if leaf.ndim}
    logs = [math.log(n) for n in classes if n > 1]
    if any(abs(guess - log) < 1e-3 * log for log in logs):
        return first - guess > _NATS
    return first > _TIMES * guess


def _guess(leaf: Any) -> Any:
    """Return equal logits, or equal probabilities, in the place of an output."""
    if not jnp.issubdtype(leaf.dtype, np.floating) or not leaf.ndim:
        return leaf
    x = np.asarray(leaf, np.float32)
    count = max(1, leaf.shape[-1])
    with np.errstate(all="ignore"):
        sums = {0.0: None, 1 / count: x.sum(-1), -math.log(count): np.exp(x).sum(-1)}
    for value, total in sums.items():
        is_sum = total is not None and np.allclose(total, 1, atol=1e-2)
        # Probabilities are not negative, and their logarithms not positive.
        if is_sum and count > 1 and (x >= 0).all() == (value > 0):
            return jnp.full(leaf.shape, value, leaf.dtype)
    return jnp.zeros(leaf.shape, leaf.dtype)


def _floats(output: Any) -> list[Any]:
    leaves = jax.tree.leaves(output)
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, np.floating)]


def _sizes(output: Any) -> str:
    stds = [float(np.std(np.asarray(leaf, np.float64))) for leaf in _floats(output)]
    return "std " + ", ".join(f"{std:.3g}" for std in stds[:3])


def _readout(everything: Everything) -> str:
    """Return the path of the largest readout, beside the one that keeps the signal."""
    readouts = [x for x in everything.values() if "readout" in x.parameter.roles]
    ranked = sorted(readouts, key=lambda x: -(x.ratio or 0.0))
    return ranked[0].path if ranked else ""


def _advice(name: str, everything: Everything) -> str:
    if name and everything[name].right_std:
        one = everything[name]
        return (
            f"{name} has std {one.measured.std:.3g}, and {one.right_std:.3g} keeps the "
            f"size of what it reads: draw it with std {one.right_std:.3g} or less (0 "
            "is usual for heads), or scale the logits."
        )
    return "Draw the last layer with a smaller std, or at 0, or scale the targets."
