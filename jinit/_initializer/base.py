"""An initializer is a value that is called: frozen, hashable, printable, picklable.

`Initializer.__call__` checks its arguments and puts them into a `DrawSpec`; the method
`_sample` of a subclass draws the array that the spec describes. The settings of a
scheme are the fields of its dataclass. Equality, hashes, texts, pickles and
configurations are all made from these fields.
"""

import dataclasses
import functools
import sys
from collections.abc import Hashable
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike

from .._core import checks, dtypes, names, numbers
from .._core.meshes import Sharding
from ..random import _law as laws
from .frozen import exact
from .kernel_axes import KernelAxes

# A layout, such as "kkio", and (fan_in, fan_out). None stands for what a scheme lacks.
LayoutAndFans = tuple[str | None, tuple[float | None, float | None]]


class DrawSpec(NamedTuple):
    """A DrawSpec holds the arguments of one draw, which are checked already."""

    shape: checks.Shape
    dtype: np.dtype
    sharding: Sharding
    factor: Any

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings that every compiled sampler takes."""
        shape, dtype, sharding, _ = self
        return {"shape": shape, "dtype": dtype, "out_sharding": sharding}


@dataclasses.dataclass(frozen=True, repr=False)
class Initializer:
    """An Initializer draws arrays: `init(key, shape, dtype, out_sharding)`.

    Two initializers made alike are equal and hash alike, so modules that hold them are
    equal too, and nothing is traced twice. `0.5 * init` is the law scaled by a half.
    The fields of a subclass are the arguments of its maker, in the maker's order.

    Inside `jit`, `vmap` or `grad` a number among the fields may be a tracer. Such an
    initializer equals only itself, and cannot be pickled or configured.
    """

    _name: ClassVar[str]
    # Whether the values depend on the key; if not, the key is not even checked.
    _random: ClassVar[bool] = True
    # Whether the law stays the same if inputs and outputs are on other axes.
    _any_layout: ClassVar[bool] = False
    # Whether the scheme draws shapes with the symbolic dimensions of `jax.export`.
    _symbolic: ClassVar[bool] = False
    # The dtypes that the scheme can draw.
    _kind: ClassVar[type[Any]] = np.inexact

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # A dataclass would compare settings by `==`, for which 1, 1.0 and True are one
        # number and 0.0 is -0.0. It keeps the methods that a class has already.
        cls.__eq__ = Initializer.__eq__  # type: ignore[method-assign]
        cls.__hash__ = Initializer.__hash__  # type: ignore[method-assign]

    def __call__(
        self,
        key: jax.Array,
        shape: checks.Shape,
        dtype: DTypeLike | None = None,
        out_sharding: Sharding = None,
    ) -> jax.Array:
        """Draw an array of this law.

        Args:
          key: a PRNG key, typed or legacy; one key, not a batch.
          shape: the shape of the array.
          dtype: the dtype of the array; by default the initializer's, or else JAX's
            default float.
          out_sharding: how the array is laid out over devices: a `NamedSharding`
            anywhere, a `PartitionSpec` inside `jax.set_mesh`.

        Raises:
          TypeError: if `key`, `shape` or `dtype` has a wrong type.
          ValueError: if `key` is a batch of keys, or the scheme does not fit `shape`.
        """
        sizes = checks.shape(shape, symbolic=self._symbolic)
        if self._random:
            checks.key(key)
        return self._draw(key, sizes, dtype, out_sharding, 1.0)

    def std(self, shape: checks.Shape) -> float | None:
        """Return the standard deviation that the law gives for `shape`, without a draw.

        The result is None if the entries have no common standard deviation.

        Raises:
          TypeError: if `shape` has a wrong type.
          ValueError: if the scheme does not fit `shape`.
        """
        return self._std(checks.shape(shape, symbolic=self._symbolic))

    def layout_and_fans(self, shape: checks.Shape) -> LayoutAndFans:
        """Return the layout and the fans by which the scheme counts for `shape`.

        Each of them is None if the scheme does not count fans, as `normal(0.02)` does
        not.

        Raises:
          TypeError: if `shape` has a wrong type.
          ValueError: if the settings do not fit `shape`.

        Example:
          >>> import jinit
          >>> jinit.he().layout_and_fans((3, 3, 64, 128))
          ('kkio', (576, 1152))
        """
        return self._layout_and_fans(checks.shape(shape, symbolic=self._symbolic))

    def __mul__(self, factor: float) -> "Initializer":
        if isinstance(factor, Initializer):
            return NotImplemented
        return self._scaled(checks.number("factor", factor))

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Initializer):
            return NotImplemented
        return self is other or self._identity == other._identity

    def __hash__(self) -> int:
        return self._hash

    # The caches of laws and programs ask for the hash at every draw. To read all
    # settings anew takes 12 us, where all the Python of a draw takes 5. A cached
    # property writes to `__dict__`, past the guard of a frozen class.
    @functools.cached_property
    def _hash(self) -> int:
        return hash(self._identity)

    @functools.cached_property
    def _identity(self) -> Hashable:
        """Return a key of the class and the exact settings."""
        if self._is_traced:
            # Such an initializer equals only itself, as JAX's do. Flax hashes what a
            # module holds, so it needs a hash.
            return object()
        settings = (getattr(self, field.name) for field in dataclasses.fields(self))
        return type(self), *map(exact, settings)

    @property
    def __fn_or_cls__(self) -> Hashable:
        """Return what Flax's `nn.jit` compares instead of the fields.

        Flax would compare the fields by `==`, and fail at a tracer.
        """
        return self._identity

    @functools.cached_property
    def _is_traced(self) -> bool:
        """Tell whether a setting is a tracer, here or in a part."""
        settings = (getattr(self, field.name) for field in dataclasses.fields(self))
        return any(map(numbers.holds_tracer, settings))

    def __reduce__(self) -> tuple[Any, ...]:
        """Return a public function and the maker's name and settings, for a pickle.

        So a pickle does not depend on the file in which a class lies. `from_config` is
        looked up in `jinit` at run time, since this file may not import the registry,
        which imports this file.
        """
        if self._is_traced:
            raise TypeError(f"{self!r} cannot be pickled. {TRACED_ADVICE}")
        name, settings = self._spelling()
        return sys.modules["jinit"].from_config, ({"name": name, **settings},)

    def __copy__(self) -> "Initializer":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Initializer":
        return self

    def __repr__(self) -> str:
        name, settings = self._spelling()
        required = _required(self)
        positional = [spell(v) for key, v in settings.items() if key in required]
        named = [f"{k}={spell(v)}" for k, v in settings.items() if k not in required]
        return f"jinit.{name}({', '.join(positional + named)})"

    # Composed initializers call this method, and not `__call__`, for their parts: it
    # takes a factor, and their key and their shapes are checked already.
    def _draw(
        self,
        key: jax.Array,
        shape: checks.Shape,
        dtype: DTypeLike | None,
        out_sharding: Sharding,
        factor: float,
    ) -> jax.Array:
        """Draw `factor` times the law, with a key and a shape that are checked.

        Subclasses implement `_sample`, as `RandomInitializer` does for every scheme
        with a law and a scale; some also implement `_check` or `_dtype`.
        """
        self._check(shape)
        spec = DrawSpec(shape, self._dtype(dtype, shape), out_sharding, factor)
        return self._sample(key, spec)

    def _check(self, shape: checks.Shape) -> None:
        """Raise unless the scheme fits the shape."""

    def _dtype(self, dtype: DTypeLike | None, shape: checks.Shape) -> np.dtype:
        """Return the dtype of the call, or else the scheme's, or JAX's default."""
        chosen = getattr(self, "dtype", None) if dtype is None else dtype
        return dtypes.dtype(chosen, self._kind)

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        """Draw the array that `spec` describes."""
        raise NotImplementedError

    def _std(self, shape: checks.Shape) -> float | None:
        """Return the standard deviation for a shape that is checked already."""
        return None

    def _layout_and_fans(self, shape: checks.Shape) -> LayoutAndFans:
        """Return the layout and the fans for a shape that is checked already."""
        return None, (None, None)

    def _scaled(self, factor: float) -> "Initializer":
        return self if numbers.is_one(factor) else Scaled(factor, self)

    def _in_torch_layout(self) -> "Initializer":
        """Return the same law, with settings that name the axes of (out, in, *window).

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

    def _with_axes(self, axes: KernelAxes) -> "Initializer":
        """Return the same law for a kernel with these axes; see `KernelAxes`."""
        return self

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        """Return the maker's name, and the arguments that rebuild this value."""
        settings = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            # For `==` a setting of -0.0 would be the default 0.0, and be lost in a
            # pickle.
            if exact(getattr(self, field.name)) != exact(field.default)
        }
        return self._name, settings

    def _set(self, **canonical: Any) -> None:
        """Put checked settings in their canonical form, while the value is made."""
        for name, value in canonical.items():
            object.__setattr__(self, name, value)


