"""HiPPO-LegS is a state matrix; S4D layers start from its eigenvalues, or like them."""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ..._core import checks, dtypes, papers
from ..._core.dtypes import canonical_dtype
from ..._initializer.base import Initializer
from ..._initializer.formula import FormulaInitializer, index
from ..._initializer.maker import maker
from ..._initializer.scheme import scheme

Matrix = Literal["A", "B"]
Part = Literal["log_real", "imag"]


@dataclasses.dataclass(frozen=True, repr=False)
class HippoLegs(FormulaInitializer):
    """A HippoLegs is the matrix A or the vector B of HiPPO-LegS."""

    matrix: Matrix = "A"
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "ssm.hippo_legs"
    _random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks.choice("matrix", self.matrix, ("A", "B"))
        self._set(dtype=canonical_dtype(self.dtype))

    def _check(self, shape: checks.Shape) -> None:
        if self.matrix == "A" and (len(shape) < 2 or shape[-1] != shape[-2]):
            size = shape[-1] if shape else 1
            raise ValueError(
                f"`shape` is {shape}; HiPPO's A is square along its last two axes, "
                f"such as ({size}, {size})."
            )
        if self.matrix == "B" and not shape:
            raise ValueError("`shape` is (), which has no axes; HiPPO's B is (n,).")

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        k = index(shape, -1).astype(dtype)
        if self.matrix == "B":
            return jnp.sqrt(2 * k + 1)
        n = index(shape, -2).astype(dtype)
        # Gu et al. (2020), Theorem 2, with the sign of x' = A x: below the diagonal
        # A_nk = -sqrt((2 n + 1)(2 k + 1)), on it -(n + 1).
        below = jnp.sqrt((2 * n + 1) * (2 * k + 1))
        row, column = index(shape, -2), index(shape, -1)
        entries = jnp.where(row > column, -below, 0)
        return jnp.where(row == column, -(n + 1), entries)


@dataclasses.dataclass(frozen=True, repr=False)
class S4d(FormulaInitializer):
    """An S4d has eigenvalues of a state matrix along its last axis.

    Of each conjugate pair it has one.
    """

    part: Part | None = None
    dtype: np.dtype | None = None

    _random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.part is not None:
            checks.choice("part", self.part, ("log_real", "imag"))
        self._set(dtype=canonical_dtype(self.dtype))

    def _check(self, shape: checks.Shape) -> None:
        if not shape:
            raise ValueError(
                "`shape` is (), which has no axes; the last axis is that of the "
                "eigenvalues."
            )

    def _dtype(self, dtype: DTypeLike | None, shape: checks.Shape) -> np.dtype:
        chosen = self.dtype if dtype is None else dtype
        if self.part is not None:
            return dtypes.dtype(chosen, np.floating)
        checked = dtypes.dtype(chosen, np.inexact)
        # JAX's default dtype is real, and its complex counterpart is meant.
        if chosen is None:
            return np.dtype(np.result_type(checked, np.complex64))
        if not jnp.issubdtype(checked, np.complexfloating):
            raise TypeError(
                f"`dtype` is {checked.name}, and eigenvalues are complex; ask for "
                "complex64, or for one real parameter at a time: part='log_real' "
                "gives log(-Re), part='imag' Im."
            )
        return checked

    def _eigenvalues(self, pairs: int) -> np.ndarray:
        raise NotImplementedError

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        # In NumPy's float64: JAX has float32 here unless x64 is on, and the frequencies
        # grow to N^2 / pi.
        values = self._eigenvalues(shape[-1])
        if self.part == "log_real":
            # S4D trains log(-Re lambda), which keeps the real part negative and the
            # layer stable.
            values = np.log(-values.real)
        elif self.part == "imag":
            values = values.imag
        row = jnp.asarray(values, dtype).reshape((1,) * (len(shape) - 1) + (-1,))
        return jnp.broadcast_to(row, shape)


class S4dLin(S4d):
    """S4dLin has the eigenvalues -1/2 + i pi n."""

    _name: ClassVar[str] = "ssm.s4d_lin"

    def _eigenvalues(self, pairs: int) -> np.ndarray:
        return -0.5 + 1j * np.pi * np.arange(pairs)


