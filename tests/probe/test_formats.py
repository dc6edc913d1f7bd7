"""What narrow formats lose, what guessing costs, and how each head attends."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jinit
from jinit._probe.formats import bounds_of

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
X = jax.random.normal(KEY, (64, 32))
FORMATS = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


def two(w, x):
    return jax.nn.relu(x @ w["a"]) @ w["b"]


def weights(a=1.0, b=1.0):
    lecun = jinit.lecun()
    return {"a": a * lecun(KEY, (32, 48)), "b": b * lecun(KEY, (48, 10))}


def labelled(logits):
    labels = jnp.arange(len(logits)) % logits.shape[-1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def row_of(report, kind, path):
    return next(r for r in report.formats if (r["kind"], r["path"]) == (kind, path))


def shares(x, name):
    """Cast, and count what is lost; subnormal numbers are kept by NumPy."""
    x = np.asarray(x, np.float32)
    with np.errstate(over="ignore"):
        cast = x.astype(jnp.dtype(name)).astype(np.float32)
    is_lost = (cast == 0) & (x != 0)
    return np.mean(~np.isfinite(cast)), is_lost.sum() / max(1, (x != 0).sum())


@pytest.mark.parametrize("name", FORMATS[1:])
@pytest.mark.parametrize("scale", [1.0, 300.0, 3e4, 1e-2, 1e-6])
def test_the_shares_are_those_of_a_cast(name, scale):
    w = weights(a=scale)
    report = jinit.probe(two, w, X, loss=labelled, formats=[name])
    overflow, underflow = shares(X @ w["a"], name)
    row = row_of(report, "layer", "a")
    assert row["overflow"] == pytest.approx(overflow, abs=1e-3)
    assert row["underflow"] == pytest.approx(underflow, abs=1e-3)
    gradient = jax.grad(lambda w: labelled(two(w, X)))(w)["b"]
    overflow, underflow = shares(gradient, name)
    row = row_of(report, "parameter", "b")
    assert row["grad_overflow"] == pytest.approx(overflow, abs=1e-3)
    assert row["grad_underflow"] == pytest.approx(underflow, abs=1e-3)


def test_the_bounds_are_where_rounding_changes():
    for name in FORMATS[1:]:
        bounds, kind = bounds_of(name), jnp.dtype(name)
        inside = np.nextafter(np.float32(bounds.largest), np.float32(0))
        assert np.isfinite(inside.astype(kind).astype(np.float32))
        with np.errstate(over="ignore"):
            beyond = np.float32(1.001 * bounds.largest).astype(kind)
        assert not np.isfinite(beyond.astype(np.float32))
        assert np.float32(bounds.least).astype(kind).astype(np.float32) == 0
        assert np.float32(1.01 * bounds.least).astype(kind).astype(np.float32) > 0


def test_findings_name_the_place_and_the_cure():
    kinds = lambda report: {f.category: f for f in report.verdict}  # noqa: E731
    healthy = jinit.probe(two, weights(), X, loss=labelled, formats=FORMATS[:2])
    assert healthy.verdict == [] and len(healthy.formats) == 2 * (3 + 2)
    large = kinds(jinit.probe(two, weights(a=1e5), X, formats=FORMATS))
    assert large["float16 overflow"].path == "a"
    assert "65504" in str(large["float16 overflow"])
    assert ", and some values are at" in str(large["float16 overflow"])
    one = kinds(jinit.probe(lambda w, x: x @ w, 1e5 * jnp.eye(32), X[:1] * 0.1,
                            formats=FORMATS[1:2]))  # fmt: skip
    assert "other place" not in str(one["float16 overflow"])
    assert "bfloat16 overflow" not in large
    assert "scale of" in str(large["float8_e4m3fn overflow"])
    tiny = lambda y: 1e-7 * labelled(y)  # noqa: E731
    found = kinds(jinit.probe(two, weights(), X, loss=tiny, formats=FORMATS))
    assert "loss scaling" in str(found["float16 underflow"])
    assert "bfloat16 underflow" not in found
    # The advice is right: with the loss multiplied so, the finding is gone.
    factor = float(str(found["float16 underflow"]).split("the loss by ")[1].split()[0])
    scaled = lambda y: factor * tiny(y)  # noqa: E731
    report = jinit.probe(two, weights(), X, loss=scaled, formats=["float16"])
    assert report.verdict == []
    # Without a loss the gradients have no size.
    assert jinit.probe(two, weights(), X * 1e-3, formats=["float16"]).verdict == []


def test_a_mask_overflows_nothing():
    model = nn.MultiHeadDotProductAttention(4)
    x = jax.random.normal(KEY, (4, 6, 32))
    mask = nn.make_causal_mask(jnp.ones((4, 6)))
    options = {"mask": mask, "formats": ["float16"]}
    report = jinit.probe(model, model.init(KEY, x, x), x, x, **options)
    assert max(row["overflow"] for row in report.formats) == 0


def test_scanned_layers_have_rows_of_their_own():
    def scanned(w, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    lecun = jinit.lecun()(KEY, (32, 32))
    w = jnp.stack([lecun, 1e6 * lecun, lecun])
    report = jinit.probe(scanned, w, X, formats=["float16"])
    layers = [row for row in report.formats if row["kind"] == "layer"]
    assert [row["path"] for row in layers if row["overflow"] > 0] == ["kernel[1]"]


@pytest.mark.parametrize(
    ("formats", "error", "message"),
    [
        (["float61"], ValueError, "Did you mean 'float16'"),
        (["float32"], ValueError, "no value of a layer is lost: .* 'bfloat16', "),
        ([jnp.float64], ValueError, "no value of a layer is lost"),
        ("float16", TypeError, "a sequence of names"),
        ([3], ValueError, "must be one of"),
    ],
)
def test_unknown_formats(formats, error, message):
    with pytest.raises(error, match=message):
        jinit.probe(two, weights(), X, formats=formats)


def test_types_name_formats_too():
    report = jinit.probe(
        two, weights(), X, formats=[jnp.float16, jnp.dtype("bfloat16")]
    )
    assert {row["format"] for row in report.formats} == {"float16", "bfloat16"}
    json.dumps(report.to_dict())
    assert "- float16, at the worst place: 0 overflow" in str(report)


def test_classes_say_what_guessing_costs():
    def chosen(logits):
        # The loss is over the first four logits alone.
        return labelled(logits[:, :4])

    report = jinit.probe(two, weights(b=30.0), X, loss=chosen)
    assert "first loss" not in [f.category for f in report.verdict]
    report = jinit.probe(two, weights(b=30.0), X, loss=chosen, classes=4)
    first = next(f for f in report.verdict if f.category == "first loss")
    assert first.path == "b" and "guessing costs 1.39" in str(first)
    size = np.std(np.asarray(two(weights(b=30.0), X)))
    assert f"the readout b is {size:.2g} times too large" in str(first)
    healthy = jinit.probe(two, weights(), X, loss=chosen, classes=4)
    assert healthy.verdict == []


def test_a_summed_cross_entropy_is_no_matter_of_the_readout():
    report = jinit.probe(two, weights(), X, loss=lambda y: 64 * labelled(y), classes=10)
    (first,) = report.verdict
    assert first[:2] == ("first loss", "b")
    assert "a sum over about 64 examples" in str(first)
    assert "too large" not in str(first)
    # Ten logits are asked for, and `classes` has another number.
    report = jinit.probe(two, weights(b=2.0), X, loss=labelled, classes=2)
    assert [str(f) for f in report.verdict if "readout" in str(f)] == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": 10}, ValueError, "there is no `loss`"),
        ({"classes": 1, "loss": labelled}, ValueError, "at least 2"),
        ({"classes": 2.5, "loss": labelled}, TypeError, "must be an integer"),
        ({"classes": True, "loss": labelled}, TypeError, "must be an integer"),
    ],
)
def test_bad_classes(options, error, message):
    with pytest.raises(error, match=message):
        jinit.probe(two, weights(), X, **options)


def test_each_head_has_a_row():
    model = nn.MultiHeadDotProductAttention(4)
    x = jax.random.normal(KEY, (4, 6, 32))
    variables = model.init(KEY, x, x)
    kernel = variables["params"]["query"]["kernel"]
    variables["params"]["query"]["kernel"] = kernel.at[:, 2].multiply(30)
    report = jinit.probe(model, variables, x, x)
    assert [row["head"] for row in report.attention] == [0, 1, 2, 3]
    parts = variables["params"]
    q = jnp.einsum("btd,dhe->bthe", x, parts["query"]["kernel"]) / np.sqrt(8)
    logits = jnp.einsum("bqhe,bkhe->bhqk", q, jnp.einsum(
        "btd,dhe->bthe", x, parts["key"]["kernel"]))  # fmt: skip
    weights = np.asarray(jax.nn.softmax(logits), np.float64)
    for row in report.attention:
        here, head = logits[:, row["head"]], weights[:, row["head"]]
        std = np.sqrt(np.mean(np.var(np.asarray(here, np.float64), -1)))
        entropy = -np.mean(np.sum(head * np.log(head + 1e-300), -1)) / np.log(6)
        assert row["std"] == pytest.approx(std, rel=1e-4) and row["keys"] == 6
        assert row["entropy"] == pytest.approx(entropy, rel=1e-3)
    assert report.to_dict()["attention"][2]["std"] > 10
    assert "the logits of 4 heads" in str(report)
