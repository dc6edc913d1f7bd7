"""Every public entry point runs in JAX's strict modes and under its checkers."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.entry_points import DRAWS, MODEL_FUNCTIONS, NNX_TWINS, QUICK

pytestmark = pytest.mark.usefixtures("quick_compilation")

ENTRY_POINTS = QUICK | MODEL_FUNCTIONS | DRAWS

# These change no value.
CHECKERS = {
    "leaks": jax.checking_leaks,
    "nan": lambda: jax.debug_nans(True),
    "infinity": lambda: jax.debug_infs(True),
    "dtypes": lambda: jax.numpy_dtype_promotion("strict"),
    "ranks": lambda: jax.numpy_rank_promotion("raise"),
    "checks": lambda: jax.enable_checks(True),
    "key reuse": lambda: jax.debug_key_reuse(True),
    "legacy keys": lambda: jax.legacy_prng_key("error"),
}


@contextlib.contextmanager
def all_checkers():
    with contextlib.ExitStack() as stack:
        for mode in CHECKERS.values():
            stack.enter_context(mode())
        yield


@functools.cache
def without_a_mode(name):
    """Return the results of an entry point, with JAX's default promotion of ranks."""
    with jax.numpy_rank_promotion("allow"):
        return leaves_of(ENTRY_POINTS[name]())


def leaves_of(tree):
    """Return results as NumPy arrays, by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_equal(name, results, compare):
    wanted = without_a_mode(name)
    assert results.keys() == wanted.keys()
    for path, value in results.items():
        assert value.shape == wanted[path].shape, path
        compare(value, wanted[path], path)


def equal(value, wanted, path):
    assert value.dtype == wanted.dtype, path
    np.testing.assert_array_equal(value, wanted, path)


def nearly_equal(value, wanted, path):
    """Compare up to rounding, which is another one operation by operation."""
    if not jnp.issubdtype(wanted.dtype, jnp.inexact):
        return equal(value, wanted, path)
    assert value.dtype == wanted.dtype, path
    narrow = jnp.finfo(value.dtype).bits < 32
    rtol, atol = (1e-2, 1e-2) if narrow else (1e-4, 2e-5)
    value, wanted = (np.asarray(x, complex) for x in (value, wanted))
    np.testing.assert_allclose(value, wanted, rtol, atol, err_msg=path)


def of_another_precision(value, wanted, path):
    """Compare only where numbers are NaN or infinite, since the draws differ."""
    if wanted.dtype.kind in "US":
        return equal(value, wanted, path)
    for test in (np.isnan, np.isinf):
        values = (np.asarray(x, complex) for x in (value, wanted))
        np.testing.assert_array_equal(*map(test, values), path)


def entry_points(often):
    """Parametrize over all entry points; those not in `often` are slow."""
    slow = [name for name in ENTRY_POINTS if name not in often]
    return pytest.mark.parametrize(
        "name", [*often, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]
    )


# The functions of NNX models share all but their first lines with those of Linen.
@entry_points([name for name in ENTRY_POINTS if name not in NNX_TWINS])
def test_under_all_checkers_at_once(name):
    with all_checkers():
        results = leaves_of(ENTRY_POINTS[name]())
    assert_equal(name, results, equal)


@pytest.mark.slow
@pytest.mark.parametrize("mode", CHECKERS)
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_under_one_checker(name, mode):
    with CHECKERS[mode]():
        results = leaves_of(ENTRY_POINTS[name]())
    assert_equal(name, results, equal)


# Each operation is a program to compile.
@entry_points(["names", "gains", "plan.init", "materialize", "nnx.materialize", "lsuv"])
def test_where_jit_is_disabled(name):
    with jax.disable_jit():
        results = leaves_of(ENTRY_POINTS[name]())
    assert_equal(name, results, nearly_equal)


# tests/contract/test_every_scheme.py draws every scheme in float64.
@entry_points([*QUICK, "probe"])
def test_in_double_precision(name):
    with jax.enable_x64(True):
        results = leaves_of(ENTRY_POINTS[name]())
    assert_equal(name, results, of_another_precision)


def test_the_comparison_can_fail():
    results = without_a_mode("random")
    path = next(path for path in results if results[path].dtype == np.float32)
    changed = results | {path: np.nextafter(results[path], np.float32(np.inf))}
    assert_equal("random", results, equal)
    with pytest.raises(AssertionError):
        assert_equal("random", changed, equal)
