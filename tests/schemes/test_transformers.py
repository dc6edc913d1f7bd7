"""Schemes of transformers: each by its paper's claim."""

import numpy as np
import pytest
from scipy import stats

import jinit
from tests.support import laws
from tests.support.laws import drawn


def test_small_init_and_wang_init_have_the_published_stds():
    assert jinit.small_init().std((768, 3072)) == pytest.approx(0.02282177, abs=1e-8)
    assert jinit.small_init(width=768).std((3072, 768)) == pytest.approx(0.02282177)
    assert jinit.wang_init(12).std((3072, 768)) == pytest.approx(0.00601407, abs=1e-8)
    out = jinit.wang_init(12, layout="iio")
    assert out.std((12, 64, 768)) == jinit.wang_init(12, width=768).std((5,))
    laws.assert_law(drawn(out, (10, 20, 600)), laws.normal(2 / (12 * 600**0.5)))
    with pytest.raises(AssertionError):  # the width that is read, not written
        laws.assert_law(drawn(out, (10, 20, 600)), laws.normal(2 / (12 * 200**0.5)))
    # small_init's is Xavier's law of the layer d -> 4 d.
    assert jinit.small_init().std((64, 9)) == jinit.xavier().std((64, 256))


def test_moe_router_scales_the_variance():
    laws.assert_law(
        drawn(jinit.moe_router(), (400, 500)), laws.truncated(0.1**0.5 / 20)
    )
    with pytest.raises(AssertionError):  # 0.1 as a factor of the std
        laws.assert_law(drawn(jinit.moe_router(), (400, 500)), laws.truncated(0.1 / 20))
    experts = jinit.moe_router(layout="bio")
    assert experts.std((16, 400, 7)) == pytest.approx(0.1**0.5 / 20)


@pytest.mark.parametrize(
    ("depth", "value"), [(1, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6)]
)
def test_layer_scale(depth, value):
    assert drawn(jinit.layer_scale(depth), (3,)) == pytest.approx(value)
    # The table of one layer more differs where a step ends.
    later = drawn(jinit.layer_scale(depth + 1), (3,))
    assert (later == pytest.approx(value)) == (depth not in (18, 24))


@pytest.mark.parametrize(("axis", "shape"), [(-1, (500, 16)), (0, (16, 500)),
                                             ((0, 1), (4, 4, 500))])  # fmt: skip
def test_ngpt_is_uniform_on_the_sphere(axis, shape):
    init = jinit.ngpt(axis)
    w = drawn(init, shape)
    np.testing.assert_allclose(np.sum(w**2, axis=axis), 1, rtol=1e-5)
    law = stats.beta(7.5, 7.5, loc=-1, scale=2)
    one = np.moveaxis(w, -1, 0)[:, 0] if axis != -1 else w[:, 0]
    assert stats.kstest(one.reshape(500, -1)[:, 0], law.cdf).pvalue > laws.FAILURE_RATE
    assert init.std(shape) == pytest.approx(0.25)
    bf16 = drawn(init, shape, "bfloat16")
    np.testing.assert_allclose(np.sum(bf16**2, axis=axis), 1, rtol=2e-2)


def assert_on_the_sphere(w):
    """Norm 1, and in three dimensions each coordinate uniform (Archimedes)."""
    np.testing.assert_allclose(np.sum(np.square(w), -1), 1, rtol=1e-5)
    laws.assert_law(w[:, 0], laws.uniform(-1, 1))


def test_ngpt_is_not_any_law_of_norm_1():
    assert_on_the_sphere(drawn(jinit.ngpt(), (20000, 3)))
    cube = drawn(jinit.scaled(jinit.uniform(), 2.0), (20000, 3)) - 1
    for wrong in (
        drawn(jinit.normal(3**-0.5), (20000, 3)),
        cube / np.linalg.norm(cube, axis=1, keepdims=True),
        drawn(jinit.ngpt(axis=0), (20000, 3)),
    ):
        with pytest.raises(AssertionError):
            assert_on_the_sphere(wrong)


def test_ngpt_of_one_number_is_a_sign():
    w = drawn(jinit.ngpt(), (50, 1))
    np.testing.assert_allclose(abs(w), 1, rtol=1e-6)
    assert set(np.sign(w).ravel()) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jinit.wang_init(0), ValueError, "num_layers"),
        (lambda: jinit.moe_router(0), ValueError, "greater than 0"),
        (lambda: jinit.layer_scale(2.5), TypeError, "`depth` is 2.5"),
        (lambda: jinit.layer_scale(None), TypeError, "`depth` is None"),
        (lambda: jinit.layer_scale(0), ValueError, "`depth` is 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
