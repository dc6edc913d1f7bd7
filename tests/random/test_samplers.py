"""`jinit.random` has the values of `jax.random`, and its laws in narrow types too."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from scipy import stats

import jinit
from jinit.random import _law
from tests.support import laws
from tests.support.meshes import make_mesh
from tests.support.split import slow_unless

SHAPES = [(), (0,), (5,), (3, 4, 5), (1, 7, 1), (0, 3), (300, 411), (7, 3, 9, 2, 5)]
KEYS = {
    "typed": functools.partial(jax.random.key, 3),
    "legacy": functools.partial(jax.random.PRNGKey, 3),
    "rbg": functools.partial(jax.random.key, 3, impl="rbg"),
}
NARROW = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]

# The same draw by both libraries; `r` is jax.random or jinit.random.
DRAWS = {
    "uniform": lambda r, k, s, d: r.uniform(k, s, d),
    "uniform(-1, 3)": lambda r, k, s, d: r.uniform(k, s, d, -1.0, 3.0),
    "normal": lambda r, k, s, d: r.normal(k, s, d),
    "truncated(-2, 2)": lambda r, k, s, d: r.truncated_normal(k, -2, 2, s, d),
    "truncated(-1, 0.5)": lambda r, k, s, d: r.truncated_normal(k, -1, 0.5, s, d),
    "truncated(-1, 4)": lambda r, k, s, d: r.truncated_normal(k, -1.0, 4.0, s, d),
    "truncated(-9, 9)": lambda r, k, s, d: r.truncated_normal(k, -9.0, 9.0, s, d),
    "truncated(1, inf)": lambda r, k, s, d: r.truncated_normal(k, 1.0, np.inf, s, d),
}


def assert_same_draw(draw, key, shape, dtype):
    ours = draw(jinit.random, key, shape, dtype)
    theirs = jax.jit(lambda k: draw(jax.random, k, shape, dtype))(key)
    in_jit = jax.jit(lambda k: draw(jinit.random, k, shape, dtype))(key)
    assert ours.shape == shape and ours.dtype == theirs.dtype == dtype
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(in_jit, theirs)


# Each case is three compilations. By default: each sampler at every shape, its other
# bounds at a few, and other keys at one large shape.
SAMPLERS = ["uniform", "normal", "truncated(-2, 2)"]
ALL = [(name, kind, shape) for name in DRAWS for kind in KEYS for shape in SHAPES]


def is_default(name, kind, shape):
    if kind == "typed":
        return name in SAMPLERS or shape in SHAPES[-2:]
    return shape == SHAPES[-2]


SOME = [case for case in ALL if is_default(*case)]


@pytest.mark.parametrize("name, kind, shape", slow_unless(SOME, ALL))
def test_float32_equals_jax(name, kind, shape):
    assert_same_draw(DRAWS[name], KEYS[kind](), shape, "float32")


WIDE = [
    (name, kind, shape)
    for name in DRAWS
    for kind in KEYS
    for shape in [(), (0, 3), (301, 41)]
]
# Typed keys at all shapes for the samplers and one for the others; other keys at one.
SOME = [
    (name, kind, shape)
    for name, kind, shape in WIDE
    if (kind == "typed" or name in SAMPLERS)
    and (shape == (301, 41) or (kind == "typed" and name in SAMPLERS))
]


@pytest.mark.parametrize("name, kind, shape", slow_unless(SOME, WIDE))
def test_float64_equals_jax(name, kind, shape, x64):
    assert_same_draw(DRAWS[name], KEYS[kind](), shape, "float64")


@pytest.mark.parametrize("shape", [(), (0, 3), (301, 41)])
def test_complex_normal_equals_jax(key, shape):
    assert_same_draw(DRAWS["normal"], key, shape, "complex64")


def test_a_large_draw_equals_jax(key):
    # Large enough for the wide program, and for all mantissas to turn up.
    for draw in (DRAWS["normal"], DRAWS["truncated(-2, 2)"], DRAWS["uniform"]):
        assert_same_draw(draw, key, (2048, 2048), "float32")


def test_default_dtype_follows_x64(key, x64):
    assert jinit.random.normal(key, (2,)).dtype == np.float64
    assert jinit.random.bits(key, (2,)).dtype == np.uint64


def test_bounds_may_be_arrays(key):
    low, high = jnp.arange(4.0), jnp.arange(4.0) + 0.5
    np.testing.assert_array_equal(
        jinit.random.uniform(key, (4,), minval=low, maxval=high),
        jax.jit(lambda k: jax.random.uniform(k, (4,), minval=low, maxval=high))(key),
    )
    np.testing.assert_array_equal(
        jinit.random.truncated_normal(key, low, high),
        # As operands: XLA evaluates erf otherwise where it knows the bounds.
        jax.jit(jax.random.truncated_normal)(key, low, high),
    )


@pytest.mark.parametrize("width", [1e-30, 1e-35, 1e30])
def test_tiny_and_huge_widths(key, width):
    np.testing.assert_array_equal(
        jinit.random.uniform(key, (1000,), maxval=width),
        jax.jit(lambda k: jax.random.uniform(k, (1000,), maxval=width))(key),
    )


def test_bounds_of_lower_rank_broadcast(key):
    x = jinit.random.uniform(
        key, (200, 3), minval=jnp.arange(3.0), maxval=jnp.arange(3.0) + 1
    )
    assert (np.floor(x) == np.arange(3.0)[None]).all()


def _draw(draw, dtype, key):
    return draw(jinit.random, key, (40, 30), dtype)


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)]
)
def test_vmap_over_keys_equals_one_draw_per_key(key, dtype):
    keys = jax.random.split(key, 5)
    for draw in DRAWS.values():
        one = functools.partial(_draw, draw, dtype)
        expected = np.stack([one(k) for k in keys])
        np.testing.assert_array_equal(jax.vmap(one)(keys), expected)
        np.testing.assert_array_equal(jax.jit(jax.vmap(one))(keys), expected)


def test_vmap_over_settings(key):
    highs = jnp.array([1.0, 2.0, 5.0])
    rows = jax.vmap(lambda h: jinit.random.uniform(key, (50,), maxval=h))(highs)
    for row, high in zip(rows, highs, strict=True):
        np.testing.assert_array_equal(
            row, jinit.random.uniform(key, (50,), maxval=high)
        )
    rows = jax.vmap(lambda h: jinit.random.truncated_normal(key, -h, h, (50,)))(highs)
    assert (abs(rows).max(axis=1) < highs).all()


def test_second_call_traces_nothing(key):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def draw(key):
        return jinit.random.normal(key, (17,))

    assert (draw(key) != draw(jax.random.fold_in(key, 1))).any()


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_normal_is_the_float32_draw_rounded_once(key, dtype):
    wide = jinit.random.normal(key, (1000, 100))
    narrow = jinit.random.normal(key, (1000, 100), dtype)
    assert narrow.dtype == dtype
    # ml_dtypes rounds each value to nearest, ties to even, in one step.
    np.testing.assert_array_equal(
        np.asarray(narrow), np.asarray(wide).astype(narrow.dtype)
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_laws(key, dtype):
    draws = {
        "normal": (jinit.random.normal(key, (1 << 20,), dtype), stats.norm()),
        "uniform": (
            jinit.random.uniform(key, (1 << 20,), dtype, -1, 1),
            laws.uniform(-1, 1),
        ),
        "truncated": (
            jinit.random.truncated_normal(key, -2, 2, (1 << 20,), dtype),
            stats.truncnorm(-2, 2),
        ),
    }
    for x, law in draws.values():
        mean, variance, _, excess = law.stats(moments="mvsk")
        laws.assert_moments(x, float(mean), float(variance) ** 0.5, float(excess) + 3)
    # jax.random.normal has 128 values in bfloat16 and 1,024 in float16.
    assert len(np.unique(np.asarray(draws["normal"][0], np.float32))) > 3000


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    "low, high", [(0.0, 1.0), (-1.0, 1.0), (-0.3, 0.7), (2.0, 2.9)]
)
def test_narrow_uniform_never_reaches_its_upper_bound(key, dtype, low, high):
    x = np.asarray(jinit.random.uniform(key, (1 << 18,), dtype, low, high))
    bottom, top = (np.asarray(b, x.dtype).astype(np.float32) for b in (low, high))
    x = x.astype(np.float32)
    assert x.min() >= bottom and x.max() < top
    # And it comes as near to it as the dtype allows: it was clipped, not cut short.
    assert x.max() == np.nextafter(
        np.asarray(top, dtype), np.asarray(low, dtype)
    ).astype(np.float32)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("bound", [2.0, 0.5, 3.0])
def test_narrow_truncated_normal_stays_inside(key, dtype, bound):
    x = np.asarray(jinit.random.truncated_normal(key, -bound, bound, (1 << 18,), dtype))
    x = x.astype(np.float32)
    assert abs(x).max() < bound and np.isfinite(x).all()


def test_an_interval_without_a_number_gives_its_neighbour(key):
    x = jinit.random.uniform(key, (5,), "bfloat16", 1.0001, 1.0002)
    assert (x == 1).all()


def test_large_scales_saturate_instead_of_overflowing(key):
    law = _law.Law("normal")
    x = _law.draw(law, key, (1000,), jnp.dtype("float8_e4m3fn"), 400.0)
    assert not np.isnan(np.asarray(x, np.float32)).any()
    assert np.asarray(x, np.float32).max() == 448


@pytest.mark.parametrize("name", DRAWS)
def test_in_shard_map_each_device_draws_with_its_key(key, name):
    mesh = make_mesh((8,))
    keys = jax.random.split(key, 8)
    one = lambda k: DRAWS[name](jinit.random, k, (6, 5), "float32")  # noqa: E731
    local = jax.shard_map(
        lambda ks: one(ks[0])[None], mesh=mesh, in_specs=P("x"), out_specs=P("x")
    )
    np.testing.assert_array_equal(
        jax.jit(local)(keys), np.stack([one(k) for k in keys])
    )


ERRORS = [
    (lambda k: jinit.random.normal(0, (2,)), TypeError, "`key` is 0.*jax.random.key"),
    (lambda k: jinit.random.normal(None, (2,)), TypeError, "`key` is None"),
    (lambda k: jinit.random.normal(jnp.ones(2), (2,)), TypeError, "dtype float32"),
    (
        lambda k: jinit.random.normal(jax.random.split(k, 3), (2,)),
        ValueError,
        r"batch of keys, of shape \(3,\).*jax.vmap",
    ),
    (lambda k: jinit.random.normal(k, (-1, 2)), ValueError, "dimension -1 is negative"),
    (lambda k: jinit.random.normal(k, (2.5,)), TypeError, "2.5 is not an integer"),
    (lambda k: jinit.random.normal(k, "ab"), TypeError, "`shape` is 'ab'"),
    (lambda k: jinit.random.normal(k, (2,), "int32"), TypeError, "`dtype` is int32"),
    (lambda k: jinit.random.normal(k, (2,), "floot"), TypeError, "names no type"),
    (lambda k: jinit.random.uniform(k, (2,), "complex64"), TypeError, "a real one"),
    (lambda k: jinit.random.bits(k, (2,), "int32"), TypeError, "unsigned integer"),
    (
        lambda k: jinit.random.uniform(k, (2,), minval=jnp.zeros(3)),
        ValueError,
        r"`minval` has shape \(3,\).*\(2,\)",
    ),
    (
        lambda k: jinit.random.truncated_normal(k, jnp.zeros(3), 1.0, (2, 2)),
        ValueError,
        "`lower` has shape",
    ),
]


@pytest.mark.parametrize("call, error, text", ERRORS)
def test_errors_say_what_came_and_what_to_do(key, call, error, text):
    with pytest.raises(error, match=text):
        call(key)
