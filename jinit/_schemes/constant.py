"""Constants fill an array with zeros, ones, a value that broadcasts, or an array."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._core import checks, numbers
from .._core.dtypes import canonical_dtype
from .._core.programs import compiled
from .._initializer.base import DrawSpec, Initializer
from .._initializer.frozen import check_representable, frozen, thawed
from .._initializer.maker import maker
from .._initializer.scheme import scheme


class Filling(Initializer):
    """A Filling is one value that is broadcast to the shape, whatever the key is."""

    dtype: np.dtype | None

    _kind: ClassVar[type[Any]] = np.generic
    _random: ClassVar[bool] = False
    _symbolic: ClassVar[bool] = True
    _any_layout: ClassVar[bool] = True

    def _value(self) -> Any:
        """Return the value for a factor of 1: an array, or a tracer."""
        raise NotImplementedError

    def _std(self, shape: checks.Shape) -> float | None:
        # Equal entries do not vary; those of an array have no single law.
        return 0.0 if np.ndim(self._value()) == 0 else None

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        value = self._value()
        checks.broadcasts(spec.shape, value=value)
        # A product with 1.0 would turn integers and booleans into floats.
        value = value if numbers.is_one(spec.factor) else value * spec.factor
        check_representable("value", value, spec.dtype)
        return _full(value, **spec.settings)


@dataclasses.dataclass(frozen=True, repr=False)
class Constant(Filling):
    """A Constant is `value`, broadcast to the shape."""

    value: Any
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        self._set(value=frozen(self.value), dtype=canonical_dtype(self.dtype))

    def _value(self) -> Any:
        return thawed(self.value)


class _Filled(Constant):
    """A _Filled is `zeros` or `ones`, and prints as this name.

    As in `jax.nn.initializers`, these two are initializers and not makers.
    """

    def __repr__(self) -> str:
        return f"jinit.{self._spelling()[0]}"

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        return ("ones" if self.value else "zeros"), {}


@compiled
def _full(value: jax.Array, *, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
    # The value is an operand, so one program serves all constants of a shape.
    return jnp.full(shape, value, dtype)


@scheme(
    law="constant",
    formula="w = value",
    use="biases, scales",
    pitfall="not for kernels: equal units stay equal",
)
@maker
def constant(value: ArrayLike, dtype: DTypeLike | None = None) -> Initializer:
    """Fill an array with a value: w = value.

    Args:
      value: a number, or an array that broadcasts to the shape.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      TypeError: if `value` is not a number or an array of numbers.
      ValueError: when called, if `value` does not broadcast to the shape.

    Example:
      >>> import jax, jinit
      >>> jinit.constant(0.5)(jax.random.key(0), (3,)).tolist()
      [0.5, 0.5, 0.5]
    """
    return Constant(value, canonical_dtype(dtype))


@scheme(
    name="zeros",
    law="constant",
    formula="w = 0",
    use="biases, the last layer of a residual branch",
    pitfall="a network of zeros does not learn",
)
@maker
def zeros_init() -> Initializer:
    """Return the initializer `zeros`, for biases and the last layers of branches.

    Example:
      >>> import jinit
      >>> jinit.zeros_init() is jinit.zeros
      True
    """
    return zeros


@scheme(
    name="ones",
    law="constant",
    formula="w = 1",
    use="scales of normalization layers",
)
@maker
def ones_init() -> Initializer:
    """Return the initializer `ones`, for the scales of normalization layers.

    Example:
      >>> import jinit
      >>> jinit.ones_init() is jinit.ones
      True
    """
    return ones


# Flax takes them without a call, `bias_init=zeros`, so they are values and no makers.
zeros = _Filled(0.0)
ones = _Filled(1.0)


@dataclasses.dataclass(frozen=True, repr=False)
class FromArray(Initializer):
    """A FromArray is a fixed array, and fits no other shape than the array's."""

    array: Any
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "from_array"
    _kind: ClassVar[type[Any]] = np.generic
    _random: ClassVar[bool] = False
    _any_layout: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._set(array=frozen(self.array), dtype=canonical_dtype(self.dtype))

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        array, shape = thawed(self.array), spec.shape
        # An empty list does not say what its other axes would have been, so any empty
        # shape fits it.
        if array.shape != shape and not (array.size == 0 == math.prod(shape)):
            raise ValueError(
                f"`shape` is {shape}, and the array of `from_array` has shape "
                f"{array.shape}; they must be equal. For a value that is broadcast use "
                "jinit.constant."
            )
        value = array if numbers.is_one(spec.factor) else array * spec.factor
        check_representable("array", value, spec.dtype)
        return _as_array(value, **spec.settings)


@compiled
def _as_array(value: jax.Array, *, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
    # The array is an operand too: as a part of the program it would be compiled into
    # it.
    return jnp.asarray(value).reshape(shape).astype(dtype)


@scheme(
    law="constant",
    formula="w = array",
    use="pretrained weights, filters",
    pitfall="fits the shape of the array only",
)
@maker
def from_array(array: ArrayLike, dtype: DTypeLike | None = None) -> Initializer:
    """Return an array that you pass, such as pretrained weights, a table or a filter.

    Args:
      array: an array of numbers; every call must ask for its shape.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      TypeError: if `array` is not an array of numbers.
      ValueError: when called, if the shape is not that of the array.

    Example:
      >>> import jax, jinit
      >>> init = jinit.from_array([[1.0, 2.0], [3.0, 4.0]])
      >>> init(jax.random.key(0), (2, 2)).tolist()
      [[1.0, 2.0], [3.0, 4.0]]
    """
    return FromArray(array, canonical_dtype(dtype))
