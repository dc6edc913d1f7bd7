"""A snapshot of a function is not one of a function that computes something else."""

import gc
import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from jinit._core.snapshot import snapshot

FACTOR = 2.0
TABLE = np.arange(4.0)


def doubled(x):
    return x * FACTOR


def above(x):
    return doubled(x) + TABLE.sum()


def closing_over(value, default=1):
    def function(x, scale=default):
        return x * value * scale

    return function


def test_what_does_not_change_is_recognized():
    for function in (doubled, above, closing_over(3.0), closing_over(TABLE)):
        assert snapshot(function).is_of(function)


@pytest.mark.parametrize("name, value", [("FACTOR", 3.0), ("doubled", lambda x: x)])
def test_globals_count_also_those_of_called_functions(name, value, monkeypatch):
    before = snapshot(above)
    monkeypatch.setitem(globals(), name, value)
    assert not before.is_of(above)


def test_numbers_of_arrays_count(monkeypatch):
    table = np.zeros(3)
    function = closing_over(table)
    for taken, array in ((snapshot(function), table), (snapshot(above), TABLE)):
        array[1] += 1
        assert not taken.is_of(function if array is table else above)
    before = snapshot(function)
    table.shape = (3, 1)
    assert not before.is_of(function)


def test_cells_and_defaults_count():
    value = 1000

    def function(x, scale=1):
        return x * value * scale

    before = snapshot(function)
    value = 2000
    assert not before.is_of(function)
    before = snapshot(function)
    function.__defaults__ = (2,)
    assert not before.is_of(function)
    # Two closures of one code are two functions.
    assert not snapshot(closing_over(1.5)).is_of(closing_over(2.5))
    assert not snapshot(closing_over(1)).is_of(closing_over(1.0))


@pytest.mark.parametrize(
    "value", [[1], {"a": 1}, object(), np.array([None]), np.zeros(1 << 22)]
)
def test_there_is_none_of_what_may_change_unseen(value):
    taken = snapshot(closing_over(value))
    assert taken is None or not taken.is_of(closing_over(value))


def test_no_array_is_kept_alive():
    function = closing_over(jnp.arange(3.0))
    alive = weakref.ref(function.__closure__[0].cell_contents)
    taken = snapshot(function)
    function.__closure__[0].cell_contents = jnp.arange(3.0)
    gc.collect()
    assert alive() is None and not taken.is_of(function)
