"""An audit has rows, laws and plain forms, and its call has clear errors."""

import functools
import json
import math

import chex
import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit._core import figures
from tests.support.trees import rows_by_path

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEYS = jax.random.split(jax.random.key(14), 16)
UNIFORM = functools.partial(jax.random.uniform, minval=-0.05, maxval=0.05)
lecun = jax.nn.initializers.lecun_normal()


def perceptron(p, x):
    return jax.nn.relu(x @ p["up"]) @ p["down"]


def of_two(p, x):
    for name in ("first", "second"):
        x = jax.nn.relu(jnp.einsum("bgi,gio->bgo", x, p[name]))
    return x


def two(init):
    return {n: init(KEYS[i], (8, 32, 32)) for i, n in enumerate(("first", "second"))}


@pytest.mark.parametrize(
    ("init", "law"),
    [
        (jinit.lecun(), "lecun: fan_in 64 (normal)"),
        (jinit.he(distribution="uniform"), "he: fan_in 64 (uniform)"),
        (jinit.xavier(), "xavier: fan_in 64, fan_out 256 (normal)"),
        (jinit.lecun_normal(), "lecun: fan_in 64 (truncated normal)"),
        (jinit.normal(0.02), "normal(0.02) (normal)"),
        (UNIFORM, "uniform(-0.05, 0.05) (uniform)"),
        (jinit.orthogonal(), "orthogonal"),
        (jinit.zeros, "zeros"),
        (jinit.constant(0.5), "constant(0.5)"),
        (jinit.normal(0.0357), "normal of std 0.036"),
    ],
)
def test_the_likeliest_law(init, law):
    w = init(KEYS[0], (64, 256))
    audit = jinit.audit(lambda w, x: x @ w["w"], {"w": w}, jnp.ones((2, 64)))
    (row,) = audit.rows
    assert row["law"].startswith(law[:-1])
    assert row["right_std"] == 0.125
    assert row["std"] == pytest.approx(float(jnp.std(w)), rel=1e-5, abs=1e-8)


def test_the_std_that_keeps_the_signal():
    params = {"up": lecun(KEYS[0], (64, 128)), "down": lecun(KEYS[1], (128, 8))}
    rows = rows_by_path(jinit.audit(perceptron, params, jnp.ones((2, 64))))
    assert rows["up"]["right_std"] == pytest.approx(1 / 8)
    assert rows["down"]["right_std"] == pytest.approx(math.sqrt(2 / 128))
    assert rows["down"]["ratio"] == pytest.approx(math.sqrt(0.5), rel=0.1)


def test_it_is_shown_in_every_form(tmp_path):
    audit = jinit.audit(of_two, two(lecun), jnp.ones((3, 8, 32)))
    text = str(audit)
    assert "! first" in text and "fan_in 8 x 32 = 256" in text
    assert "<table>" in audit._repr_html_()
    data = json.loads(json.dumps(audit.to_dict()))
    assert data["findings"][0]["category"] == "members counted as inputs"
    assert data["rows"][0].keys() == {
        "path", "shape", "roles", "layout", "fan_in", "fan_out", "mean", "std",
        "right_std", "ratio", "law",
    }  # fmt: skip
    with pytest.raises(AssertionError, match=r"first.*\n.*second"):
        audit.check()
    figure = audit.plot(tmp_path / "audit.png")
    assert (tmp_path / "audit.png").stat().st_size > 0
    sick = {label.get_text() for label in figure.axes[0].get_xticklabels()
            if label.get_color() == figures.SICK}  # fmt: skip
    assert sick == {"first", "second"}
    texts = {text.get_text() for text in figure.axes[0].texts}
    band = {"2 times", "keeps the signal", "half"}
    assert texts - band == {finding.category for finding in audit.findings}
    assert "first (8, 32, 32): its std" in figure.get_suptitle()
    assert "(and 1 more finding)" in figure.get_suptitle()


def test_a_network_stands_for_a_model_and_nothing_is_traced_twice():
    params = {"up": lecun(KEYS[0], (64, 128)), "down": lecun(KEYS[1], (128, 8))}
    x = jnp.ones((2, 64))
    counted = chex.assert_max_traces(perceptron, n=3)

    def loss(y):
        return jnp.mean(y**2)

    first = jinit.audit(counted, params, x, loss=loss)
    traces = jinit.audit(counted, params, x, loss=loss)
    assert first.to_dict() == traces.to_dict()
    net = jinit.network(perceptron, params, x)
    assert jinit.audit(net).rows == jinit.audit(perceptron, params, x).rows
    zeros = net.replace(jax.tree.map(jnp.zeros_like, net.params))
    assert jinit.audit(zeros).rows[0]["law"] == "zeros"


def test_mistakes():
    shapes = {"up": jax.ShapeDtypeStruct((64, 128), jnp.float32)}
    shapes["down"] = jax.ShapeDtypeStruct((128, 8), jnp.float32)
    with pytest.raises(TypeError, match=r"(?s)jinit.audit computes.*'up'"):
        jinit.audit(perceptron, shapes, jnp.ones((2, 64)))
    net = jinit.network(perceptron, shapes, jnp.ones((2, 64)))
    with pytest.raises(TypeError, match="ShapeDtypeStruct"):
        jinit.audit(net)
    with pytest.raises(ValueError, match="no parameters"):
        jinit.audit(lambda p, x: x, {}, jnp.ones(3))
