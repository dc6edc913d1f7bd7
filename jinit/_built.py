"""Initializers that build their array from formulas: structured and derived laws."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from . import _checks
from ._compiled import Sharding, compiled
from ._initializer import Initializer
from ._rounding import is_narrow, round_finite
from ._unit import real_dtype


@dataclasses.dataclass(frozen=True, repr=False)
class Built(Initializer):
    """A scale times an array that `_build` computes, in float32 or wider.

    The scale, and the settings that it stands for, enter the compiled program as an
    operand: initializers that differ in them alone share one program.
    """

    _kind: ClassVar[type[Any]] = np.inexact
    # Whether the key decides the values; else it is not even looked at.
    _random: ClassVar[bool] = True
    # The settings that `_scale` and the dtype of the call stand for.
    _operands: ClassVar[tuple[str, ...]] = ("gain", "dtype")

    def std(self, shape: _checks.Shape) -> float | None:
        self._check(_checks.shape(shape))
        return None

    def _check(self, shape: _checks.Shape) -> None:
        """Raise unless the scheme fits `shape`."""

    def _scale(self) -> float:
        return getattr(self, "gain", 1.0)

    def _dtype(self, dtype: DTypeLike | None) -> np.dtype:
        own = getattr(self, "dtype", None)
        return _checks.dtype(own if dtype is None else dtype, self._kind)

    def _build(self, key: Any, shape: _checks.Shape, dtype: np.dtype) -> jax.Array:
        """The array at scale 1. It runs inside `jit`; no axis is empty."""
        raise NotImplementedError

    def _draw(
        self,
        key: jax.Array,
        shape: _checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        if self._random:
            _checks.key(key)
        self._check(shape)
        found = self._dtype(dtype)
        return _built(
            key if self._random else None,
            real_dtype(found).type(self._scale() * factor),
            shape=shape,
            dtype=found,
            form=_form(self),
            out_sharding=out_sharding,
        )


@functools.lru_cache(maxsize=4096)
def _form(init: Built) -> Built:
    """`init` with its operands at their defaults: what its program depends on."""
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(init)
        if field.name in init._operands
    }
    return dataclasses.replace(init, **defaults)


@compiled
def _built(
    key: Any, scale: jax.Array, *, shape: _checks.Shape, dtype: np.dtype, form: Built
) -> jax.Array:
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    wide = np.dtype(np.float32) if is_narrow(dtype) else dtype
    x = form._build(key, shape, wide).astype(wide) * scale
    return round_finite(x, dtype) if is_narrow(dtype) else x


def index(shape: _checks.Shape, axis: int) -> jax.Array:
    """The index of every entry along one axis."""
    return lax.broadcasted_iota(np.uint32, shape, axis % len(shape))


def flat_index(shape: _checks.Shape, axes: tuple[int, ...]) -> jax.Array:
    """The index of every entry along several axes, counted as one."""
    flat = jnp.zeros(shape, np.uint32)
    for axis in axes:
        flat = flat * np.uint32(shape[axis]) + index(shape, axis)
    return flat
