"""Attention that starts as it ends up: pairs of kernels whose product is given."""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from .. import random
from .._core import checks, numbers
from .._core.dtypes import canonical_dtype, is_narrow
from .._core.rounding import round_finite
from .._initializer.base import Initializer, spell
from .._initializer.entry import Entry
from .._initializer.formula import FormulaInitializer, formed
from .._initializer.maker import maker

Part = Literal["query", "key", "value", "out"]
_PARTS = ("query", "key", "value", "out")


@dataclasses.dataclass(frozen=True, repr=False)
class Mimetic(FormulaInitializer):
    """One kernel of a pair; with the same key the other one fits it."""

    part: Part = "query"
    noise: float = 0.7
    diagonal: float = 0.7
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "mimetic_attention"
    _kind: ClassVar[type[Any]] = np.floating
    _operands: ClassVar[tuple[str, ...]] = ()

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        names = ("alpha_qk", "beta_qk") if self._is_qk() else ("alpha_vo", "beta_vo")
        given = dict(zip(names, (self.noise, self.diagonal), strict=True))
        dtype = {} if self.dtype is None else {"dtype": self.dtype}
        return self._name, {"part": self.part} | given | dtype

    def _is_qk(self) -> bool:
        return self.part in ("query", "key")

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) == 3:
            return
        axes = "heads, head_dim, d" if self.part == "out" else "d, heads, head_dim"
        raise ValueError(
            f"`shape` is {shape}; the kernel {self.part!r} of an attention has axes "
            f"({axes}). Flax calls its initializers with them flattened: draw the "
            "pair, and put it into the parameters, as jinit.place_mimetic_attention "
            "does."
        )

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        if self.part == "out":
            shape = (shape[2], *shape[:2])
        left, right = _factors(key, shape, dtype, self)
        return left if self.part in ("query", "value") else right


def _factors(
    key: jax.Array, shape: checks.Shape, dtype: np.dtype, init: Mimetic
) -> tuple[jax.Array, jax.Array]:
    """Both kernels: for query and key head by head, for value and out all at once."""
    d, heads, size = shape
    if init._is_qk():
        left, right = _split(key, (heads, d), size, dtype, init)
        order = (1, 0, 2)
        return left.transpose(order), right.transpose(order)
    left, right = _split(key, (1, d), heads * size, dtype, init)
    return left.reshape(d, heads, size), right[0].T.reshape(heads, size, d)


def _split(
    key: jax.Array, stack: tuple[int, int], rank: int, dtype: np.dtype, init: Mimetic
) -> tuple[jax.Array, jax.Array]:
    """L, R of `rank` columns, L R' nearest to noise Z + diagonal 1, Z ~ N(0, 1 / d)."""
    copies, d = stack
    z = random.normal(key, (copies, d, d), dtype) * (init.noise / math.sqrt(d))
    target = (
        z.astype(dtype)
        + numbers.cast(init.diagonal, dtype) * jnp.eye(d, dtype=dtype)[None]
    )
    # Drawn alone, either side must see the same bits, or singular vectors change sign.
    u, s, vt = jnp.linalg.svd(lax.optimization_barrier(target), full_matrices=False)
    root = jnp.sqrt(s)[:, None, :]
    # Where the kernels are wider than d, what is left over is zero.
    most, spare = min(rank, d), max(rank - d, 0)
    pad = ((0, 0), (0, 0), (0, spare))
    left, right = u * root, vt.mT * root
    return jnp.pad(left[..., :most], pad), jnp.pad(right[..., :most], pad)


