"""A layer that is not flat has a cure, which is tried; a figure names such layers."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from matplotlib.text import Text

import jinit
from jinit import mup
from jinit._core import figures

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(9)
X = jax.random.normal(KEY, (16, 8))
Y = jax.random.normal(jax.random.fold_in(KEY, 1), (16, 4))
BATCHES = [(X, Y)] * 3
Dense = functools.partial(nn.Dense, use_bias=False, kernel_init=jinit.lecun_uniform())


def parametrized(p):
    return p.optimizer(optax.adam(1e-2))


def checked(make, tx=parametrized, batches=BATCHES, widths=(32, 256), **options):
    def loss(y, target):
        return jnp.mean((y - target) ** 2)

    options = {"seeds": 2, **options}
    return mup.coordinate_check(make, widths, batches, tx, loss=loss, **options)


class Constant(nn.Module):
    """A network whose std does not depend on the width, as normal(0.02) has it."""

    width: int

    @nn.compact
    def __call__(self, x):
        layer = functools.partial(
            nn.Dense, use_bias=False, kernel_init=jinit.normal(0.15)
        )
        x = nn.relu(layer(self.width)(x))
        x = nn.relu(layer(self.width, name="hidden")(x))
        return 32 / self.width * layer(4, name="readout")(x)


def test_a_law_that_p_init_does_not_know_and_its_cure():
    report = checked(Constant)
    assert report.verdict["hidden"] == "grows"
    messages = {finding.path: finding.message for finding in report.findings}
    law = "p.init(params, drawn=[('**/hidden/kernel', 'constant')])."
    assert f"give init=lambda p, params: {law}" in messages["hidden"]
    assert "drawn=[('**/readout/kernel', 'constant')]" in messages["output"]
    mended = checked(
        Constant,
        init=lambda p, params: p.init(
            params,
            drawn=[("**/hidden/kernel", "constant"), ("**/readout/*", "constant")],
        ),
    )
    assert set(mended.verdict.values()) == {"flat"}, str(mended)


class Tokens(nn.Module):
    """An embedding whose std does not depend on the width, unlike Flax's default."""

    width: int

    @nn.compact
    def __call__(self, ids):
        table = nn.Embed(6, self.width, embedding_init=jinit.normal(1.0), name="embed")
        return 32 / self.width * Dense(4, name="readout")(nn.relu(table(ids)))


def test_an_embedding_of_another_law():
    ids = jnp.arange(16) % 6
    report = checked(Tokens, batches=[(ids, Y)] * 2)
    cures = {row["path"]: row["cure"] for row in report.rows}
    assert report.verdict["embed"] == "grows"
    assert "drawn=[('**/embed/embedding', 'constant')]" in cures["embed"]
    assert "mend embed first" in cures["output"]


class Zeros(nn.Module):
    """A readout of zeros, whose missing multiplier shows in its change alone."""

    width: int
    scale: float

    @nn.compact
    def __call__(self, x):
        x = nn.relu(Dense(self.width)(x))
        zeros = nn.initializers.zeros
        return self.scale * Dense(4, kernel_init=zeros, name="readout")(x)


def test_a_readout_of_zeros():
    good = checked(lambda width: Zeros(width, 32 / width))
    wrong = checked(lambda width: Zeros(width, 1.0))
    assert set(good.verdict.values()) == {"flat"}, str(good)
    (finding,) = wrong.findings
    assert finding.path == "output"
    assert "the readout multiplier is missing" in finding.message


def test_a_figure_of_many_layers_names_the_sick_ones():
    sizes = dict.fromkeys(("init", "size", "change"), (1.0, 1.1))
    slopes = {f"{n}_{x}": 0.0 for n in sizes for x in ("slope", "expected", "error")}
    rows = tuple(
        {"path": f"block_{i}/mlp/down", **sizes, **slopes, "verdict": verdict}
        for i, verdict in enumerate(["flat"] * 30 + ["grows"] + ["flat"] * 20)
    )
    figure = mup.CoordinateReport((64, 128), rows, 1, 1).plot()
    texts = {text.get_text(): text for text in figure.axes[-1].texts}
    assert set(texts) == {
        "slope 0", "slope 1/2", "slope 1", "block_30/mlp/down (not flat)",
        "50 more layers",
    }  # fmt: skip
    assert texts["block_30/mlp/down (not flat)"].get_color() == figures.SICK
    assert figure.get_suptitle().startswith("block_30/mlp/down grows with width: ")
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in texts.values()]
    assert not any(
        a.overlaps(b) for i, a in enumerate(boxes[3:]) for b in boxes[3:][:i]
    )
    assert min(box.y0 for box in boxes) > 0 and max(box.x1 for box in boxes) < (
        figure.bbox.x1
    )


def test_a_size_of_zero_is_drawn_at_the_foot():
    sizes = {"init": (0.0, 0.0), "size": (1.0, 1.1), "change": (0.0, 0.0)}
    slopes = {f"{n}_{x}": 0.0 for n in sizes for x in ("slope", "expected", "error")}
    row = {"path": "out", **sizes, **slopes, "verdict": "flat"}
    axes = mup.CoordinateReport((64, 128), (row,), 1, 1).plot().axes[1]
    ticks = dict(zip([x.get_text() for x in axes.get_yticklabels()],
                     axes.get_yticks(), strict=True))  # fmt: skip
    assert (axes.lines[0].get_ydata() == ticks["exactly 0"]).all()


def test_a_training_that_diverges(tmp_path):
    report = checked(Constant, tx=optax.sgd(1e9), seeds=1, widths=[8, 16])
    assert report.verdict["output"] == "grows"
    assert "take a lower rate" in report.findings[-1].message
    report.plot(tmp_path / "diverged.png")
    assert json.dumps(report.to_dict(), allow_nan=False)
    assert "+inf" in str(report)
