"""Recurrent networks: identities, and biases that set how long a unit remembers.

Flax hands every gate of a cell the same `bias_init`, so an initializer cannot know its
gate. Each scheme here has three forms: for the biases of all gates in one vector
(`order=`, as Flax's NNX OptimizedLSTMCell and PyTorch have them), for those of one gate
(`gate="f"`), and as rules, `(pattern, initializer)` pairs for `jinit.plan`.

Orthogonal recurrent kernels for each gate of a fused kernel: `jinit.blocks` of
`jinit.orthogonal()`.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .. import random
from .._core import checks, numbers
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer
from .._initializer.entry import Entry
from .._initializer.formula import FormulaInitializer, index
from .._initializer.maker import maker
from . import structured

Cell = Literal["lstm", "fused_lstm", "gru", "fused_gru"]
Rules = list[tuple[str, Initializer]]

# The gate that keeps the state, and the gate that lets new input in (the GRU ties the
# second to the first).
_KEEPS, _ADMITS = ("f", "z"), "i"
_GATES = "ifgorzn"

# cell -> the order of its gates, and its biases' path below the cell, by gate.
_CELLS: dict[str, tuple[str, str]] = {
    "lstm": ("ifgo", "h{gate}/bias"),
    "fused_lstm": ("ifgo", "dense_h/bias"),
    "gru": ("rzn", "i{gate}/bias"),
    "fused_gru": ("rzn", "dense_i/bias"),
}


@dataclasses.dataclass(frozen=True, repr=False)
class Irnn(structured.Identity):
    """gain times the identity, for a square recurrent kernel."""

    _name: ClassVar[str] = "recurrent.identity"

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) != 2 or shape[0] != shape[1]:
            size = shape[-1] if shape else 1
            raise ValueError(
                f"`shape` is {shape}; a recurrent identity is square, such as "
                f"({size}, {size}): the state maps to itself. For the kernel of the "
                "inputs take jinit.normal(0.001)."
            )


@dataclasses.dataclass(frozen=True, repr=False)
class GateBias(FormulaInitializer):
    """The biases of one gate, or of all gates side by side along the last axis."""

    gate: str | None = None
    order: str = "ifgo"
    dtype: np.dtype | None = None

    _kind: ClassVar[type[Any]] = np.floating

    def _set_gates(self) -> None:
        if self.gate is not None:
            checks.choice("gate", self.gate, tuple(_GATES))
        known = isinstance(self.order, str) and not set(self.order) - set(_GATES)
        once = known and len(set(self.order)) == len(self.order)
        if not once or not set(self.order) & set(_KEEPS):
            raise ValueError(
                f"`order` is {self.order!r}; it must name each gate of the cell once, "
                "by its letter, such as 'ifgo' for an LSTM or 'rzn' for a GRU: i "
                "input, f forget, g candidate, o output; r reset, z update, n new."
            )
        self._set(dtype=canonical_dtype(self.dtype))

    def _check(self, shape: checks.Shape) -> None:
        if not shape:
            raise ValueError(
                "`shape` is (), which has no axes; the biases of a gate have one: one "
                "for each unit."
            )
        count = len(self.order)
        if self.gate is None and shape[-1] % count:
            raise ValueError(
                f"`shape` is {shape}, and `order` {self.order!r} has {count} gates; "
                f"the last axis must be {count} times the units. For the biases of "
                "one gate give `gate`, such as gate='f'."
            )

    def _units(self, shape: checks.Shape) -> checks.Shape:
        """The shape of one gate."""
        count = 1 if self.gate else len(self.order)
        return (*shape[:-1], shape[-1] // count)

    def _of_gate(self, gate: str, keeping: jax.Array) -> jax.Array:
        """One gate's biases, from those that the keeping gate has."""
        raise NotImplementedError

    def _side_by_side(self, keeping: jax.Array) -> jax.Array:
        gates = self.gate or self.order
        return jnp.concatenate([self._of_gate(g, keeping) for g in gates], axis=-1)


@dataclasses.dataclass(frozen=True, repr=False)
class UnitForgetBias(GateBias):
    """`value` for the gate that keeps the state, 0 for all others."""

    value: float = 1.0

    _name: ClassVar[str] = "recurrent.unit_forget_bias"
    _random: ClassVar[bool] = False
    _operands: ClassVar[tuple[str, ...]] = ("value", "dtype")

    def __post_init__(self) -> None:
        self._set_gates()
        self._set(value=checks.number("value", self.value))

    def _scale(self) -> float:
        return self.value

    def _of_gate(self, gate: str, keeping: jax.Array) -> jax.Array:
        return keeping if gate in _KEEPS else jnp.zeros_like(keeping)

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        return self._side_by_side(jnp.ones(self._units(shape), dtype))