class S4dInv(S4d):
    """S4dInv has -1/2 + i (N / pi) (N / (2 n + 1) - 1), where N is twice `pairs`."""

    _name: ClassVar[str] = "ssm.s4d_inv"

    def _eigenvalues(self, pairs: int) -> np.ndarray:
        # The formula's N counts both members of each conjugate pair.
        size = 2 * pairs
        return -0.5 + 1j * size / np.pi * (size / (2 * np.arange(pairs) + 1) - 1)


class S4dLegs(S4d):
    """S4dLegs has the eigenvalues of the normal part of HiPPO-LegS, A + P P'."""

    _name: ClassVar[str] = "ssm.s4d_legs"

    def _eigenvalues(self, pairs: int) -> np.ndarray:
        return -0.5 + 1j * np.asarray(_legs_frequencies(pairs))


class S4dReal(S4d):
    """S4dReal has the eigenvalues -(n + 1)."""

    _name: ClassVar[str] = "ssm.s4d_real"

    def _dtype(self, dtype: DTypeLike | None, shape: checks.Shape) -> np.dtype:
        return dtypes.dtype(self.dtype if dtype is None else dtype, np.inexact)

    def _eigenvalues(self, pairs: int) -> np.ndarray:
        return -(np.arange(pairs) + 1.0)


# The eigenvalues take O(n^3), and all layers of a model have the same.
@functools.lru_cache(maxsize=64)
def _legs_frequencies(pairs: int) -> tuple[float, ...]:
    """Return the negative imaginary eigenvalues of A + P P' + 1/2, which is skew."""
    root = np.sqrt(np.arange(2 * pairs) + 0.5)
    # Below the diagonal A_nk + P_n P_k = -P_n P_k, and above it P_n P_k.
    skew = np.triu(np.outer(root, root), 1)
    skew = skew - skew.T
    # If S is skew with an eigenvalue i w, then i S is Hermitian with -w.
    return tuple(np.sort(-np.linalg.eigvalsh(1j * skew))[:pairs].tolist())


