"""The coordinate check: flat where it should be, and each known slip caught."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import jinit
from jinit import mup
from jinit.mup._coordinate_report import row

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(9)
X = jax.random.normal(KEY, (16, 8))
Y = jax.random.normal(jax.random.fold_in(KEY, 1), (16, 4))
BATCHES = [(X, Y)] * 3
WIDTHS = [32, 256]
ADAM = optax.adam(1e-2)
# Uniform draws, and layers without a bias, compile sooner.
UNIFORM = jinit.lecun_uniform()
Dense = functools.partial(nn.Dense, use_bias=False, kernel_init=UNIFORM)


def loss(y, target):
    return jnp.mean((y - target) ** 2)


class MLP(nn.Module):
    width: int
    scale: float

    @nn.compact
    def __call__(self, x):
        x = nn.relu(Dense(self.width)(x))
        return self.scale * Dense(4, name="readout")(nn.relu(Dense(self.width)(x)))


def right(width):
    return MLP(width, 32 / width)


def parametrized(p):
    return p.optimizer(ADAM)


def checked(
    make=right, tx=parametrized, batches=BATCHES, widths=WIDTHS, seeds=2, **options
):
    return mup.coordinate_check(
        make, widths, batches, tx, loss=loss, seeds=seeds, **options
    )


@pytest.fixture(scope="module")
def flat():
    return checked()


def test_maximal_updates_are_flat(flat):
    assert set(flat.verdict.values()) == {"flat"}
    assert {"Dense_0", "Dense_1", "output"} <= set(flat.verdict)
    # Its raw output is not what counts.
    assert "readout" not in flat.verdict
    flat.check()
    assert "every layer is flat" in str(flat)


def test_rows_and_figure(flat, tmp_path):
    first = flat.rows[0]
    assert first["path"] == "Dense_0" and len(first["change"]) == len(WIDTHS)
    assert flat.widths == tuple(WIDTHS) and flat.steps == 3 and flat.seeds == 2
    assert json.loads(json.dumps(flat.to_dict()))["rows"][0]["verdict"] == "flat"
    figure = flat.plot(tmp_path / "check.png")
    assert (tmp_path / "check.png").stat().st_size > 1000
    assert len(figure.axes) == 2
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert texts == ["slope 0", "slope 1/2", "slope 1", *flat.verdict]
    assert figure.get_suptitle().startswith("Nothing depends on the width in ")
    # A decade of the width is as long as one of the size: slope 1 is 45 degrees.
    axes = figure.axes[1]
    box, limits = axes.get_window_extent(), (axes.get_xlim(), axes.get_ylim())
    x, y = (np.log10(high / low) for low, high in limits)
    np.testing.assert_allclose(box.height / box.width, y / x, rtol=1e-3)


def test_the_table_shows_what_is_expected(flat):
    last = flat.rows[-1]
    names = "init_expected", "size_expected", "change_expected"
    assert [last[name] for name in names] == [-0.5, 0, 0]
    text = str(flat)
    assert "change (expected)" in text and "(-0.5)" in text
    assert flat.to_dict()["rows"][-1]["init_expected"] == -0.5
    # It says what it cannot see.
    assert "mup.transfer_check" in text and "weight decay" in text
    assert "mup.transfer_check" in mup.coordinate_check.__doc__


def test_the_sizes_are_those_of_a_loop():
    """One seed, at the base width and without a scan."""
    report = checked(
        seeds=1, widths=[16, 8], base_width=16, tx=lambda p: optax.sgd(0.1)
    )
    key = jax.random.split(jax.random.key(0), 1)[0]

    @jax.jit
    def by_hand():
        params = right(16).init(key, X)
        before = right(16).apply(params, X)
        for x, y in BATCHES:
            slope = jax.grad(lambda w, x=x, y=y: loss(right(16).apply(w, x), y))(params)
            params = jax.tree.map(lambda w, g: w - 0.1 * g, params, slope)
        after = right(16).apply(params, X)
        return [jnp.sqrt(jnp.mean(a**2)) for a in (before, after, after - before)]

    found = {r["path"]: r for r in report.rows}["output"]
    sizes = [found[name][0] for name in ("init", "size", "change")]
    np.testing.assert_allclose(sizes, by_hand(), rtol=1e-4)


def test_standard_parametrization_grows():
    report = checked(lambda width: MLP(width, 1.0), ADAM)
    assert report.verdict["output"] == report.verdict["Dense_1"] == "grows"
    with pytest.raises(AssertionError, match="output grows with width: slopes"):
        report.check()
    assert "! output" in str(report)
    # A cure for each layer: what is expected, and what to do.
    messages = {finding.path: finding.message for finding in report.findings}
    assert "of the change, where -0.5, 0 and 0 are expected." in messages["output"]
    assert "pass `tx=lambda p: p.optimizer(tx)`" in messages["Dense_1"]
    assert "multiply the logits by p.readout_scale" in messages["output"]


def test_a_forgotten_readout_multiplier():
    report = checked(lambda width: MLP(width, 1.0))
    assert report.verdict["output"] == "grows"
    (message,) = [f.message for f in report.findings if f.path == "output"]
    assert "the readout multiplier is missing" in message


def test_a_hidden_rate_that_is_not_divided():
    report = checked(tx=lambda p: ADAM)
    assert report.verdict["Dense_1"] == "grows"
    messages = {finding.path: finding.message for finding in report.findings}
    assert "The update of Dense_1/kernel has the slope" in messages["Dense_1"]
    assert "wrap the whole optimizer" in messages["Dense_1"]
    # What follows from it is sent there.
    assert all("mend Dense_1 first" in m for p, m in messages.items() if p != "Dense_1")


def test_a_std_divided_by_m():
    def init(p, params):
        m = p.tensors[-1].shape[0] / p.tensors[-1].base[0]
        kernel = params["Dense_1"]["kernel"]
        # lecun_normal has 1 / sqrt(m) in it already.
        wrong = {**params["Dense_1"], "kernel": kernel * m**-0.5}
        return p.init({**params, "Dense_1": wrong})

    report = checked(init=init)
    assert report.verdict["Dense_0"] == "flat"
    assert report.verdict["Dense_1"] == "shrinks"
    (cure,) = [row["cure"] for row in report.rows if row["path"] == "Dense_1"]
    assert "starts with the slope -1.0" in cure and "has -0.50" in cure
    assert "let `init` return p.init(params)" in cure
    assert all(row["cure"] is None for row in report.rows if row["verdict"] == "flat")


def test_weights_of_outputs_by_inputs():
    """By shapes alone (width, 8) would be (inputs, outputs)."""
    draw = jinit.lecun_uniform(in_axis=-1, out_axis=-2)

    def make(width):
        def init(key, x):
            a, b, c = jax.random.split(key, 3)
            shapes = {"a": (width, 8), "b": (width, width), "c": (4, width)}
            keys = zip(shapes.items(), (a, b, c), strict=True)
            return {name: draw(key, shape) for (name, shape), key in keys}

        def apply(w, x):
            h = nn.relu(nn.relu(x @ w["a"].T) @ w["b"].T)
            return 32 / width * (h @ w["c"].T)

        return init, apply

    checked(make).check()


class Attention(nn.Module):
    """Width by larger heads."""

    width: int
    base: int | None

    @nn.compact
    def __call__(self, x):
        def attend(query, key, value, **options):
            if self.base is not None:
                d = query.shape[-1]
                query = query * mup.attention_scale(d, self.base) * d**0.5
            return nn.dot_product_attention(query, key, value, **options)

        mask = nn.make_causal_mask(x[..., 0])
        layer = nn.MultiHeadDotProductAttention(
            2, qkv_features=self.width, out_features=4, attention_fn=attend,
            kernel_init=UNIFORM, use_bias=False,
        )  # fmt: skip
        return 32 / self.width * layer(x, mask=mask)


TOKENS = jax.random.normal(KEY, (4, 5, 8))
SEQUENCES = [(TOKENS, TOKENS[..., :4])] * 4


def test_attention():
    path = "MultiHeadDotProductAttention_0/softmax"
    good = checked(lambda w: Attention(w, 16), batches=SEQUENCES)
    wrong = checked(lambda w: Attention(w, None), batches=SEQUENCES)
    assert set(good.verdict.values()) == {"flat"}, str(good)
    assert wrong.verdict[path] == "grows", str(wrong)
    (message,) = [f.message for f in wrong.findings if f.path == path]
    assert "mup.attention_scale(head_dim, base_head_dim)" in message, message
    # The masked logits are no numbers.
    assert all(r["size"][0] < 1e3 for r in wrong.rows)
    assert jax.nn.softmax is nn.softmax


def test_nnx_models():
    class Model(nnx.Module):
        def __init__(self, width, *, rngs):
            self.hidden = nnx.Linear(8, width, kernel_init=UNIFORM, rngs=rngs)
            self.readout = nnx.Linear(width, 4, kernel_init=UNIFORM, rngs=rngs)
            self.scale = 32 / width

        def __call__(self, x):
            return self.scale * self.readout(nnx.relu(self.hidden(x)))

    report = checked(Model)
    assert set(report.verdict.values()) == {"flat"} and "hidden" in report.verdict


def test_pairs_of_functions_and_scans():
    def pair(width):
        def init(key, x):
            del x
            return UNIFORM(key, (2, 8, width))

        def apply(w, x):
            def layer(x, w):
                wide = checkpoint_name(x @ w, "wide")
                return x + wide[:, :8], None

            return jax.lax.scan(layer, x, w)[0][:, :4]

        return init, apply

    report = checked(pair, optax.sgd(1e-2))
    assert list(report.verdict) == ["wide[0]", "wide[1]", "output"]


def test_a_parametrization_of_ones_own():
    report = checked(
        lambda width: MLP(width, 1.0),
        parametrize=lambda base, target: mup.infer(base, target, readout="weights"),
    )
    assert set(report.verdict.values()) == {"flat"} and "readout" in report.verdict


def test_verdicts():
    widths = (10, 100, 1000)

    def verdict(path="layer", **slopes):
        slopes = {"init": 0.0, "size": 0.0, "change": 0.0, **slopes}
        sizes = {
            name: np.asarray(widths, float)[:, None] ** slope
            for name, slope in slopes.items()
        }
        return row(path, widths, sizes, 0.2)

    assert verdict()["verdict"] == "flat"
    assert verdict(change=0.19)["verdict"] == "flat"
    assert verdict(change=0.21)["verdict"] == "grows"
    assert verdict(change=-0.21)["verdict"] == "shrinks"
    assert verdict(change=0.5)["change_slope"] == pytest.approx(0.5)
    assert verdict(init=-0.5)["verdict"] == "shrinks"
    assert verdict("output", init=-0.5)["verdict"] == "flat"
    assert verdict("a/softmax", init=-0.5, change=-0.5)["verdict"] == "flat"
    # The change of an output is more where there is more to undo.
    assert verdict("output", init=-0.5, size=-0.1, change=-0.3)["verdict"] == "flat"
    smaller = verdict("output", init=-0.5, size=-0.5, change=-0.5)
    assert smaller["verdict"] == "shrinks"
    assert verdict(size=0.5)["verdict"] == "grows"
    # What has stopped to shrink in the wider models is flat.
    early = {name: np.array([[2.0], [1.0], [1.0]]) for name in ("init", "change")}
    assert (
        row("layer", widths, {**early, "size": np.ones((3, 1))}, 0.1)["verdict"]
        == "flat"
    )
    # Seeds that differ by more than the slope say nothing of it.
    values = np.asarray(widths, float)[:, None] ** 0.25 * np.array([1 / 30, 30])
    unclear = dict.fromkeys(("init", "size", "change"), values)
    assert row("layer", widths, unclear, 0.2)["verdict"] == "flat"
    assert row("layer", widths, unclear, 0.2)["change_error"] > 0.3
    nothing = {name: np.zeros((3, 1)) for name in ("init", "size", "change")}
    assert row("zero", widths, nothing, 0.2)["verdict"] == "flat"
    wild = {**nothing, "change": np.array([[1.0], [1.0], [np.inf]])}
    assert row("wild", widths, wild, 0.2)["verdict"] == "grows"


def test_bad_input():
    with pytest.raises(ValueError, match="two widths or more"):
        checked(widths=[32])
    with pytest.raises(ValueError, match="all of the same shapes"):
        checked(batches=[(X, Y), (X[:3], Y[:3])])
    with pytest.raises(ValueError, match="all of the same shapes"):
        checked(batches=[])
    with pytest.raises(ValueError, match="two widths or more"):
        checked(widths=32)
    with pytest.raises(TypeError, match="Linen module or a pair"):
        checked(lambda width: None)
    with pytest.raises(TypeError, match="an Optax transformation, or a function"):
        checked(tx=lambda p: 0.1)
    with pytest.raises(ValueError, match="must return a scalar"):
        mup.coordinate_check(right, [8, 16], BATCHES, ADAM, loss=lambda y, t: y - t)
