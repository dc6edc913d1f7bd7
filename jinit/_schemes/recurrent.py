"""Recurrent cells start from an identity kernel, or from biases that keep their state.

`jinit/recurrent.py` tells which form of a scheme fits which cell.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .. import random
from .._core import checks, numbers, papers
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer
from .._initializer.formula import FormulaInitializer, index
from .._initializer.kernel_axes import KernelAxes
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from . import structured

Cell = Literal["lstm", "fused_lstm", "gru", "fused_gru"]
Rules = list[tuple[str, Initializer]]

_KEEPS, _ADMITS = ("f", "z"), "i"
_GATES = "ifgorzn"

# For each cell the order of its gates, and the path of a gate's biases below the cell.
_CELLS: dict[str, tuple[str, str]] = {
    "lstm": ("ifgo", "h{gate}/bias"),
    "fused_lstm": ("ifgo", "dense_h/bias"),
    "gru": ("rzn", "i{gate}/bias"),
    "fused_gru": ("rzn", "dense_i/bias"),
}


@dataclasses.dataclass(frozen=True, repr=False)
class Irnn(structured.Identity):
    """An Irnn is a square recurrent kernel, gain times the identity."""

    _name: ClassVar[str] = "recurrent.identity"

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        return self  # It is square, and the same in both directions.

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
    """A GateBias has the biases of one gate, or of all gates along the last axis."""

    gate: str | None = None
    order: str = "ifgo"
    dtype: np.dtype | None = None

    _kind: ClassVar[type[Any]] = np.floating

    def _set_gates(self) -> None:
        if self.gate is not None:
            checks.choice("gate", self.gate, tuple(_GATES))
        is_known = isinstance(self.order, str) and not set(self.order) - set(_GATES)
        is_once = is_known and len(set(self.order)) == len(self.order)
        if not is_once or not set(self.order) & set(_KEEPS):
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
        """Return the shape of the biases of one gate."""
        count = 1 if self.gate else len(self.order)
        return (*shape[:-1], shape[-1] // count)

    def _gate_bias(self, gate: str, keeping: jax.Array) -> jax.Array:
        """Return the biases of a gate, from those of the gate that keeps the state."""
        raise NotImplementedError

    def _side_by_side(self, keeping: jax.Array) -> jax.Array:
        gates = self.gate or self.order
        return jnp.concatenate([self._gate_bias(g, keeping) for g in gates], axis=-1)


@dataclasses.dataclass(frozen=True, repr=False)
class UnitForgetBias(GateBias):
    """A UnitForgetBias is `value` for the gate that keeps the state, 0 for others."""

    value: float = 1.0

    _name: ClassVar[str] = "recurrent.unit_forget_bias"
    _random: ClassVar[bool] = False
    _operands: ClassVar[tuple[str, ...]] = ("value", "dtype")

    def __post_init__(self) -> None:
        self._set_gates()
        self._set(value=checks.number("value", self.value))

    def _scale(self) -> float:
        return self.value

    def _gate_bias(self, gate: str, keeping: jax.Array) -> jax.Array:
        return keeping if gate in _KEEPS else jnp.zeros_like(keeping)

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        return self._side_by_side(jnp.ones(self._units(shape), dtype))


@dataclasses.dataclass(frozen=True, repr=False)
class Chrono(GateBias):
    """Chrono has the biases b_f = log u, b_i = -log u, u uniform on [1, t_max - 1]."""

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
        # The dataclass inherits fields that come before t_max, the first argument.
        return name, {"t_max": self.t_max} | settings

    def _gate_bias(self, gate: str, keeping: jax.Array) -> jax.Array:
        if gate in _KEEPS:
            return keeping
        return -keeping if gate == _ADMITS else jnp.zeros_like(keeping)

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        units = self._units(shape)
        if self.grid:
            # The middles of equal parts of (0, 1), one for each unit.
            u = (index(units, -1).astype(dtype) + 0.5) / units[-1]
        else:
            u = random.uniform(key, units, dtype)
        # 1 + u (t_max - 2) is uniform on [1, t_max - 1].
        return self._side_by_side(jnp.log1p(u * (self.t_max - 2)))


def std_of_log(high: float) -> float:
    """Return the standard deviation of log u for u uniform on [1, high]."""
    # u log^2 u - 2 u log u + 2 u.
    log, width = numbers.log(high), high - 1
    # By parts: log u has the integral u log u - u, and log^2 u has the integral
    # u log^2 u - 2 u log u + 2 u.
    mean = high * log / width - 1
    square = (high * log * log - 2 * high * log) / width + 2
    variance = square - mean * mean
    # For `high` near 1 the difference may round to a negative number.
    std: float = numbers.sqrt(numbers.at_least(0.0, variance))
    return std


@scheme(
    name="recurrent.identity",
    law="constant",
    formula="w_ij = gain for i = j, else 0",
    use="recurrent kernels before relu (IRNN)",
    pitfall="unstable without gradient clipping",
    paper=papers.LE_2015,
)
@maker
def identity(gain: float = 1.0, *, dtype: DTypeLike | None = None) -> Initializer:
    """Fill a square recurrent kernel with an identity: w_ij = gain for i = j, else 0.

    With relu and zero biases such a network (IRNN) keeps its state, and new input adds
    to it. Draw the kernel of the inputs from N(0, 0.001^2), and clip the gradient,
    since training is unstable without. With a gain below 1 the network forgets; in the
    paper 0.01 was best for speech.

    Args:
      gain: the value on the diagonal.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the shape is not square.

    Example:
      >>> import jax, jinit
      >>> jinit.recurrent.identity(0.5)(jax.random.key(0), (2, 2)).tolist()
      [[0.5, 0.0], [0.0, 0.5]]

    References:
      Le, Jaitly and Hinton, "A simple way to initialize recurrent networks of rectified
        linear units", arXiv 2015.
    """
    return Irnn(gain, None, canonical_dtype(dtype))


@scheme(
    name="recurrent.unit_forget_bias",
    law="constant",
    formula="b_f = 1, other gates 0",
    use="LSTM and GRU cells",
    pitfall="`order` must be that of the cell",
    paper=papers.GERS_2000,
)
@maker
def unit_forget_bias(
    *,
    gate: str | None = None,
    order: str = "ifgo",
    value: float = 1.0,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Fill the biases of the gate that keeps the state with `value`, and others with 0.

    That gate is f in an LSTM, and z in a GRU with h' = (1 - z) n + z h, as in Flax,
    PyTorch and Keras.

    Args:
      gate: the letter of a gate, for an array with its biases alone; None for an array
        with the biases of all gates.
      order: the letters of the gates, in the order that they have along the last axis.
      value: the bias of the gate that keeps the state.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if the gate or the order is unknown; when called, if the last axis is
        not a multiple of the number of gates.

    Example:
      >>> import jax, jinit
      >>> jinit.recurrent.unit_forget_bias()(jax.random.key(0), (8,)).tolist()
      [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]

    References:
      Gers, Schmidhuber and Cummins, "Learning to forget: continual prediction with
        LSTM", Neural Computation 2000.
      Jozefowicz, Zaremba and Sutskever, "An empirical exploration of recurrent network
        architectures", ICML 2015.
    """
    return UnitForgetBias(gate, order, canonical_dtype(dtype), value)


