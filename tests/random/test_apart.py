"""Bits that are drawn in a loop of their own are the bits of `jax.random`."""

import jax
import numpy as np
import pytest
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jinit
from jinit.random import _apart
from tests.support.meshes import make_mesh
from tests.support.repository import in_a_fresh_process

SHAPE = (128, 128)


def conditionals(draw, *operands):
    """Count the conditionals of the compiled program: the loops that stay apart."""
    text = jax.jit(draw).lower(*operands).compile().as_text()
    return text.count(" conditional(")


def draw(key, shape=SHAPE):
    return jinit.random.normal(key, shape)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_the_loop_changes_no_value(dtype, key, monkeypatch):
    inits = jinit.normal(0.02), jinit.truncated_normal(0.02)
    for init in inits[: 1 if dtype == "complex64" else 2]:
        apart = jax.jit(lambda key, init=init: init(key, SHAPE, dtype))(key)
        with monkeypatch.context() as patch:
            patch.setattr(_apart, "_FEWEST", np.inf)
            jax.clear_caches()
            fused = jax.jit(lambda key, init=init: init(key, SHAPE, dtype))(key)
        jax.clear_caches()
        np.testing.assert_array_equal(
            np.asarray(apart, np.complex128), np.asarray(fused, np.complex128)
        )


def test_xla_does_not_join_the_loops(key):
    assert conditionals(draw, key) == 1
    small, large = (64, 64), (4096, 2048)
    assert conditionals(lambda key: draw(key, small), key) == 0
    # A large array has no room beside it for its bits.
    assert conditionals(lambda key: draw(key, large), key) == 0


def test_uniform_laws_have_two_loops_too(key):
    assert conditionals(lambda key: jinit.random.uniform(key, SHAPE), key) == 1


def test_the_upper_bits_are_those_of_the_word(key):
    words = jinit.random.bits(key, SHAPE)
    halves = jax.lax.bitcast_convert_type(words, np.uint16)
    for number in (16, 23, 32):
        joined = jax.jit(_apart._joined, static_argnums=1)(halves, number)
        np.testing.assert_array_equal(joined, words >> (32 - number))


def test_nobody_sees_the_nan_inside(key):
    for errors in (checkify.nan_checks, checkify.float_checks):
        error, _ = jax.jit(checkify.checkify(draw, errors=errors))(key)
        error.throw()
    with jax.disable_jit(), jax.debug_nans(True):
        draw(key)


def test_the_memory_beside_the_result_is_bounded(key):
    bits = 4 * np.prod(SHAPE)
    for count, memory in ((1, bits), (4, 4 * bits), (512, 0)):
        draws = jax.jit(jax.vmap(draw))
        run = draws.lower(jax.random.split(key, count)).compile()
        beside = run.memory_analysis().temp_size_in_bytes
        assert memory <= beside < memory + (1 << 16)


def test_a_batch_of_keys_draws_the_arrays_of_its_keys(key):
    keys = jax.random.split(key, 6).reshape(2, 3)
    batch = jax.jit(jax.vmap(jax.vmap(draw)))(keys)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_array_equal(batch[i, j], draw(keys[i, j]))
    scales = np.array([1.0, 2.0], np.float32)
    scaled = jax.vmap(lambda scale: jinit.normal(scale)(key, SHAPE))(scales)
    np.testing.assert_array_equal(scaled[1], 2 * scaled[0])


def test_derivatives_pass_by_the_loop(key):
    def total(scale):
        return jinit.normal(scale)(key, SHAPE).sum()

    expected = float(draw(key).sum())
    assert jax.jit(jax.grad(total))(2.0) == pytest.approx(expected, rel=1e-4)
    assert jax.jit(jax.jacfwd(total))(2.0) == pytest.approx(expected, rel=1e-4)
    assert jax.grad(jax.checkpoint(total))(2.0) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_each_device_draws_its_own_part(kind, key):
    sharding = NamedSharding(make_mesh((8,), kind), P("x"))
    init = jinit.normal(1.0)
    run = jax.jit(lambda key: init(key, SHAPE, None, sharding)).lower(key).compile()
    part = 4 * np.prod(SHAPE) // 8
    assert run.memory_analysis().temp_size_in_bytes < part + (1 << 14)
    np.testing.assert_array_equal(run(key), draw(key))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_keys_that_lie_on_several_devices(kind, key):
    mesh = make_mesh((8,), kind)
    keys = jax.device_put(jax.random.split(key, 8), NamedSharding(mesh, P("x")))
    batch = jax.jit(jax.vmap(draw))(keys)
    mapped = jax.jit(
        jax.shard_map(jax.vmap(draw), mesh=mesh, in_specs=P("x"), out_specs=P("x"))
    )(keys)
    np.testing.assert_array_equal(
        np.asarray(batch)[5], draw(jax.random.split(key, 8)[5])
    )
    np.testing.assert_array_equal(mapped, batch)


WITHOUT_NAN = """
import os
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_enable_fast_math=true --xla_cpu_fast_math_honor_nans=false"
)
import jax, jinit
draw = jax.jit(lambda key: jinit.uniform(1.0)(key, (128, 128)))
print(float(draw(jax.random.key(0)).mean()))
"""


def test_programs_without_nan_have_the_same_words():
    # The logarithm in the loop, whose result is NaN, may be anything in such programs.
    expected = float(jinit.uniform(1.0)(jax.random.key(0), (128, 128)).mean())
    assert float(in_a_fresh_process(WITHOUT_NAN)) == pytest.approx(expected, rel=1e-3)
