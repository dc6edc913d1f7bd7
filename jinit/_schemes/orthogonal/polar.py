"""A polar factor is an orthogonal matrix that matrix products alone can compute.

The polar factor X (X'X)^(-1/2) of a Gaussian matrix X is uniform (Haar), since a
rotation of X rotates its factor. Newton and Schulz's iteration computes it by products,
which run where the rows are: on n devices each holds an n-th of every matrix, and the
blocks of X'X travel round in a ring.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, AxisType, Mesh
from jax.sharding import PartitionSpec as P

from ... import random

# By default matrix units of accelerators round their operands to 16 bits.
_matmul = functools.partial(jnp.matmul, precision="highest")

# A Gaussian singular value exceeds its bound with probability exp(-8^2 / 2) = 1e-14.
_MARGIN = 8.0

# With 3 a step would map the top of the interval to 0, and rounding could change the
# sign of a singular value.
_LARGEST_SQUARE = 2.9

Product = Callable[[jax.Array], jax.Array]


def polar(
    keys: jax.Array, rows: int, columns: int, dtype: np.dtype, mesh: Any = None
) -> jax.Array:
    """Draw a matrix with orthonormal columns (or rows, if fewer) for each key."""
    if rows < columns:
        return polar(keys, columns, rows, dtype, mesh).mT
    x = jax.vmap(lambda key: random.normal(key, (rows, columns), dtype))(keys)
    # A 1 x 1 matrix of 0 has no polar factor.
    x = jnp.where(x == 0, 2.0**-25, x) / _bound(rows, columns)
    steps = np.asarray(schedule(rows, columns, dtype), np.finfo(dtype).dtype)
    if mesh is None or mesh.size == 1:
        return _iterate(x, steps, lambda x: _matmul(x, _matmul(x.conj().mT, x)))
    return _on_a_ring(x, steps, _automatic(mesh))


def schedule(rows: int, columns: int, dtype: np.dtype) -> list[float]:
    """Return the scales a of the steps x -> a x (3 - a^2 x^2) / 2 from [low, 1] to 1.

    a^2 = 3 / (1 + low + low^2) lifts the least singular value most; Chen & Chow (2014).
    """
    eps = float(np.finfo(dtype).eps)
    least = math.sqrt(rows) - math.sqrt(columns) - _MARGIN
    low = max(least / _bound(rows, columns), eps / 128)
    steps = []
    while 1 - low > eps:
        square = min(3 / (1 + low + low * low), _LARGEST_SQUARE)
        scale = math.sqrt(square)
        low = min(scale * x * (3 - square * x * x) / 2 for x in (low, 1.0))
        steps.append(scale)
    # One more step removes the rounding errors of those before.
    return [*steps, 1.0]


def _bound(rows: int, columns: int) -> float:
    return math.sqrt(rows) + math.sqrt(columns) + _MARGIN


def _iterate(x: jax.Array, steps: np.ndarray, cube: Product) -> jax.Array:
    """Apply all steps to X, where `cube` computes X X'X."""

    def step(x: jax.Array, scale: jax.Array) -> tuple[jax.Array, None]:
        # In this form the last steps add a small number to x, whose own rounding error
        # hardly counts.
        return scale * (x + (x - scale * scale * cube(x)) / 2), None

    return lax.scan(step, x, jnp.asarray(steps))[0]


def _on_a_ring(x: jax.Array, steps: np.ndarray, mesh: Any) -> jax.Array:
    """Apply all steps to X with its rows spread over all devices of the mesh."""
    _, rows, columns = x.shape
    # Rows and columns of zeros stay zero.
    padding = ((0, 0), (0, -rows % mesh.size), (0, -columns % mesh.size))
    part = P(None, tuple(mesh.axis_names), None)
    iterate: Product = jax.shard_map(
        lambda x: _iterate(x, steps, functools.partial(_ring_cube, mesh=mesh)),
        mesh=mesh, in_specs=part, out_specs=part,
    )  # fmt: skip
    return iterate(jnp.pad(x, padding))[:, :rows, :columns]


def _ring_cube(x: jax.Array, mesh: Any) -> jax.Array:
    """Return this device's rows of X X'X, from its rows of X.

    X'X is cut into as many blocks of rows as there are devices. The sum for block i
    travels round once, collects a term on every device, and ends at device i. Then each
    block travels round again, and every device multiplies its rows by it.
    """
    names, size = tuple(mesh.axis_names), mesh.size
    width = x.shape[-1] // size
    here = lax.axis_index(names)

    def onwards(block: jax.Array) -> jax.Array:
        ring = [(i, (i + 1) % size) for i in range(size)]
        moved: jax.Array = lax.ppermute(block, names, ring)
        return moved

    def part(index: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(x, index % size * width, width, axis=-1)

    def add(step: int, block: jax.Array) -> jax.Array:
        return onwards(block) + _matmul(part(here - 1 - step).conj().mT, x)

    def apply(
        step: int, carry: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        total, block = carry
        return total + _matmul(part(here - step), block), onwards(block)

    empty = jnp.zeros_like(x, shape=(x.shape[0], width, x.shape[-1]))
    gram = lax.fori_loop(0, size, add, empty)
    total: jax.Array
    total, _ = lax.fori_loop(0, size, apply, (jnp.zeros_like(x), gram))
    return total


def _automatic(mesh: Any) -> Mesh | AbstractMesh:
    """Return the mesh of the context, or else `mesh` with axes that XLA partitions."""
    context = jax.sharding.get_abstract_mesh()
    if not context.empty:
        return context
    if isinstance(mesh, AbstractMesh):
        return mesh
    automatic = (AxisType.Auto,) * len(mesh.axis_names)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)
