"""A narrow format of numbers would lose a part of the signal and of the gradient."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._core.results import Finding, Row

FORMATS = (
    "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3",
    "float8_e3m4", "float8_e4m3b11fnuz", "float8_e4m3fnuz", "float8_e5m2fnuz",
)  # fmt: skip
# The share of the finite values that would become infinite (or NaN), and the share of
# the nonzero values that would become 0; then the same shares of the gradients.
SHARES = ("overflow", "underflow", "grad_overflow", "grad_underflow")
# 5 % of a speech model's weight gradients became 0 in float16, which cost accuracy
# (Micikevicius et al., 2018).
_LOST = 0.05
# Loss scaling leaves room for gradients that grow in training.
_ROOM = 8.0


class Bounds(NamedTuple):
    """The magnitudes beyond which a format has infinity, and below which it has 0."""

    largest: float
    least: float


class Losses(NamedTuple):
    """A Losses has the shares that formats lose of one array and of its gradient.

    `size` and `slope` are the largest magnitudes of the two.
    """

    path: str
    kind: str
    shares: Mapping[str, Mapping[str, float]]
    size: float
    slope: float


def checked(formats: Any) -> tuple[str, ...]:
    """Return the names of formats.

    Raises:
      TypeError: if `formats` is one name and not a sequence of names.
      ValueError: if a name is not that of a format.
    """
    if isinstance(formats, str) or not isinstance(formats, Sequence):
        raise TypeError(
            f"`formats` is {formats!r}; it must be a sequence of names, such as "
            "('bfloat16', 'float8_e4m3fn')."
        )
    names = [_name(entry) for entry in formats]
    for name in names:
        if name in ("float32", "float64"):
            raise ValueError(
                f"`formats` has {name!r}, in which no value of a layer is lost: values "
                "are measured in float32 or wider. Name narrower formats, of "
                f"{', '.join(map(repr, FORMATS))}."
            )
    return tuple(dict.fromkeys(checks.choice("formats", x, FORMATS) for x in names))


def _name(entry: Any) -> Any:
    # jnp.float16 and its dtype name a format as well as the string does.
    if isinstance(entry, str):
        return entry
    try:
        return jnp.dtype(entry).name
    except TypeError:
        return entry


@functools.cache
def bounds_of(name: str) -> Bounds:
    """Return the bounds of a format, where rounding goes to the nearest number.

    Accelerators flush numbers below the least normal number of float32 to 0.
    """
    info = jnp.finfo(name)
    largest, eps = float(info.max), float(info.eps)
    half_step = 2.0 ** math.floor(math.log2(largest)) * eps / 2
    least = float(info.smallest_subnormal) / 2
    return Bounds(largest + half_step, max(least, float(np.finfo(np.float32).tiny)))


@functools.partial(jax.jit, static_argnames=("scans", "bounds"))
def losses(
    x: jax.Array, gradient: jax.Array, *, scans: int, bounds: tuple[Bounds, ...]
) -> jax.Array:
    """Return for each format the numbers of `SHARES`, and the largest magnitudes.

    The result has a line for each format, behind the axes of scans.
    """

    def run(x: jax.Array, gradient: jax.Array) -> jax.Array:
        lines = [
            jnp.stack([*_shares(x, one), *_shares(gradient, one)]) for one in bounds
        ]
        ends = jnp.stack([_largest(x), _largest(gradient)])
        return jnp.stack([jnp.concatenate([line, ends]) for line in lines])

    for _ in range(scans):
        run = jax.vmap(run)
    return run(x, gradient)


def _magnitudes(x: jax.Array) -> jax.Array:
    # A mask of infinities loses nothing in another format.
    x = jnp.abs(jnp.asarray(x, jnp.promote_types(x.dtype, np.float32)))
    return jnp.where(jnp.isfinite(x), x, 0)


def _shares(x: jax.Array, bounds: Bounds) -> tuple[jax.Array, jax.Array]:
    x = _magnitudes(x)
    is_small = (x > 0) & (x <= bounds.least)
    return jnp.mean(x >= bounds.largest), jnp.sum(is_small) / jnp.maximum(
        1, jnp.sum(x > 0)
    )


def _largest(x: jax.Array) -> jax.Array:
    return jnp.max(_magnitudes(x), initial=0)


def losses_of(path: str, kind: str, values: Any, formats: Sequence[str]) -> Losses:
    """Return what formats lose of one array, from the numbers of `losses`."""
    shares = {
        name: dict(zip(SHARES, line[: len(SHARES)].tolist(), strict=True))
        for name, line in zip(formats, values, strict=True)
    }
    return Losses(path, kind, shares, *map(float, values[0, len(SHARES) :]))


def rows(everything: Sequence[Losses]) -> Iterator[Row]:
    """Yield a row for each array and format."""
    for one in everything:
        for name, shares in one.shares.items():
            yield {"path": one.path, "kind": one.kind, "format": name, **shares}


def beyond(
    everything: Sequence[Losses], formats: Sequence[str], has_loss: bool
) -> Iterator[Finding]:
    """Find what would overflow: an infinite value makes the loss NaN."""
    for name in formats:
        for share, word in _judged(("overflow", "grad_overflow"), has_loss):
            sick = [one for one in everything if one.shares[name][share] > 0]
            if sick:
                worst = max(sick, key=lambda one: one.shares[name][share])
                others = _elsewhere(sick, f"some {word} are")
                size = worst.slope if share.startswith("grad") else worst.size
                yield Finding(
                    f"{name} overflow",
                    worst.path,
                    worst.shares[name][share],
                    f"{100 * worst.shares[name][share]:.2g}% of the {word} of "
                    f"{worst.path} are beyond {float(jnp.finfo(name).max):g}, the "
                    f"largest number of {name} (usual: none){others}. "
                    f"{_smaller(name, size)}",
                )


def _smaller(name: str, size: float) -> str:
    if name.startswith("float8"):
        scale = _power(size / float(jnp.finfo(name).max), math.ceil)
        return (
            f"Divide by a scale of {scale:g} before the cast and multiply by it "
            "after the product, since 8 bits have a small range."
        )
    return (
        "Compute there in bfloat16 or float32, or scale down the layers before, since "
        "one infinite value makes the loss NaN."
    )


def lost(
    everything: Sequence[Losses], formats: Sequence[str], has_loss: bool
) -> Iterator[Finding]:
    """Find what would underflow, at the place where most of it does."""
    slope = max((one.slope for one in everything), default=0.0)
    for name in formats:
        for share, word in _judged(("underflow", "grad_underflow"), has_loss):
            sick = [one for one in everything if one.shares[name][share] > _LOST]
            if sick:
                worst = max(sick, key=lambda one: one.shares[name][share])
                others = _elsewhere(sick, f"more than {_LOST:.0%} of the {word} do")
                is_back = share.startswith("grad")
                cure = _loss_scaling(name, slope) if is_back else ""
                yield Finding(
                    f"{name} underflow",
                    worst.path,
                    worst.shares[name][share],
                    f"{worst.shares[name][share]:.0%} of the {word} of {worst.path} "
                    f"become 0 in {name} (usual: below {_LOST:.0%})"
                    f"{others}. {cure or _larger(name, worst.size)}",
                )


def _elsewhere(sick: Sequence[Losses], what: str) -> str:
    """Return the clause on the places that are sick beside the worst one."""
    rest = len(sick) - 1
    where = f"at {rest} other places" if rest > 1 else "at one other place"
    return f", and {what} {where}" if rest else ""


def _judged(shares: Sequence[str], has_loss: bool) -> list[tuple[str, str]]:
    """Return the shares that are judged; gradients have a size only with a loss."""
    pairs = list(zip(shares, ("values", "gradients"), strict=True))
    return pairs if has_loss else pairs[:1]


def _larger(name: str, size: float) -> str:
    scale = _power(float(jnp.finfo(name).max) / _ROOM / size, math.floor)
    return (
        f"Multiply by a scale of {scale:g} before the cast and divide by it later, or "
        "keep this place in bfloat16, since values that are rounded to 0 are lost."
    )


def _loss_scaling(name: str, slope: float) -> str:
    scale = _power(float(jnp.finfo(name).max) / _ROOM / slope, math.floor)
    return (
        f"Multiply the loss by {scale:g} and divide the gradients by it (loss "
        "scaling), since a gradient that is rounded to 0 updates nothing."
    )


def _power(ratio: float, rounding: Any) -> float:
    """Return the power of two next to a number, which scales without rounding."""
    exponent = rounding(math.log2(ratio)) if ratio > 0 and math.isfinite(ratio) else 0
    return float(2.0**exponent)
