"""The short erf_inv has the bits of XLA's, for every value that a draw can take."""

import itertools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jinit
from jinit._core import erf_inv as source
from jinit._core.erf_inv import CENTRAL, INSIDE, erf_inv

LOW = np.nextafter(np.float32(-1), np.float32(0))


ALL = source.uniforms(np.arange(1 << 23))


def all_uniforms(low, high):
    """Each of the 2^23 values of a float32 uniform draw on [low, high)."""
    mantissa = lax.iota(np.uint32, 1 << 23).astype(np.float32) * np.float32(2.0**-23)
    low, high = jnp.float32(low), jnp.float32(high)
    return mantissa * (high - low) + low


def test_short_form_is_in_use_here():
    # Where this fails, draws are right but slow: XLA's code has changed.
    assert source.is_exact()


def test_all_values_of_a_draw_agree():
    assert source.differences(ALL) == 0
    near = ALL[np.abs(ALL) < 0.996]
    assert source.differences(near, source._central) == 0


# Both forms, the logarithm near 1 and elsewhere, and the tail that few values reach.
@pytest.mark.parametrize("name", ["_CENTRE", "_TAIL", "_LOG1P_ABOVE", "_LOG1P_BELOW"])
def test_the_comparison_can_fail(name, monkeypatch):
    *others, last = getattr(source, name)
    monkeypatch.setattr(source, name, (*others, np.nextafter(last, np.float32(99))))
    source.is_exact.cache_clear()
    assert not source.is_exact()
    source.is_exact.cache_clear()


@pytest.mark.parametrize(
    "width, bound", list(itertools.product((128, 256, 512), (CENTRAL, INSIDE)))
)
def test_all_values_agree_for_every_vector_width(width, bound):
    edge = lax.erf(jnp.float32(bound) / np.float32(np.sqrt(2)))
    low, high = (LOW, 1.0) if bound == INSIDE else (-edge, edge)
    u = jax.jit(all_uniforms)(low, high).reshape(2048, 4096)
    options = {"xla_cpu_prefer_vector_width": width}
    ours = jax.jit(lambda u: erf_inv(u, bound) * 0.1, compiler_options=options)(u)
    theirs = jax.jit(lambda u: lax.erf_inv(u) * 0.1)(u)
    assert int(jnp.sum(ours != theirs)) == 0


def test_bounds_that_allow_one_use_lax():
    assert np.isinf(erf_inv(jnp.float32(1)))
    assert erf_inv(jnp.float64(0.5) if jax.config.jax_enable_x64 else jnp.float16(0.5))


def test_a_thread_compares_once(monkeypatch):
    calls = []

    def counted(u):
        calls.append(threading.current_thread().name)
        return 0

    monkeypatch.setattr(source, "differences", counted)
    monkeypatch.setattr(source, "_AHEAD", [])
    source.is_exact.cache_clear()
    source.look_ahead()
    assert source.is_known_soon() and source.is_exact() and source.is_known()
    source.look_ahead()
    assert calls == ["jinit-erf-inv"]
    source.is_exact.cache_clear()


def test_an_error_in_the_thread_comes_again(monkeypatch):
    def fails(u):
        raise RuntimeError("no transfers")

    monkeypatch.setattr(source, "differences", fails)
    monkeypatch.setattr(source, "_AHEAD", [])
    source.is_exact.cache_clear()
    source.look_ahead()
    with pytest.raises(RuntimeError, match="no transfers"):
        source.is_exact()
    source.is_exact.cache_clear()


def test_it_is_compared_while_something_is_traced():
    source.is_exact.cache_clear()
    u = jnp.linspace(-0.9, 0.9, 7)
    ours = jax.jit(lambda u: erf_inv(u, INSIDE))(u)
    assert (ours == jax.jit(lax.erf_inv)(u)).all()
    assert source.is_exact.cache_info().currsize == 1


@pytest.mark.parametrize("shape", [(40,), (2, 40), (3, 4)])
@pytest.mark.parametrize("length", range(1, 10))
def test_jax_unrolls_no_other_lengths(length, shape, key):
    """If this fails, XLA unrolls other lengths than those of `_UNROLLED`."""
    shape = (*shape, length)
    theirs = jax.jit(lambda key: jax.random.normal(key, shape))(key)
    np.testing.assert_array_equal(jinit.random.normal(key, shape), theirs)
