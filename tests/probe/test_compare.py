"""`compare`: for each seed of each scheme the report that `probe` gives."""

import collections
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import jinit
from jinit._network import kept
from tests.support.counting import compiled_programs
from tests.support.models import MLP

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(2)
X = jax.random.normal(KEY, (6, 12))
KEYS = jax.random.split(KEY, 3)


def mlp(init, depth=2, width=12):
    return MLP((*[width] * depth, 4), init)


def test_each_seed_of_each_scheme_has_the_report_that_probe_gives():
    found = jinit.compare(mlp, {"a": "he", "b": jinit.lecun()}, X, KEYS)
    assert list(found.reports) == ["a", "b"]
    # Each probe compiles its model anew: of one scheme two seeds, of the other one.
    for name, init, seeds in (("a", jinit.he(), (0, 2)), ("b", jinit.lecun(), (1,))):
        assert len(found.reports[name]) == len(KEYS)
        for key, report in ((KEYS[i], found.reports[name][i]) for i in seeds):
            model = mlp(init)
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
        lambda init: mlp(init, depth=10, width=48), schemes, x, KEYS,
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


class Table(nn.Module):
    """A jitted function inside adds a table, which each trace makes anew."""

    kernel: object

    @nn.compact
    def __call__(self, x):
        table = np.sin(np.arange(12, dtype=np.float32))[None]
        x = jax.jit(lambda x: x + table)(nn.Dense(12, kernel_init=self.kernel)(x))
        return nn.Dense(4, kernel_init=self.kernel)(nn.gelu(x))


def functions(init):
    def apply(weights, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    return lambda key, x: init(key, (3, 12, 12)), apply


class Stack(nnx.Module):
    def __init__(self, init, rngs):
        self.layer = nnx.Linear(12, 12, kernel_init=init, rngs=rngs)

    def __call__(self, x):
        return nnx.gelu(self.layer(x))


def of_network(schemes):
    model = mlp(jinit.he())
    net = jinit.network(model, model.init(KEY, X), X)
    return jinit.compare(net, schemes, keys=KEYS)


@pytest.mark.parametrize(
    "compare",
    [
        lambda schemes: jinit.compare(Table, schemes, X, KEYS),
        lambda schemes: jinit.compare(functions, schemes, X, KEYS),
        lambda schemes: jinit.nnx.compare(Stack, schemes, X, KEYS),
        of_network,
    ],
    ids=["Linen", "functions", "NNX", "network"],
)
def test_all_schemes_share_one_program(compare):
    schemes = [jinit.he(gain=gain) for gain in (0.5, 1.0, 2.0, 4.0)]
    counts = []
    for number in (1, 4):
        jax.clear_caches()
        kept.forget()
        with compiled_programs() as names:
            compare(schemes[:number])
        # Draws may be compiled for each law, and in some releases for each scale.
        counts.append(collections.Counter(n for n in names if "draw" not in n))
    assert counts[0].total() > 3
    assert not counts[1] - counts[0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jinit.compare(mlp, "he", X, KEYS), TypeError, "must be a list"),
        (lambda: jinit.compare(mlp, [], X, KEYS), ValueError, "`schemes` is empty"),
        (lambda: jinit.compare(mlp, ["he", "he"], X, KEYS), ValueError, "'?he'? twice"),
        (lambda: jinit.compare(mlp, ["hee"], X, KEYS), ValueError, "Did you mean"),
        (lambda: jinit.compare(mlp, ["he"], X, 3), TypeError, "`keys` is 3"),
        (lambda: jinit.compare(mlp, ["he"], X, []), TypeError, "`keys` is"),
        (lambda: jinit.compare(mlp, ["he"], X, [1, 2]), TypeError, "`key` is 1"),
        (
            lambda: jinit.compare(mlp("he"), ["he"], X, KEYS),
            TypeError,
            "is a model, of",
        ),
        (lambda: jinit.compare(lambda s: 3, ["he"], X, KEYS), TypeError, "gave 3"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
