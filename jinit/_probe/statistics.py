"""Statistics describe a layer's output, a parameter, and their gradients."""

import contextlib
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

# An entry this near to the largest counts as saturated.
_SATURATED = 0.99

OUTPUT_STATISTICS = (
    "mean", "std", "rms", "dead", "kurtosis", "cosine", "saturation", "grad_rms",
)  # fmt: skip
PARAMETER_STATISTICS = ("rms", "grad_rms", "grad_ratio")


@functools.partial(jax.jit, static_argnames="scans")
def output_statistics(x: jax.Array, gradient: jax.Array, *, scans: int) -> jax.Array:
    """Return the numbers of `OUTPUT_STATISTICS`, for each index of the first axes."""

    def run(x: jax.Array, gradient: jax.Array) -> jax.Array:
        # All numbers are one array, since many small results cost time.
        values = list(_statistics(x, gradient).values())
        wide = functools.reduce(jnp.promote_types, (v.dtype for v in values))
        return jnp.stack([v.astype(wide) for v in values])

    for _ in range(scans):
        run = jax.vmap(run)
    return run(x, gradient)


@contextlib.contextmanager
def may_be_infinite() -> Iterator[None]:
    """Let a program give NaN and infinity, also under JAX's checkers of both.

    They are answers here: the cosine of a single input is NaN, and the ratio of a
    gradient to a bias of zeros is infinite.
    """
    with jax.debug_nans(False), jax.debug_infs(False):
        yield


def _statistics(x: jax.Array, gradient: jax.Array) -> dict[str, jax.Array]:
    """Return the statistics of an output of shape (batch, ..., units), by name.

    Args:
      x: the output of one layer.
      gradient: the gradient in it, of the same shape.
    """
    x = jnp.asarray(x, jnp.promote_types(x.dtype, np.float32))
    mean, size = jnp.mean(x), rms(x)
    centred = x - mean
    variance = jnp.mean(centred**2)
    return {
        "mean": mean,
        "std": jnp.sqrt(variance),
        "rms": size,
        "dead": _dead(x),
        "kurtosis": _ratio(jnp.mean(centred**4), variance**2) - 3,
        "cosine": _cosine(x),
        "saturation": jnp.mean(jnp.abs(x) >= _SATURATED * jnp.max(jnp.abs(x))),
        "grad_rms": rms(gradient),
    }


@jax.jit
def parameter_statistics(w: jax.Array, gradient: jax.Array) -> jax.Array:
    """Return the numbers of `PARAMETER_STATISTICS` for a parameter and its gradient."""
    wide = jnp.promote_types(w.dtype, np.float32)
    # One vmap for both halves the program to compile.
    size, slope = jax.vmap(rms)(jnp.stack([w.astype(wide), gradient.astype(wide)]))
    return jnp.stack([size, slope, _ratio(slope, size)])


def rms(x: jax.Array) -> jax.Array:
    """Return the root of the mean square, in float32 or wider.

    The squares of numbers around 1e20 leave the range of float32, so the entries are
    divided by the largest first.
    """
    x = jnp.abs(jnp.asarray(x, jnp.promote_types(x.dtype, np.float32)))
    if x.size == 0:
        return jnp.zeros((), x.dtype)
    largest = jnp.max(x)
    unit = jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.mean((x / unit) ** 2))


def _dead(x: jax.Array) -> jax.Array:
    """Return the share of units, along the last axis, that are 0 for every input."""
    if x.ndim < 2:
        return jnp.mean(x == 0)
    return jnp.mean(jnp.all(x == 0, axis=tuple(range(x.ndim - 1))))


def _cosine(x: jax.Array) -> jax.Array:
    """Return the mean cosine similarity of two different inputs; NaN for one input.

    With unit vectors u, |sum u|^2 is the sum of u.v over all pairs. The n pairs of a
    vector with itself give n, and n (n - 1) pairs remain. That takes one pass over x,
    where the matrix of all pairs would take n.
    """
    if x.ndim < 2 or x.shape[0] < 2:
        return jnp.full((), np.nan, x.dtype)
    # A reshape to rows would not do for an array with a sharding in its type.
    inner = tuple(range(1, x.ndim))
    x = x / jnp.where((m := jnp.max(jnp.abs(x), inner, keepdims=True)) > 0, m, 1)
    norms = jnp.sqrt(jnp.sum(x**2, inner, keepdims=True))
    units = x / jnp.where(norms > 0, norms, 1)
    count = jnp.sum(norms > 0).astype(x.dtype)
    pairs = count * (count - 1)
    total = jnp.sum(jnp.sum(units, axis=0) ** 2) - count
    return jnp.where(pairs > 0, total / jnp.maximum(pairs, 1), np.nan)


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a / b, where 0 / 0 is 0 and a / 0 is infinite."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), jnp.where(a > 0, np.inf, 0.0))


def row(
    values: np.ndarray, names: Sequence[str] = OUTPUT_STATISTICS
) -> dict[str, float]:
    """Return numbers by their names, as Python numbers."""
    return dict(zip(names, values.tolist(), strict=True))
