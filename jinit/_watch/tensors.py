"""The tensors that a watch follows: a row for each, and for each layer of a stack."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from .._core.meshes import varying_axes
from .._core.patterns import Pattern
from .._core.trees import Leaf, leaves

# At most this many entries of a tensor are kept from step to step. The error of a
# cosine that is estimated from n entries is about 1 / sqrt(n), here 0.06.
SAMPLE = 256


class Tensor(NamedTuple):
    """A Tensor is a parameter, and says which of its axes count layers of a stack."""

    path: str
    shape: tuple[int, ...]
    stack: tuple[int, ...] = ()
    dtype: Any = jnp.float32
    # Whether each device of a `shard_map` has a part of the tensor.
    is_part: bool = False

    @property
    def rows(self) -> int:
        """Return the number of rows: 1, or the number of layers of a stack."""
        return math.prod(self.shape[axis] for axis in self.stack)

    @property
    def layer_shape(self) -> list[int]:
        """Return the shape of one row."""
        return [n for axis, n in enumerate(self.shape) if axis not in self.stack]

    @property
    def keys(self) -> list[str]:
        """Return the keys of the rows, in an order that sorting keeps."""
        if not self.stack:
            return [self.path]
        digits = len(str(self.rows - 1))
        return [f"{self.path}[{row:0{digits}}]" for row in range(self.rows)]

    @property
    def sampled(self) -> int:
        """Return how many entries of each row a sample has."""
        return math.prod(_counts(self.layer_shape))

    def by_row(self, value: jax.Array) -> jax.Array:
        """Return an array of the tensor's shape with the axes of the stack in front."""
        others = [axis for axis in range(value.ndim) if axis not in self.stack]
        return jnp.transpose(value, (*self.stack, *others))

    def mean(self, value: jax.Array) -> jax.Array:
        """Return the mean of the entries of each row."""
        axes = tuple(axis for axis in range(value.ndim) if axis not in self.stack)
        mean = jnp.mean(value, axes, dtype=jnp.float32)
        return over_devices(replicated(mean)).reshape(-1)

    def mean_square(self, value: jax.Array) -> jax.Array:
        """Return the mean square of the entries of each row, of a real value."""
        wide = value.astype(jnp.float32)
        sharding: Any = jax.typeof(value).sharding
        if self.stack or any(sharding.spec):
            return self.mean(wide * wide)
        # On CPUs XLA writes the squares to memory before it sums them, unless the sum
        # is a product. Elsewhere it makes the product a sum.
        axes = tuple(range(value.ndim))
        total = jax.lax.dot_general(
            wide, wide, ((axes, axes), ((), ())), precision=jax.lax.Precision.HIGHEST
        )
        return over_devices(total / value.size).reshape(1)

    def sample(self, value: jax.Array) -> jax.Array:
        """Return up to `SAMPLE` entries of each row, always at the same places.

        The entries lie at equal distances along each axis. So a sharded array is sliced
        where it lies, and only the entries travel.
        """
        placed = self.by_row(value)
        depth = len(self.stack)
        counts = _counts(placed.shape[depth:])
        places = [slice(None)] * depth + [
            slice(0, size // count * count, size // count)
            for size, count in zip(placed.shape[depth:], counts, strict=True)
        ]
        sliced = replicated(placed[tuple(places)])
        entries = sliced.reshape(self.rows, math.prod(counts))
        # Entries that are 0 change neither a cosine nor a sum of squares.
        return jnp.pad(entries, ((0, 0), (0, SAMPLE - entries.shape[1])))


def _counts(shape: Sequence[int]) -> list[int]:
    """Return how many entries of each axis a sample has."""
    counts = list(shape)
    while math.prod(counts) > SAMPLE:
        longest = counts.index(max(counts))
        counts[longest] = counts[longest] // 2
    return counts


def replicated(value: jax.Array) -> jax.Array:
    """Return a small array on every device, where its sharding is part of its type."""
    sharding: Any = jax.typeof(value).sharding
    if not any(sharding.spec):
        return value
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    resharded: jax.Array = jax.sharding.reshard(value, everywhere)
    return resharded


def over_devices(value: jax.Array) -> jax.Array:
    """Return the mean over the devices of a `shard_map` by which a value varies."""
    axes = varying_axes(value)
    return jax.lax.pmean(value, axes) if axes else value


def tensors_of(params: Any, only: Pattern | None, stacks: Any) -> list[Tensor]:
    """Return the tensors of a tree that are watched, in the order of their rows.

    Args:
      params: the parameters.
      only: the pattern of those to watch; None for all.
      stacks: a function of a path that returns the axes which count layers.

    Raises:
      ValueError: if `only` matches nothing, or there is no array of real numbers.
    """
    present = leaves(_trained(params))
    if not present:
        # A group of `optax.multi_transform` may be empty.
        return []
    every = [leaf for leaf in present if _is_learned(leaf)]
    if only is not None:
        only.check_used(every)
        every = [leaf for leaf in every if only.matches(leaf)]
    if not every:
        raise ValueError(
            "`params` has no array of floating-point numbers, so there is nothing to "
            "watch. Pass the parameters that the optimizer trains."
        )
    tensors = [
        Tensor(
            x.path,
            tuple(x.value.shape),
            stacks(x.path),
            x.value.dtype,
            bool(varying_axes(x.value)),
        )
        for x in every
    ]
    return sorted(tensors, key=lambda tensor: tensor.keys[0])


def _trained(tree: Any) -> Any:
    """Return the fast weights of a lookahead, since the slow ones have no gradients."""
    is_lookahead = getattr(tree, "_fields", ()) == ("fast", "slow")
    return tree.fast if is_lookahead else tree


def _is_learned(leaf: Leaf) -> bool:
    dtype = getattr(leaf.value, "dtype", None)
    is_number = dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
    # An array without entries has no mean.
    return is_number and leaf.value.size > 0


def values_of(tree: Any, tensors: Sequence[Tensor]) -> list[jax.Array]:
    """Return the values of the tensors in another tree of the same structure.

    Raises:
      ValueError: if the tree lacks one of the tensors.
    """
    at = {leaf.path: leaf.value for leaf in leaves(_trained(tree))}
    missing = [tensor.path for tensor in tensors if tensor.path not in at]
    if missing:
        raise ValueError(
            f"the gradients or updates have no {', '.join(missing)}, which the "
            "parameters have. Pass gradients of the same tree as the parameters."
        )
    return [jnp.asarray(at[tensor.path]) for tensor in tensors]


def stacked(function: Callable[..., jax.Array], *columns: Any) -> jax.Array:
    """Return the rows that a function gives for each tensor, one after the other."""
    return jnp.concatenate([function(*each) for each in zip(*columns, strict=True)])
