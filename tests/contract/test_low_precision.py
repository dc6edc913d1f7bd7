"""16 bits: what JAX's initializers get wrong, measured, and jinit does not."""

import jax
import jax.nn.initializers as jax_initializers
import jax.numpy as jnp
import numpy as np
import pytest

import jinit


def unit(init, key, dtype, shape=(1024, 1024)):
    """A draw in units of its own standard deviation."""
    return np.asarray(init(key, shape, dtype), np.float64) / init_std(shape)


def init_std(shape):
    return (2 / shape[0]) ** 0.5


def mean_errors(x):
    """How many standard errors the mean is off."""
    return abs(x.mean()) / (x.std() / np.sqrt(x.size))


def test_jax_draws_from_128_values_with_a_mean(key):
    """The reason for drawing in float32: this is what the test below would catch."""
    x = unit(jax_initializers.he_normal(), key, "bfloat16")
    assert len(np.unique(x)) <= 128
    assert mean_errors(x) > 10
    assert abs(x.mean()) > 0.01


@pytest.mark.parametrize("dtype, least", [("bfloat16", 1500), ("float16", 8000)])
def test_jinit_draws_them_all_without_one(dtype, least, key):
    x = unit(jinit.he_normal(), key, dtype)
    assert len(np.unique(x)) > least
    assert mean_errors(x) < 5
    # Rounding to 8 bits adds a variance of about 2^-18, far below the bound.
    assert abs(x.std() - 1) < 5 * np.sqrt((2.366 - 1) / 4 / x.size) + 2e-5


@pytest.mark.parametrize("fan", [512, 4096])
def test_the_shift_behind_a_relu(fan, key):
    """A mean in the weights adds up behind a relu, whose outputs are positive."""
    h = jax.nn.relu(jax.random.normal(jax.random.fold_in(key, 1), (256, fan)))

    def shift(init):
        w = init(key, (fan, 64), "bfloat16").astype(jnp.float32)
        z = np.asarray(h @ w)
        return abs(z.mean() / z.std())

    # The mean of 64 units' means has standard error 1 / sqrt(64 pi) for a right law.
    bound = 5 / np.sqrt(64 * np.pi)
    theirs, ours = shift(jax_initializers.he_normal()), shift(jinit.he_normal())
    assert ours < min(bound, 0.1)
    assert theirs > 0.2 and theirs > 4 * ours


def test_float8_is_a_law_and_not_nan(key):
    theirs = np.asarray(
        jax_initializers.lecun_normal()(key, (256, 64), "float8_e4m3fn")
    )
    assert np.isnan(theirs.astype(np.float32)).any()
    x = np.asarray(jinit.lecun_normal()(key, (256, 64), "float8_e4m3fn"), np.float32)
    assert np.isfinite(x).all()
    # Steps of 1/8 of a value, and of 2^-9 below 2^-6, where a sixteenth is one std.
    assert abs(x.std() * 16 - 1) < 0.02
    assert abs(x.mean()) < 5 / 16 / np.sqrt(x.size)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn"])
def test_orthogonal_in_narrow_types(dtype, key):
    q = np.asarray(jinit.orthogonal()(key, (64, 32), dtype), np.float64)
    exact = np.asarray(jinit.orthogonal()(key, (64, 32)), np.float64)
    eps = float(jnp.finfo(dtype).eps)
    # Rounded once: half an ulp of each entry, or half a subnormal step.
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    assert (abs(q - exact) <= abs(exact) * eps / 2 + tiny / 2).all()


@pytest.mark.parametrize(
    "dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"]
)
@pytest.mark.parametrize("factor", [1.0, -1.0, 0.37])
def test_scaled_draws_keep_their_bounds(dtype, factor, key):
    uniform = factor * jinit.he_uniform()
    limit = abs(factor) * (6 / 100) ** 0.5
    x = np.asarray(uniform(key, (100, 3000), dtype), np.float64)
    assert abs(x).max() <= limit
    truncated = factor * jinit.truncated_normal(0.1)
    x = np.asarray(truncated(key, (100, 3000), dtype), np.float64)
    assert abs(x).max() < 0.2 * abs(factor)


def test_the_scale_is_applied_before_the_rounding(key):
    """0.3 times a rounded draw would be rounded twice."""
    once = np.asarray(jinit.normal(0.3)(key, (1000,), "bfloat16"), np.float32)
    exact = np.asarray(jinit.normal(0.3)(key, (1000,)), np.float32)
    np.testing.assert_array_equal(once, exact.astype(jnp.bfloat16).astype(np.float32))


TINY = ("float8_e8m0fnu", "float4_e2m1fn")


@pytest.mark.parametrize("dtype", TINY)
def test_types_without_signs_or_of_4_bits_are_not_drawn(dtype, key):
    random = (jinit.normal(), jinit.uniform(), jinit.he(), jinit.orthogonal())
    for init in (*random, jinit.identity()):
        with pytest.raises(TypeError, match=f"{dtype}.*'float8_e4m3fn'"):
            init(key, (4, 4), dtype)


def test_constants_of_tiny_types(key):
    for value, dtype in ((1.0, TINY[0]), (4.0, TINY[0]), (0.0, TINY[1])):
        x = jinit.constant(value)(key, (3,), dtype)
        assert x.dtype == dtype and np.asarray(x, np.float32).tolist() == [value] * 3
    none = {TINY[0]: (0.0, -1.0), TINY[1]: (np.nan,), "float8_e4m3fn": (1e9,)}
    for dtype, values in none.items():
        for value in values:
            with pytest.raises(ValueError, match=f"`value` is .*{dtype} has no such"):
                jinit.constant(value)(key, (3,), dtype)
    with pytest.raises(ValueError, match="`array` is 0.0"):
        jinit.from_array([1.0, 0.0])(key, (2,), TINY[0])
