"""Combinators: what each does to the draws of its parts."""

import math
import pickle

import jax
import jax.nn.initializers as jax_initializers
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support import laws
from tests.support.foreign import plain


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
    (lambda: jinit.padded(plain, (1, 2, 3)), ValueError, "a pair of numbers"),
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
    (jinit.padded(plain, 2), (3, 4), "more zeros than an axis"),
    (jinit.transposed(plain, (1, 0)), (3, 4, 5), "must agree"),
    (jinit.from_array([1.0, 2.0]), (3,), r"shape \(2,\).*must be equal"),
    (jinit.torch_layout(plain), (3,), "at least two"),
]


@pytest.mark.parametrize("init, shape, text", CALLS)
def test_errors_of_calls(init, shape, text, key):
    with pytest.raises(ValueError, match=text):
        init(key, shape)


# PyTorch's kernels in Flax's layout: a matrix, and convolutions of one to three axes.
KERNELS = [(30, 20), (5, 6, 8), (3, 2, 6, 8), (2, 3, 2, 4, 6)]
COUNTING = [
    jinit.xavier(), jinit.he(), jinit.he(mode="fan_out", distribution="uniform"),
    jinit.kaiming("gelu", mode="fan_avg"), jinit.lecun(gain="tanh"), jinit.siren(),
    jinit.scaled_uniform(), jinit.small_init(), jinit.wang_init(3), jinit.moe_router(),
    jinit.hyperfan_in((4, 3)), jinit.hyperfan_out((4, 3)), jinit.he(groups=2),
    jinit.he_normal(), jinit.glorot_uniform(), jinit.lecun_uniform(),
    jinit.variance_scaling(2.0, "fan_out", "normal"),
    jinit.orthogonal(), jinit.scaled_orthogonal(2.0), jinit.orthogonal(method="qr"),
]  # fmt: skip


@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize("init", COUNTING, ids=repr)
def test_torch_layout_counts_fans_in_it(init, shape):
    # Flax's kernel has the same inputs and outputs, so it has the same std.
    for wrapped, std in (
        (init, init.std(shape)),
        (0.5 * init, 0.5 * init.std(shape)),
        (jinit.with_dtype(init, "float32"), init.std(shape)),
    ):
        assert jinit.torch_layout(wrapped).std(shape) == pytest.approx(std, rel=1e-12)


@pytest.mark.parametrize("shape", KERNELS)
def test_torch_layout_has_torch_s_numbers(shape, key):
    *window, inputs, outputs = shape
    layout = "oi" + "k" * len(window)
    fan_in, fan_out = math.prod(shape[:-1]), math.prod(window) * outputs
    assert jinit.fans((outputs, inputs, *window), layout) == (fan_in, fan_out)
    for make in (jinit.scaled_uniform, jinit.he, jinit.xavier):
        named = make(layout=layout)(key, (outputs, inputs, *window))
        drawn = jinit.torch_layout(make())(key, shape)
        assert drawn.tolist() == jnp.moveaxis(named, (0, 1), (-1, -2)).tolist()
        assert jinit.torch_layout(make(layout=layout))(key, shape).tolist() == (
            drawn.tolist()
        )
    # kaiming_uniform_(a=sqrt(5)), PyTorch's default: U(+-1 / sqrt(fan_in)).
    bound = np.abs(jinit.torch_layout(jinit.scaled_uniform())(key, shape)).max()
    assert 0.8 < bound * math.sqrt(fan_in) <= 1


def test_torch_layout_of_an_orthogonal_kernel(key):
    # torch.nn.init.orthogonal_ flattens (out, in, *window) to (out, the rest).
    w = jinit.torch_layout(jinit.orthogonal())(key, (3, 3, 4, 8))
    rows = w.reshape(-1, 8).T
    np.testing.assert_allclose(rows @ rows.T, np.eye(8), atol=1e-5)


def test_torch_layout_of_what_is_made_of_others(key):
    # Blocks of outputs lie along PyTorch's first axis; a mask is in its layout.
    shape = (3, 6, 8)
    blocks = jinit.torch_layout(jinit.blocks((jinit.he(), 2), axis=0))
    assert blocks.std(shape) == pytest.approx(jinit.he().std((3, 6, 4)))
    mask = np.zeros((8, 6, 3), bool)
    masked = jinit.torch_layout(jinit.masked(mask, jinit.zeros, jinit.he()))
    padded = jinit.torch_layout(jinit.padded(jinit.he(), 0))
    plain = jinit.torch_layout(jinit.he())(key, shape)
    assert padded(key, shape).tolist() == plain.tolist()
    scale = masked(key, shape).std() / plain.std()
    assert 0.7 < scale < 1.4
    # A transposed kernel and a stack of kernels turn what they draw by themselves.
    turned = jinit.torch_layout(jinit.transposed(jinit.he()))
    assert turned.std(shape) == jinit.he().std(shape)
    stack = jinit.stacked(jinit.torch_layout(jinit.he()))
    assert stack.std((5, 3, 6, 8)) == pytest.approx(jinit.he().std(shape))


def test_torch_layout_is_a_value(key):
    init = jinit.torch_layout(jinit.he())
    again = pickle.loads(pickle.dumps(init))
    assert again == init and hash(again) == hash(init)
    assert repr(init) == "jinit.torch_layout(jinit.he())"
    assert jinit.from_config(jinit.to_config(init)) == init
    assert again(key, (6, 8)).tolist() == init(key, (6, 8)).tolist()


@pytest.mark.parametrize("init, text", [
    (jinit.stacked(jinit.he()), r"jinit.stacked\(jinit.torch_layout\(...\)\)"),
    (jinit.blocks((jinit.he(), 2)), "counted from the end"),
    (jinit.he(in_axis=0), "Name both `in_axis` and `out_axis`, or neither"),
    (jinit.he(batch_axis=0), "which of them count"),
    (jinit.dirac(), "leave `torch_layout` out"),
    (jinit.delta_orthogonal(), "leave `torch_layout` out"),
    (jinit.looks_linear(), "with a layout such as 'oi'"),
    (jinit.embedding(), "does not tell which axes"),
    (jinit.torch_layout(jinit.he()), "does not tell which axes"),
    (0.5 * jinit.dirac(), "does not tell which axes"),
    (jax.nn.initializers.he_normal(), "in_axis=1 and out_axis=0, or take jinit's"),
    (jinit.scaled(jax.nn.initializers.he_normal(), 0.5), "in_axis=1 and out_axis=0"),
])  # fmt: skip
def test_torch_layout_of_what_cannot_be_told(init, text):
    with pytest.raises(ValueError, match=text):
        jinit.torch_layout(init)


def test_torch_layout_of_jax_s_own(key):
    mine = jinit.torch_layout(jinit.he_uniform())
    jax_s = jax.nn.initializers.he_uniform(in_axis=1, out_axis=0)
    np.testing.assert_array_equal(
        mine(key, (3, 6, 8)), jinit.torch_layout(jax_s)(key, (3, 6, 8))
    )
    assert jinit.torch_layout(jinit.normal(0.1)).std((3, 6, 8)) == 0.1
    assert (
        jinit.torch_layout(jinit.constant(2.0))(key, (6, 8)).tolist() == [[2] * 8] * 6
    )
