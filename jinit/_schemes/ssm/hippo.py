"""HiPPO-LegS and the eigenvalues that diagonal state-space layers take from it."""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ..._core import checks, dtypes
from ..._core.dtypes import canonical_dtype
from ..._initializer.base import Initializer
from ..._initializer.entry import Entry
from ..._initializer.formula import FormulaInitializer, index
from ..._initializer.maker import maker

Matrix = Literal["A", "B"]
Part = Literal["log_real", "imag"]


@dataclasses.dataclass(frozen=True, repr=False)
class HippoLegs(FormulaInitializer):
    """The matrices A and B of HiPPO-LegS."""

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
        below = jnp.sqrt((2 * n + 1) * (2 * k + 1))
        row, column = index(shape, -2), index(shape, -1)
        entries = jnp.where(row > column, -below, 0)
        return jnp.where(row == column, -(n + 1), entries)


@dataclasses.dataclass(frozen=True, repr=False)
class S4d(FormulaInitializer):
    """The eigenvalues of a diagonal state matrix, one of each conjugate pair."""

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
        found = dtypes.dtype(chosen, np.inexact)
        if chosen is None:
            return np.dtype(np.result_type(found, np.complex64))
        if not jnp.issubdtype(found, np.complexfloating):
            raise TypeError(
                f"`dtype` is {found.name}, and eigenvalues are complex; ask for "
                "complex64, or for one real parameter at a time: part='log_real' "
                "gives log(-Re), part='imag' Im."
            )
        return found

    def _eigenvalues(self, pairs: int) -> np.ndarray:
        raise NotImplementedError

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        values = self._eigenvalues(shape[-1])
        if self.part == "log_real":
            values = np.log(-values.real)
        elif self.part == "imag":
            values = values.imag
        row = jnp.asarray(values, dtype).reshape((1,) * (len(shape) - 1) + (-1,))
        return jnp.broadcast_to(row, shape)


class S4dLin(S4d):
    """-1/2 + i pi n."""

    _name: ClassVar[str] = "ssm.s4d_lin"

    def _eigenvalues(self, pairs: int) -> np.ndarray:
        return -0.5 + 1j * np.pi * np.arange(pairs)


class S4dInv(S4d):
    """-1/2 + i (N / pi) (N / (2 n + 1) - 1), N = 2 pairs."""

    _name: ClassVar[str] = "ssm.s4d_inv"

    def _eigenvalues(self, pairs: int) -> np.ndarray:
        size = 2 * pairs
        return -0.5 + 1j * size / np.pi * (size / (2 * np.arange(pairs) + 1) - 1)


class S4dLegs(S4d):
    """The eigenvalues of HiPPO-LegS' normal part with negative imaginary parts."""

    _name: ClassVar[str] = "ssm.s4d_legs"

    def _eigenvalues(self, pairs: int) -> np.ndarray:
        return -0.5 + 1j * np.asarray(_legs_frequencies(pairs))


class S4dReal(S4d):
    """-(n + 1)."""

    _name: ClassVar[str] = "ssm.s4d_real"

    def _dtype(self, dtype: DTypeLike | None, shape: checks.Shape) -> np.dtype:
        return dtypes.dtype(self.dtype if dtype is None else dtype, np.inexact)

    def _eigenvalues(self, pairs: int) -> np.ndarray:
        return -(np.arange(pairs) + 1.0)


@functools.lru_cache(maxsize=64)
def _legs_frequencies(pairs: int) -> tuple[float, ...]:
    """A + P P' + 1/2 is skew: half of its imaginary eigenvalues, those below zero."""
    root = np.sqrt(np.arange(2 * pairs) + 0.5)
    # Below the diagonal A_nk + P_n P_k = -P_n P_k, and above it P_n P_k.
    skew = np.triu(np.outer(root, root), 1)
    skew = skew - skew.T
    # i S is Hermitian, with the eigenvalues i (i w) = -w.
    return tuple(np.sort(-np.linalg.eigvalsh(1j * skew))[:pairs].tolist())


