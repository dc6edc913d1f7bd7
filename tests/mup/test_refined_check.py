"""The refined check: effective and propagated parts, in closed form and in layouts."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jinit
from jinit import mup
from jinit.mup._coordinate_parts import PARTS as PARTS_OF_A_CHANGE
from jinit.mup._coordinate_rows import refined_row

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(21)
RATE, WIDTHS = 1e-4, (64, 512)
PARTS = ("effective", "propagated")


def linear(width):
    """Return a linear network, whose hidden kernel is `b`."""

    def init(key, x):
        shapes = {"a": (x.shape[-1], width), "b": (width, width), "c": (width, 1)}
        keys = zip(shapes.items(), jax.random.split(key, 3), strict=True)
        return {name: jinit.lecun()(key, shape) for (name, shape), key in keys}

    return init, lambda w, x: WIDTHS[0] / width * (x @ w["a"] @ w["b"] @ w["c"])


def once(tx, make=linear):
    """Take one step of a tiny rate on one example, with a slope of 1 in the output."""
    x = jax.random.normal(KEY, (1, 8))
    return mup.coordinate_check(
        make, WIDTHS, [(x, 0.0)], tx, loss=lambda y, _: jnp.sum(y), seeds=4,
        refined=True, init=lambda p, params: p.init(params),
    )  # fmt: skip


@pytest.fixture(scope="module")
def reports():
    adam = optax.adam(RATE, eps=1e-30)
    return {
        "mup": once(lambda p: p.optimizer(adam)),
        "standard": once(lambda p: adam),
    }


def hidden(report):
    return {row["path"]: row for row in report.refined}["b"]


@pytest.mark.parametrize("name", ["mup", "standard"])
def test_one_step_of_adam_in_closed_form(reports, name):
    """D = -r sign(d) sign(h)^T, so that D h = -r sign(d) sum |h|, |D|_2 = |D|_F = r n.

    With normal h both alignments are mean |h| / rms h = sqrt(2 / pi).
    """
    row = hidden(reports[name])
    for i, width in enumerate(WIDTHS):
        rate = RATE * (WIDTHS[0] / width if name == "mup" else 1.0)
        expected = np.sqrt(2 / np.pi)
        share = row["effective"][i] / (rate * width * row["input"][i])
        # Var |h| = (1 - 2 / pi), over 4 seeds; five standard errors.
        bound = 5 * np.sqrt((1 - 2 / np.pi) / (4 * width))
        for value in (share, row["effective_spectral"][i],
                      row["effective_frobenius"][i]):  # fmt: skip
            assert abs(value - expected) < bound
    assert abs(row["effective_spectral_slope"]) < 0.05
    assert abs(row["effective_slope"] - (name == "standard")) < 0.05
    assert row["effective_expected"] == row["propagated_expected"] == 0


def test_the_standard_rate_is_found_in_the_effective_part(reports):
    good, bad = reports["mup"], reports["standard"]
    assert all(row[f"{p}_verdict"] == "flat" for row in good.refined for p in PARTS)
    assert hidden(bad)["effective_verdict"] == "grows"
    (finding,) = [f for f in bad.findings if "effective part" in f.message
                  and f.path == "b"]  # fmt: skip
    assert "(W_t - W_0) x_t, grows with width: its slope is +1.0" in finding.message
    assert "where 0 is expected" in finding.message
    assert "p.optimizer(tx)" in finding.message
    with pytest.raises(AssertionError, match="effective part of the change of b"):
        bad.check()


def test_the_first_layer_propagates_nothing(reports):
    first = reports["mup"].refined[0]
    assert first["path"] == "a" and first["input_change"] == (0.0, 0.0)
    assert first["propagated"] == first["propagated_spectral"] == (0.0, 0.0)
    assert first["propagated_verdict"] == "flat"


def test_a_readout_whose_multiplier_stands_behind_it_has_the_slope_1(reports):
    last = reports["mup"].refined[-1]
    assert last["path"] == "c" and last["effective_expected"] == pytest.approx(1)
    assert last["effective_slope"] == pytest.approx(1, abs=0.1)

    def before(width):
        init, _ = linear(width)
        scale = WIDTHS[0] / width
        return init, lambda w, x: (scale * (x @ w["a"] @ w["b"])) @ w["c"]

    report = once(lambda p: p.optimizer(optax.adam(RATE, eps=1e-30)), before)
    last = report.refined[-1]
    assert last["effective_expected"] == 0 and abs(last["effective_slope"]) < 0.1
    assert last["effective_verdict"] == last["propagated_verdict"] == "flat"


def test_the_parts_are_no_more_and_no_less_than_the_change(reports):
    for report in reports.values():
        for row in report.refined:
            change, one, other = (np.array(row[n]) for n in ("change", *PARTS))
            assert np.all(change <= (one + other) * 1.001)
            assert np.all(change >= np.abs(one - other) * 0.999)
            for name in PARTS:
                spectral, frobenius = (
                    np.array(row[f"{name}_{norm}"])
                    for norm in ("spectral", "frobenius")
                )
                assert np.all(frobenius <= spectral * 1.001)
                assert np.all(spectral <= 1.001)


def test_the_report_shows_and_tells_the_parts(reports, tmp_path):
    report = reports["standard"]
    text = str(report)
    assert "b: effective +1.0" in text and "aligned" in text
    data = json.loads(json.dumps(report.to_dict()))
    assert data["refined"][1]["effective_expected"] == 0
    assert data["rows"][0]["change_expected"] == 0
    figure = report.plot(tmp_path / "parts.png")
    assert [one.get_title() for one in figure.axes][2:] == [
        "effective part of the change", "propagated part of the change",
    ]  # fmt: skip
    assert len({one.get_ylim() for one in figure.axes}) == 1


class Layouts(nn.Module):
    """A convolution, a scanned stack and experts."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(self.width, (3,), use_bias=False, name="conv")(x))
        w = self.param("stack", jinit.lecun(layout="bio"), (2, self.width, self.width))
        x, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)
        shape = 3, self.width, self.width
        up = self.param("up", jinit.lecun(layout="bio"), shape)
        x = jnp.einsum("btd,edf->btef", x, up).mean(2)
        return 16 / self.width * nn.Dense(2, use_bias=False, name="readout")(x)


