"""Networks serve rules, spectral norms and unit scaling."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jinit
from jinit import mup
from tests.support.trees import rows_by_path, struct
from tests.support.widths import network_of_zoo
from tests.support.zoo import adapted, llama

pytestmark = pytest.mark.usefixtures("quick_compilation")

FUSED = "llama, fused, (out, in)"


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def test_spectral_norms():
    rows = rows_by_path(mup.spectral(network_of_zoo(llama, FUSED, 4)))
    # (out, in): (128, 96) has 96 inputs, and (192, 128) has 128.
    assert rows["layers/0/down_proj"]["lr"] == 1 / 96
    assert rows["layers/0/gate_up_proj"]["lr"] == 1 / 128
    assert rows["embed"]["std"] == rows["embed"]["lr"] == 1
    kernel = rows_by_path(mup.spectral(network_of_zoo(llama, "llama, scanned", 4)))
    # (3, 128, 16, 8): three layers, of which each has 128 inputs.
    assert kernel["layers/wq"]["lr"] == 1 / 128
    assert kernel["layers/wo"]["lr"] == 1 / 128


def test_unit_scaling():
    p = mup.unit_scaling(*(network_of_zoo(llama, "llama", n) for n in (1, 4)))
    rows = rows_by_path(p)
    # Keys of grouped queries are no readout: their multiplier 1 / n_in is in the std.
    assert rows["layers/0/wk"]["std"] == rows["layers/0/wk"]["lr"] == 1 / 128
    assert rows["layers/0/wk"]["multiplier"] == 1
    assert rows["layers/0/wq"]["std"] == 128**-0.5
    assert rows["embed"]["lr"] == 128**-0.5
    assert p.readout_scale == rows["lm_head"]["multiplier"] == 1 / 128
    assert "(lm_head)" in str(p)


def test_rules_with_roles():
    net = network_of_zoo(llama, "llama", 4)
    rules = [
        ("@query", "IOo"),
        (["@key", "@value"], "Ioo"),
        ("@attention_output", "IoO"),
        ("@scale", "vector"),
        ("embed", "input"),
        ("@readout", "output"),
        ("**", "hidden"),
    ]
    p = mup.from_rules(net, rules, width=(32, 128))
    assert p.readout_scale == 0.25
    q = mup.infer(network_of_zoo(llama, "llama", 1), net)
    assert [(r["class"], r["lr"]) for r in p.rows] == [
        (r["class"], r["lr"]) for r in q.rows
    ]
    with pytest.raises(ValueError, match=r"'ioo'.*name them by capitals"):
        mup.from_rules(net, [("@query", "hidden"), ("**", "vector")], width=(1, 4))


def test_classes_are_enough_for_kernels_in_any_order():
    rules = [
        ("@readout", "output"),
        ("embed", "input"),
        ("**/*_proj", "hidden"),
        (["**/q_norm", "**/k_norm"], "scalar"),
        ("**", "vector"),
    ]
    net = network_of_zoo(llama, FUSED, 4)
    by = {t.path: t for t in mup.from_rules(net, rules, width=(32, 128)).tensors}
    assert by["layers/0/down_proj"].layout == "oi" and by["lm_head"].axes == (0,)


def test_rules_of_a_plan_of_a_network():
    """Std at the target is the factor times std at the base, by the network's fans."""
    nets = [network_of_zoo(llama, FUSED, times) for times in (1, 4)]
    rules = [("@scale", jinit.ones), ("embed", jinit.normal(0.02)), ("**", jinit.he())]
    p = mup.infer(*nets)
    base = rows_by_path(jinit.plan(nets[0], rules))
    plan = rows_by_path(jinit.plan(nets[1], p.rules(rules)))
    for path, row in rows_by_path(p).items():
        expected = row["std"] * base[path]["std"]
        assert plan[path]["std"] == pytest.approx(expected), path
    # (24, 32), (outputs, inputs): 32 inputs at the base width.
    assert base["layers/0/gate_up_proj"]["std"] == pytest.approx((2 / 32) ** 0.5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_names_of_a_second_model_may_be_others(monkeypatch):
    """Keras counts the layers of a process, so that no two models have equal names."""
    if not adapted.installed("keras"):
        pytest.skip("keras is not installed: pip install keras")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    import keras

    def net(width):
        layers = [keras.layers.Dense(n) for n in (width, width, 3)]
        model = keras.Sequential(layers)
        model.build((4, 8))
        return jinit.network(model, jnp.ones((4, 8)))

    base, target = net(16), net(64)
    p = mup.infer(base, target, overrides=[("**/bias", "scalar")])
    classes = [tensor.mup_class for tensor in p.tensors]
    assert classes == ["input", "scalar", "hidden", "scalar", "output", "scalar"]
    last = p.init(target.params, drawn=[("**/kernel", "constant")])[-2]
    assert (last == target.params[-2]).all()
    tx = p.optimizer(optax.sgd(0.1), [("**/kernel", "sgd")])
    assert tx.init(target.params) is not None
    rules = p.rules([("**/kernel", jinit.normal(1.0)), ("**", jinit.zeros)])
    assert [r["std"] for r in jinit.plan(target, rules).rows][::2] == [1, 0.5, 1]


def test_haiku_has_slashes_in_its_names():
    if not adapted.installed("haiku"):
        pytest.skip("haiku is not installed: pip install dm-haiku")
    import haiku as hk

    def net(width):
        model = hk.transform(lambda x: hk.nets.MLP([width, width, 3])(x))
        x = jnp.ones((4, 8))
        return jinit.network(model, model.init(jax.random.key(0), x), x)

    base, target = net(16), net(64)
    p = mup.infer(base, target)
    assert p.readout_scale == 0.25
    assert jax.tree.structure(p.init(target.params)) == jax.tree.structure(
        target.params
    )
    rules = p.rules([("**/w", jinit.normal(1.0)), ("**", jinit.zeros)])
    stds = {r["path"]: r["std"] for r in jinit.plan(target.params, rules).rows}
    assert stds["mlp/~/linear_1/w"] == 0.5 and stds["mlp/~/linear_2/w"] == 1
    # Shapes alone: the names of Haiku's attention end with "query" and "key".
    p = mup.infer(*({"t/~/key": {"w": struct(n, 16)}, "t/~/query": {"w": struct(n, n)}}
                    for n in (16, 64)))  # fmt: skip
    assert [tensor.is_folded for tensor in p.tensors] == [True, False]


def test_parameters_that_are_never_used_are_named():
    def net(width):
        params = {"w": struct(5, width), "unused": struct(width, width)}
        return jinit.network(
            lambda p, x: x @ p["w"], params, struct(2, 5), allow_unused=True
        )

    p = mup.infer(net(16), net(64))
    assert rows_by_path(p)["unused"]["class"] == "scalar"
    assert "never used in the network: unused" in str(p)
    assert rows_by_path(mup.spectral(net(16)))["unused"]["class"] == "scalar"
