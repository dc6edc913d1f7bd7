"""`probe`: the statistics are right, in every kind of model, and so is the verdict."""

import json

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy import stats

import jinit
from examples import transformer
from tests.support.meshes import make_mesh
from tests.support.models import MLP
from tests.support.trees import rows_by_path

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(8)
X = jax.random.normal(KEY, (16, 24))


def mlp(depth=3, kernel=None, bias=0.0, width=24, dtype=None):
    kernel = jinit.he() if kernel is None else kernel
    return MLP((*[width] * depth, 5), kernel, jinit.constant(bias), dtype=dtype)


def probed(model, x=X, **options):
    return jinit.probe(model, model.init(KEY, x), x, **options)


def expected(x):
    x = np.asarray(x, np.float64)
    rows = x.reshape(len(x), -1)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    products = units @ units.T
    return {
        "mean": x.mean(),
        "std": x.std(),
        "rms": np.sqrt(np.mean(x**2)),
        "dead": np.mean((x == 0).reshape(-1, x.shape[-1]).all(axis=0)),
        "kurtosis": stats.kurtosis(x.ravel()),
        "cosine": products[~np.eye(len(x), dtype=bool)].mean(),
        "saturation": np.mean(abs(x) >= 0.99 * abs(x).max()),
    }


def test_the_numbers_are_those_of_the_outputs():
    model = mlp()
    variables = model.init(KEY, X)
    _, captured = model.apply(variables, X, capture_intermediates=True)
    report = jinit.probe(model, variables, X)
    paths = [row["path"] for row in report.rows]
    layers = [f"Dense_{i}" for i in range(4)]
    assert paths == [
        layers[0],
        "relu",
        layers[1],
        "relu#2",
        layers[2],
        "relu#3",
        layers[3],
    ]
    for name in layers:
        output = captured["intermediates"][name]["__call__"][0]
        row = rows_by_path(report)[name]
        assert row["shape"] == output.shape
        for statistic, value in expected(output).items():
            assert row[statistic] == pytest.approx(value, rel=1e-4, abs=1e-5)
        if name != "Dense_3":
            relu = rows_by_path(report)[
                "relu" + {"0": "", "1": "#2", "2": "#3"}[name[-1]]
            ]
            for statistic, value in expected(np.maximum(output, 0)).items():
                assert relu[statistic] == pytest.approx(value, rel=1e-4, abs=1e-5)


def plain(variables, x):
    h = checkpoint_name(x @ variables["a"], "hidden")
    return jax.nn.relu(h) @ variables["b"]


def loss(output):
    return jnp.mean(output**2)


def test_the_gradients_are_those_of_the_loss():
    variables = {"a": jinit.he()(KEY, (24, 32)), "b": jinit.he()(KEY, (32, 5))}
    report = jinit.probe(plain, variables, X, loss=loss)
    hidden = X @ variables["a"]
    of_hidden = jax.grad(lambda h: loss(jax.nn.relu(h) @ variables["b"]))(hidden)
    found = rows_by_path(report)["hidden"]["grad_rms"]
    assert found == pytest.approx(float(jnp.sqrt(jnp.mean(of_hidden**2))), rel=1e-5)
    slopes = jax.grad(lambda v: loss(plain(v, X)))(variables)
    for row in report.parameters:
        w, slope = variables[row["path"]], slopes[row["path"]]
        rms = float(jnp.sqrt(jnp.mean(slope**2)))
        assert row["grad_rms"] == pytest.approx(rms, rel=1e-5)
        size = float(jnp.sqrt(jnp.mean(w**2)))
        assert row["grad_ratio"] == pytest.approx(rms / size, rel=1e-5)
    # Another loss, other gradients, and the same signal.
    other = jinit.probe(plain, variables, X, loss=lambda y: 3 * loss(y))
    assert rows_by_path(other)["hidden"]["grad_rms"] == pytest.approx(
        3 * found, rel=1e-5
    )
    assert rows_by_path(other)["hidden"]["rms"] == rows_by_path(report)["hidden"]["rms"]


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + nn.relu(nn.Dense(24, name="inner")(x))


