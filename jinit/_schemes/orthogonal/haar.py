"""A product of random reflections is an orthogonal matrix with the uniform law (Haar).

Q of a Gaussian matrix can be drawn without the matrix. Reflection i of its QR
factorization maps a Gaussian vector of length rows - i to a multiple of the first axis,
and that vector is independent of all reflections before. So it suffices to draw one
vector x for each column and to reflect; Stewart (1980).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ... import random

# Below this number of columns one call of LAPACK is used, which compiles faster.
_BLOCKED = 96

# Up to this width triangles are joined by products of whole blocks, and wider ones pair
# by pair: fewer operations, but smaller products. It saves a quarter of the time.
_JOINED = 32

# By default matrix units of accelerators round their operands to 16 bits.
_matmul = functools.partial(jnp.matmul, precision="highest")


class Reflections(NamedTuple):
    """The reflections are H_i = 1 - tau_i v_i v_i', and Q is their product times signs.

    In complex matrices ' conjugates too, tau stays real, and a sign is a phase.

    Attributes:
      vectors: v_i as the columns of a unit lower trapezoid, (rows, columns).
      tau: one number for each reflection, (columns,).
      signs: the signs of the diagonal of R, (1, columns).
    """

    vectors: jax.Array
    tau: jax.Array
    signs: jax.Array


def haar(key: jax.Array, rows: int, columns: int, dtype: np.dtype) -> jax.Array:
    """Draw a matrix with orthonormal columns, or rows if there are fewer of them."""
    if rows < columns:
        return haar(key, columns, rows, dtype).T
    if columns < _BLOCKED:
        drawn = reflections(key, rows, columns, dtype)
        return lapack_product(drawn) * drawn.signs
    draw = functools.partial(_blocked, rows=rows, columns=columns, dtype=dtype)
    if jax.default_backend() == "cpu":
        # Under vmap a CPU draws one matrix after the other, so that each stays in its
        # cache.
        draw = jax.custom_batching.sequential_vmap(draw)
    return draw(key)


def _blocked(key: jax.Array, rows: int, columns: int, dtype: np.dtype) -> jax.Array:
    drawn = reflections(key, rows, columns, dtype)
    return blocked_product(drawn) * drawn.signs


def reflections(
    key: jax.Array, rows: int, columns: int, dtype: np.dtype
) -> Reflections:
    """Draw the reflections of the QR factorization of a Gaussian matrix.

    Each maps x to beta e1 with beta = -sign(x1) |x|: v = x - beta e1, scaled to v1 = 1,
    and tau = (beta - x1) / beta = 1 + |x1| / |x|. `signs` makes the diagonal of R
    positive, and only then Q is uniform; Mezzadri (2007).
    """
    x = random.normal(key, (rows, columns), dtype)
    row, column = np.ogrid[:rows, :columns]
    x = jnp.where(row >= column, x, 0)
    squares = (x * x.conj()).real
    total = jnp.sum(squares, axis=0) if columns < _BLOCKED else _sum_of_rows(squares)
    first, norm = jnp.diagonal(x), jnp.sqrt(total)
    sign = jnp.where(first == 0, 1, jnp.sign(first))
    # In a square matrix the last reflection acts on one axis only. It is the identity.
    is_last = np.arange(columns) == rows - 1
    tau = jnp.where(is_last, 0, 1 + abs(first) / norm).astype(dtype)
    along = first + sign * norm.astype(dtype)
    vectors = jnp.where(row == column, 1, x / along[None])
    return Reflections(vectors, tau, jnp.where(is_last, sign, -sign)[None])


def _sum_of_rows(x: jax.Array) -> jax.Array:
    """Return the sum over axis 0, adding halves, whose rounding errors stay small.

    A reflection is orthogonal only as far as its norm is right, and XLA adds one row
    after the other. The products of 1024 columns were 8 % less orthogonal with its sum.
    """
    while len(x) > 1:
        half = len(x) // 2
        rest = x[2 * half :]
        x = jnp.concatenate([x[:half] + x[half : 2 * half], rest])
    return x[0]


def lapack_product(drawn: Reflections) -> jax.Array:
    """Return the first columns of H_1 H_2 ... H_n by one call of LAPACK."""
    return jax.lax.linalg.householder_product(drawn.vectors, drawn.tau)


def blocked_product(drawn: Reflections) -> jax.Array:
    """Return the first columns of H_1 H_2 ... H_n, in matrix products of 4/3 n^3 flops.

    A block of reflections is 1 - V T V' with T upper triangular; Schreiber & Van Loan
    (1989). The last block is applied first, when the matrix is smallest.
    """
    rows, columns = drawn.vectors.shape
    # The fastest sizes, by 7 interleaved medians on two quiet cores.
    size = 64 if columns <= 256 else 128
    number = -(-columns // size)
    # Columns of zeros complete the last block. With a tau of 0 they reflect nothing.
    padding = number * size - columns
    vectors = jnp.pad(drawn.vectors, ((0, 0), (0, padding)))
    starts = range(0, columns, size)
    # Above its diagonal a trapezoid is zero.
    blocks = [vectors[start:, start : start + size] for start in starts]
    tau = jnp.pad(drawn.tau, (0, padding)).reshape(number, size)
    grams = jnp.stack([_matmul(v.mT.conj(), v) for v in blocks])
    triangles = _triangles(grams, tau)
    q = jnp.zeros((rows - columns, 0), drawn.vectors.dtype)
    for v, t, start in reversed(list(zip(blocks, triangles, starts, strict=True))):
        width = min(size, columns - start)
        q = _apply(v[:, :width], t[:width, :width], q)
    return q


def _apply(v: jax.Array, t: jax.Array, q: jax.Array) -> jax.Array:
    """Return (1 - V T V') [1 0; 0 Q], a block times the product of later ones."""
    rows, width = v.shape
    vt = _matmul(v, t)
    left = np.eye(rows, width, dtype=v.dtype) - _matmul(vt, v[:width].mT.conj())
    right = jnp.pad(q, ((width, 0), (0, 0))) - _matmul(
        vt, _matmul(v[width:].mT.conj(), q)
    )
    return jnp.concatenate([left, right], axis=1)


def _triangles(grams: jax.Array, tau: jax.Array) -> jax.Array:
    """Return T of each block from V'V and tau, joining ever longer neighbours.

    Two neighbours together have T = [T1  -T1 V1'V2 T2; 0  T2]. LAPACK's triangular
    solve would do as well, but its threads fight with XLA's.
    """
    size = tau.shape[-1]
    width = min(_JOINED, size)
    t = _small_triangles(_diagonal(grams, width), tau.reshape(-1, width))
    while width < size:
        first, second = t[0::2], t[1::2]
        pairs = _diagonal(grams, 2 * width)[:, :width, width:]
        corner = -_matmul(first, _matmul(pairs, second))
        top = jnp.concatenate([first, corner], axis=2)
        bottom = jnp.concatenate([jnp.zeros_like(corner), second], axis=2)
        t = jnp.concatenate([top, bottom], axis=1)
        width *= 2
    return t


def _small_triangles(grams: jax.Array, tau: jax.Array) -> jax.Array:
    """Return T of each block by products of the whole block.

    T - T M T joins all pairs of neighbours at once, where M has the products V1'V2 of
    neighbours and zeros elsewhere.
    """
    size = tau.shape[-1]
    t = jnp.eye(size, dtype=tau.dtype)[None] * tau[:, None, :]
    width = 1
    while width < size:
        group = np.arange(size) // width
        joins = (group[:, None] % 2 == 0) & (group[:, None] + 1 == group[None])
        t = t - _matmul(t, _matmul(jnp.where(joins[None], grams, 0), t))
        width *= 2
    return t


def _diagonal(x: jax.Array, width: int) -> jax.Array:
    """Return the blocks on the diagonal of each matrix, (blocks, width, width)."""
    starts = range(0, x.shape[-1], width)
    blocks = [x[:, i : i + width, i : i + width] for i in starts]
    return jnp.stack(blocks, axis=1).reshape(-1, width, width)