def test_convolutions_stacks_and_experts():
    x = jax.random.normal(KEY, (4, 6, 3))
    report = mup.coordinate_check(
        Layouts, [16, 64], [(x, x[..., :2])] * 2,
        lambda p: p.optimizer(optax.adam(1e-2)),
        loss=lambda y, t: jnp.mean((y - t) ** 2), seeds=2, refined=True, tolerance=0.3,
    )  # fmt: skip
    names = [row["path"] for row in report.refined]
    assert names == ["conv", "stack[0]", "stack[1]", "up", "readout"]
    assert all(row["effective"][0] > 0 for row in report.refined)
    assert not [f for f in report.findings if "effective part" in f.message]


def test_nnx_models():
    class Model(nnx.Module):
        def __init__(self, width, *, rngs):
            self.hidden = nnx.Linear(8, width, rngs=rngs)
            self.readout = nnx.Linear(width, 1, rngs=rngs)

        def __call__(self, x):
            return self.readout(nnx.relu(self.hidden(x)))

    x = jax.random.normal(KEY, (4, 8))
    report = mup.coordinate_check(
        Model, [8, 16], [(x, x[:, :1])], optax.sgd(0.1),
        loss=lambda y, t: jnp.mean((y - t) ** 2), seeds=1, refined=True,
    )  # fmt: skip
    assert [row["path"] for row in report.refined] == ["hidden", "readout"]


def test_verdicts_on_parts():
    widths = (10, 100, 1000)

    def verdicts(expected=0.0, is_output=False, **slopes):
        sizes = {
            name: np.asarray(widths, float)[:, None] ** slopes.get(name, 0.0)
            for name in PARTS_OF_A_CHANGE
        }
        row = refined_row("layer", widths, sizes, 0.2, expected, is_output)
        return row["effective_verdict"], row["propagated_verdict"]

    assert verdicts() == ("flat", "flat")
    assert verdicts(effective=0.5) == ("grows", "flat")
    assert verdicts(effective=-0.5) == ("shrinks", "flat")
    # A healthy update is better aligned in a narrow model.
    assert verdicts(effective=-0.3) == ("flat", "flat")
    assert verdicts(effective=-0.5, is_output=True) == ("flat", "flat")
    assert verdicts(expected=1.0, effective=1.1, propagated=0.9) == ("flat", "flat")
    assert verdicts(expected=1.0, effective=1.5) == ("grows", "flat")
    # The multiplier stands before the product.
    slopes = {"input": -1.0, "effective": 1.0}
    assert verdicts(expected=1.0, **slopes) == ("grows", "flat")
    assert verdicts(propagated=0.5) == ("flat", "grows")
    # The layers before are to blame, or have changed little.
    assert verdicts(propagated=0.5, input_change=0.5) == ("flat", "flat")
    assert verdicts(propagated=-1.0) == ("flat", "flat")
    diverged = {
        name: np.array([[1.0], [np.inf], [np.nan]]) for name in PARTS_OF_A_CHANGE
    }
    row = refined_row("layer", widths, diverged, 0.2)
    assert row["effective_verdict"] == "grows"


def test_bad_input():
    def scaled(width):
        return (lambda key, x: jnp.ones((1, 8))), lambda w, x: x * w

    x = jnp.ones((2, 8))
    options = {"loss": lambda y, t: jnp.mean(y), "seeds": 1}
    with pytest.raises(ValueError, match="the model has no such product"):
        mup.coordinate_check(
            scaled, [4, 8], [(x, x)], optax.sgd(0.1), refined=True, **options
        )
    with pytest.raises(TypeError, match="`refined` is 1; it must be True or False"):
        mup.coordinate_check(scaled, [4, 8], [(x, x)], optax.sgd(0.1), refined=1,
                             **options)  # fmt: skip
    with pytest.raises(ValueError, match="two widths or more"):
        mup.coordinate_check(scaled, [4], [(x, x)], optax.sgd(0.1), refined=True,
                             **options)  # fmt: skip