@dataclasses.dataclass(frozen=True, repr=False)
class Pair:
    """Two kernels that fit, drawn from one key: called as an initializer."""

    first: Mimetic
    second: Mimetic

    def __repr__(self) -> str:
        # A pair has no name of its own: it is one of the two that the maker returns.
        name, settings = self.first._spelling()
        given = [
            f"{k}={spell(v)}" for k, v in settings.items() if k not in ("part", "dtype")
        ]
        if self.first.dtype is not None:
            given.append(f"dtype={self.first.dtype.name!r}")
        return f"jinit.{name}({', '.join(given)})[{0 if self.first._is_qk() else 1}]"

    def __call__(
        self, key: jax.Array, shape: checks.Shape, dtype: DTypeLike | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Both kernels, for the (d, heads, head_dim) of the first."""
        checks.key(key)
        shape = checks.shape(shape)
        self.first._check(shape)
        found = self.first._dtype(dtype, shape)
        init, traced = formed(self.first, found)
        return _pair(key, traced, shape=shape, dtype=found, init=init)


@functools.partial(jax.jit, static_argnames=("shape", "dtype", "init"))
def _pair(
    key: jax.Array,
    traced: dict[str, jax.Array],
    *,
    shape: checks.Shape,
    dtype: np.dtype,
    init: Mimetic,
) -> tuple[jax.Array, jax.Array]:
    init = init._with(**traced)
    wide = np.dtype(np.float32) if is_narrow(dtype) else dtype
    if 0 in shape:
        other = shape if init._is_qk() else (*shape[1:], shape[0])
        return jnp.zeros(shape, dtype), jnp.zeros(other, dtype)
    kernels = _factors(key, shape, wide, init)
    if not is_narrow(dtype):
        return kernels
    left, right = (round_finite(kernel, dtype) for kernel in kernels)
    return left, right


@overload
def mimetic_attention(
    *, alpha_qk: float = ..., beta_qk: float = ..., alpha_vo: float = ...,
    beta_vo: float = ..., part: None = ..., dtype: DTypeLike | None = ...,
) -> tuple[Pair, Pair]: ...  # fmt: skip


@overload
def mimetic_attention(
    *, alpha_qk: float = ..., beta_qk: float = ..., alpha_vo: float = ...,
    beta_vo: float = ..., part: Part, dtype: DTypeLike | None = ...,
) -> Initializer: ...  # fmt: skip


@maker
def mimetic_attention(
    *,
    alpha_qk: float = 0.7,
    beta_qk: float = 0.7,
    alpha_vo: float = 0.4,
    beta_vo: float = -0.4,
    part: Part | None = None,
    dtype: DTypeLike | None = None,
) -> tuple[Pair, Pair] | Initializer:
    """Draw attention whose products resemble those of trained models: (qk, vo).

    In each head W_q W_k' is the best approximation of rank head_dim to alpha_qk Z +
    beta_qk 1, and over all heads W_v W_o that of alpha_vo Z + beta_vo 1, Z with entries
    N(0, 1 / d). So tokens attend to those like themselves, and what they get is taken
    from the stream. Each pair is split by singular values, sqrt(S) to either side.

    `qk(key, (d, heads, head_dim))` gives (W_q, W_k), both of that shape; `vo` gives W_v
    and W_o, which is (heads, head_dim, d): Flax's kernels of an attention, to be put
    into its parameters. `jinit.place_mimetic_attention` does that for a whole model.

    Args:
      alpha_qk: the noise in queries and keys.
      beta_qk: the diagonal there.
      alpha_vo: the noise in values and outputs.
      beta_vo: the diagonal there, negative.
      part: "query", "key", "value" or "out" for that kernel alone; those of a pair fit
        when they are drawn with one key.
      dtype: the type of the result where the call names none.

    Returns:
      Two pairs of initializers, or the one initializer that `part` names.

    Raises:
      ValueError: for an unknown part or a number that is not finite; when called, for a
        shape that has not three axes.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> qk, vo = jinit.mimetic_attention()
      >>> v, o = vo(jax.random.key(0), (64, 4, 16))
      >>> product = jnp.einsum("dhk,hke->de", v, o)
      >>> bool(jnp.trace(product) / 64 < -0.3)  # near the diagonal, -0.4
      True

    References:
      Trockman and Kolter, "Mimetic initialization of self-attention layers", 2023.
    """
    alphas = checks.number("alpha_qk", alpha_qk), checks.number("alpha_vo", alpha_vo)
    betas = checks.number("beta_qk", beta_qk), checks.number("beta_vo", beta_vo)

    def made(name: Part) -> Mimetic:
        which = 0 if name in ("query", "key") else 1
        return Mimetic(name, alphas[which], betas[which], canonical_dtype(dtype))

    if part is not None:
        checks.choice("part", part, _PARTS)
        return made(part)
    query, key, value, out = made("query"), made("key"), made("value"), made("out")
    return Pair(query, key), Pair(value, out)


ENTRIES = (
    Entry(
        "mimetic_attention",
        mimetic_attention,
        "low rank",
        "W_q W_k' ~ 0.7 Z + 0.7, W_v W_o ~ 0.4 Z - 0.4",
        "small transformers, little data",
        "Trockman and Kolter 2023",
        "the kernels of a pair must share their key",
    ),
)