@dataclasses.dataclass(frozen=True, repr=False)
class RandomInitializer(Initializer):
    """A RandomInitializer draws a scale times one of the fused laws."""

    _symbolic: ClassVar[bool] = True

    def _law(self, shape: checks.Shape, dtype: np.dtype) -> tuple[laws.Law, Any]:
        """Return the law with scale 1, and the scale."""
        raise NotImplementedError

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        shape, dtype, sharding, factor = spec
        law, scale = _law_of(self, shape, dtype)
        return laws.draw(law, key, shape, dtype, numbers.times(scale, factor), sharding)


def law_and_scale(init: Any, spec: DrawSpec) -> tuple[laws.Law, Any] | None:
    """Return an initializer's law and scale, or None if it does not draw from a law."""
    if isinstance(init, Scaled):
        factor = spec.factor * init.factor
        return law_and_scale(init.init, spec._replace(factor=factor))
    if not isinstance(init, RandomInitializer):
        return None
    law, scale = _law_of(init, spec.shape, spec.dtype)
    return law, numbers.times(scale, spec.factor)


def _law_of(
    init: RandomInitializer, shape: checks.Shape, dtype: np.dtype
) -> tuple[laws.Law, Any]:
    """Return the law and its scale; remember them unless they hold a tracer."""
    if init._is_traced or not checks.is_static(shape):
        return init._law(shape, dtype)
    return _known_law_of(init, shape, dtype)


