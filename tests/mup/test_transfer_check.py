"""Sweeps of the rate over widths, on models whose best rate is known exactly."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jinit import mup
from jinit._network import kept
from jinit.mup._transfer_fit import Move, fitted
from jinit.mup._transfer_report import report_of
from tests.support.counting import compiled_programs

pytestmark = pytest.mark.usefixtures("quick_compilation")

WIDTHS = [16, 32, 64]
RATES = [2.0**k for k in range(-10, 0)]
BATCHES = [(0.0, 1.0), (0.0, 0.0)]
SIGMA = 0.5


def power(exponent, centre=-5.0, sigma=0.0, cubic=0.0):
    """Return a model and a loss that is least at 2^centre * (width / 16)^exponent.

    The first step moves w from 0 to the rate. The loss of the second step is a parabola
    in the log rate, whose minimum has a shift of N(0, sigma^2) for each seed.
    """

    def make(width):
        def init(key, x):
            shift = sigma * jax.random.normal(jax.random.fold_in(key, width))
            return {"w": jnp.zeros(()), "shift": shift}

        def apply(params, x):
            scale = (width / 16) ** -exponent * 2.0**-centre
            return params["w"] + x, scale * 2 ** -jax.lax.stop_gradient(params["shift"])

        return init, apply

    def loss(output, is_first):
        w, scale = output
        octaves = jnp.log2(jnp.where(w > 0, w, 1.0) * scale)
        parabola = 0.1 * octaves**2 + cubic * octaves**3
        return jnp.where(is_first == 1, 5.0 - w, jnp.exp(parabola))

    return make, loss


def checked(make_and_loss, tx=lambda rate, p: optax.sgd(rate), **options):
    make, loss = make_and_loss
    arguments = {"widths": WIDTHS, "rates": RATES, "batches": BATCHES, **options}
    return mup.transfer_check(make, tx=tx, loss=loss, **arguments)


@pytest.mark.parametrize("exponent", [0.0, -1.0, 0.5, -0.37])
def test_the_slope_is_that_of_the_law(exponent):
    """A parabola is exact for a parabola, wherever the grid lies."""
    report = checked(power(exponent, centre=-5.3))
    assert report.octaves_per_doubling == pytest.approx(exponent, abs=1e-3)
    expected = [2**-5.3 * (width / 16) ** exponent for width in WIDTHS]
    np.testing.assert_allclose(list(report.best.values()), expected, rtol=1e-3)
    assert list(report.best) == WIDTHS
    word = "moves" if exponent else "transfers"
    assert report.verdict == f"{word}: {report.octaves_per_doubling:.1f} +- 0.1"
    if exponent:
        with pytest.raises(AssertionError, match="the best rate moves"):
            report.check()
    else:
        report.check()


def test_two_widths_and_rates_that_are_not_evenly_spaced():
    rates = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 0.7]
    report = checked(power(-1.0), widths=[16, 48], rates=rates)
    assert report.octaves_per_doubling == pytest.approx(-1, abs=1e-3)
    # Two grid errors of 0.1 steps, of log2(3.3) octaves, over log2(3) doublings.
    expected = 0.1 * math.log2(10 / 3) * math.sqrt(2) / math.log2(3)
    assert report.uncertainty == pytest.approx(expected, rel=0.05)


def test_a_curve_that_is_no_parabola_is_within_the_error_of_the_grid():
    """For a d^2 + k d^3 the vertex is off by k (3 x^2 - h^2) / (2 a + 6 k x).

    Here x is the distance of the least point from the minimum, at most h / 2.
    """
    cubic, step = 0.02, 1.0
    bound = cubic * step**2 / (2 * 0.1 - 3 * cubic * step)
    for centre in np.linspace(-5.5, -4.5, 5):
        make_and_loss = power(0.0, centre=float(centre), cubic=cubic)
        report = checked(make_and_loss, widths=[16, 32], rates=RATES[3:])
        octave = math.log2(report.best[16])
        assert abs(octave - centre) < bound + 1e-3
        assert report.errors[16] == pytest.approx(0.1)


def test_the_uncertainty_is_the_scatter_of_the_slope_over_experiments():
    """With 4 seeds, 3 widths: std = 0.5 / sqrt(4) / sqrt(2), as 1 + 0 + 1 = 2."""
    reports = [checked(power(0.0, sigma=SIGMA), seeds=4, seed=n) for n in range(30)]
    slopes = np.array([report.octaves_per_doubling for report in reports])
    errors = np.array([report.uncertainty for report in reports])
    exact = SIGMA / math.sqrt(4) / math.sqrt(2)
    # A std of 30 numbers is known to 1 / sqrt(60); 5 of these errors.
    assert abs(np.std(slopes) / exact - 1) < 5 / math.sqrt(60)
    # Student's factor for 9 degrees is 1.06. The scatter around the line, of which the
    # larger one counts, and the grid's 0.07 make it a little larger, too.
    assert 1 < np.sqrt(np.mean(errors**2)) / exact < 1.5
    covered = np.mean(np.abs(slopes) < errors)
    assert abs(covered - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 30)
    # A slope is known to 0.15 or less in few of them.
    assert any(report.verdict.startswith("undecided") for report in reports)
    undecided = next(r for r in reports if r.verdict.startswith("undecided"))
    with pytest.raises(AssertionError, match="whether the rate transfers is undecided"):
        undecided.check()


def test_one_seed_knows_no_noise():
    one, two = (checked(power(0.0), seeds=n) for n in (1, 2))
    assert one.uncertainty > 2 * two.uncertainty
    assert one.errors[16] == pytest.approx(math.hypot(0.25, 0.1))
    assert one.rows[0]["std"] == 0


@pytest.mark.parametrize(
    "centre, end, advice", [(-11.0, "lowest", "lower"), (1.0, "highest", "higher")]
)
def test_a_grid_that_does_not_hold_the_minimum(centre, end, advice):
    report = checked(power(0.0, centre=centre))
    assert report.verdict.startswith("undecided: the grid does not hold the minimum")
    assert f"the {end} rate" in report.verdict and f"add {advice} " in report.verdict
    assert report.ends == dict.fromkeys(WIDTHS, end)
    with pytest.raises(AssertionError, match="does not hold"):
        report.check()


def test_a_move_beyond_the_grid_is_a_move_all_the_same():
    report = checked(power(-2.0, centre=-7.0))
    # At 64 the best is 2^-11: the grid's end, at 2^-10, is a bound.
    assert report.ends == {64: "lowest"}
    assert report.verdict.startswith("moves: -1.5 +- 0.3 or more; the grid")
    assert "at width 64" in report.verdict
    upwards = checked(power(1.0, centre=-3.6), widths=[16, 32, 64, 128])
    assert upwards.ends == {128: "highest"}
    assert upwards.verdict.startswith("moves: 0.9 +- 0.2 or more")
    narrow = checked(power(-2.0, centre=0.0))
    assert narrow.ends == {16: "highest"} and narrow.verdict.startswith("moves: -1.5")


def test_a_minimum_beyond_the_grid_that_would_lessen_the_move_leaves_it_open():
    scores = np.array(
        [[3.0, 1, 2, 3, 4, 5], [5.0, 4, 3, 2, 1, 2], [0.5, 1, 2, 3, 4, 5]]
    )
    bests, _ = fitted([16, 32, 64], RATES[:6], scores[..., None])
    assert [best.end for best in bests] == ["", "", "lowest"]
    report = report_of((16, 32, 64), tuple(RATES[:6]), scores[..., None], bests,
                       Move(1.0, 0.1), "late", 2, [])  # fmt: skip
    assert report.verdict.startswith("undecided: the grid does not hold")


@pytest.mark.parametrize("decay, slope", [("independent", 0.0), ("scaled", 1.0)])
def test_a_decay_that_depends_on_the_width(decay, slope):
    """Each step multiplies a weight by 1 - decay rate / n, or by 1 - decay rate."""

    def make(width):
        def init(key, x):
            shapes = {"up": (4, width), "mid": (width, width), "down": (width, 2)}
            return {name: jnp.ones(shape) for name, shape in shapes.items()}

        def apply(w, x):
            reads = (x @ w["up"]) @ w["mid"] @ w["down"]
            return 1e-20 * jnp.mean(reads), jax.lax.stop_gradient(w["mid"][0, 0])

        return init, apply

    def loss(output, is_first):
        # After 4 steps a weight of 1 / 2 is the best.
        value, weight = output
        return value + jnp.exp(jnp.log2(weight / 0.5) ** 2)

    def tx(rate, p):
        adamw = optax.adamw(rate, weight_decay=10.0)
        return p.optimizer(adamw, weight_decay=decay)

    report = mup.transfer_check(
        make, [16, 32, 64], RATES, [(jnp.ones((1, 4)), 0.0)] * 5, tx, loss=loss,
        score=lambda losses: np.log(losses[-1]),
    )  # fmt: skip
    assert report.is_parametrized
    assert report.octaves_per_doubling == pytest.approx(slope, abs=0.1), str(report)
    word = "transfers" if decay == "independent" else "moves"
    assert report.verdict.startswith(word)
    if slope:
        assert "such as a weight decay" in str(report.findings[0])


def test_all_rates_and_seeds_are_one_program_and_are_kept():
    kept.forget()
    make_and_loss = power(-1.0)
    with compiled_programs() as counted:
        report = checked(make_and_loss, seeds=3)
    assert report.is_one_program
    trained = [name for name in counted if "run" in name]
    assert len(trained) <= len(WIDTHS), counted
    with compiled_programs() as again:
        checked(make_and_loss, seeds=3)
    assert not again


def test_rows_table_figure_and_data(tmp_path):
    report = checked(power(-1.0, sigma=0.1), rates=RATES[2:])
    assert len(report.rows) == len(WIDTHS) * len(RATES[2:])
    row = report.rows[0]
    assert (row["width"], row["rate"], row["diverged"]) == (16, RATES[2], 0)
    assert row["score"] == pytest.approx(np.mean(row["scores"]))
    assert row["std"] == pytest.approx(np.std(row["scores"], ddof=1))
    text = str(report)
    assert text.count(" *") == len(WIDTHS) and report.verdict in text
    assert "start as they are drawn" in text and "<table>" in report._repr_html_()
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["verdict"] == report.verdict and data["best"]["16"] == report.best[16]
    figure = report.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes()[:4] == b"\x89PNG"
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and "rate moves" in figure._suptitle.get_text()
    texts = {text.get_text() for text in axes.texts}
    assert {f"width {width}" for width in WIDTHS} <= texts


def exploding(limit):
    """Return a model whose loss is NaN behind a rate, and least a factor 4 below it."""
    make, loss = power(0.0, centre=math.log2(limit) - 2)

    def bounded(output, is_first):
        value = loss(output, is_first)
        return jnp.where(output[0] > limit, jnp.nan, value)

    return make, bounded


def test_an_optimizer_that_ignores_its_rate_is_named():
    with pytest.raises(ValueError, match="the rate has no effect.*`tx` must give"):
        checked(power(0.0), tx=lambda rate, p: optax.sgd(0.03))


def test_runs_that_diverge_are_the_worst(tmp_path):
    report = checked(exploding(0.1))
    assert report.verdict == "transfers: 0.0 +- 0.1"
    assert report.best[16] == pytest.approx(0.1 / 4, rel=1e-2)
    last = report.rows[len(RATES) - 1]
    assert last["score"] == last["std"] == math.inf and last["diverged"] == 2
    assert "diverged" in str(report)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["rows"][len(RATES) - 1]["score"] is None
    report.plot(tmp_path / "rates.png")
    # Beside a rate that diverged there is no parabola, and the error is half a step.
    scores = np.tile([3.0, 2.0, math.inf, math.inf], (2, 1))[..., None]
    bests, _ = fitted([16, 32], RATES[:4], scores)
    assert bests[0].octave == math.log2(RATES[1]) and bests[0].error > 0.5
    assert bests[0].end == ""
    # One width may have diverged altogether, which lower rates would show.
    scores[1] = math.inf
    bests, move = fitted([16, 32], RATES[:4], scores)
    report = report_of((16, 32), tuple(RATES[:4]), scores, bests, move, "late", 2, [])
    assert report.ends == {32: "lowest"} and "add lower rates" in report.verdict
    report.plot(tmp_path / "lost.png")
    with pytest.raises(ValueError, match="at every width and rate a run diverged"):
        checked(exploding(1e-9))


def test_scores():
    make, loss = power(0.0)
    by_name = checked((make, loss))
    by_function = checked((make, loss), score=lambda losses: np.log(losses[-1]))
    assert by_function.octaves_per_doubling == by_name.octaves_per_doubling
    assert by_function.score == "<lambda>"
    mean = checked((make, loss), score="mean")
    whole = by_function.rows[0]["score"] / 2 + math.log(5) / 2
    assert mean.rows[0]["score"] == pytest.approx(whole, rel=1e-5)
    by_function.plot()
    with pytest.raises(TypeError, match="must return one number"):
        checked((make, loss), score=lambda losses: losses)
    with pytest.raises(ValueError, match="no logarithm"):
        checked((make, lambda y, t: loss(y, t) - 100))
    # A loss of 0 is the best there is.
    zero = checked(
        (make, lambda y, t: jnp.where(y[0] == RATES[4], 0.0, loss(y, t) + 1))
    )
    assert zero.best[16] == pytest.approx(RATES[4], rel=0.05)


@pytest.mark.parametrize(
    "tx",
    [
        lambda rate, p: optax.sgd(float(rate)),
        lambda rate, p: optax.sgd(optax.exponential_decay(rate, 1, 1.0) if rate else 1),
    ],
)
def test_a_rate_that_may_not_be_traced_has_a_program_of_its_own(tx):
    few = {"widths": [16, 32], "rates": RATES[2:6]}
    traced, by_number = checked(power(-1.0), **few), checked(power(-1.0), tx, **few)
    assert traced.is_one_program and not by_number.is_one_program
    assert "each rate has a program" in str(by_number)
    for one, other in zip(traced.rows, by_number.rows, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"widths": [16]}, "two widths or more"),
        ({"widths": [32, 16]}, "in rising order"),
        ({"widths": 32}, "two widths or more"),
        ({"rates": [0.1, 0.2]}, "three rates or more"),
        ({"rates": [0.1, 0.3, 0.2]}, "in rising order"),
        ({"rates": [0.1, 0.1, 0.2]}, "none of them twice"),
        ({"rates": [0.0, 0.1, 0.2]}, "greater than 0"),
        ({"rates": [0.1, 0.2, math.inf]}, "finite"),
        ({"rates": 0.1}, "three rates or more"),
        ({"seeds": 0}, "1 or more"),
        ({"batches": []}, "no batches"),
        ({"batches": [(0.0, 1.0), (jnp.ones(2), 1.0)]}, "all of the same shapes"),
        ({"score": "last"}, "it must be one of 'late', 'mean'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        checked(power(0.0), **options)


def test_bad_functions():
    with pytest.raises(TypeError, match="must give an Optax transformation"):
        checked(power(0.0), lambda rate, p: rate)
    with pytest.raises(TypeError, match="a function of the rate and the param"):
        checked(power(0.0), optax.adam(0.1))
