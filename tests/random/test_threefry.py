"""Counters and rounds of threefry, also where the index needs 64 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jinit.random import _threefry

SHAPES = [(), (0,), (1,), (5,), (3, 4, 5), (1, 7, 1), (0, 3), (70, 30, 9, 5)]


def reference(key, index: int) -> tuple[int, int]:
    """Threefry-2x32 with Python integers, straight from the paper."""
    mask = 0xFFFFFFFF
    k0, k1 = (int(word) for word in jax.random.key_data(key))
    schedule = (k0, k1, k0 ^ k1 ^ 0x1BD11BDA)
    x0, x1 = ((index >> 32) + k0) & mask, ((index & mask) + k1) & mask
    for i in range(20):
        x0 = (x0 + x1) & mask
        r = (13, 15, 26, 6, 17, 29, 16, 24)[i % 8]
        x1 = ((x1 << r | x1 >> (32 - r)) & mask) ^ x0
        if i % 4 == 3:
            step = i // 4 + 1
            x0 = (x0 + schedule[step % 3]) & mask
            x1 = (x1 + schedule[(step + 1) % 3] + step) & mask
    return x0, x1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", (8, 16, 32))
def test_bits_are_those_of_jax(key, shape, width):
    ours = _threefry.bits(key, shape, width)
    theirs = jax.random.bits(key, shape, f"uint{width}")
    assert ours.shape == shape and ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_64_bits_are_those_of_jax(key, shape, x64):
    ours = _threefry.bits(key, shape, 64)
    np.testing.assert_array_equal(ours, jax.random.bits(key, shape, "uint64"))


@pytest.mark.parametrize(
    "shape",
    [(1 << 31, 5), (3, 1 << 31), (70_001, 70_003), (1 << 16,) * 3, (5, 2**32 - 1)],
)
def test_counters_beyond_32_bits(key, shape):
    rng = np.random.default_rng(0)
    index = [rng.integers(0, size, 50, dtype=np.uint32) for size in shape]
    for axis, size in enumerate(shape):
        index[axis][:2] = 0, size - 1
    high, low = _threefry.flat_index([jnp.asarray(i) for i in index], shape)
    flat = [0] * 50
    for axis, size in enumerate(shape):
        flat = [f * size + int(i) for f, i in zip(flat, index[axis], strict=True)]
    assert max(flat) > 2**32
    assert [(int(h) << 32) + int(w) for h, w in zip(high, low, strict=True)] == flat
    words = _threefry.threefry2x32(_threefry.threefry_words(key), (high, low))
    for j in range(10):
        assert (int(words[0][j]), int(words[1][j])) == reference(key, flat[j])


def test_an_array_that_long_traces_to_the_counters_of_jax(key):
    shape = (1 << 20, 1 << 13)
    out = jax.eval_shape(lambda k: _threefry.bits(k, shape, 32), key)
    assert out.shape == shape
    # One element at the end, with the index that JAX's own counter has there.
    last = [jnp.asarray([size - 1], np.uint32) for size in shape]
    high, low = _threefry.flat_index(last, shape)
    x0, x1 = _threefry.threefry2x32(_threefry.threefry_words(key), (high, low))
    expected = reference(key, (1 << 33) - 1)
    assert int(x0[0] ^ x1[0]) == expected[0] ^ expected[1]


@pytest.mark.parametrize("impl", ("rbg", "unsafe_rbg"))
def test_other_keys_fall_back(impl):
    key = jax.random.key(3, impl=impl)
    assert _threefry.threefry_words(key) is None
    np.testing.assert_array_equal(
        _threefry.bits(key, (33,), 32), jax.random.bits(key, (33,), "uint32")
    )


def test_the_older_order_of_bits_falls_back(key):
    with jax.threefry_partitionable(False):
        assert _threefry.threefry_words(key) is None
        np.testing.assert_array_equal(
            _threefry.bits(key, (33,), 32), jax.random.bits(key, (33,), "uint32")
        )