class Scanned(nn.Module):
    remat: bool = False

    @nn.compact
    def __call__(self, x):
        block = nn.remat(Block)(name="blocks") if self.remat else Block(name="blocks")
        scan = nn.scan(
            lambda block, x, _: (block(x), None),
            variable_axes={"params": 0}, split_rngs={"params": True}, length=3,
        )  # fmt: skip
        x, _ = scan(block, x, None)
        return nn.Dense(2)(x)


@pytest.mark.parametrize("remat", [False, True])
def test_scanned_layers_are_told_apart(remat):
    model = Scanned(remat)
    variables = model.init(KEY, X)
    report = jinit.probe(model, variables, X, loss=loss)
    inner = variables["params"]["blocks"]["inner"]

    def unrolled(variables, x):
        for i in range(3):
            z = x @ inner["kernel"][i] + inner["bias"][i][None]
            z = checkpoint_name(z, f"blocks/inner[{i}]")
            x = checkpoint_name(x + jax.nn.relu(z), f"blocks[{i}]")
        head = variables["params"]["Dense_0"]
        return x @ head["kernel"] + head["bias"][None]

    other = rows_by_path(jinit.probe(unrolled, variables, X, loss=loss))
    found = rows_by_path(report)
    for i in range(3):
        for path in (f"blocks/inner[{i}]", f"blocks[{i}]"):
            for name in ("mean", "rms", "cosine", "grad_rms"):
                assert found[path][name] == pytest.approx(other[path][name], rel=1e-4)
    paths = list(found)
    assert paths.index("blocks[0]") < paths.index("blocks/inner[1]") < len(paths) - 1


class Everything(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        shared = nn.Dense(24, name="shared")
        x = nn.BatchNorm(use_running_average=not train, name="norm")(shared(x))
        x = nn.Dropout(0.5, deterministic=not train, name="drop")(shared(x))
        return {"out": nn.Dense(3, name="head")(x), "count": jnp.arange(2)}


def test_dropout_batch_norm_shared_layers_and_options():
    model = Everything()
    variables = model.init(KEY, X, False)
    rngs = {"dropout": KEY}
    report = jinit.probe(model, variables, X, rngs=rngs, train=True)
    found = rows_by_path(report)
    assert list(found) == ["shared", "norm", "shared#2", "drop", "head"]
    assert found["norm"]["std"] == pytest.approx(1, abs=1e-2)
    assert found["drop"]["rms"] > 1.1 * found["shared#2"]["rms"]
    assert all("mean" not in row["path"] for row in report.parameters)
    plain = rows_by_path(jinit.probe(model, variables, X, train=False))
    assert plain["drop"]["rms"] == plain["shared#2"]["rms"]


def test_bfloat16_models_have_float32_statistics():
    x = jnp.ones((64, 24)) + 1e-3 * jax.random.normal(KEY, (64, 24))
    model = mlp(dtype=jnp.bfloat16, width=512, depth=1)
    variables = model.init(KEY, x)
    found = rows_by_path(jinit.probe(model, variables, x))["Dense_0"]
    output = nn.Dense(512, dtype=jnp.bfloat16).apply(
        {"params": variables["params"]["Dense_0"]}, x
    )
    for name, value in expected(output.astype(np.float32)).items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-4)


