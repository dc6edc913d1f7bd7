"""Composed initializers draw parts by other initializers."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from .._core import checks, numbers
from .._core.dtypes import dtype as _dtype
from .._core.meshes import Sharding, check_fits, explicit_axes
from .._core.programs import jit_to
from ..random._threefry import spent
from . import foreign
from .base import Initializer, is_random


class Composed(Initializer):
    """A composed initializer draws parts, each with another key, and joins them."""

    def _draw(
        self,
        key: jax.Array,
        shape: checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        checks.key(key)
        self._check(shape)

        def join(key: jax.Array) -> jax.Array:
            used = spent(key) if is_random(self) else key
            return self._joined(used, shape, dtype, factor)

        if out_sharding is None:
            return join(key)
        # As one program, so that no device ever holds a whole part.
        check_fits(out_sharding, shape)
        return jit_to(join, (), out_sharding, explicit_axes())(key)

    def _check(self, shape: checks.Shape) -> None:
        """Raise for a shape that cannot be made of the parts."""
        raise NotImplementedError

    def _joined(
        self,
        key: jax.Array,
        shape: checks.Shape,
        dtype: DTypeLike | None,
        factor: float,
    ) -> jax.Array:
        raise NotImplementedError


def part(
    init: Any, key: jax.Array, shape: checks.Shape, dtype: np.dtype, factor: float
) -> jax.Array:
    """Draw a part with any callable initializer: jinit's, JAX's or a user's."""
    if isinstance(init, Initializer):
        return init._draw(key, shape, dtype, None, factor)
    drawn = foreign.call(init, key, shape, dtype)
    return drawn if numbers.is_one(factor) else (drawn * factor).astype(drawn.dtype)


def own_dtype(parts: Sequence[Any], dtype: DTypeLike | None) -> np.dtype:
    """Return the dtype of the call, or else the parts' dtype, which must agree."""
    if dtype is not None:
        return _dtype(dtype, np.inexact)
    dtypes = {getattr(init, "dtype", None) for init in parts}
    if len(dtypes) > 1:
        named = ", ".join(sorted(str(d) for d in dtypes))
        raise ValueError(
            f"`dtype` is None, and the parts have different types of their own: "
            f"{named}; pass `dtype`, or make them agree."
        )
    return _dtype(dtypes.pop() if dtypes else None, np.inexact)


def std_of(init: Any, shape: checks.Shape) -> float | None:
    return init.std(shape) if isinstance(init, Initializer) else None


def common_std(parts: list[tuple[Any, checks.Shape]]) -> float | None:
    """Return the standard deviation of all parts; None if they differ."""
    if not parts:
        return None
    distinct = {(id(init), shape): (init, shape) for init, shape in parts}
    stds = [std_of(*part) for part in distinct.values()]
    first = stds[0]
    if len(stds) == 1 or first is None:
        return first
    if numbers.is_traced(*stds):
        return None
    same = all(std is not None and math.isclose(std, first) for std in stds)
    return first if same else None
