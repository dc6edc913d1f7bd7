"""The growth of an initializer's std is measured on arrays that it drew at two widths.

std = width^(-1/2) for LeCun's and He's laws, and a constant for `normal(0.02)`. Shapes
do not tell them apart, and arrays do: the ratio of their root mean squares is the
growth, within an error that follows from the numbers of entries.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import numbers
from .._scale.fans import fans
from ._growth import ClassifiedTensor, Shape

# Failure rate per tensor: 6e-7, that of five standard errors.
_SIGMAS = 5.0
# A growth may differ by this from that of its law: arrays are rounded to bfloat16.
_ROUNDING = 0.005
# Laws whose growths differ by less than this factor start a model alike.
_ALIKE = 1.2
# The kurtosis of a small sample is too small, and that of most laws is at most this.
_KURTOSIS = 3.0


class Size(NamedTuple):
    """A Size has the root mean square, kurtosis about 0, and number of entries."""

    rms: float
    kurtosis: float
    entries: int


def with_drawn(
    tensors: Sequence[ClassifiedTensor], values: Sequence[tuple[Any, Any]]
) -> list[ClassifiedTensor]:
    """Add the growth of the initializers' std to tensors, as far as arrays tell it.

    Args:
      tensors: the tensors.
      values: for each tensor its arrays at the base and at the target width.
    """
    ratios = {
        tensor.shape[axis] / tensor.base[axis]
        for tensor in tensors
        for axis in tensor.axes
    }
    if not ratios:
        return list(tensors)
    return [
        _with_drawn(tensor, before, after, ratios)
        for tensor, (before, after) in zip(tensors, values, strict=True)
    ]


def _with_drawn(
    tensor: ClassifiedTensor, before: Any, after: Any, ratios: set[float]
) -> ClassifiedTensor:
    if not (_has_numbers(before) and _has_numbers(after)):
        # A table that is looked up has one input, and most draw it with a constant
        # std. Flax's own, called "embedding", has 1 / sqrt(features).
        is_table = tensor.is_looked_up and tensor.parts[-1:] != ("embedding",)
        return tensor._replace(drawn=1.0) if is_table else tensor
    base, target = _size(before), _size(after)
    if base is None or target is None:
        return tensor
    growth = target.rms / base.rms
    if not 0 < growth < math.inf:
        return tensor._replace(doubts=(*tensor.doubts, "drawn"))
    # Var(rms) / rms^2 = (kurtosis - 1) / (4 entries).
    variances = [(size.kurtosis - 1) / 4 / size.entries for size in (base, target)]
    return _decided(tensor, growth, math.sqrt(sum(variances)), ratios)


def _has_numbers(value: Any) -> bool:
    if numbers.is_traced(value) or not isinstance(value, jax.Array | np.ndarray):
        return False
    return bool(jnp.issubdtype(value.dtype, np.inexact)) and value.size > 0


def _size(value: Any) -> Size | None:
    """Return the size of an array's entries, or None for one that was not drawn."""
    largest, smallest, square, fourth = map(float, jax.device_get(_moments(value)))
    # Zeros, ones and stand-ins for shapes hold one number: no law has drawn them.
    if largest == smallest:
        return None
    kurtosis = max(fourth / square**2, _KURTOSIS)
    return Size(largest * math.sqrt(square), kurtosis, value.size)


@jax.jit
def _moments(value: jax.Array) -> tuple[jax.Array, ...]:
    """Return the largest and smallest size of an entry, and moments in its units."""
    # Units of the largest entry keep the fourth power of a small std from becoming 0.
    # Types of 8 bits have no absolute value.
    is_complex = jnp.issubdtype(value.dtype, jnp.complexfloating)
    size = jnp.abs(value if is_complex else value.astype(jnp.float32))
    size = size.astype(jnp.float32)
    largest = jnp.max(size)
    units = size / jnp.where(largest > 0, largest, 1)
    return largest, jnp.min(size), jnp.mean(units**2), jnp.mean(units**4)


def _decided(
    tensor: ClassifiedTensor, growth: float, error: float, ratios: set[float]
) -> ClassifiedTensor:
    """Return the tensor with the law's growth that a measured growth agrees with.

    Laws are powers of the growth of axes. Where one of them fits, its exact number is
    taken. Where noise hides which of several fits, the usual law stays.
    """
    usual = usual_growth(tensor)
    laws = {1.0, usual, *_laws(tensor, ratios)}
    bound = _SIGMAS * error + _ROUNDING
    near = [law for law in laws if abs(math.log(growth / law)) <= bound]
    nearest = min(near, key=lambda law: abs(math.log(growth / law)), default=None)
    if nearest is None:
        return tensor._replace(drawn=growth, doubts=(*tensor.doubts, "law"))
    law = usual if usual in near else nearest
    # Between fan_in and fan_avg of a readout lie a few percent, which do no harm.
    is_clear = max(near) <= _ALIKE * min(near)
    doubts = tensor.doubts if is_clear else (*tensor.doubts, "drawn")
    return tensor._replace(drawn=law, doubts=doubts)


def _laws(tensor: ClassifiedTensor, ratios: set[float]) -> set[float]:
    """Return the growths that the std of usual initializers may have."""
    pairs = zip(tensor.shape, tensor.base, strict=True)
    grown = [n / m for n, m in pairs if n != m]
    products = {
        math.prod(some)
        for length in range(1, len(grown) + 1)
        for some in itertools.combinations(grown, length)
    }
    # The std of a bias may follow the inputs of the kernel beside it.
    counts = products if len(tensor.shape) > 1 else products | ratios
    laws = {n**-0.5 for n in counts} | {1 / n for n in counts}
    if not tensor.counted and set(tensor.layout) & {"i", "k"}:
        laws |= {
            growth_of(tensor.base, tensor.shape, tensor.layout, law)
            for law in ("fan_in", "fan_out", "fan_avg")
        }
    return laws


def usual_growth(tensor: Any) -> float:
    """Return the growth of the std that Flax's initializers have, by default."""
    if tensor.mup_class in ("vector", "scalar"):
        return 1.0
    if tensor.parts[-1:] == ("embedding",):
        # Flax's default for embeddings counts the features as inputs.
        return math.sqrt(tensor.base[-1] / tensor.shape[-1])
    return growth_of(tensor.base, tensor.shape, tensor.layout, "fan_in")


def growth_of(base: Shape, shape: Shape, layout: str, law: str) -> float:
    """Return the growth of a std of 1 / sqrt(count), for a count of fans."""
    counts = []
    for sizes in (base, shape):
        n = fans(sizes, layout)
        counts.append({"fan_in": n.fan_in, "fan_out": n.fan_out}.get(law, sum(n) / 2))
    return math.sqrt(counts[0] / counts[1])