@maker
def hippo_legs(matrix: Matrix = "A", *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill with HiPPO-LegS: a state that holds the Legendre coefficients of the past.

    A_nk = -sqrt((2 n + 1)(2 k + 1)) for n > k, -(n + 1) for n = k, else 0; B_n =
    sqrt(2 n + 1). In x'(t) = (A x + B u) / t the states are the coefficients of u on
    [0, t]. A's eigenvalues are -1, ..., -N.

    Args:
      matrix: "A", of shape (.., N, N), or "B", of shape (.., N).
      dtype: the type of the result where the call names none.

    Raises:
      ValueError: for another matrix, or, when called, for an A that is not square.

    Example:
      >>> import jax, jinit
      >>> a = jinit.ssm.hippo_legs()(jax.random.key(0), (3, 3))
      >>> a.diagonal().tolist(), round(float(a[1, 0] ** 2), 4)
      ([-1.0, -2.0, -3.0], 3.0)

    References:
      Gu, Dao, Ermon, Rudra and Re, "HiPPO: recurrent memory with optimal polynomial
      projections", 2020.
    """
    return HippoLegs(matrix, canonical_dtype(dtype))


@maker
def s4d_lin(part: Part | None = None, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill with S4D-Lin's eigenvalues: lambda_n = -1/2 + i pi n.

    The last axis holds one eigenvalue of each conjugate pair, N / 2 of a state of N.

    Args:
      part: None for complex values; "log_real" for log(-Re lambda), and "imag" for Im
        lambda, the two real parameters that S4D trains.
      dtype: the type of the result where the call names none; complex64 by default
        for complex values.

    Raises:
      ValueError: for another part, or, when called, for a shape without axes.
      TypeError: when called, for a real dtype of complex values.

    Example:
      >>> import jax, jinit
      >>> jinit.ssm.s4d_lin()(jax.random.key(0), (3,)).real.tolist()
      [-0.5, -0.5, -0.5]

    References:
      Gu, Gupta, Goel and Re, "On the parameterization and initialization of diagonal
      state space models", 2022.
    """
    return S4dLin(part, canonical_dtype(dtype))


@maker
def s4d_inv(part: Part | None = None, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill with S4D-Inv's eigenvalues: -1/2 + i (N / pi) (N / (2 n + 1) - 1).

    They approximate those of HiPPO-LegS. N is the size of the whole state, twice the
    last axis.

    Args:
      part, dtype: as for `s4d_lin`.

    Raises:
      ValueError, TypeError: as `s4d_lin`.

    Example:
      >>> import jax, jinit
      >>> imag = jinit.ssm.s4d_inv("imag")(jax.random.key(0), (2,))
      >>> [round(float(x), 3) for x in imag]
      [3.82, 0.424]

    References:
      Gu, Gupta, Goel and Re, "On the parameterization and initialization of diagonal
      state space models", 2022.
    """
    return S4dInv(part, canonical_dtype(dtype))


@maker
def s4d_legs(
    part: Part | None = None, *, dtype: DTypeLike | None = None
) -> Initializer:
    """Fill with the eigenvalues of HiPPO-LegS' normal part, A + P P', P_n^2 = n + 1/2.

    Their real parts are -1/2; of each conjugate pair the one with a negative imaginary
    part is kept, the largest first.

    Args:
      part, dtype: as for `s4d_lin`.

    Raises:
      ValueError, TypeError: as `s4d_lin`.

    Example:
      >>> import jax, jinit
      >>> bool((jinit.ssm.s4d_legs("imag")(jax.random.key(0), (8,)) < 0).all())
      True

    References:
      Gupta, Gu and Berant, "Diagonal state spaces are as effective as structured state
      spaces", 2022.
    """
    return S4dLegs(part, canonical_dtype(dtype))


@maker
def s4d_real(
    part: Part | None = None, *, dtype: DTypeLike | None = None
) -> Initializer:
    """Fill with S4D-Real's eigenvalues, those of HiPPO-LegS: -(n + 1).

    Args:
      part: "log_real" for log(n + 1), as it is trained.
      dtype: the type of the result where the call names none.

    Raises:
      ValueError: for another part, or, when called, for a shape without axes.

    Example:
      >>> import jax, jinit
      >>> jinit.ssm.s4d_real()(jax.random.key(0), (3,)).tolist()
      [-1.0, -2.0, -3.0]

    References:
      Gu, Gupta, Goel and Re, "On the parameterization and initialization of diagonal
      state space models", 2022.
    """
    return S4dReal(part, canonical_dtype(dtype))


_S4D = "Gu, Gupta, Goel and Re 2022"

ENTRIES = (
    Entry(
        "ssm.hippo_legs",
        hippo_legs,
        "constant",
        "A_nk = -sqrt((2 n + 1)(2 k + 1)), n > k; -(n + 1), n = k",
        "state-space layers that remember all of the past",
        "Gu, Dao, Ermon, Rudra and Re 2020",
        "for x' = (A x + B u) / t; S4 leaves out the 1 / t",
    ),
    Entry(
        "ssm.s4d_lin",
        s4d_lin,
        "constant",
        "-1/2 + i pi n",
        "diagonal state-space layers",
        _S4D,
        "complex: `part` gives the two real parameters",
    ),
    Entry(
        "ssm.s4d_inv",
        s4d_inv,
        "constant",
        "-1/2 + i (N / pi) (N / (2 n + 1) - 1)",
        "diagonal state-space layers, long range",
        _S4D,
        "N is the whole state, twice the last axis",
    ),
    Entry(
        "ssm.s4d_legs",
        s4d_legs,
        "constant",
        "eigenvalues of A + P P'",
        "diagonal state-space layers, as S4",
        "Gupta, Gu and Berant 2022",
        "one of each conjugate pair",
    ),
    Entry(
        "ssm.s4d_real",
        s4d_real,
        "constant",
        "-(n + 1)",
        "diagonal state-space layers with real states",
        _S4D,
    ),
)
