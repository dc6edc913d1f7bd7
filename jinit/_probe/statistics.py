"""Statistics describe a layer's output, a parameter, and their gradients."""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

# An entry this near to the largest counts as saturated.
_SATURATED = 0.99

OUTPUT_STATISTICS = (
    "mean", "std", "rms", "dead", "kurtosis", "cosine", "saturation", "grad_rms",
)  # fmt: skip
# The verdict asks for more. `varied` is the share of the rms that differs from input to
# input, `spread` the share that differs from position to position. `bottom`, `middle`
# and `top` are the shares of entries near -1, 0 and 1.
MEASURES = (*OUTPUT_STATISTICS, "varied", "spread", "bottom", "middle", "top")
ROUTER_STATISTICS = ("std", "largest", "unused")
# This near to an end of a sigmoid or tanh its slope is below 6 % of the largest.
_NEAR = 0.03
# A logit that is so far below the largest one is masked, in float32 or narrower.
_MASKED = 1e4
PARAMETER_STATISTICS = ("rms", "grad_rms", "grad_ratio")


@functools.partial(jax.jit, static_argnames=("scans", "units"))
def output_statistics(
    x: jax.Array, gradient: jax.Array, *, scans: int, units: tuple[int, ...] = (-1,)
) -> jax.Array:
    """Return the numbers of `MEASURES`, for each index of the first axes.

    `units` are the dimensions of the units, after the axes of scans.
    """

    def run(x: jax.Array, gradient: jax.Array) -> jax.Array:
        # All numbers are one array, since many small results cost time.
        values = list(_statistics(x, gradient, units).values())
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


def _statistics(
    x: jax.Array, gradient: jax.Array, units: tuple[int, ...]
) -> dict[str, jax.Array]:
    """Return the statistics of an output of shape (batch, ..., units), by name.

    Args:
      x: the output of one layer.
      gradient: the gradient in it, of the same shape.
      units: the dimensions of the units.
    """
    x = jnp.asarray(x, jnp.promote_types(x.dtype, np.float32))
    mean, size, magnitudes = jnp.mean(x), rms(x), jnp.abs(x)
    centred = x - mean
    inner = tuple(range(1, x.ndim - 1))
    return {
        "mean": mean,
        "std": rms(centred),
        "rms": size,
        "dead": _dead(x, units),
        "kurtosis": _kurtosis(centred, size),
        "cosine": _cosine(x),
        "saturation": jnp.mean(magnitudes >= _SATURATED * jnp.max(magnitudes)),
        "grad_rms": rms(gradient),
        "varied": _varied(x, (0,) if x.ndim > 1 else (), size),
        "spread": _varied(x, inner, size),
        "bottom": jnp.mean(x <= _NEAR - 1),
        "middle": jnp.mean(magnitudes <= _NEAR),
        "top": jnp.mean(x >= 1 - _NEAR),
    }


def _varied(x: jax.Array, axes: tuple[int, ...], size: jax.Array) -> jax.Array:
    """Return the rms around the mean over some axes, as a share of the rms."""
    if math.prod(x.shape[axis] for axis in axes) < 2:
        return jnp.full((), np.nan, x.dtype)
    # The mean of equal numbers differs from them by a rounding, and the least does not.
    shifted = x - jnp.min(x, axes, keepdims=True)
    return _ratio(rms(shifted - jnp.mean(shifted, axes, keepdims=True)), size)


def _kurtosis(centred: jax.Array, size: jax.Array) -> jax.Array:
    """Return the excess kurtosis; NaN for entries that are equal up to rounding."""
    spread = rms(centred)
    unit = centred / jnp.where(spread > 0, spread, 1)
    varies = spread > 8 * jnp.finfo(centred.dtype).eps * size
    return jnp.where(varies, jnp.mean(unit**4) - 3, np.nan)


@functools.partial(jax.jit, static_argnames=("scans", "keys", "heads"))
def logit_statistics(
    x: jax.Array, *, scans: int, keys: tuple[int, ...], heads: tuple[int, ...]
) -> jax.Array:
    """Return a line for each head of the logits of an attention.

    It has the variance along the keys, the sum over all queries of the entropy of their
    softmax, and the sum of the largest possible entropies.
    """

    def run(x: jax.Array) -> jax.Array:
        x = jnp.asarray(x, jnp.promote_types(x.dtype, np.float32))
        axes = tuple(x.ndim + d if d < 0 else d for d in keys)
        # A mask that is added leaves logits of -1e9, which no softmax sees.
        largest = jnp.max(x, axes, keepdims=True)
        open_ = x > largest - _MASKED
        logs = jax.nn.log_softmax(jnp.where(open_, x, -np.inf), axes)
        logs = jnp.where(open_, logs, 0)
        entropy = -jnp.sum(jnp.where(open_, jnp.exp(logs) * logs, 0), axes)
        spread = jnp.var(x, axes, where=open_)
        # Rows with one key alone have no entropy, and count for nothing.
        possible = jnp.log(jnp.sum(open_, axes))
        kept = tuple(d for d in range(x.ndim) if d not in axes)
        others = tuple(i for i, d in enumerate(kept) if d not in heads)
        numbers = [
            jnp.mean(spread, others),
            *(jnp.sum(v, others) for v in (entropy, possible)),
        ]
        return jnp.stack([v.reshape(-1) for v in numbers], -1)

    for _ in range(scans):
        run = jax.vmap(run)
    return run(x)


@functools.partial(jax.jit, static_argnames="scans")
def router_statistics(x: jax.Array, *, scans: int) -> jax.Array:
    """Return the numbers of `ROUTER_STATISTICS` for logits of shape (..., experts).

    They are the std, the share of tokens whose first choice is the most chosen expert,
    and the share of experts that get less than a tenth of their share of probability.
    """

    def run(x: jax.Array) -> jax.Array:
        x = jnp.asarray(x, jnp.promote_types(x.dtype, np.float32))
        x = x.reshape(-1, x.shape[-1])
        count = x.shape[-1]
        first = jax.nn.one_hot(jnp.argmax(x, -1), count)
        load = jnp.mean(jax.nn.softmax(x, -1), 0)
        unused = jnp.mean(load * count < 0.1)
        return jnp.stack([jnp.std(x), jnp.max(jnp.mean(first, 0)), unused])

    for _ in range(scans):
        run = jax.vmap(run)
    return run(x)


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


def _dead(x: jax.Array, units: tuple[int, ...]) -> jax.Array:
    """Return the share of units that are 0 for every input."""
    if x.ndim < 2:
        return jnp.mean(x == 0)
    kept = [axis % x.ndim for axis in units]
    others = tuple(axis for axis in range(x.ndim) if axis not in kept)
    return jnp.mean(jnp.all(x == 0, axis=others))


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


def parameter_row(values: np.ndarray) -> dict[str, float | None]:
    """Return the statistics of a parameter; one that is all zeros has no ratio."""
    numbers: dict[str, float | None] = {**row(values, PARAMETER_STATISTICS)}
    is_zero = numbers["grad_ratio"] == np.inf
    return numbers | {"grad_ratio": None} if is_zero else numbers