@scheme(
    name="recurrent.chrono",
    law="log-uniform times",
    formula="b_f = log U(1, t_max - 1), b_i = -b_f",
    use="long dependencies of a known length",
    pitfall="gates that are drawn with different keys need `grid=True`",
    paper=papers.TALLEC_2018,
)
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

    b_f = log u and b_i = -b_f for u ~ U(1, t_max - 1), and all other biases are 0. A
    unit keeps its state for 1 / (1 - sigmoid(b_f)) = 1 + u steps, a time uniform on
    [2, t_max]. In a GRU the biases of z are log u: z keeps the state, and 1 - z admits
    new input.

    Two gates that are drawn alone (`gate="f"` and `gate="i"`) satisfy b_i = -b_f only
    if they get the same key. In a model every parameter has another key, so use
    `grid=True` there, which spaces u evenly over its interval instead of drawing it.

    Args:
      t_max: the longest time in steps, the length of the dependencies, more than 2.
      gate: the letter of a gate, for an array with its biases alone; None for an array
        with the biases of all gates.
      order: the letters of the gates, in the order that they have along the last axis.
      grid: True for times that are evenly spaced, without randomness.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if `t_max` is 2 or less, or the gate or the order is unknown; when
        called, if the last axis is not a multiple of the number of gates.

    Example:
      >>> import jax, jinit
      >>> b = jinit.recurrent.chrono(100.0)(jax.random.key(0), (4 * 8,))
      >>> bool((b[:8] == -b[8:16]).all()), bool((b[16:] == 0).all())
      (True, True)

    References:
      Tallec and Ollivier, "Can recurrent neural networks warp time?", ICLR 2018.
    """
    return Chrono(gate, order, canonical_dtype(dtype), t_max, grid)


def chrono_rules(t_max: float, *, cell: Cell = "lstm", prefix: str = "**") -> Rules:
    """Make the rules that give the cells of a tree the biases of `chrono`.

    If the gates have separate parameters, the times are a grid, since b_i = -b_f cannot
    hold for two draws.

    Args:
      t_max: the longest time in steps, more than 2.
      cell: "lstm" for Flax's LSTMCell (Linen and NNX) and Linen's OptimizedLSTMCell,
        whose biases are hi, hf, hg and ho; "fused_lstm" for NNX's OptimizedLSTMCell,
        which has all biases in dense_h; "gru" for Linen's GRUCell, whose biases are ir,
        iz and in; "fused_gru" for NNX's GRUCell, which has all biases in dense_i.
      prefix: a pattern for the paths of the cells, such as "**/OptimizedLSTMCell_*".

    Returns:
      A list of (pattern, initializer) pairs.

    Raises:
      TypeError: if `prefix` is not text.
      ValueError: if `t_max` is 2 or less, or the cell is unknown.

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
    # The other gates have biases of 0, which is the default of every cell.
    gates = [g for g in "fzi" if g in order]
    return [(pattern.format(gate=g), chrono(t_max, gate=g, grid=True)) for g in gates]


def unit_forget_rules(
    *, value: float = 1.0, cell: Cell = "lstm", prefix: str = "**"
) -> Rules:
    """Make the rules that give the cells of a tree the biases of `unit_forget_bias`.

    Args:
      value: the bias of the gate that keeps the state.
      cell: the name of the cells, as for `chrono_rules`.
      prefix: a pattern for the paths of the cells, as for `chrono_rules`.

    Returns:
      A list of (pattern, initializer) pairs.

    Raises:
      TypeError: if `prefix` is not text.
      ValueError: if the cell is unknown.

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
    """Return the order of the gates of a cell, and the pattern of their biases."""
    order, path = _CELLS[checks.choice("cell", cell, tuple(_CELLS))]
    if not isinstance(prefix, str):
        raise TypeError(f"`prefix` is {prefix!r}; it must be text, such as '**'.")
    return order, f"{prefix}/{path}"
