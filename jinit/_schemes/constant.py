"""Constants: zeros, ones, and any value that broadcasts."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._core import checks, dtypes, numbers
from .._core.dtypes import canonical_dtype
from .._core.meshes import Sharding
from .._core.programs import compiled
from .._initializer.base import Initializer
from .._initializer.entry import Entry
from .._initializer.maker import maker


class Filling(Initializer):
    """One value for all entries, or one that is broadcast to the shape."""

    dtype: np.dtype | None

    _kind: ClassVar[type[Any]] = np.generic
    _random: ClassVar[bool] = False
    _symbolic: ClassVar[bool] = True
    _any_layout: ClassVar[bool] = True

    def _value(self) -> Any:
        """Return the value for a factor of 1: an array, or a tracer."""
        raise NotImplementedError

    def std(self, shape: checks.Shape) -> float | None:
        return 0.0 if np.ndim(self._value()) == 0 else None

    def _draw(
        self,
        key: jax.Array,
        shape: checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        value = self._value()
        checks.broadcasts(shape, value=value)
        found = dtypes.dtype(self.dtype if dtype is None else dtype, self._kind)
        value = value if numbers.is_one(factor) else value * factor
        check_representable("value", value, found)
        return _full(value, shape=shape, dtype=found, out_sharding=out_sharding)


@dataclasses.dataclass(frozen=True, repr=False)
class Constant(Filling):
    """Every entry is `value`, or `value` broadcast to the shape."""

    value: Any
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        self._set(value=frozen(self.value), dtype=canonical_dtype(self.dtype))

    def _value(self) -> Any:
        return thawed(self.value)


def check_representable(argument: str, value: Any, dtype: np.dtype) -> None:
    """Raise for a number that a dtype of 8 bits or less would turn into NaN."""
    is_tiny = dtype.itemsize == 1 and jnp.issubdtype(dtype, np.floating)
    if not is_tiny or numbers.is_traced(value):
        return
    with np.errstate(all="ignore"):
        lost = np.isnan(np.asarray(value, dtype).astype(np.float32)) != np.isnan(value)
    if lost.any():
        first = np.asarray(value)[lost].flat[0]
        raise ValueError(
            f"`{argument}` is {first}, and `dtype` {dtype.name} has no such number; "
            f"its numbers lie between {jnp.finfo(dtype).min} and "
            f"{jnp.finfo(dtype).max}; pass one of these, or a wider `dtype`."
        )


class _Filled(Constant):
    """`zeros` and `ones`: initializers by themselves, as in `jax.nn.initializers`."""

    def __repr__(self) -> str:
        return f"jinit.{self._spelling()[0]}"

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        return ("ones" if self.value else "zeros"), {}


@compiled
def _full(value: jax.Array, *, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
    return jnp.full(shape, value, dtype)


@maker
def constant(value: ArrayLike, dtype: DTypeLike | None = None) -> Initializer:
    """Fill with a value: w = value.

    Args:
      value: a number, or an array that broadcasts to the shape.
      dtype: the type of the result where the call names none.

    Raises:
      TypeError: for a value that is no array.

    Example:
      >>> import jax, jinit
      >>> jinit.constant(0.5)(jax.random.key(0), (3,)).tolist()
      [0.5, 0.5, 0.5]
    """
    return Constant(value, canonical_dtype(dtype))


@maker
def zeros_init() -> Initializer:
    """The initializer `zeros`: w = 0, for biases and the last layers of branches.

    Example:
      >>> import jinit
      >>> jinit.zeros_init() is jinit.zeros
      True
    """
    return zeros


@maker
def ones_init() -> Initializer:
    """The initializer `ones`: w = 1, for the scales of normalization layers.

    Example:
      >>> import jinit
      >>> jinit.ones_init() is jinit.ones
      True
    """
    return ones


def frozen(value: ArrayLike, argument: str = "value") -> Any:
    """Return a value that hashes: a number, nested tuples, or the tracer itself."""
    if numbers.is_traced(value):
        return value
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind in "US":
        raise TypeError(
            f"`{argument}` is {value!r}; it must be a number or an array of numbers."
        )
    plain = array.tolist()
    return _tupled(plain) if array.ndim else plain


def thawed(value: Any) -> Any:
    """Return the array, or the tracer, that `frozen` got."""
    return value if numbers.is_traced(value) else np.asarray(value)


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


zeros = _Filled(0.0)
ones = _Filled(1.0)


ENTRIES = (
    Entry(
        "constant",
        constant,
        "constant",
        "w = value",
        "biases, scales",
        "-",
        "equal weights stay equal: not for kernels",
    ),
    Entry(
        "zeros",
        zeros_init,
        "constant",
        "w = 0",
        "biases, the last layer of a residual branch",
        "-",
        "a network of zeros does not learn",
    ),
    Entry(
        "ones",
        ones_init,
        "constant",
        "w = 1",
        "scales of normalization layers",
        "-",
    ),
)
