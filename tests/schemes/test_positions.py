"""Fixed positions have the values of the published formulas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit

KEY = jax.random.key(0)


def transformer(rows, width):
    """Vaswani et al. (2017), section 3.5: PE(pos, 2 i) and PE(pos, 2 i + 1)."""
    table = np.zeros((rows, width))
    for pos in range(rows):
        for i in range(width // 2):
            angle = pos / 10000 ** (2 * i / width)
            table[pos, 2 * i], table[pos, 2 * i + 1] = math.sin(angle), math.cos(angle)
    return table


def one_axis(places, count, last):
    """facebookresearch/DiT, get_1d_sincos_pos_embed_from_grid: [sin, cos]."""
    angles = np.outer(places, 1 / 10000 ** (np.arange(count) / last))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def two_axes(height, width, features, last):
    """The columns come first, as in DiT and in big_vision."""
    rows = [(y, x) for y in range(height) for x in range(width)]
    y, x = np.array(rows).T
    count = features // 4
    parts = [one_axis(places, count, last) for places in (x, y)]
    return np.concatenate(parts, axis=1)


def check(init, expected, shape=None):
    table = init(KEY, shape or expected.shape)
    assert table.dtype == jnp.float32
    # One rounding from float64, and nothing else.
    np.testing.assert_array_equal(
        np.asarray(table).reshape(expected.shape), expected.astype(np.float32)
    )


def test_the_published_formulas():
    check(jinit.sincos_positions(), transformer(300, 12))
    check(jinit.sincos_positions("mae"), two_axes(7, 7, 24, 6), (1, 49, 24))
    check(jinit.sincos_positions("mae", grid=(2, 5)), two_axes(2, 5, 24, 6))
    check(jinit.sincos_positions("moco_v3", grid=(3, 4)), two_axes(3, 4, 24, 5))
    check(jinit.sincos_positions("mae", grid=(9,)), one_axis(range(9), 5, 5))
    # A wrong order of the axes, or another last frequency, gives another table.
    table = np.asarray(jinit.sincos_positions("mae", grid=(2, 5))(KEY, (10, 24)))
    assert abs(table - two_axes(5, 2, 24, 6)).max() > 0.1
    assert abs(table - two_axes(2, 5, 24, 5)).max() > 0.1


def test_three_axes_and_the_rows_before_the_grid():
    """The last axis comes first; MAE's class token has zeros."""
    table = np.asarray(jinit.sincos_positions("mae", grid=(2, 3, 4))(KEY, (24, 12)))
    expected = one_axis(np.arange(24) % 4, 2, 2), one_axis(np.arange(24) // 12, 2, 2)
    np.testing.assert_allclose(table[:, :4], expected[0], atol=1e-7)
    np.testing.assert_allclose(table[:, 8:], expected[1], atol=1e-7)
    table = np.asarray(jinit.sincos_positions("mae", extra=1)(KEY, (1, 10, 8)))
    assert not table[0, 0].any()
    np.testing.assert_allclose(table[0, 1:], two_axes(3, 3, 8, 2), atol=1e-7)


def test_bad_settings_and_shapes():
    make = jinit.sincos_positions
    with pytest.raises(ValueError, match="'transformer', 'mae'"):
        make("mse")
    for settings in ({"grid": (0, 3)}, {"extra": -1}, {"base": 0.0}, {"grid": ()}):
        with pytest.raises(ValueError):
            make("mae", **settings)
    with pytest.raises(ValueError, match="have one axis"):
        make(grid=(2, 3))
    with pytest.raises(ValueError, match="without a grid it is a square"):
        make("mae")(KEY, (10, 8))
    with pytest.raises(ValueError, match="the product 9"):
        make("mae", grid=(2, 5), extra=1)(KEY, (10, 8))
    with pytest.raises(ValueError, match="a multiple of 4"):
        make("mae")(KEY, (9, 10))
    with pytest.raises(ValueError, match="a multiple of 2, and at least 2"):
        make()(KEY, (9, 3))
    # One frequency of each axis would divide 0 by 0.
    with pytest.raises(ValueError, match="at least 8"):
        make("moco_v3")(KEY, (9, 4))
    with pytest.raises(ValueError, match="1 axes; a table"):
        make()(KEY, (8,))
