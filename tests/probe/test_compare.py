"""`compare`, and the Jacobian's singular values that `probe` finds."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import jinit

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(2)
X = jax.random.normal(KEY, (6, 12))
KEYS = jax.random.split(KEY, 3)


class MLP(nn.Module):
    kernel: object
    depth: int = 2
    width: int = 12

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = nn.relu(nn.Dense(self.width, kernel_init=self.kernel)(x))
        return nn.Dense(4, kernel_init=self.kernel)(x)


def test_each_seed_of_each_scheme_has_the_report_that_probe_gives():
    found = jinit.compare(MLP, {"a": "he", "b": jinit.lecun()}, X, KEYS)
    assert list(found.reports) == ["a", "b"]
    # Each probe compiles its model anew: of one scheme two seeds, of the other one.
    for name, init, seeds in (("a", jinit.he(), (0, 2)), ("b", jinit.lecun(), (1,))):
        assert len(found.reports[name]) == len(KEYS)
        for key, report in ((KEYS[i], found.reports[name][i]) for i in seeds):
            model = MLP(init)
            one = jinit.probe(model, model.init(key, X), X)
            for row, wanted in zip(report.rows, one.rows, strict=True):
                assert row["path"] == wanted["path"]
                for statistic in ("rms", "cosine", "grad_rms"):
                    wanted_value = pytest.approx(wanted[statistic], rel=1e-4, abs=1e-6)
                    assert row[statistic] == wanted_value
            assert len(report.parameters) == len(one.parameters) == 6


def test_the_table_and_the_figure_tell_the_schemes_apart(tmp_path):
    x = jax.random.normal(KEY, (8, 48))
    schemes = ["he", "xavier"]
    found = jinit.compare(
        lambda init: MLP(init, depth=10, width=48), schemes, x, KEYS,
        loss=lambda y: jnp.mean(y**2),
    )  # fmt: skip
    he, xavier = (line for line in str(found).splitlines() if line.split()[:1] != []
                  and line.split()[0] in schemes)  # fmt: skip
    assert "signal shrinks (3/3)" in xavier and "shrinks" not in he
    last = np.median([report.rows[-1]["rms"] for report in found.reports["he"]])
    assert f"{last:.3g}" in he
    figure = found.plot(tmp_path / "schemes.png")
    assert (tmp_path / "schemes.png").stat().st_size > 5000
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert list(lines) == schemes and lines["xavier"][-1] < 0.1 * lines["he"][-1]
    plain = json.loads(json.dumps(found.to_dict()))
    assert [len(plain[name]) for name in schemes] == [3, 3]


def test_functions_legacy_keys_and_one_key():
    def make(init):
        def apply(w, x):
            return checkpoint_name(x @ w, "hidden")

        return lambda key, x: init(key, (x.shape[1], 5)), apply

    one = jinit.compare(make, [jinit.he()], X, KEY).reports["jinit.he()"]
    assert [row["path"] for row in one[0].rows] == ["hidden"] and len(one) == 1
    legacy = jax.random.split(jax.random.PRNGKey(0), 2)
    many = jinit.compare(make, ["he"], X, legacy).reports["he"]
    rms = jnp.sqrt(jnp.mean((X @ jinit.he()(legacy[1], (12, 5))) ** 2))
    assert many[1].rows[0]["rms"] == pytest.approx(float(rms), rel=1e-5)


def test_nnx_models_and_dropout():
    class Net(nnx.Module):
        def __init__(self, init, rngs):
            self.layer = nnx.Linear(12, 12, kernel_init=init, rngs=rngs)
            self.norm = nnx.BatchNorm(12, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.drop(self.norm(self.layer(x)))

    found = jinit.nnx.compare(Net, ["he", "lecun"], X, KEYS)
    model = Net(jinit.lecun(), nnx.Rngs(KEYS[1]))
    one, wanted = found.reports["lecun"][1], jinit.nnx.probe(model, X)
    for row, other in zip(one.rows, wanted.rows, strict=True):
        assert row["path"] == other["path"]
        assert row["rms"] == pytest.approx(other["rms"], rel=1e-4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jinit.compare(MLP, "he", X, KEYS), TypeError, "must be a list"),
        (lambda: jinit.compare(MLP, [], X, KEYS), ValueError, "`schemes` is empty"),
        (lambda: jinit.compare(MLP, ["he", "he"], X, KEYS), ValueError, "'?he'? twice"),
        (lambda: jinit.compare(MLP, ["hee"], X, KEYS), ValueError, "Did you mean"),
        (lambda: jinit.compare(MLP, ["he"], X, 3), TypeError, "`keys` is 3"),
        (lambda: jinit.compare(MLP, ["he"], X, []), TypeError, "`keys` is"),
        (lambda: jinit.compare(MLP, ["he"], X, [1, 2]), TypeError, "`key` is 1"),
        (lambda: jinit.compare(lambda s: 3, ["he"], X, KEYS), TypeError, "gave 3"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def ends(function, x):
    """The singular values of the first output by the first input."""

    def first(row):
        return function(x.at[0].set(row))[0].ravel()

    jacobian = jax.jacobian(first)(x[0])
    return np.linalg.svd(np.asarray(jacobian).reshape(len(jacobian), -1))[1]


def test_small_jacobians_are_exact():
    model = MLP(jinit.he())
    variables = model.init(KEY, X)
    report = jinit.probe(model, variables, X, jacobian=True)
    wanted = ends(lambda x: model.apply(variables, x), X)
    assert report.jacobian["top"] == pytest.approx(wanted[0], rel=1e-4)
    assert report.jacobian["bottom"] == pytest.approx(wanted[-1], rel=1e-3)
    assert "singular values" in str(report)
    assert report.to_dict()["jacobian"] == report.jacobian
    assert jinit.probe(model, variables, X).jacobian is None


def test_a_custom_vjp_has_a_jacobian():
    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))
    w = jax.random.normal(KEY, (12, 20))
    found = jinit.probe(
        lambda w, x: checkpoint_name(sine(x @ w), "out"), w, X, jacobian=True
    ).jacobian
    wanted = ends(lambda x: jnp.sin(x @ w), X)
    assert found["top"] == pytest.approx(wanted[0], rel=1e-4)


def test_a_jacobian_knows_the_rest_of_the_batch():
    class Norm(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=False)(nn.Dense(5)(x))

    model = Norm()
    variables = model.init(KEY, X)
    found = jinit.probe(model, variables, X, jacobian=True).jacobian
    wanted = ends(lambda x: model.apply(variables, x, mutable=["batch_stats"])[0], X)
    assert found["top"] == pytest.approx(wanted[0], rel=1e-3)
    assert found["bottom"] == pytest.approx(wanted[-1], rel=1e-3)


@pytest.mark.parametrize("shape", [(300, 280), (280, 300)])
def test_large_jacobians_by_power_iteration(shape):
    """Values from 3 down to 0.5, a gap at each end: powers of it converge."""
    u, v = (
        jinit.orthogonal()(key, (n, 280)) for key, n in zip(KEYS, shape, strict=False)
    )
    values = jnp.concatenate(
        [jnp.array([3.0]), jnp.linspace(2, 1.6, 278), jnp.array([0.5])]
    )
    w = (u * values[None]) @ v.T

    def model(w, x):
        return checkpoint_name(x @ w, "all")

    x = jax.random.normal(KEY, (2, shape[0]))
    found = jinit.probe(model, w, x, jacobian=True).jacobian
    assert found["top"] == pytest.approx(3.0, rel=1e-3)
    assert found["bottom"] == pytest.approx(0.5, rel=0.02)


def test_nnx_has_a_jacobian_and_tokens_have_none():
    model = nnx.Sequential(nnx.Linear(12, 5, rngs=nnx.Rngs(0)))
    found = jinit.nnx.probe(model, X, jacobian=True).jacobian
    kernel = np.asarray(model.layers[0].kernel[...])
    assert found["top"] == pytest.approx(np.linalg.norm(kernel, 2), rel=1e-4)
    tokens = jnp.arange(6)[None]
    embed = nn.Sequential([nn.Embed(8, 4)])
    with pytest.raises(ValueError, match="whole numbers, such as tokens"):
        jinit.probe(embed, embed.init(KEY, tokens), tokens, jacobian=True)
