"""The change of a product is split in two, and each part compared with its largest.

With W_0, x_0 at the start and W_t, x_t after training (Haas et al., 2025):

    W_t x_t - W_0 x_0 = (W_t - W_0) x_t + W_0 (x_t - x_0)

The alignment of a part says how much of the largest possible size it has:

    spectral:   |D x| / (|D|_2 |x|)        frobenius:   |D x| / (|D|_F |x|)

Everett et al. (2024) take norms that are roots of means: with n inputs their ratio is n
times the second one, so that its exponent of the width is larger by 1, and theirs goes
from 1/2 to 1 where this one goes from -1/2 (random) to 0 (aligned).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._network.kept import program
from .._network.linear_products import (
    LinearProduct,
    Operands,
    operator_norm,
    parts_of,
)
from .._probe.statistics import rms

PARTS = (
    "change", "effective", "propagated", "input", "input_change",
    "effective_spectral", "effective_frobenius",
    "propagated_spectral", "propagated_frobenius",
)  # fmt: skip


def statistics_of(product: LinearProduct, pairs: Sequence[Any]) -> Any:
    """Return the numbers of `PARTS`, for each step of the scans around a product.

    Args:
      product: the product.
      pairs: for each of its operands an array (seed, start or end, ..).

    Returns:
      An array with a row for each index of the axes of scans, and the seeds last.
    """
    split = functools.partial(_split, product.evaluate, product.named)
    over = product.scans

    def run(pairs: Sequence[Any]) -> jax.Array:
        function: Callable[..., Any] = split
        for _ in range(over):
            function = jax.vmap(function, in_axes=1)
        return jnp.asarray(jax.vmap(function, out_axes=-1)(pairs))

    return program(("parts of a change", product.form, over), lambda: run)(pairs)


def _split(
    evaluate: Callable[[Operands], jax.Array],
    named: Callable[[Sequence[Any]], Operands],
    pairs: Sequence[Any],
) -> jax.Array:
    before, after = (named([pair[i] for pair in pairs]) for i in (0, 1))
    parts = parts_of(evaluate, before, after)
    moved = after.input - before.input
    kernel = after.kernel - before.kernel
    # Rows that a router sends elsewhere have no change of their own.
    is_one_map = not before.others
    numbers = [
        *map(rms, (evaluate(after) - evaluate(before), *parts, after.input, moved)),
        *_alignments(evaluate, parts.effective, after._replace(kernel=kernel)),
        *(
            _alignments(evaluate, parts.propagated, before._replace(input=moved))
            if is_one_map
            else (jnp.zeros(()), jnp.zeros(()))
        ),
    ]
    wide = functools.reduce(jnp.promote_types, (x.dtype for x in numbers))
    return jnp.stack([x.astype(wide) for x in numbers])


def _alignments(
    evaluate: Callable[[Operands], jax.Array], part: jax.Array, operands: Operands
) -> tuple[jax.Array, jax.Array]:
    """Return the spectral and the Frobenius alignment of a part of a change.

    They are 0 where the kernel or the input is 0.
    """
    x, kernel = operands.input, operands.kernel
    largest = operator_norm(lambda x: evaluate(operands._replace(input=x)), x)
    size = rms(part) * part.size**0.5
    length, norm = (rms(value) * value.size**0.5 for value in (x, kernel))
    return _ratio(size, largest * length), _ratio(size, norm * length)


def _ratio(size: jax.Array, largest: jax.Array) -> jax.Array:
    return jnp.where(largest > 0, size / jnp.where(largest > 0, largest, 1), 0)