@functools.lru_cache(maxsize=4096)
# The gain of an activation may be an integral, and the std after a truncation a search,
# which an eager draw must not repeat.
def _known_law_of(
    init: RandomInitializer, shape: checks.Shape, dtype: np.dtype
) -> tuple[laws.Law, Any]:
    return init._law(shape, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Scaled(Initializer):
    """A Scaled draws `factor` times another initializer, rounded once."""

    factor: float
    init: Initializer

    _name: ClassVar[str] = "scaled"

    @property
    def _symbolic(self) -> bool:  # type: ignore[override]
        return self.init._symbolic

    @property
    def _random(self) -> bool:  # type: ignore[override]
        return self.init._random

    def _check(self, shape: checks.Shape) -> None:
        self.init._check(shape)

    def _dtype(self, dtype: DTypeLike | None, shape: checks.Shape) -> np.dtype:
        return self.init._dtype(dtype, shape)

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        factor = spec.factor * self.factor
        return self.init._sample(key, spec._replace(factor=factor))

    def _std(self, shape: checks.Shape) -> float | None:
        std = self.init._std(shape)
        return None if std is None else abs(self.factor) * std

    def _layout_and_fans(self, shape: checks.Shape) -> LayoutAndFans:
        return self.init._layout_and_fans(shape)

    def _scaled(self, factor: float) -> Initializer:
        # A product of factors in Python's floats is rounded once, in the draw.
        return self.init._scaled(factor * self.factor)

    def _in_torch_layout(self) -> Initializer:
        return Scaled(self.factor, self.init._in_torch_layout())

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        return Scaled(self.factor, self.init._with_axes(axes))

    def __repr__(self) -> str:
        return f"{spell(self.factor)} * {self.init!r}"


TRACED_ADVICE = (
    "A traced number has no value outside of its trace. Make the initializer with a "
    "Python number, or multiply what it draws by the traced one."
)


def is_random(init: Any) -> bool:
    """Tell whether the values depend on the key; assume so for a user's function."""
    if not isinstance(init, Initializer):
        return init not in (jax.nn.initializers.zeros, jax.nn.initializers.ones)
    settings = [getattr(init, field.name) for field in dataclasses.fields(init)]
    parts = list(filter(callable, jax.tree.leaves(settings)))
    return init._random and (not parts or any(map(is_random, parts)))


def spell(value: Any) -> str:
    """Spell a setting as Python that rebuilds it, and a tracer by its type."""
    if numbers.is_traced(value):
        return numbers.spell(value)
    if isinstance(value, np.dtype):
        return repr(value.name)
    if isinstance(value, Initializer):
        return repr(value)
    if type(value) is tuple:
        parts = ", ".join(map(spell, value))
        return f"({parts},)" if len(value) == 1 else f"({parts})"
    return names.public_name(value) if callable(value) else repr(value)


def _required(init: Initializer) -> set[str]:
    missing = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(init) if f.default is missing}
