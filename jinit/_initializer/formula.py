"""A FormulaInitializer computes its array by a formula, as structured kernels do."""

import dataclasses
import functools
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._core import checks, numbers
from .._core.dtypes import is_narrow, real_dtype
from .._core.programs import compiled
from .._core.rounding import round_finite
from .base import DrawSpec, Initializer


@dataclasses.dataclass(frozen=True, repr=False)
class FormulaInitializer(Initializer):
    """A FormulaInitializer draws a scale times an array that `_build` computes.

    The scale, and the settings that it stands for, enter the compiled program as an
    operand: initializers that differ in them alone share one program. So do all other
    settings that are traced.
    """

    # The settings that `_scale` and the dtype of the call stand for.
    _operands: ClassVar[tuple[str, ...]] = ("gain", "dtype")

    def _std(self, shape: checks.Shape) -> float | None:
        self._check(shape)
        return None

    def _scale(self) -> float:
        return getattr(self, "gain", 1.0)

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        """Compute the array at scale 1, inside `jit`; no axis is empty.

        The dtype is float32 or wider; the result is rounded once to a narrower one.
        """
        raise NotImplementedError

    def _numbers(self) -> dict[str, float]:
        """Return numbers that `_build` reads as attributes: operands of the program."""
        return {}

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        form, traced = formed(self, spec.dtype)
        # The product is computed in Python's floats and rounded once.
        scale = numbers.cast(self._scale() * spec.factor, real_dtype(spec.dtype))
        # Nobody checked the key of a constant, so it may be anything, and stays
        # outside.
        used = key if self._random else None
        return _built(used, scale, traced, form=form, **spec.settings)

    def _with(self, **settings: Any) -> Self:
        """Return a copy with other settings, which must be checked already."""
        new = object.__new__(type(self))
        # `dataclasses.replace` would call `__post_init__`, which refuses the None that
        # stands for a traced setting in a program's key.
        vars(new).update(_settings(self) | settings)
        return new


def _settings(init: FormulaInitializer) -> dict[str, Any]:
    return {field.name: getattr(init, field.name) for field in dataclasses.fields(init)}


def formed(
    init: FormulaInitializer, dtype: np.dtype
) -> tuple[FormulaInitializer, dict[str, jax.Array]]:
    """Return what the program of `init` depends on, and its traced settings.

    The first is a key of compiled programs, so it must not hold a tracer. The traced
    settings are arguments of the program.
    """
    wide = real_dtype(dtype)
    computed = {k: numbers.cast(x, wide) for k, x in init._numbers().items()}
    if not init._is_traced:
        return _form(init), computed
    traced = {
        name: numbers.cast(value, wide)
        for name, value in _settings(init).items()
        if numbers.is_traced(value) and name not in init._operands
    }
    return _without_operands(init)._with(**dict.fromkeys(traced)), traced | computed


@functools.lru_cache(maxsize=4096)
def _form(init: FormulaInitializer) -> FormulaInitializer:
    """Return `init` with its operands at their defaults: its program's key."""
    return _without_operands(init)


def _without_operands(init: FormulaInitializer) -> FormulaInitializer:
    fields = dataclasses.fields(init)
    return init._with(**{f.name: f.default for f in fields if f.name in init._operands})


@compiled
def _built(
    key: Any,
    scale: jax.Array,
    traced: dict[str, jax.Array],
    *,
    shape: checks.Shape,
    dtype: np.dtype,
    form: FormulaInitializer,
) -> jax.Array:
    # Formulas divide by lengths, so they need not expect an axis of length 0.
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    wide = np.dtype(np.float32) if is_narrow(dtype) else dtype
    x = form._with(**traced)._build(key, shape, wide).astype(wide)
    # Strict promotion wants the factor's type to be the array's, which may be complex.
    x = x * jnp.asarray(scale, wide)
    return round_finite(x, dtype) if is_narrow(dtype) else x


def index(shape: checks.Shape, axis: int) -> jax.Array:
    """Return the index of every entry along one axis."""
    return lax.broadcasted_iota(np.uint32, shape, axis % len(shape))


def flat_index(shape: checks.Shape, axes: tuple[int, ...]) -> jax.Array:
    """Return the index of every entry along several axes, counted as one axis."""
    flat = jnp.zeros(shape, np.uint32)
    for axis in axes:
        # Horner's rule of mixed radix: the last of the axes runs fastest, as in a
        # reshape.
        flat = flat * np.uint32(shape[axis]) + index(shape, axis)
    return flat
