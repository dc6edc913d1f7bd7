"""The statistics of one step of training, for each row of a watch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.trees import leaves
from .tensors import Tensor, over_devices, stacked

# A column holds this number if a statistic is missing, since no statistic is ever -2.
# NaN would stop a training program that looks for NaN in its state.
MISSING = -2.0


class OfStep(NamedTuple):
    """These measurements need the gradients, the updates or Adam's second moments.

    They are the mean squares and samples of each row; the moments are None if the
    optimizer has none.
    """

    grad_squares: jax.Array
    move_squares: jax.Array
    grads: jax.Array
    moves: jax.Array
    moments: jax.Array | None


def squares(tensors: Sequence[Tensor], values: Sequence[jax.Array]) -> jax.Array:
    """Return the mean square of each row."""

    def of_one(tensor: Tensor, value: jax.Array) -> jax.Array:
        parts = [value.real, value.imag] if jnp.iscomplexobj(value) else [value]
        return sum(map(tensor.mean_square, parts[1:]), tensor.mean_square(parts[0]))

    return stacked(of_one, tensors, values)


def rms(tensors: Sequence[Tensor], values: Sequence[jax.Array]) -> jax.Array:
    """Return the root mean square of each row."""
    return jnp.sqrt(squares(tensors, values))


def sampled_squares(
    tensors: Sequence[Tensor], values: Sequence[jax.Array]
) -> jax.Array:
    """Return the mean square of each row, as its sample estimates it.

    Its root has the error 1 / sqrt(2 n) from n normal numbers, 0.04 from 256.
    """

    def of_one(tensor: Tensor, value: jax.Array) -> jax.Array:
        entries = tensor.sample(jnp.abs(value).astype(jnp.float32))
        return over_devices((entries * entries).sum(1) / tensor.sampled)

    return stacked(of_one, tensors, values)


def held(step: OfStep) -> jax.Array:
    """Tell which rows have a gradient and no update in any entry of their sample."""
    return (step.grads != 0).any(1) & (step.moves == 0).all(1)


def facts(
    tensors: Sequence[Tensor], values: Sequence[jax.Array]
) -> dict[str, jax.Array]:
    """Return facts that never change: the bits of a number, the width of a tensor."""

    def bits(tensor: Tensor, value: jax.Array) -> jax.Array:
        return jnp.full(tensor.rows, float(jnp.finfo(value.dtype).bits))

    def width(tensor: Tensor) -> jax.Array:
        return jnp.full(tensor.rows, float(min(tensor.layer_shape[-2:], default=1)))

    return {"bits": stacked(bits, tensors, values), "width": stacked(width, tensors)}


def samples(tensors: Sequence[Tensor], values: Sequence[jax.Array]) -> jax.Array:
    """Return the sample of each row in float32, the real parts of complex numbers."""

    def of_one(tensor: Tensor, value: jax.Array) -> jax.Array:
        return over_devices(tensor.sample(jnp.real(value).astype(jnp.float32)))

    return stacked(of_one, tensors, values)


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    is_number = (denominator > 0) & jnp.isfinite(denominator)
    ratio = numerator / jnp.where(is_number, denominator, 1)
    return jnp.where(is_number & jnp.isfinite(ratio), ratio, MISSING)


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the cosine between the rows of two samples, unless one is 0."""
    sizes = jnp.sqrt((a * a).sum(1)) * jnp.sqrt((b * b).sum(1))
    return _ratio((a * b).sum(1), sizes)


def flips(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the share of entries that changed their sign, of those that are not 0."""
    return _ratio((a * b < 0).sum(1), ((a != 0) & (b != 0)).sum(1))


def drift(now: jax.Array, start: jax.Array) -> jax.Array:
    """Return the distance from the start over the size of the start."""
    change = now - start
    return _ratio(jnp.sqrt((change * change).sum(1)), jnp.sqrt((start * start).sum(1)))


def lost(tensors: Sequence[Tensor], weights: jax.Array, moves: jax.Array) -> jax.Array:
    """Return the share of updates that leave their weight as it was, by rounding.

    The samples of weights and updates are in float32, so a row of a wider dtype has no
    share. Neither has a row that is split over devices, whose samples are means over
    them.
    """
    total = weights + moves
    rows = [tensor for tensor in tensors for _ in range(tensor.rows)]
    rounded = total
    for dtype in {tensor.dtype for tensor in tensors}:
        facts = jnp.finfo(dtype)
        if facts.bits < 32:
            # XLA may leave out a conversion to a narrow type and back.
            narrow = jax.lax.reduce_precision(total, facts.nexp, facts.nmant)
            is_narrow = np.array([tensor.dtype == dtype for tensor in rows])
            rounded = jnp.where(is_narrow[:, None], narrow, rounded)
    is_lost = (rounded == weights) & (moves != 0)
    has_none = np.array([x.is_part or jnp.finfo(x.dtype).bits > 32 for x in rows])
    return jnp.where(has_none, MISSING, _ratio(is_lost.sum(1), (moves != 0).sum(1)))


def moments(tensors: Sequence[Tensor], inner: Any) -> jax.Array | None:
    """Return samples of Adam's second moments, or None if the optimizer has none."""
    of_paths: dict[str, Any] = {}
    for node in jax.tree.leaves(inner, is_leaf=lambda node: hasattr(node, "nu")):
        if hasattr(node, "nu"):
            of_paths |= {leaf.path: leaf.value for leaf in leaves(node.nu)}
    shaped = [of_paths.get(tensor.path) for tensor in tensors]
    if all(moment is None for moment in shaped):
        return None
    values = [
        jnp.zeros(tensor.shape)
        if moment is None or moment.shape != tensor.shape
        else jnp.abs(moment)
        for tensor, moment in zip(tensors, shaped, strict=True)
    ]
    return samples(tensors, values)


def small(moments: jax.Array | None, epsilon: float) -> jax.Array:
    """Return the share of Adam's second moments whose root is below its epsilon."""
    if moments is None:
        return jnp.full((), MISSING)
    # A moment of 0 belongs to an entry that has had no gradient yet.
    is_small = (moments > 0) & (moments < epsilon**2)
    return _ratio(is_small.sum(1), (moments > 0).sum(1))
