"""Key -> an orthogonal matrix, uniform over all of them (Haar).

Q of a Gaussian matrix without the matrix: reflection i of its QR factorization maps a
Gaussian vector of length rows - i, which is independent of all before it, to a multiple
of the first axis. So draw those vectors x, and reflect. Stewart, "The efficient
generation of random orthogonal matrices with an application to condition estimators",
1980.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ... import random

# Fewer columns than this are one call of LAPACK, which compiles faster.
_BLOCKED = 96

# Full precision also where matrix units would round to 16 bits.
_matmul = functools.partial(jnp.matmul, precision="highest")


class Reflections(NamedTuple):
    """H_i = 1 - tau_i v_i v_i', v the columns of a unit lower trapezoid; and signs.

    In complex matrices ' conjugates too, tau stays real, and a sign is a phase.
    """

    vectors: jax.Array  # (rows, columns)
    tau: jax.Array  # (columns,)
    signs: jax.Array  # (1, columns), of the diagonal of R


def haar(key: jax.Array, rows: int, columns: int, dtype: np.dtype) -> jax.Array:
    """Orthonormal columns, or rows where those are fewer."""
    if rows < columns:
        return haar(key, columns, rows, dtype).T
    if columns < _BLOCKED:
        drawn = reflections(key, rows, columns, dtype)
        return lapack_product(drawn) * drawn.signs
    draw = functools.partial(_blocked, rows=rows, columns=columns, dtype=dtype)
    if jax.default_backend() == "cpu":
        # Under vmap one matrix after the other: each stays in the cache.
        draw = jax.custom_batching.sequential_vmap(draw)
    return draw(key)


def _blocked(key: jax.Array, rows: int, columns: int, dtype: np.dtype) -> jax.Array:
    drawn = reflections(key, rows, columns, dtype)
    return blocked_product(drawn) * drawn.signs


def reflections(
    key: jax.Array, rows: int, columns: int, dtype: np.dtype
) -> Reflections:
    """The reflections of a Gaussian matrix.

    x goes to beta e1 with beta = -sign(x1) |x|: v = x - beta e1, scaled to v1 = 1, and
    tau = (beta - x1) / beta = 1 + |x1| / |x|. The sign of beta makes R's diagonal
    positive, which makes Q uniform.
    """
    x = random.normal(key, (rows, columns), dtype)
    row, column = np.ogrid[:rows, :columns]
    x = jnp.where(row >= column, x, 0)
    first, norm = jnp.diagonal(x), jnp.sqrt(jnp.sum((x * x.conj()).real, axis=0))
    sign = jnp.where(first == 0, 1, jnp.sign(first))
    # In a square matrix the last reflection acts on one axis: it is the identity.
    is_last = np.arange(columns) == rows - 1
    tau = jnp.where(is_last, 0, 1 + abs(first) / norm).astype(dtype)
    along = first + sign * norm.astype(dtype)
    vectors = jnp.where(row == column, 1, x / along[None])
    return Reflections(vectors, tau, jnp.where(is_last, sign, -sign)[None])


def lapack_product(drawn: Reflections) -> jax.Array:
    """H_1 H_2 ... H_n, its first columns, by LAPACK, whose threads are its own."""
    return jax.lax.linalg.householder_product(drawn.vectors, drawn.tau)


def blocked_product(drawn: Reflections) -> jax.Array:
    """H_1 H_2 ... H_n, its first columns, in matrix products of 4/3 n^3 operations.

    A block of b reflections is 1 - V T V', T upper triangular (Schreiber and Van Loan,
    "A storage-efficient WY representation for products of Householder
    transformations", 1989). The last block comes first, on the smallest matrix.
    """
    rows, columns = drawn.vectors.shape
    size = 64 if columns <= 256 else 128
    number = -(-columns // size)
    # Columns of zeros complete the last block; with tau 0 they reflect nothing.
    padding = number * size - columns
    vectors = jnp.pad(drawn.vectors, ((0, 0), (0, padding)))
    blocks = jnp.moveaxis(vectors.reshape(rows, number, size), 1, 0)
    tau = jnp.pad(drawn.tau, (0, padding)).reshape(number, size)
    triangles = _triangles(_matmul(blocks.mT.conj(), blocks), tau)
    q = jnp.zeros((rows - columns, 0), drawn.vectors.dtype)
    for index in reversed(range(number)):
        start = index * size
        width = min(size, columns - start)
        v = blocks[index, start:, :width]
        q = _apply(v, triangles[index, :width, :width], q)
    return q


def _apply(v: jax.Array, t: jax.Array, q: jax.Array) -> jax.Array:
    """(1 - V T V') [1 0; 0 Q]: a block of reflections before those that made Q."""
    rows, width = v.shape
    vt = _matmul(v, t)
    left = np.eye(rows, width, dtype=v.dtype) - _matmul(vt, v[:width].mT.conj())
    right = jnp.pad(q, ((width, 0), (0, 0))) - _matmul(
        vt, _matmul(v[width:].mT.conj(), q)
    )
    return jnp.concatenate([left, right], axis=1)


def _triangles(gram: jax.Array, tau: jax.Array) -> jax.Array:
    """T of each block, from V'V and tau: neighbours are joined, 1, 2, 4, ... at a time.

    [T1  -T1 V1'V2 T2; 0  T2] is T of two neighbours, so T - T M T joins all pairs at
    once, where M has the products V1'V2 of neighbours and zeros elsewhere.
    """
    size = tau.shape[-1]
    t = jnp.eye(size, dtype=tau.dtype)[None] * tau[:, None, :]
    width = 1
    while width < size:
        group = np.arange(size) // width
        joins = (group[:, None] % 2 == 0) & (group[:, None] + 1 == group[None])
        t = t - _matmul(t, _matmul(jnp.where(joins[None], gram, 0), t))
        width *= 2
    return t
