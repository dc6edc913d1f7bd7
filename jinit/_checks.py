"""What a user passed -> what was meant, or an error that says what to do."""

import difflib
import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Shape = tuple[int, ...]


def choice(argument: str, value: object, allowed: Sequence[str]) -> str:
    """`value` if it is one of `allowed`; otherwise a ValueError with the nearest."""
    if isinstance(value, str) and value in allowed:
        return value
    listed = ", ".join(repr(name) for name in allowed)
    raise ValueError(
        f"`{argument}` is {value!r}; it must be one of {listed}."
        f"{did_you_mean(value, allowed)}"
    )


def did_you_mean(value: object, allowed: Iterable[str]) -> str:
    """A sentence with the names nearest to `value`, or nothing."""
    near = difflib.get_close_matches(str(value), list(allowed), n=3, cutoff=0.5)
    if not near:
        return ""
    return " Did you mean " + " or ".join(repr(name) for name in near) + "?"


def shape(value: object) -> Shape:
    """`value` as a tuple of non-negative Python integers."""
    # One comparison serves the common case, a tuple that is right already.
    if type(value) is tuple and all(type(d) is int and d >= 0 for d in value):
        return value
    if isinstance(value, (str, bytes)) or not isinstance(value, (Iterable, numbers.Integral)):
        raise TypeError(
            f"`shape` is {value!r}; it must be a sequence of non-negative integers, "
            "such as (784, 256)."
        )
    dims = (value,) if isinstance(value, numbers.Integral) else tuple(value)
    return tuple(_dimension(d, dims) for d in dims)


def _dimension(d: Any, dims: tuple) -> int:
    try:
        if isinstance(d, (bool, np.bool_)):
            raise TypeError
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
    argument: str, value: Any, *, minimum: float = -math.inf, positive: bool = False
) -> float:
    """`value` as a finite Python float, at least `minimum`."""
    if isinstance(value, (bool, np.bool_, str)) or np.ndim(value) != 0:
        raise TypeError(f"`{argument}` is {value!r}; it must be a real number.")
    try:
        number = float(value)
    except TypeError:
        raise TypeError(
            f"`{argument}` is {value!r}; it must be a real number that is known when "
            "the initializer is made (a Python or NumPy number, not a traced array)."
        ) from None
    if not math.isfinite(number):
        raise ValueError(f"`{argument}` is {number}; it must be finite.")
    if number < minimum or (positive and number <= 0):
        wanted = "greater than 0" if positive else f"at least {minimum:g}"
        raise ValueError(f"`{argument}` is {value!r}; it must be {wanted}.")
    return number


def axes(argument: str, value: Any, ndim: int, shape: Shape) -> tuple[int, ...]:
    """`value` (an axis or several, negative ones too) as indices into `shape`."""
    given = (value,) if isinstance(value, numbers.Integral) else tuple(value)
    found = []
    for axis in given:
        index = operator.index(axis)
        if not -ndim <= index < ndim:
            raise ValueError(
                f"`{argument}` is {value!r}, but shape {shape} has {ndim} axes; "
                f"an axis must lie in [{-ndim}, {ndim - 1}]."
            )
        found.append(index % ndim)
    if len(set(found)) != len(found):
        raise ValueError(
            f"`{argument}` is {value!r}, which names an axis of shape {shape} twice; "
            "name each axis once."
        )
    return tuple(found)
