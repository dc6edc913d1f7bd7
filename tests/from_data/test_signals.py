"""Signals have laws with the right moments and support, or no law."""

import numpy as np
import pytest
from scipy import stats

from jinit._from_data import signals

ONE = frozenset(["one"])


def two(function):
    """Apply a function to two independent normal entries."""
    laws = [signals.gaussian(0.0, 1.0), signals.gaussian(0.0, 1.0)]
    (law,) = signals.pointwise(lambda a, b: [function(a, b)], laws)
    return law


@pytest.mark.parametrize(
    ("function", "mean", "variance"),
    [
        (np.add, 0.0, 2.0),
        (np.multiply, 0.0, 1.0),
        (np.maximum, 1 / np.sqrt(np.pi), 1 - 1 / np.pi),
        (lambda a, b: a * a + b * b, 2.0, 4.0),
        (lambda a, b: a * (b > 0), 0.0, 0.5),
    ],
)
def test_functions_of_two_entries_have_exact_moments(function, mean, variance):
    moments = two(function).moments()
    assert moments.mean == pytest.approx(mean, abs=1e-3)
    assert moments.variance == pytest.approx(variance, rel=1e-3)
    assert moments.square == pytest.approx(variance + mean**2, rel=1e-3)


def test_a_sum_of_squares_is_not_negative_and_keeps_its_law():
    """A Gaussian of the same moments has no root: 16 % of it is negative."""
    law = two(lambda a, b: a * a + b * b)
    assert law.values.min() >= 0
    for power in (-0.25, 0.25, 0.5, 1.5):
        (root,) = signals.pointwise(lambda x, p=power: [x**p], [law])
        expected = stats.chi2(2).expect(lambda x, p=power: x**p)
        assert root.moments().mean == pytest.approx(expected, rel=5e-3)


def test_mixtures_keep_both_laws():
    """relu(x) and relu(-x), as in a concatenated relu, have roots."""
    z = signals.gaussian(0.0, 1.0)
    halves = [
        signals.SignalLaw(np.maximum(s * z.values, 0), i) for i, s in [(1, 1), (2, -1)]
    ]
    law = signals.mixture(halves, [0.5, 0.5])
    (root,) = signals.pointwise(lambda x: [np.sqrt(x)], [law])
    mean = stats.norm.expect(lambda x: abs(x) ** 0.5) / 2
    assert root.moments().mean == pytest.approx(mean, rel=2e-3)
    assert root.moments().square == pytest.approx(np.sqrt(2 / np.pi) / 2, rel=2e-3)


def test_arrays_keep_their_support_and_moments():
    array = np.random.default_rng(0).gamma(0.5, size=3000).astype(np.float32)
    law = signals.of_array(array)
    assert law.values.min() >= array.min() and law.values.max() <= array.max()
    assert law.moments().mean == pytest.approx(array.mean(), rel=1e-2)
    assert law.moments().square == pytest.approx(np.mean(array**2), rel=1e-2)
    assert signals.of_array(np.ones(3)).source is None
    assert signals.of_array(np.array([1j, 0])) is None


def test_outputs_of_narrow_layers_are_scale_mixtures():
    """With 8 Gaussian features E y^8 = 105 (8 10 12 14) / 8^4."""
    spread = signals.gaussian(0.0, 1.0).spread(8)
    assert spread == pytest.approx(2 / 8)
    law = signals.output(1.0, spread, np.float32, ONE)
    for power, expected in [(2, 1), (4, 3 * 80 / 64), (8, 105 * 13440 / 4096)]:
        moment = law.average(lambda x, p=power: x**p)
        assert moment == pytest.approx(expected, rel=0.02)
    wide = signals.output(1.0, 2 / 80, np.float32, ONE)
    assert wide.average(lambda x: x**4) == pytest.approx(3, rel=1e-4)


def test_entries_that_depend_on_each_other_have_no_law():
    def add(*laws):
        return signals.pointwise(lambda *xs: [sum(xs)], laws)

    x, other = signals.gaussian(0.0, 1.0), signals.gaussian(0.0, 1.0)
    assert add(x, x)[0].moments().variance == pytest.approx(4)
    assert add(x, other)[0].moments().variance == pytest.approx(2, rel=1e-3)
    # Another entry of the same array, a sum that has x in it, two uses of a layer.
    assert not add(x, x.apart())
    assert not add(x, add(x, other)[0])
    outputs = [signals.output(1.0, 0.0, np.float32, ONE) for _ in range(2)]
    assert not add(*outputs)
    assert not add(x, other, signals.gaussian(0.0, 1.0))


def test_values_that_are_not_finite_are_no_law():
    """A node lies 8 standard deviations below the mean, where log has no value."""
    law = signals.gaussian(5.0, 1.0)
    with np.errstate(invalid="ignore"):
        assert signals.pointwise(lambda x: [np.log(x)], [law]) == [None]
