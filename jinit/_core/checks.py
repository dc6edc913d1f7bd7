"""The functions of this file check arguments, and return them in one canonical form.

Their errors say which argument is wrong, what it must be, and what to do instead.
"""

import math
import numbers
import operator
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import numbers as _numbers
from .names import did_you_mean

Shape = tuple[int, ...]


def choice(argument: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of `allowed`; the error names the nearest of them."""
    if isinstance(value, str) and value in allowed:
        return value
    listed = ", ".join(repr(name) for name in allowed)
    raise ValueError(
        f"`{argument}` is {value!r}; it must be one of {listed}."
        f"{did_you_mean(value, allowed)}"
    )


def shape(value: object, *, symbolic: bool = False) -> Shape:
    """Return `value` as a tuple of non-negative Python integers.

    With `symbolic` the dimensions of `jax.export.symbolic_shape` may be among them.
    """
    # One comparison serves the common case, a tuple that is right already.
    if type(value) is tuple and all(type(d) is int and d >= 0 for d in value):
        return value
    # Text is iterable as well, and "32" would be read as the dimensions "3" and "2".
    if isinstance(value, (str, bytes)) or not isinstance(
        value, (Iterable, numbers.Integral)
    ):
        advice = _WITHOUT_KEY if isinstance(value, np.dtype | type) else ""
        raise TypeError(
            f"`shape` is {value!r}; it must be a sequence of non-negative integers, "
            f"such as (784, 256).{advice}"
        )
    _refuse_array(value)
    dims = (value,) if isinstance(value, numbers.Integral) else tuple(value)
    return tuple(
        d if symbolic and _numbers.is_symbolic(d) else _dimension(d, dims) for d in dims
    )


def _refuse_array(value: object) -> None:
    """Raise if a shape is an array of numbers that are no dimensions, or a key."""
    # An array of a few integers may be a shape, as it may for NumPy.
    if not isinstance(value, (jax.Array, np.ndarray)) or (
        jnp.issubdtype(value.dtype, jnp.integer) and value.ndim < 2
    ):
        return
    raise TypeError(
        f"`shape` is an array of shape {value.shape} and dtype {value.dtype}; it must "
        "be a sequence of non-negative integers, such as (784, 256). An initializer is "
        "called as init(key, shape), with the key first."
    )


# Haiku calls `w_init(shape, dtype)`, so the dtype arrives in the place of the shape.
_WITHOUT_KEY = (
    " Haiku calls an initializer with (shape, dtype), and jinit's take a key before "
    "them: pass lambda shape, dtype: init(hk.next_rng_key(), shape, dtype)."
)


def is_static(shape: Shape) -> bool:
    """Tell whether all dimensions are integers, and none is symbolic."""
    return {*map(type, shape)} <= _INTEGER


_INTEGER = {int}


def _dimension(d: Any, dims: tuple[Any, ...]) -> int:
    if _numbers.is_symbolic(d):
        raise TypeError(
            f"`shape` is {dims!r}, and its dimension {d!r} is symbolic; here every "
            "dimension must be an integer. Constants and schemes with a normal or "
            "uniform law take symbolic ones."
        )
    try:
        # True has the index 1, so a boolean would pass for a dimension.
        if isinstance(d, (bool, np.bool_)):
            raise TypeError
        # `index` refuses 2.5, which `int` would cut to 2 in silence.
        size = operator.index(d)
    except TypeError:
        raise TypeError(
            f"`shape` is {dims!r}, and its dimension {d!r} is not an integer; "
            "every dimension must be a non-negative Python integer."
        ) from None
    if size < 0:
        raise ValueError(
            f"`shape` is {dims!r}, and its dimension {size} is negative; "
            "every dimension must be zero or more."
        )
    return size


def real(
    argument: str,
    value: Any,
    *,
    minimum: float = -math.inf,
    positive: bool = False,
    finite: bool = True,
) -> float:
    """Return `value` as a Python float: finite, and at least `minimum`."""
    if isinstance(value, (bool, np.bool_, str)) or np.ndim(value) != 0:
        raise TypeError(f"`{argument}` is {value!r}; it must be a real number.")
    try:
        # `float` takes "1e3" and True as well, so these are refused first. A tracer
        # raises ConcretizationTypeError, a TypeError whose text advises on `jit` and
        # does not name the argument.
        number = float(value)
    except TypeError:
        raise TypeError(
            f"`{argument}` is {value!r}; it must be a real number that is known when "
            "the initializer is made (a Python or NumPy number, not a traced array)."
        ) from None
    if math.isnan(number) or (finite and math.isinf(number)):
        raise ValueError(f"`{argument}` is {number}; it must be a finite number.")
    if number < minimum or (positive and number <= 0):
        bound = "greater than 0" if positive else f"at least {minimum:g}"
        raise ValueError(f"`{argument}` is {value!r}; it must be {bound}.")
    return number


def number(argument: str, value: Any, **bounds: Any) -> Any:
    """Return a setting that is a real number, or a traced real scalar.

    A traced number is not compared with the bounds: its value is not known yet.
    """
    if not _numbers.is_traced(value):
        return real(argument, value, **bounds)
    # JAX's `issubdtype` is asked, since for NumPy bfloat16 is no floating type.
    kinds = (np.floating, np.integer)
    is_real = any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
    if value.ndim or not is_real:
        raise TypeError(
            f"`{argument}` is {_numbers.spell(value)}; it must be one real number."
        )
    return value


def canonical_axes(argument: str, value: Any) -> int | tuple[int, ...]:
    """Return an axis, or several, as an integer or a tuple, which hash."""
    if isinstance(value, numbers.Integral):
        return integer(argument, value)
    try:
        indices = tuple(integer(argument, axis) for axis in value)
    except TypeError:
        raise TypeError(
            f"`{argument}` is {value!r}; it must be an integer or a sequence of "
            "integers."
        ) from None
    if len(set(indices)) != len(indices):
        raise ValueError(
            f"`{argument}` is {value!r}, which names an axis twice; name each axis "
            "once."
        )
    # in_axis=0 and in_axis=(0,) make equal initializers.
    return indices[0] if len(indices) == 1 else indices


def single_axis(argument: str, value: Any) -> int:
    """Return one axis as an integer."""
    axis = canonical_axes(argument, value)
    if isinstance(axis, int):
        return axis
    raise TypeError(f"`{argument}` is {value!r}; it must be one integer.")


def axes(argument: str, value: Any, ndim: int, shape: Shape) -> tuple[int, ...]:
    """Return an axis, or several, as indices into `shape`, none of them negative."""
    canonical = canonical_axes(argument, value)
    indices: list[int] = []
    for index in (canonical,) if isinstance(canonical, int) else canonical:
        if not -ndim <= index < ndim:
            raise ValueError(
                f"`{argument}` is {value!r}, but shape {shape} has {ndim} axes; "
                f"an axis must lie in [{-ndim}, {ndim - 1}]."
            )
        indices.append(index % ndim)
    # Only here, where the shape is known, are -1 and 1 seen to be the same axis.
    if len(set(indices)) != len(indices):
        raise ValueError(
            f"`{argument}` is {value!r}, which names an axis of shape {shape} twice; "
            "name each axis once."
        )
    return tuple(indices)


def key(value: Any) -> None:
    """Raise unless `value` is one PRNG key, typed (`key`) or legacy (`PRNGKey`)."""
    if not isinstance(value, (jax.Array, np.ndarray)):
        # Swapped arguments put a whole tree of arrays here, so the text is cut short.
        raise TypeError(
            f"`key` is {reprlib.repr(value)}, of type {type(value).__name__}; it must "
            "be a PRNG key, such as jax.random.key(0)."
        )
    # A legacy key is an array of words on its last axis, and may come back from a
    # checkpoint as a NumPy array. A typed key has no such axis.
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        batch = value.shape
    elif value.dtype == np.uint32 and value.ndim:
        _check_words(value.shape)
        batch = value.shape[:-1]
    else:
        raise TypeError(
            f"`key` is an array of dtype {value.dtype} and shape {value.shape}; it "
            "must be a PRNG key, such as jax.random.key(0)."
        )
    if batch:
        raise ValueError(
            f"`key` is a batch of keys, of shape {batch}; it must be a single key. "
            "For one draw per key use jax.vmap(lambda key: init(key, shape))(keys)."
        )


# The words of a key of each of JAX's implementations.
_WORDS = {"threefry2x32": 2, "rbg": 4, "unsafe_rbg": 4}


def _check_words(shape: Shape) -> None:
    """Raise unless a legacy key has as many words as JAX's implementation needs."""
    implementation = str(flag("jax_default_prng_impl"))
    # An array of words does not say which implementation made it, and JAX takes it for
    # a key of the default one. Of an implementation that a user registered the number
    # of words is unknown, so any number passes.
    words = _WORDS.get(implementation, shape[-1])
    if shape[-1] != words:
        raise ValueError(
            f"`key` is an array of uint32 of shape {shape}, and a key of JAX's "
            f"default implementation, {implementation!r}, has {words} words; pass a "
            "key such as jax.random.key(0)."
        )


def broadcasts(shape: Shape, **bounds: Any) -> None:
    """Raise unless every bound broadcasts to `shape`."""
    for name, bound in bounds.items():
        if np.ndim(bound) == 0:
            continue
        try:
            # Broadcasting goes both ways. Where the shapes are compatible and the
            # result is not `shape`, the bound would enlarge the array.
            fits = jax.lax.broadcast_shapes(np.shape(bound), shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"`{name}` has shape {np.shape(bound)}, which does not broadcast to "
                f"`shape` {shape}; make it a scalar, or of that shape."
            )


def count(argument: str, value: Any) -> int | None:
    """Return a positive integer, or None if `value` is None."""
    return None if value is None else positive(argument, value)


def positive(argument: str, value: Any) -> int:
    """Return a positive integer."""
    number = integer(argument, value)
    if number < 1:
        raise ValueError(f"`{argument}` is {number}; it must be 1 or more.")
    return number


def flag(name: str) -> Any:
    """Return one of JAX's settings, as the current context has it."""
    return getattr(jax.config, name)


def integer(argument: str, value: Any) -> int:
    """Return `value` as a Python integer."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"`{argument}` is {value!r}; it must be an integer.") from None


# Settings are compared by type too, so an initializer made with 1 would not equal the
# one made with True.
def boolean(argument: str, value: Any) -> bool:
    """Return True or False; 1, 0 and other values that count as such are errors."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"`{argument}` is {value!r}; it must be True or False.")