def test_a_batch_that_is_spread_over_devices():
    model = mlp()
    variables = model.init(KEY, X)
    whole = jinit.probe(model, variables, X)
    spread = jax.device_put(X, NamedSharding(make_mesh((8,)), P("x")))
    for one, other in zip(whole.rows, jinit.probe(model, variables, spread).rows,
                          strict=True):  # fmt: skip
        for name in ("rms", "cosine", "kurtosis", "grad_rms"):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-4)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(24, 24, rngs=rngs) for _ in range(2)])
        self.norm = nnx.BatchNorm(24, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.drop(self.norm(x))


def test_nnx_models():
    model = Net(nnx.Rngs(0))
    before = jax.tree.map(jnp.array, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    report = jinit.nnx.probe(model, X)
    paths = [row["path"] for row in report.rows]
    assert paths == ["layers/0", "relu", "layers/1", "relu#2", "norm", "drop"]
    kernel, bias = model.layers[0].kernel[...], model.layers[0].bias[...]
    for name, value in expected(X @ kernel + bias[None]).items():
        assert report.rows[0][name] == pytest.approx(value, rel=1e-4, abs=1e-5)
    assert {row["path"] for row in report.parameters} >= {
        "layers/0/kernel",
        "norm/scale",
    }
    # The model and its classes are as before.
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    chex.assert_trees_all_equal(before, after)
    assert nnx.Linear.__call__.__qualname__ == "Linear.__call__"
    assert not hasattr(nnx.Linear.__call__, "__wrapped__")


def kinds(report):
    return [finding.kind for finding in report.verdict]


def test_healthy_networks_pass():
    for init in (jinit.he(), jinit.orthogonal(2**0.5)):
        report = probed(mlp(6, init, width=128), jax.random.normal(KEY, (16, 128)))
        assert kinds(report) == [] and "nothing is wrong" in str(report)
        report.check()
        report.check(rms=(0.1, 5), dead=(0, 0.5))


def test_a_transformer_is_healthy_though_its_embedding_is_small():
    tokens = jnp.tile(jnp.arange(12), (4, 1))
    model = transformer.Transformer(12, 3, 32, 2)
    report = probed(model, tokens)
    assert report.rows[0]["rms"] < 0.2 and kinds(report) == []
    blocks = [row for row in report.rows if row["path"].count("/") == 0]
    assert [row["path"] for row in blocks[1:4]] == ["Block_0", "Block_1", "Block_2"]


def test_one_layer_that_is_a_thousand_times_too_large():
    def jump(variables, x):
        for i, scale in enumerate((1, 1, 1, 5e3, 1, 1)):
            x = checkpoint_name(scale * x @ variables, f"layer_{i}")
            x = x / jnp.sqrt(jnp.mean(x**2))
        return x

    report = jinit.probe(jump, jinit.lecun()(KEY, (24, 24)), X)
    assert report.verdict[0][:2] == ("signal grows", "layer_3")


@pytest.mark.parametrize(
    ("init", "kind"),
    [(jinit.xavier(), "signal shrinks"), (1.5 * jinit.he(), "signal grows")],
)
def test_a_wrong_scale_is_found_with_its_layer(init, kind):
    report = probed(mlp(10, init, width=64), jax.random.normal(KEY, (16, 64)))
    finding = report.verdict[0]
    assert finding.kind == kind
    row = rows_by_path(report)[finding.path]
    # It is the first beyond a factor of ten.
    before = report.rows[: report.rows.index(row)]
    first = report.rows[0]["rms"]
    assert all(0.1 <= r["rms"] / first <= 10 for r in before)
    assert not 0.1 <= row["rms"] / first <= 10
    assert f"{row['rms']:.3g}" in str(finding) and "he()" in str(finding)
    assert f"! {finding.path}" in str(report)
    with pytest.raises(AssertionError, match="the signal"):
        report.check()
    with pytest.raises(AssertionError, match="rms is"):
        report.check(rms=(0.3, 3))


def test_dead_units_and_what_gets_no_gradient():
    report = probed(mlp(2, bias=-50.0))
    assert "dead" in kinds(report)
    assert rows_by_path(report)["relu"]["dead"] == 1.0
    assert "no gradient" in kinds(report)
    half = probed(mlp(1, bias=-2.0, width=400), X[:4])
    dead = [f for f in half.verdict if f.kind == "dead"]
    assert dead and dead[0].path == "relu" and "leaky_relu" in str(dead[0])


def test_rank_collapse_vanishing_gradients_and_nan():
    class Tanh(nn.Module):
        @nn.compact
        def __call__(self, x):
            for i in range(16):
                bias = jinit.normal(0.3)
                x = jnp.tanh(nn.Dense(64, kernel_init=0.5 * jinit.lecun(),
                                      bias_init=bias)(x))  # fmt: skip
                x = checkpoint_name(x, f"tanh_{i}")
            return x

    report = probed(Tanh())
    assert "alike" in kinds(report) and "gradient vanishes" in kinds(report)

    def broken(variables, x):
        x = checkpoint_name(x @ variables, "fine")
        return checkpoint_name(jnp.log(-(x**2)), "log")

    report = jinit.probe(broken, jinit.he()(KEY, (24, 3)), X)
    assert report.verdict[0][:2] == ("not finite", "log")


def test_reports_are_plain_data_and_draw(tmp_path):
    report = probed(mlp())
    found = json.loads(json.dumps(report.to_dict()))
    assert len(found["rows"]) == 7 and found["verdict"] == []
    path = tmp_path / "signal.png"
    figure = report.plot(path)
    assert path.stat().st_size > 5000 and len(figure.axes) == 3
    assert figure.axes[0].lines[0].get_ydata()[2] == report.rows[2]["rms"]


W = jinit.normal()(KEY, (24, 8))


def product(w, x):
    return x @ w


def donated():
    w = jnp.array(W)
    jax.jit(lambda w: w + 1, donate_argnums=0)(w)
    return w


def test_arrays_may_have_a_sharding_in_their_type():
    x = jax.random.normal(KEY, (16, 4, 24))
    expected_rows = jinit.probe(product, W, x).rows
    with jax.set_mesh(make_mesh((4, 2), AxisType.Explicit)):
        w, sharded = jax.device_put(W, P(None, "y")), jax.device_put(x, P("x"))
        rows = jinit.probe(product, w, sharded).rows
    for row, other in zip(rows, expected_rows, strict=True):
        assert row["cosine"] == pytest.approx(other["cosine"], abs=1e-5)
        assert row["std"] == pytest.approx(other["std"], rel=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jinit.probe(3, {}, X), TypeError, "must be a Linen module"),
        (
            lambda: jinit.probe(lambda v, x: (x * v).sum(), jnp.ones(()), X),
            ValueError,
            "nothing in the model",
        ),
        (lambda: probed(mlp(), loss=lambda y: y), ValueError, "must return a scalar"),
        (lambda: probed(mlp()).check(rsm=(0, 1)), ValueError, "Did you mean 'rms'"),
        (lambda: probed(mlp(), loss="ce"), TypeError, "`loss` is 'ce'; it must be a f"),
        (lambda: probed(mlp()).check(rms=3), TypeError, "must be a pair of limits"),
        (lambda: probed(mlp()).check(rms=(1,)), TypeError, "must be a pair of limits"),
        (lambda: probed(mlp()).check(rms=("a", 1)), TypeError, "a real number"),
        (lambda: probed(mlp()).check(rms=(10, 0.1)), ValueError, "is above the upper"),
        (lambda: probed(mlp()).check(std=(np.nan, 1)), ValueError, "`std` is nan"),
        (lambda: jinit.nnx.probe(mlp(), X), TypeError, "jinit.probe"),
        (
            lambda: jinit.probe(Net(nnx.Rngs(0)), {}, X),
            TypeError,
            "could not be called",
        ),
        (
            lambda: jinit.probe(mlp(), jax.eval_shape(mlp().init, KEY, X), X),
            TypeError,
            "jinit.probe computes with numbers",
        ),
        (lambda: jinit.probe(product, W, X[:0]), ValueError, "the batch is empty"),
        (lambda: jinit.probe(product, donated(), X), ValueError, "1 leaves were del"),
        (
            lambda: jax.jit(lambda w: jinit.probe(product, w, X).rows)(W),
            TypeError,
            "outside of jax.jit",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
