"""Attention starts with kernels whose products resemble those of trained models."""

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
from .._core import checks, numbers, papers
from .._core.dtypes import canonical_dtype, is_narrow
from .._core.rounding import round_finite
from .._initializer.base import Initializer, spell
from .._initializer.formula import FormulaInitializer, formed
from .._initializer.maker import maker
from .._initializer.scheme import scheme

Part = Literal["query", "key", "value", "out"]
_PARTS = ("query", "key", "value", "out")


@dataclasses.dataclass(frozen=True, repr=False)
class Mimetic(FormulaInitializer):
    """A Mimetic is one kernel of a pair; drawn with one key, the two kernels fit."""

    part: Part = "query"
    noise: float = 0.7
    diagonal: float = 0.7
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "mimetic_attention"
    _kind: ClassVar[type[Any]] = np.floating
    # alpha and beta decide the singular vectors, so neither is a scale that could be an
    # operand.
    _operands: ClassVar[tuple[str, ...]] = ()

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        names = ("alpha_qk", "beta_qk") if self._is_qk() else ("alpha_vo", "beta_vo")
        numbers = dict(zip(names, (self.noise, self.diagonal), strict=True))
        dtype = {} if self.dtype is None else {"dtype": self.dtype}
        return self._name, {"part": self.part} | numbers | dtype

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
    """Draw both kernels: query and key head by head, value and out for all heads."""
    d, heads, size = shape
    # Each head has logits of its own, x W_q W_k' x'. The outputs of the heads are
    # added, so W_v W_o is one product over all heads.
    if init._is_qk():
        left, right = _split(key, (heads, d), size, dtype, init)
        order = (1, 0, 2)
        return left.transpose(order), right.transpose(order)
    left, right = _split(key, (1, d), heads * size, dtype, init)
    return left.reshape(d, heads, size), right[0].T.reshape(heads, size, d)


def _split(
    key: jax.Array, stack: tuple[int, int], rank: int, dtype: np.dtype, init: Mimetic
) -> tuple[jax.Array, jax.Array]:
    """Return L and R with `rank` columns and L R' nearest to noise Z + diagonal 1."""
    copies, d = stack
    # Trockman and Kolter (2023): alpha Z + beta 1, where Z has entries from
    # N(0, 1 / d).
    z = random.normal(key, (copies, d, d), dtype) * (init.noise / math.sqrt(d))
    target = (
        z.astype(dtype)
        + numbers.cast(init.diagonal, dtype) * jnp.eye(d, dtype=dtype)[None]
    )
    # fuse the target differently there, and one other bit may flip singular vectors.
    u, s, vt = jnp.linalg.svd(lax.optimization_barrier(target), full_matrices=False)
    # The largest singular values give the nearest matrix of that rank (Eckart and
    # Young). Their roots on either side give both kernels the same size.
    root = jnp.sqrt(s)[:, None, :]
    # A product of rank d needs no more than d columns; the others are zero.
    most, spare = min(rank, d), max(rank - d, 0)
    pad = ((0, 0), (0, 0), (0, spare))
    left, right = u * root, vt.mT * root
    return jnp.pad(left[..., :most], pad), jnp.pad(right[..., :most], pad)


@dataclasses.dataclass(frozen=True, repr=False)
class Pair:
    """A Pair draws two kernels with one key, by a call like that of an initializer."""

    first: Mimetic
    second: Mimetic

    def __repr__(self) -> str:
        # The maker returns two pairs, so the expression for one has an index.
        name, settings = self.first._spelling()
        arguments = [
            f"{k}={spell(v)}" for k, v in settings.items() if k not in ("part", "dtype")
        ]
        if self.first.dtype is not None:
            arguments.append(f"dtype={self.first.dtype.name!r}")
        number = 0 if self.first._is_qk() else 1
        return f"jinit.{name}({', '.join(arguments)})[{number}]"

    def __call__(
        self, key: jax.Array, shape: checks.Shape, dtype: DTypeLike | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Draw both kernels, for the shape (d, heads, head_dim) of the first."""
        checks.key(key)
        shape = checks.shape(shape)
        self.first._check(shape)
        checked = self.first._dtype(dtype, shape)
        init, traced = formed(self.first, checked)
        left, right = _pair(key, traced, shape=shape, dtype=checked, init=init)
        return left, right


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


@scheme(
    law="low rank",
    formula="W_q W_k' ~ 0.7 Z + 0.7, W_v W_o ~ 0.4 Z - 0.4",
    use="small transformers, little data",
    pitfall="the kernels of a pair must share their key",
    paper=papers.TROCKMAN_2023,
)
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
    """Draw the kernels of an attention so that their products resemble trained ones.

    In each head W_q W_k' is the best approximation of rank head_dim to alpha_qk Z +
    beta_qk 1. Over all heads W_v W_o is the best approximation to alpha_vo Z +
    beta_vo 1. Z has entries from N(0, 1 / d). So tokens attend to similar tokens, and
    their values are subtracted from the stream. Each product is split by its singular
    values, with sqrt(S) on either side.

    `qk(key, (d, heads, head_dim))` gives (W_q, W_k), both with that shape. `vo` gives
    (W_v, W_o), where W_o is (heads, head_dim, d). These are the shapes of Flax's
    kernels of an attention. `jinit.place_mimetic_attention` draws them for all
    attentions of a model.

    Args:
      alpha_qk: the scale of the noise in queries and keys.
      beta_qk: the diagonal in queries and keys.
      alpha_vo: the scale of the noise in values and outputs.
      beta_vo: the diagonal in values and outputs, negative in trained models.
      part: "query", "key", "value" or "out" for that kernel alone. The two kernels of a
        pair fit if they are drawn with one key.
      dtype: the dtype of the array, unless the call gives another.

    Returns:
      Two pairs of initializers, or the one initializer that `part` names.

    Raises:
      ValueError: if the part is unknown, or a number is not finite; when called, if the
        shape does not have three axes.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> qk, vo = jinit.mimetic_attention()
      >>> v, o = vo(jax.random.key(0), (64, 4, 16))
      >>> product = jnp.einsum("dhk,hke->de", v, o)
      >>> bool(jnp.trace(product) / 64 < -0.3)  # The diagonal is -0.4.
      True

    References:
      Trockman and Kolter, "Mimetic initialization of self-attention layers", ICML 2023.
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