@scheme(
    name="ssm.hippo_legs",
    law="constant",
    formula="A_nk = -sqrt((2 n + 1)(2 k + 1)), n > k; -(n + 1), n = k",
    use="state-space layers that remember all of the past",
    pitfall="for x' = (A x + B u) / t; S4 leaves out the 1 / t",
    paper=papers.GU_2020,
)
@maker
def hippo_legs(matrix: Matrix = "A", *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill a state matrix with HiPPO-LegS, whose states are Legendre coefficients.

    A_nk = -sqrt((2 n + 1)(2 k + 1)) for n > k, -(n + 1) for n = k, else 0, and
    B_n = sqrt(2 n + 1). In x'(t) = (A x + B u) / t the states x are the Legendre
    coefficients of the signal u on [0, t]. The eigenvalues of A are -1, ..., -N.

    Args:
      matrix: "A", of shape (.., N, N), or "B", of shape (.., N).
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if the matrix is neither A nor B; when called, if A is not square.

    Example:
      >>> import jax, jinit
      >>> a = jinit.ssm.hippo_legs()(jax.random.key(0), (3, 3))
      >>> a.diagonal().tolist(), round(float(a[1, 0] ** 2), 4)
      ([-1.0, -2.0, -3.0], 3.0)

    References:
      Gu, Dao, Ermon, Rudra and Ré, "HiPPO: recurrent memory with optimal polynomial
        projections", NeurIPS 2020.
    """
    return HippoLegs(matrix, canonical_dtype(dtype))


@scheme(
    name="ssm.s4d_lin",
    law="constant",
    formula="-1/2 + i pi n",
    use="diagonal state-space layers",
    pitfall="complex: `part` gives the two real parameters",
    paper=papers.GU_2022,
)
@maker
def s4d_lin(part: Part | None = None, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill the last axis with the eigenvalues of S4D-Lin, lambda_n = -1/2 + i pi n.

    The axis has one eigenvalue of each conjugate pair, N / 2 for a state of size N.

    Args:
      part: None for complex eigenvalues; "log_real" for log(-Re lambda) and "imag" for
        Im lambda, the two real parameters that S4D trains.
      dtype: the dtype of the array, unless the call gives another; by default complex64
        for complex eigenvalues.

    Raises:
      TypeError: when called, if the dtype is real and the eigenvalues are complex.
      ValueError: if the part is unknown; when called, if the shape has no axes.

    Example:
      >>> import jax, jinit
      >>> jinit.ssm.s4d_lin()(jax.random.key(0), (3,)).real.tolist()
      [-0.5, -0.5, -0.5]

    References:
      Gu, Gupta, Goel and Ré, "On the parameterization and initialization of diagonal
        state space models", NeurIPS 2022.
    """
    return S4dLin(part, canonical_dtype(dtype))


@scheme(
    name="ssm.s4d_inv",
    law="constant",
    formula="-1/2 + i (N / pi) (N / (2 n + 1) - 1)",
    use="diagonal state-space layers, long range",
    pitfall="N is the whole state, twice the last axis",
    paper=papers.GU_2022,
)
@maker
def s4d_inv(part: Part | None = None, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill the last axis with the eigenvalues of S4D-Inv.

    lambda_n = -1/2 + i (N / pi) (N / (2 n + 1) - 1), where N is the size of the state,
    twice the last axis. They approximate the eigenvalues of `s4d_legs`.

    Args:
      part: None, "log_real" or "imag", as for `s4d_lin`.
      dtype: the dtype of the array, as for `s4d_lin`.

    Raises:
      TypeError: for the same reasons as `s4d_lin`.
      ValueError: for the same reasons as `s4d_lin`.

    Example:
      >>> import jax, jinit
      >>> imag = jinit.ssm.s4d_inv("imag")(jax.random.key(0), (2,))
      >>> [round(float(x), 3) for x in imag]
      [3.82, 0.424]

    References:
      Gu, Gupta, Goel and Ré, "On the parameterization and initialization of diagonal
        state space models", NeurIPS 2022.
    """
    return S4dInv(part, canonical_dtype(dtype))


@scheme(
    name="ssm.s4d_legs",
    law="constant",
    formula="eigenvalues of A + P P'",
    use="diagonal state-space layers, as S4",
    pitfall="one of each conjugate pair",
    paper=papers.GUPTA_2022,
)
@maker
def s4d_legs(
    part: Part | None = None, *, dtype: DTypeLike | None = None
) -> Initializer:
    """Fill the last axis with the eigenvalues of the normal part of HiPPO-LegS.

    The normal part is A + P P' with P_n = sqrt(n + 1/2). The real parts of its
    eigenvalues are -1/2. The axis has one eigenvalue of each conjugate pair, that with
    a negative imaginary part, and the largest come first.

    Args:
      part: None, "log_real" or "imag", as for `s4d_lin`.
      dtype: the dtype of the array, as for `s4d_lin`.

    Raises:
      TypeError: for the same reasons as `s4d_lin`.
      ValueError: for the same reasons as `s4d_lin`.

    Example:
      >>> import jax, jinit
      >>> bool((jinit.ssm.s4d_legs("imag")(jax.random.key(0), (8,)) < 0).all())
      True

    References:
      Gupta, Gu and Berant, "Diagonal state spaces are as effective as structured state
        spaces", NeurIPS 2022.
    """
    return S4dLegs(part, canonical_dtype(dtype))


@scheme(
    name="ssm.s4d_real",
    law="constant",
    formula="-(n + 1)",
    use="diagonal state-space layers with real states",
    paper=papers.GU_2022,
)
@maker
def s4d_real(
    part: Part | None = None, *, dtype: DTypeLike | None = None
) -> Initializer:
    """Fill the last axis with the eigenvalues of S4D-Real, lambda_n = -(n + 1).

    They are the eigenvalues of the matrix A of `hippo_legs`.

    Args:
      part: None for the eigenvalues; "log_real" for log(n + 1), which S4D trains.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if the part is unknown; when called, if the shape has no axes.

    Example:
      >>> import jax, jinit
      >>> jinit.ssm.s4d_real()(jax.random.key(0), (3,)).tolist()
      [-1.0, -2.0, -3.0]

    References:
      Gu, Gupta, Goel and Ré, "On the parameterization and initialization of diagonal
        state space models", NeurIPS 2022.
    """
    return S4dReal(part, canonical_dtype(dtype))
