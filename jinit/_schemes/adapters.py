"""Low-rank adapters add a product of two small kernels, scale a b, to a weight.

`lora` starts the product at zero. `pissa` and `olora` subtract the product from the
weight first, so that the sum is the weight that was there before.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks, papers
from .._core.dtypes import is_narrow, wide_dtype
from .._core.rounding import round_finite
from .._initializer.base import Initializer
from .._initializer.foreign import check_part
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from .constant import zeros
from .scaled_uniform import scaled_uniform

_HIGHEST = "highest"


class Split(NamedTuple):
    """A Split has a (.., in, rank), b (.., rank, out) and residual = w - scale a b."""

    a: jax.Array
    b: jax.Array
    residual: jax.Array


@scheme(
    law="uniform; zero",
    formula="A: limit = 1 / sqrt(n_in); B = 0",
    use="low-rank adapters",
    pitfall="returns two initializers, one for A and one for B",
    paper=papers.HU_2022,
)
@maker
def lora(init: Any = None) -> tuple[Any, Initializer]:
    """Make the initializers of an adapter y = x (W + s A B), where B starts at zero.

    A, (in, rank), is drawn from U(+-1 / sqrt(n_in)), as in the code of the paper. The
    paper itself says Gaussian, which is `lora(jinit.lecun())`. B, (rank, out), is zero,
    so the adapted model starts as the model.

    Args:
      init: another initializer for A, or None.

    Returns:
      (a, b), two initializers.

    Raises:
      TypeError: if `init` is not an initializer.

    Example:
      >>> import jax, jinit
      >>> a, b = jinit.lora()
      >>> a, b
      (jinit.scaled_uniform(), jinit.zeros)

    References:
      Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang and Chen, "LoRA: low-rank adaptation
        of large language models", ICLR 2022.
    """
    # One of the two must not be zero: with both at zero neither would have a gradient.
    if init is None:
        return scaled_uniform(), zeros
    check_part("init", init)
    return init, zeros


@scheme(
    law="computed from a weight",
    formula="a b = the largest singular values",
    use="low-rank adapters that train what matters most",
    pitfall="a function of a weight; train a and b, keep the residual",
    paper=papers.MENG_2024,
)
@maker
def pissa(w: jax.Array, rank: int, *, scale: float = 1.0) -> Split:
    """Split a weight into its largest singular directions, to be trained, and the rest.

    For w = U S V' the parts are a = U_r sqrt(S_r / scale), b = sqrt(S_r / scale) V_r'
    and residual = w - scale a b. Their sum is w up to one rounding of each entry.

    Args:
      w: a kernel (in, out), or a stack of them, (.., in, out).
      rank: the rank of the adapter, at most the smaller side of w.
      scale: the factor by which the adapter multiplies a b, alpha / rank in most
        libraries.

    Returns:
      (a, b, residual), in the dtype of w, computed in float32 or wider.

    Raises:
      TypeError: if `w` is not a real floating array with two axes or more.
      ValueError: if `rank` does not fit w, or `w` has values that are not finite.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> w = jax.random.normal(jax.random.key(0), (16, 8))
      >>> a, b, residual = jinit.pissa(w, 2)
      >>> bool(jnp.allclose(residual + a @ b, w, atol=1e-5))
      True

    References:
      Meng, Wang and Zhang, "PiSSA: principal singular values and singular vectors
        adaptation of large language models", NeurIPS 2024.
    """
    w, wide, rank, scale = _checked(w, rank, scale)
    u, s, vt = jnp.linalg.svd(wide, full_matrices=False)
    # Both factors get the root of the singular values. The adapter multiplies a b by
    # `scale`, so it is divided out here.
    root = jnp.sqrt(s[..., :rank] / scale)
    return _split(
        w,
        u[..., :rank] * root[..., None, :],
        root[..., None] * vt[..., :rank, :],
        scale,
    )


@scheme(
    law="computed from a weight",
    formula="a b = the first columns of QR",
    use="low-rank adapters with orthonormal rows",
    pitfall="a function of a weight; train a and b, keep the residual",
    paper=papers.BUYUKAKYUZ_2024,
)
@maker
def olora(w: jax.Array, rank: int, *, scale: float = 1.0) -> Split:
    """Split a weight by a QR factorization into orthonormal directions and the rest.

    For w' = Q R the parts are b = Q_r', with the first `rank` columns of Q as its rows,
    a = R_r', with the first `rank` rows of R as its columns, and residual = w -
    scale a b. Their sum is w up to one rounding of each entry.

    Args:
      w: a kernel (in, out), or a stack of them, (.., in, out).
      rank: the rank of the adapter, at most the smaller side of w.
      scale: the factor by which the adapter multiplies a b.

    Returns:
      (a, b, residual), in the dtype of w, computed in float32 or wider.

    Raises:
      TypeError: for the same reasons as `pissa`.
      ValueError: for the same reasons as `pissa`.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> w = jax.random.normal(jax.random.key(0), (16, 8))
      >>> a, b, residual = jinit.olora(w, 2)
      >>> bool(jnp.allclose(b @ b.T, jnp.eye(2), atol=1e-6))
      True

    References:
      Büyükakyüz, "OLoRA: orthonormal low-rank adaptation of large language models",
        arXiv 2024.
    """
    w, wide, rank, scale = _checked(w, rank, scale)
    # OLoRA factorizes PyTorch's weight (out, in), which is w' here.
    q, r = jnp.linalg.qr(wide.mT)
    return _split(w, r[..., :rank, :].mT, q[..., :rank].mT, scale)


def _split(w: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> Split:
    """Round a and b, and return them with the residual that they leave."""
    a, b = _rounded(a, w.dtype), _rounded(b, w.dtype)
    wide = wide_dtype(w.dtype)
    product = jnp.matmul(a.astype(wide), b.astype(wide), precision=_HIGHEST)
    return Split(a, b, _rounded(w.astype(wide) - scale * product, w.dtype))


def _rounded(x: jax.Array, dtype: np.dtype) -> jax.Array:
    return round_finite(x, dtype) if is_narrow(dtype) else x


def _checked(w: Any, rank: Any, scale: Any) -> tuple[jax.Array, jax.Array, int, float]:
    """Return the weight, its copy in the dtype of the computation, and the settings."""
    if not isinstance(w, (jax.Array, np.ndarray)) or np.ndim(w) < 2:
        raise TypeError(
            f"`w` is {type(w).__name__} of shape {np.shape(w)}; it must be an array "
            "(.., in, out)."
        )
    if not jnp.issubdtype(w.dtype, np.floating):
        raise TypeError(f"`w` has dtype {w.dtype}; it must be a real floating type.")
    number = checks.count("rank", rank)
    if number is None or number > min(w.shape[-2:]):
        raise ValueError(
            f"`rank` is {rank}, and `w` has shape {w.shape}; it must be from 1 to "
            f"{min(w.shape[-2:])}, the smaller of inputs and outputs."
        )
    # A single NaN would make all singular vectors NaN, without an error.
    if not isinstance(w, jax.core.Tracer) and not bool(jnp.isfinite(w).all()):
        raise ValueError("`w` has values that are not finite; it cannot be split.")
    # Without jax_enable_x64 a float64 array of NumPy becomes float32 here.
    w = jnp.asarray(w)
    wide = w.astype(wide_dtype(w.dtype))
    return w, wide, number, checks.number("scale", scale, positive=True)
