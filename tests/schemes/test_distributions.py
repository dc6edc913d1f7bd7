"""The truncated normal law in all its settings: before, after, absolute, far out."""

import math

import jax
import numpy as np
import pytest
from scipy import stats

import jinit
from jinit.random import _standard
from tests.support import laws

INF = math.inf
SETTINGS = [
    {"stddev": 0.5, "lower": -1.0, "upper": 3.0},
    {"stddev": 0.5, "std_is": "after"},
    {"stddev": 0.5, "mean": 2.0},
    {"stddev": 0.5, "lower": -1.0, "upper": 0.25, "bounds": "absolute"},
    {"stddev": 0.3, "lower": -1.0, "upper": 0.25, "bounds": "absolute", "mean": 0.1,
     "std_is": "after"},
    {"stddev": 1.0, "lower": 2.9, "upper": INF},
    {"stddev": 1.0, "lower": 4.0, "upper": 5.0},
    {"stddev": 1.0, "lower": -31.0, "upper": -30.0, "std_is": "after"},
    {"stddev": 1.0, "lower": 200.0, "upper": INF},
    {"stddev": 1.0, "lower": 0.0, "upper": 1.5, "bounds": "absolute", "mean": -50.0},
]  # fmt: skip


def law_of(stddev, lower=-2.0, upper=2.0, mean=0.0, std_is="before", bounds="relative"):
    """Scipy's law; the sigma before the truncation is found by its own means."""
    relative = bounds == "relative"

    def law(sigma):
        ends = (lower, upper) if relative else [
            (end - mean) / sigma for end in (lower, upper)
        ]  # fmt: skip
        return stats.truncnorm(*ends, loc=mean, scale=sigma)

    if std_is == "before":
        return law(stddev)
    grid = np.geomspace(stddev, 1e3 * stddev, 40)
    at = np.searchsorted([law(sigma).std() for sigma in grid], stddev)
    low, high = grid[max(at - 1, 0)], grid[at]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if law(middle).std() < stddev else (low, middle)
    return law(high)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_law(settings, key):
    init, law = jinit.truncated_normal(**settings), law_of(**settings)
    x = np.asarray(init(key, (300, 400)), np.float64).ravel()
    assert stats.kstest(x, law.cdf).pvalue > laws.FAILURE_RATE
    std = np.std(x)
    assert init.std(()) == pytest.approx(std, rel=5 * 2 / math.sqrt(x.size))
    # The same test fails for a law that is a few hundredths of its std off.
    assert stats.kstest(x + 0.03 * std, law.cdf).pvalue < laws.FAILURE_RATE


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_bounds_are_never_reached(settings, dtype, key):
    init = jinit.truncated_normal(**settings)
    ends = (settings.get("lower", -2.0), settings.get("upper", 2.0))
    if settings.get("bounds") != "absolute":
        # sigma, from the std after the truncation and that of a unit law.
        unit = jinit.truncated_normal(1.0, lower=ends[0], upper=ends[1])
        sigma = init.std(()) / unit.std(())
        ends = [settings.get("mean", 0.0) + sigma * end for end in ends]
    x = np.asarray(init(key, (200, 300), dtype), np.float64)
    assert x.min() >= ends[0] and x.max() <= ends[1] and np.isfinite(x).all()


def test_far_tails_have_as_many_values_as_the_middle(key):
    init = jinit.truncated_normal(1.0, lower=8.0, upper=9.0)
    x = init(key, (1000,))
    assert len(set(x.tolist())) > 900
    # Where JAX has a single one.
    theirs = jax.nn.initializers.truncated_normal(1.0, lower=8.0, upper=9.0)
    assert len(set(theirs(key, (1000,), np.float32).tolist())) == 1


def test_an_infinite_bound_gives_no_infinite_values(monkeypatch, key):
    """The least u of 2^23 is -1, where erf_inv is infinite: clipped, it was -3e38."""
    monkeypatch.setattr(
        _standard,
        "upper_bits",
        lambda _key, shape, *_, **__: np.zeros(shape, np.uint32),
    )
    f32 = np.dtype(np.float32)
    lowest = _standard.unit_truncated(key, -INF, 0.0, (1,), f32, INF)
    assert -6 < float(lowest[0]) < -5


def test_after_is_exact():
    for settings in SETTINGS:
        if settings.get("std_is") == "after":
            found = jinit.truncated_normal(**settings).std(())
            assert found == pytest.approx(settings["stddev"], rel=1e-12)


def test_torch_s_bounds_hardly_cut(key):
    init = jinit.truncated_normal(0.02, bounds="absolute")
    assert init.std(()) == 0.02
    laws.assert_law(init(key, (300, 400)), laws.normal(0.02))


def test_std_of_narrow_and_far_intervals():
    for low, high in ((-1e-6, 1e-6), (0.5, 0.5 + 1e-9), (40.0, INF), (1e5, INF)):
        law = jinit.truncated_normal(1.0, lower=low, upper=high)
        # A narrow interval is uniform, a far one exponential of rate `low`.
        wanted = (high - low) / math.sqrt(12) if high - low < 1 else 1 / low
        assert law.std(()) == pytest.approx(wanted, rel=2e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lower": 2.0, "upper": 2.0}, "must be less"),
        ({"std_is": "during"}, "must be one of"),
        ({"bounds": "relativ"}, "Did you mean 'relative'"),
        ({"stddev": -1.0}, "at least 0"),
        ({"mean": INF}, "finite"),
        ({"stddev": 2.0, "bounds": "absolute", "std_is": "after"}, "widen the bounds"),
        ({"stddev": 1e-9, "bounds": "absolute", "mean": 3.0}, "standard deviations"),
        ({"stddev": 0.0, "bounds": "absolute", "mean": 3.0}, "standard deviations"),
        ({"lower": 1e7, "upper": INF}, "standard deviations away"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        jinit.truncated_normal(**settings)


def test_no_spread_is_the_mean(key):
    init = jinit.truncated_normal(0.0, mean=1.5)
    assert init(key, (3,)).tolist() == [1.5] * 3 and init.std(()) == 0.0
    assert (2 * init)(key, (3,)).tolist() == [3.0] * 3


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"stddev": 1.0, "lower": 5.0, "upper": 5.0 + 1e-15}, 5.0),
        ({"stddev": 1e-30, "mean": 1.0}, 1.0),
    ],
)
def test_an_interval_of_one_float_is_that_float(settings, value, key):
    assert jinit.truncated_normal(**settings)(key, (9,)).tolist() == [value] * 9


def test_settings_survive_scale_stack_and_configuration(key):
    init = jinit.truncated_normal(0.5, mean=2.0, std_is="after")
    assert jinit.from_config(jinit.to_config(init)) == init
    np.testing.assert_allclose((0.5 * init)(key, (50,)), 0.5 * init(key, (50,)))
    stack = jinit.stacked(init)(key, (2, 500))
    assert abs(float(stack.mean()) - 2) < 5 * 0.5 / math.sqrt(1000)
