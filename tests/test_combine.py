"""Combinators: what each does to the draws of its parts."""

import jax
import jax.nn.initializers as jax_initializers
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests import laws


def plain(key, shape, dtype=jnp.float32):
    return jax.random.normal(key, shape, dtype) * 0.1


def test_scaled_takes_any_initializer(key):
    assert jinit.scaled(jinit.he(), 0.5) == 0.5 * jinit.he()
    foreign = jinit.scaled(plain, -3.0)
    np.testing.assert_allclose(foreign(key, (4, 5)), -3 * plain(key, (4, 5)), rtol=1e-6)
    assert foreign == jinit.scaled(plain, -3.0) and foreign.std((4, 5)) is None
    assert (2.0 * foreign)(key, (4, 5), "bfloat16").dtype == "bfloat16"
    assert jinit.scaled(plain, 1.0)(key, (4,)).shape == (4,)


def test_masked_chooses_by_element(key):
    mask = np.tril(np.ones((6, 8), bool))
    x = jinit.masked(mask, jinit.he(), plain)(key, (6, 8))
    keys = [jax.random.fold_in(key, i) for i in range(2)]
    wanted = np.where(mask, jinit.he()(keys[0], (6, 8)), plain(keys[1], (6, 8)))
    np.testing.assert_allclose(x, wanted, rtol=1e-6)
    # Its parts count the fans of the whole shape, whatever the mask leaves of it.
    dense = jinit.masked(np.eye(300, dtype=bool), jinit.zeros, jinit.he())
    off = np.asarray(dense(key, (300, 300)))[~np.eye(300, dtype=bool)]
    laws.assert_moments(off, 0.0, (2 / 300) ** 0.5, 3.0)


@pytest.mark.parametrize(
    "widths, pads",
    [(1, ((1, 1), (1, 1))), ((0, 2), ((0, 2), (0, 2))), (((1, 0), (2, 3)),) * 2],
)
def test_padded_has_zeros_around(widths, pads, key):
    x = jinit.padded(jinit.he(), widths)(key, (7, 9))
    inner = tuple(n - sum(p) for n, p in zip((7, 9), pads, strict=True))
    np.testing.assert_array_equal(x, np.pad(jinit.he()(key, inner), pads))


def test_transposed(key):
    x = jinit.transposed(jinit.he())(key, (5, 7))
    np.testing.assert_array_equal(x, jinit.he()(key, (7, 5)).T)
    turned = jinit.transposed(jinit.he(layout="kio"), (2, 0, 1))
    x, inner = turned(key, (8, 3, 5)), jinit.he(layout="kio")(key, (3, 5, 8))
    np.testing.assert_array_equal(x, jnp.transpose(inner, (2, 0, 1)))
    assert turned.std((8, 3, 5)) == jinit.he(layout="kio").std((3, 5, 8))
    laws.assert_moments(jinit.transposed(jinit.lecun())(key, (30, 900)), 0, 1 / 30, 3.0)


def test_with_dtype_draws_wide_and_casts(key):
    narrow = jax_initializers.normal(1.0)(key, (400_000,), "bfloat16")
    wide = jinit.with_dtype(jax_initializers.normal(1.0), "float32")
    x = wide(key, (400_000,), "bfloat16")
    assert len(np.unique(np.asarray(narrow, np.float32))) <= 128
    np.testing.assert_array_equal(
        x, jax_initializers.normal(1.0)(key, (400_000,)).astype("bfloat16")
    )
    laws.assert_moments(x, 0.0, 1.0, 3.0)
    with pytest.raises(AssertionError):
        laws.assert_moments(narrow, 0.0, 1.0, 3.0)


def test_from_array(key):
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    init = jinit.from_array(array)
    assert init == jinit.from_array(array.tolist())
    x = init(key, (2, 3))
    assert x.dtype == np.float32 and (x == array).all()
    assert (0.5 * init)(key, (2, 3), "float16").tolist() == (array / 2).tolist()
    assert jinit.from_array(np.zeros((0, 3)))(key, (0, 3)).shape == (0, 3)
    assert jinit.from_array(array, "int32")(key, (2, 3)).dtype == np.int32


def test_torch_layout_draws_what_torch_would(key):
    def torch_default(key, shape, dtype=jnp.float32):
        """kaiming_uniform with a = sqrt(5), as torch counts the axes."""
        limit = (1 / np.prod(shape[1:])) ** 0.5
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    x = jinit.torch_layout(torch_default)(key, (3, 3, 16, 40))
    inner = torch_default(key, (40, 16, 3, 3))
    np.testing.assert_array_equal(x, jnp.transpose(inner, (2, 3, 1, 0)))
    laws.assert_law(x, laws.uniform(-1 / 12, 1 / 12))
    # Without it the same initializer takes the window for the inputs.
    with pytest.raises(AssertionError):
        laws.assert_law(
            torch_default(key, (3, 3, 16, 40)), laws.uniform(-1 / 12, 1 / 12)
        )


def test_concat_is_blocks():
    assert jinit.concat([plain, plain], 0) == jinit.blocks([plain, plain], 0)


ERRORS = [
    (lambda: jinit.scaled(3, 2.0), TypeError, "`init` is 3"),
    (lambda: jinit.scaled(plain, float("nan")), ValueError, "finite"),
    (lambda: jinit.masked([0, 1], plain, plain), TypeError, "booleans"),
    (lambda: jinit.masked([True], plain, "zeros"), TypeError, "`b` is 'zeros'"),
    (lambda: jinit.padded(plain, -1), ValueError, "`widths` is -1"),
    (lambda: jinit.padded(plain, (1, 2, 3)), ValueError, "before and after"),
    (lambda: jinit.padded(plain, [(1, 2), (3,)]), ValueError, "`widths` is"),
    (lambda: jinit.transposed(plain, (0, 2)), ValueError, "permutation"),
    (lambda: jinit.with_dtype(plain, "float31"), TypeError, "names no type"),
    (lambda: jinit.from_array("text"), TypeError, "array of numbers"),
    (lambda: jinit.torch_layout(None), TypeError, "`init` is None"),
]


@pytest.mark.parametrize("make, error, text", ERRORS)
def test_errors_of_the_makers(make, error, text):
    with pytest.raises(error, match=text):
        make()


CALLS = [
    (jinit.masked([True, False], plain, plain), (3, 4), "`mask` has shape"),
    (jinit.padded(plain, ((1, 1),) * 3), (3, 4), "one for each axis"),
    (jinit.padded(plain, 2), (3, 4), "leave nothing"),
    (jinit.transposed(plain, (1, 0)), (3, 4, 5), "must agree"),
    (jinit.from_array([1.0, 2.0]), (3,), r"shape \(2,\).*must be equal"),
    (jinit.torch_layout(plain), (3,), "at least two"),
]


@pytest.mark.parametrize("init, shape, text", CALLS)
def test_errors_of_calls(init, shape, text, key):
    with pytest.raises(ValueError, match=text):
        init(key, shape)
