"""Composed initializers draw their parts by other initializers."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from .._core import checks, numbers
from .._core.dtypes import dtype as _dtype
from .._core.meshes import check_fits, explicit_axes
from .._core.programs import jit_to
from ..random import _threefry as threefry
from . import foreign
from .base import DrawSpec, Initializer, LayoutAndFans, is_random


class Composed(Initializer):
    """A Composed initializer draws parts, each with another key, and joins them."""

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        def join(key: jax.Array) -> jax.Array:
            used = threefry.spent(key) if is_random(self) else key
            return self._joined(used, spec._replace(sharding=None))

        if spec.sharding is None:
            return join(key)
        check_fits(spec.sharding, spec.shape)
        # As one program, so that no device ever holds a whole part.
        whole: jax.Array = jit_to(join, (), spec.sharding, explicit_axes())(key)
        return whole

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        """Draw the parts and join them; `spec` has no sharding."""
        raise NotImplementedError


def part(init: Any, key: jax.Array, spec: DrawSpec) -> jax.Array:
    """Draw a part with any callable initializer: jinit's, JAX's or a user's."""
    if isinstance(init, Initializer):
        return init._draw(key, *spec)
    drawn: jax.Array = foreign.call(init, key, spec.shape, spec.dtype)
    if numbers.is_one(spec.factor):
        return drawn
    scaled: jax.Array = (drawn * spec.factor).astype(drawn.dtype)
    return scaled


def common_dtype(parts: Sequence[Any], dtype: DTypeLike | None) -> np.dtype:
    """Return the dtype of the call, or else the parts' dtype, which must agree."""
    if dtype is not None:
        return _dtype(dtype, np.inexact)
    dtypes = {getattr(init, "dtype", None) for init in parts}
    if len(dtypes) > 1:
        named = ", ".join(sorted(str(d) for d in dtypes))
        raise ValueError(
            f"`dtype` is None, and the parts have different types: {named}; pass "
            "`dtype`, or make the parts agree."
        )
    return _dtype(dtypes.pop() if dtypes else None, np.inexact)


def std_of(init: Any, shape: checks.Shape) -> float | None:
    """Return the standard deviation of a part; a foreign part does not tell it."""
    return init._std(shape) if isinstance(init, Initializer) else None


def common_layout_and_fans(parts: Sequence[tuple[Any, checks.Shape]]) -> LayoutAndFans:
    """Return the layout and the fans of all parts; None if they differ."""
    distinct = {
        init._layout_and_fans(shape) if isinstance(init, Initializer) else _UNKNOWN
        for init, shape in parts
    }
    return distinct.pop() if len(distinct) == 1 else _UNKNOWN


_UNKNOWN: LayoutAndFans = None, (None, None)


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
