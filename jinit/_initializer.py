"""`Initializer`: a callable value: frozen, hashable, printable, picklable."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import numpy as np
from jax.typing import DTypeLike

from . import _checks
from ._compiled import Sharding
from .random import Law, draw


@dataclasses.dataclass(frozen=True, repr=False)
class Initializer:
    """A law for arrays of any shape, called as `init(key, shape, dtype, out_sharding)`.

    Two initializers made alike are equal and hash alike, so modules that hold them are
    equal too, and nothing is traced twice. `0.5 * init` is the law scaled by a half.
    The fields of a subclass are the arguments of its maker, in the maker's order.
    """

    _name: ClassVar[str]
    # Whether the draw is the same law whichever axes are inputs and outputs.
    _any_layout: ClassVar[bool] = False

    def __call__(
        self,
        key: jax.Array,
        shape: _checks.Shape,
        dtype: DTypeLike | None = None,
        out_sharding: Sharding = None,
    ) -> jax.Array:
        """Draw an array of this law.

        Args:
          key: a PRNG key, typed or legacy; one key, not a batch.
          shape: the shape of the array.
          dtype: its type; by default the initializer's own, or else JAX's default
            float.
          out_sharding: how the array is laid out over devices: a `NamedSharding`
            anywhere, a `PartitionSpec` inside `jax.set_mesh`.

        Raises:
          TypeError: for a key, shape or dtype of the wrong kind.
          ValueError: for a batch of keys, or a shape that the law does not fit.
        """
        return self._draw(key, _checks.shape(shape), dtype, out_sharding, 1.0)

    def std(self, shape: _checks.Shape) -> float | None:
        """The standard deviation that the law gives for `shape`, without sampling.

        None where the entries have no single one.
        """
        raise NotImplementedError

    def __mul__(self, factor: float) -> "Initializer":
        if isinstance(factor, Initializer):
            return NotImplemented
        return self._scaled(_checks.real("factor", factor))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        name, settings = self._spelling()
        required = _required(self)
        words = [
            spell(value) if key in required else f"{key}={spell(value)}"
            for key, value in settings.items()
        ]
        return f"jinit.{name}({', '.join(words)})"

    def _draw(
        self,
        key: jax.Array,
        shape: _checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        """Draw `factor` times the law; `shape` is checked already."""
        raise NotImplementedError

    def _scaled(self, factor: float) -> "Initializer":
        return self if factor == 1 else Scaled(factor, self)

    def _in_torch_layout(self) -> "Initializer":
        """The same law, with settings that name the axes of (out, in, *window).

        Raises:
          ValueError: if the settings do not tell the inputs from the outputs there.
        """
        if self._any_layout:
            return self
        raise ValueError(
            f"`init` is {self!r}, which does not tell which axes of PyTorch's kernel "
            "(out, in, *window) are inputs and outputs. Name them, with a layout such "
            "as 'oi' where the scheme takes one; or leave `torch_layout` out, since "
            "the scheme draws Flax's kernels by itself."
        )

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        """The maker's name, and the arguments that rebuild this value."""
        settings = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        return self._name, settings

    def _set(self, **canonical: Any) -> None:
        """Put checked settings in their canonical form, while the value is made."""
        for name, value in canonical.items():
            object.__setattr__(self, name, value)


@dataclasses.dataclass(frozen=True, repr=False)
class RandomInitializer(Initializer):
    """An initializer that is a scale times one of the fused laws."""

    _kind: ClassVar[type[Any]] = np.inexact

    def _law(self, shape: _checks.Shape, dtype: np.dtype) -> tuple[Law, Any]:
        """The law with scale 1, and the scale."""
        raise NotImplementedError

    def _draw(
        self,
        key: jax.Array,
        shape: _checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        own = getattr(self, "dtype", None)
        found = _checks.dtype(own if dtype is None else dtype, self._kind)
        law, scale = _law_of(self, shape, found)
        # Times 1 would be exact too, but would leave NumPy's type behind.
        scale = scale if factor == 1.0 else float(scale) * factor
        return draw(law, key, shape, found, scale, out_sharding)


def law_and_scale(
    init: Any, shape: _checks.Shape, dtype: np.dtype, factor: float
) -> tuple[Law, Any] | None:
    """The law and the scale that `factor * init` draws by; None where it has none."""
    if isinstance(init, Scaled):
        return law_and_scale(init.init, shape, dtype, factor * init.factor)
    if not isinstance(init, RandomInitializer):
        return None
    law, scale = _law_of(init, shape, dtype)
    return law, scale if factor == 1.0 else float(scale) * factor


@functools.lru_cache(maxsize=4096)
def _law_of(
    init: RandomInitializer, shape: _checks.Shape, dtype: np.dtype
) -> tuple[Law, Any]:
    return init._law(shape, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Scaled(Initializer):
    """`factor` times another initializer, rounded once."""

    factor: float
    init: Initializer

    _name: ClassVar[str] = "scaled"

    def std(self, shape: _checks.Shape) -> float | None:
        std = self.init.std(shape)
        return None if std is None else abs(self.factor) * std

    def _draw(
        self,
        key: jax.Array,
        shape: _checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        return self.init._draw(key, shape, dtype, out_sharding, factor * self.factor)

    def _scaled(self, factor: float) -> Initializer:
        # Scales of scales are multiplied out.
        return self.init._scaled(factor * self.factor)

    def _in_torch_layout(self) -> Initializer:
        return Scaled(self.factor, self.init._in_torch_layout())

    def __repr__(self) -> str:
        return f"{self.factor!r} * {self.init!r}"


def canonical_dtype(dtype: DTypeLike | None) -> np.dtype | None:
    """A maker's `dtype` setting, as a value that hashes and prints."""
    return None if dtype is None else _checks.dtype_like(dtype)


def spell(value: Any) -> str:
    """A setting as Python that rebuilds it."""
    if isinstance(value, np.dtype):
        return repr(value.name)
    if isinstance(value, Initializer):
        return repr(value)
    return _checks.public_name(value) if callable(value) else repr(value)


def _required(init: Initializer) -> set[str]:
    missing = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(init) if f.default is missing}