@dataclasses.dataclass(frozen=True, repr=False)
class Chrono(GateBias):
    """b_f = log u, b_i = -log u, u uniform on [1, t_max - 1]."""

    t_max: float = 3.0
    grid: bool = False

    _name: ClassVar[str] = "recurrent.chrono"
    _operands: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        self._set_gates()
        t_max = checks.number("t_max", self.t_max)
        if not numbers.is_traced(t_max) and t_max <= 2:
            raise ValueError(
                f"`t_max` is {t_max}; it is the longest time that a unit is to "
                "remember, in steps, and must be greater than 2."
            )
        if not isinstance(self.grid, bool):
            raise TypeError(f"`grid` is {self.grid!r}; it must be True or False.")
        self._set(t_max=t_max)

    def _std(self, shape: checks.Shape) -> float | None:
        self._check(shape)
        if self.gate is None or self.grid:
            return None
        return std_of_log(self.t_max - 1) if self.gate in (*_KEEPS, _ADMITS) else 0.0

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        name, settings = super()._spelling()
        return name, {"t_max": self.t_max} | settings

    def _of_gate(self, gate: str, keeping: jax.Array) -> jax.Array:
        if gate in _KEEPS:
            return keeping
        return -keeping if gate == _ADMITS else jnp.zeros_like(keeping)

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        units = self._units(shape)
        if self.grid:
            # The middles of equal parts of the interval.
            u = (index(units, -1).astype(dtype) + 0.5) / units[-1]
        else:
            u = random.uniform(key, units, dtype)
        return self._side_by_side(jnp.log1p(u * (self.t_max - 2)))


def std_of_log(high: float) -> float:
    """The standard deviation of log u, u uniform on [1, high]."""
    log, width = numbers.log(high), high - 1
    mean = high * log / width - 1
    square = (high * log * log - 2 * high * log) / width + 2
    variance = square - mean * mean
    return numbers.sqrt(numbers.at_least(0.0, variance))


