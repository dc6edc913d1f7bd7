"""Initializers made of others of any origin, scaled and masked; and a given array."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._core import checks, dtypes, numbers
from .._core.dtypes import canonical_dtype
from .._core.meshes import Sharding
from .._core.programs import compiled
from .._initializer import foreign
from .._initializer.around import check_part
from .._initializer.base import Initializer
from .._initializer.entry import Entry
from .._initializer.foreign import in_torch_layout
from .._initializer.maker import maker
from .._initializer.parts import Composed, own_dtype, part
from .._initializer.stack import Blocks
from .constant import check_representable, frozen, thawed


@dataclasses.dataclass(frozen=True, repr=False)
class Foreign(Initializer):
    """An initializer of JAX's or a user's, as a value that can be scaled."""

    init: Any

    _name: ClassVar[str] = "scaled"

    def std(self, shape: checks.Shape) -> None:
        return None

    def _draw(
        self,
        key: jax.Array,
        shape: checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        found = dtypes.dtype(dtype, np.inexact)
        drawn = foreign.BoundInitializer(self.init, shape, found)(key, out_sharding)
        return drawn if numbers.is_one(factor) else (drawn * factor).astype(found)

    def _in_torch_layout(self) -> Initializer:
        return Foreign(in_torch_layout(self.init))

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        return self._name, {"init": self.init, "factor": 1.0}


@dataclasses.dataclass(frozen=True, repr=False)
class Masked(Composed):
    """One draw where a mask is true, another one elsewhere."""

    mask: Any
    a: Any
    b: Any

    _name: ClassVar[str] = "masked"

    def __post_init__(self) -> None:
        check_part("a", self.a)
        check_part("b", self.b)
        mask = thawed(frozen(self.mask, "mask"))
        if mask.dtype != bool:
            raise TypeError(
                f"`mask` has dtype {mask.dtype}; it must be an array of booleans."
            )
        self._set(mask=frozen(mask, "mask"))

    def std(self, shape: checks.Shape) -> None:
        return None

    def _in_torch_layout(self) -> Initializer:
        return Masked(self.mask, in_torch_layout(self.a), in_torch_layout(self.b))

    def _check(self, shape: checks.Shape) -> None:
        checks.broadcasts(shape, mask=thawed(self.mask))

    def _joined(
        self,
        key: jax.Array,
        shape: checks.Shape,
        dtype: DTypeLike | None,
        factor: float,
    ) -> jax.Array:
        found = own_dtype([self.a, self.b], dtype)
        a, b = (
            part(init, jax.random.fold_in(key, index), shape, found, factor)
            for index, init in enumerate((self.a, self.b))
        )
        mask = thawed(self.mask)
        whole = numbers.numpy_of(mask).broadcast_to(mask, shape)
        return jnp.where(whole, a, b)


@dataclasses.dataclass(frozen=True, repr=False)
class FromArray(Initializer):
    """A given array, for its own shape only."""

    array: Any
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "from_array"
    _random: ClassVar[bool] = False
    _any_layout: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._set(array=frozen(self.array), dtype=canonical_dtype(self.dtype))

    def std(self, shape: checks.Shape) -> None:
        return None

    def _draw(
        self,
        key: jax.Array,
        shape: checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        checks.key(key)
        array = thawed(self.array)
        # A list of no elements does not say what its axes would have been.
        if array.shape != shape and not (array.size == 0 == math.prod(shape)):
            raise ValueError(
                f"`shape` is {shape}, and the array of `from_array` has shape "
                f"{array.shape}; they must be equal. For a value that is broadcast use "
                "jinit.constant."
            )
        found = dtypes.dtype(self.dtype if dtype is None else dtype, np.generic)
        value = array if numbers.is_one(factor) else array * factor
        check_representable("array", value, found)
        return _as_array(value, shape=shape, dtype=found, out_sharding=out_sharding)


@compiled
def _as_array(value: jax.Array, *, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
    return jnp.asarray(value).reshape(shape).astype(dtype)


@maker
def scaled(init: Any, factor: float) -> Initializer:
    """Scale an initializer of any origin: factor times its draw.

    For jinit's own it is `factor * init`, rounded once.

    Args:
      init: an initializer, of jinit, of JAX or your own.
      factor: a finite number.

    Raises:
      TypeError: for something that is no initializer, or no number.
      ValueError: for a number that is not finite.

    Example:
      >>> import jax, jinit
      >>> jinit.scaled(jinit.he(), 0.5) == 0.5 * jinit.he()
      True
      >>> small = jinit.scaled(jax.nn.initializers.ones, 0.1)
      >>> small(jax.random.key(0), (2,)).tolist() == [jax.numpy.float32(0.1)] * 2
      True
    """
    check_part("init", init)
    found = init if isinstance(init, Initializer) else Foreign(init)
    return found * factor


@maker
def masked(mask: ArrayLike, a: Any, b: Any) -> Initializer:
    """Draw from `a` where the mask is true, and from `b` elsewhere.

    The keys are `jax.random.fold_in(key, 0)` for a and 1 for b; each draws the whole
    shape, so that its fans do not depend on the mask.

    Args:
      mask: booleans that broadcast to the shape.
      a: an initializer, of jinit, of JAX or your own.
      b: another one.

    Raises:
      TypeError: for a mask that is not of booleans, or parts that are no initializers.
      ValueError: when called, for a mask that does not broadcast to the shape.

    Example:
      >>> import jax, jinit
      >>> lower = jax.numpy.tril(jax.numpy.ones((4, 4), bool))
      >>> w = jinit.masked(lower, jinit.he(), jinit.zeros)(jax.random.key(0), (4, 4))
      >>> bool((w == jax.numpy.tril(w)).all())
      True
    """
    return Masked(mask, a, b)


@maker
def concat(
    inits: Sequence[Any], axis: int = -1, *, sizes: Sequence[int] | None = None
) -> Initializer:
    """Draw arrays one after another along an axis: `blocks` by another name.

    Args:
      inits: a sequence of initializers.
      axis: the axis along which they lie.
      sizes: their lengths; by default all equal.

    Raises:
      TypeError, ValueError: as `blocks`.

    Example:
      >>> import jax, jinit
      >>> init = jinit.concat([jinit.ones, jinit.zeros], axis=0, sizes=(1, 3))
      >>> init(jax.random.key(0), (4,)).tolist()
      [1.0, 0.0, 0.0, 0.0]
    """
    return Blocks(tuple(inits), axis, None if sizes is None else tuple(sizes))


@maker
def from_array(array: ArrayLike, dtype: DTypeLike | None = None) -> Initializer:
    """Return a given array: pretrained weights, a table, a filter.

    Args:
      array: an array of numbers; the shape of a call must be its own.
      dtype: the type of the result where the call names none.

    Raises:
      TypeError: if `array` is no array of numbers.
      ValueError: when called, for another shape.

    Example:
      >>> import jax, jinit
      >>> init = jinit.from_array([[1.0, 2.0], [3.0, 4.0]])
      >>> init(jax.random.key(0), (2, 2)).tolist()
      [[1.0, 2.0], [3.0, 4.0]]
    """
    return FromArray(array, canonical_dtype(dtype))


ENTRIES = (
    Entry(
        "scaled",
        scaled,
        "of its part",
        "w = factor init",
        "another scale for any initializer",
        "-",
    ),
    Entry(
        "masked",
        masked,
        "of its parts",
        "w = a where mask, else b",
        "causal or sparse kernels, parts that start at zero",
        "-",
        "each part counts the fans of the whole shape",
    ),
    Entry(
        "concat",
        concat,
        "of its parts",
        "w = [init_1 | init_2 | ...]",
        "kernels that hold several",
        "-",
    ),
    Entry(
        "from_array",
        from_array,
        "constant",
        "w = array",
        "pretrained weights, filters",
        "-",
        "for its own shape only",
    ),
)