@maker
def identity(gain: float = 1.0, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill a recurrent kernel with an identity: w_ij = gain for i = j, else 0 (IRNN).

    With relu and zero biases the state is kept, and new input adds to it. Draw the
    kernel of the inputs small, N(0, 0.001^2), and clip the gradient: without clipping
    training is unstable. A gain below 1 forgets: 0.01 served speech best.

    Args:
      gain: what the ones are multiplied by.
      dtype: the type of the result where the call names none.

    Raises:
      ValueError: when called, for a shape that is not square.

    Example:
      >>> import jax, jinit
      >>> jinit.recurrent.identity(0.5)(jax.random.key(0), (2, 2)).tolist()
      [[0.5, 0.0], [0.0, 0.5]]

    References:
      Le, Jaitly and Hinton, "A simple way to initialize recurrent networks of
      rectified linear units", 2015.
    """
    return Irnn(gain, None, canonical_dtype(dtype))


@maker
def unit_forget_bias(
    *,
    gate: str | None = None,
    order: str = "ifgo",
    value: float = 1.0,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Fill the biases of a cell: `value` for the gate that keeps the state, else 0.

    That gate is f in an LSTM, and z in a GRU with h' = (1 - z) n + z h, as in Flax,
    PyTorch and Keras.

    Args:
      gate: one gate's letter, for the biases of that gate; None for those of all gates.
      order: the gates along the last axis, by their letters.
      value: the bias of the gate that keeps the state.
      dtype: the type of the result where the call names none.

    Raises:
      ValueError: for an unknown gate or order, or, when called, a last axis that is not
        a multiple of the gates.

    Example:
      >>> import jax, jinit
      >>> jinit.recurrent.unit_forget_bias()(jax.random.key(0), (8,)).tolist()
      [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]

    References:
      Gers, Schmidhuber and Cummins, "Learning to forget: continual prediction with
      LSTM", 2000. Jozefowicz, Zaremba and Sutskever, "An empirical exploration of
      recurrent network architectures", 2015.
    """
    return UnitForgetBias(gate, order, canonical_dtype(dtype), value)


@maker
def chrono(
    t_max: float,
    *,
    gate: str | None = None,
    order: str = "ifgo",
    grid: bool = False,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw the biases of a cell so that its units remember for up to t_max steps.

    b_f = log u, b_i = -b_f, u ~ U(1, t_max - 1); the other gates' are 0. The time that
    a unit keeps its state, 1 / (1 - sigmoid(b_f)) = 1 + u, is then uniform on [2,
    t_max]. In a GRU the gate z keeps the state, and its complement admits.

    Gates that are drawn by themselves (`gate="f"`, `gate="i"`) satisfy b_i = -b_f where
    they get the same key. In a model every parameter has its own: there `grid=True`
    spaces u evenly over its interval instead of drawing it.

    Args:
      t_max: the longest time, in steps: the length of the dependencies, more than 2.
      gate: one gate's letter, for the biases of that gate; None for those of all gates.
      order: the gates along the last axis, by their letters.
      grid: whether the times are evenly spaced, without randomness.
      dtype: the type of the result where the call names none.

    Raises:
      ValueError: for a `t_max` of 2 or less, an unknown gate or order, or, when called,
        a last axis that is not a multiple of the gates.

    Example:
      >>> import jax, jinit
      >>> b = jinit.recurrent.chrono(100.0)(jax.random.key(0), (4 * 8,))
      >>> bool((b[:8] == -b[8:16]).all()), bool((b[16:] == 0).all())
      (True, True)

    References:
      Tallec and Ollivier, "Can recurrent neural networks warp time?", 2018.
    """
    return Chrono(gate, order, canonical_dtype(dtype), t_max, grid)


def chrono_rules(t_max: float, *, cell: Cell = "lstm", prefix: str = "**") -> Rules:
    """The rules that give the cells of a tree their chrono biases.

    Where the gates have parameters of their own the times are a grid, since b_i = -b_f
    could not hold for two draws.

    Args:
      t_max: as for `chrono`.
      cell: "lstm" for Flax's LSTMCell (Linen and NNX) and Linen's OptimizedLSTMCell,
        whose biases are hi, hf, hg and ho; "fused_lstm" for NNX's OptimizedLSTMCell,
        with all of them in dense_h; "gru" for Linen's GRUCell, with biases ir, iz and
        in; "fused_gru" for NNX's GRUCell, with all of them in dense_i.
      prefix: a pattern for the path of the cells, such as "**/OptimizedLSTMCell_*".

    Returns:
      A list of (pattern, initializer) pairs.

    Raises:
      ValueError: for a `t_max` of 2 or less, or an unknown cell.

    Example:
      >>> import jinit
      >>> for pattern, init in jinit.recurrent.chrono_rules(50.0):
      ...     print(pattern, init)
      **/hf/bias jinit.recurrent.chrono(t_max=50.0, gate='f', grid=True)
      **/hi/bias jinit.recurrent.chrono(t_max=50.0, gate='i', grid=True)
    """
    order, pattern = _cell(cell, prefix)
    if "{gate}" not in pattern:
        return [(pattern, chrono(t_max, order=order))]
    gates = [g for g in "fzi" if g in order]
    return [(pattern.format(gate=g), chrono(t_max, gate=g, grid=True)) for g in gates]


def unit_forget_rules(
    *, value: float = 1.0, cell: Cell = "lstm", prefix: str = "**"
) -> Rules:
    """The rules that give the cells of a tree their forget biases.

    Args:
      value: the bias of the gate that keeps the state.
      cell: as for `chrono_rules`.
      prefix: as for `chrono_rules`.

    Returns:
      A list of (pattern, initializer) pairs.

    Raises:
      ValueError: for an unknown cell.

    Example:
      >>> import jinit
      >>> jinit.recurrent.unit_forget_rules(cell="gru")
      [('**/iz/bias', jinit.recurrent.unit_forget_bias(gate='z'))]
    """
    order, pattern = _cell(cell, prefix)
    if "{gate}" not in pattern:
        return [(pattern, unit_forget_bias(order=order, value=value))]
    gate = next(g for g in _KEEPS if g in order)
    return [(pattern.format(gate=gate), unit_forget_bias(gate=gate, value=value))]


def _cell(cell: str, prefix: Any) -> tuple[str, str]:
    """The order of a cell's gates, and the pattern of their biases."""
    order, path = _CELLS[checks.choice("cell", cell, tuple(_CELLS))]
    if not isinstance(prefix, str):
        raise TypeError(f"`prefix` is {prefix!r}; it must be text, such as '**'.")
    return order, f"{prefix}/{path}"


ENTRIES = (
    Entry(
        "recurrent.identity",
        identity,
        "constant",
        "w_ij = gain for i = j, else 0",
        "recurrent kernels before relu (IRNN)",
        "Le, Jaitly and Hinton 2015",
        "unstable without gradient clipping",
    ),
    Entry(
        "recurrent.unit_forget_bias",
        unit_forget_bias,
        "constant",
        "b_f = 1, other gates 0",
        "LSTM and GRU cells",
        "Gers, Schmidhuber and Cummins 2000",
        "`order` must be that of the cell",
    ),
    Entry(
        "recurrent.chrono",
        chrono,
        "log-uniform times",
        "b_f = log U(1, t_max - 1), b_i = -b_f",
        "long dependencies of a known length",
        "Tallec and Ollivier 2018",
        "gates with keys of their own need `grid=True`",
    ),
)
