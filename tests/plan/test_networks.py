"""The plan of a network takes roles as patterns, and layouts from the equations."""

import importlib
import json
import pickle

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jinit
from tests.support import laws
from tests.support.zoo import adapted, every
from tests.support.zoo.truth import floats

ZOO = every.models()
LIBRARIES = {
    "equinox": "equinox",
    "haiku": "dm-haiku",
    "keras": "keras",
    "penzai": "penzai",
}


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def is_kernel(path, leaf):
    return bool(leaf.roles & {"matrix", "convolution"})


# A rule may match nothing, since the models have different roles.
RULES = [
    jinit.Rule(is_kernel, jinit.lecun(), True),
    jinit.Rule("**", jinit.normal(0.1), True),
]


def network(entry):
    return jinit.network(
        entry.model, *entry.arguments, rngs=entry.rngs, **entry.options
    )


def check_fans(net, rules=RULES):
    """Every kernel has the fans of the network, whatever its layout is."""
    plan = jinit.plan(net, rules)
    assert {row["path"] for row in plan.rows} == set(net.parameters)
    for row in plan.rows:
        parameter = net.parameters[row["path"]]
        assert row["roles"] == sorted(parameter.roles)
        if not is_kernel(None, parameter) or "embedding" in parameter.roles:
            continue
        fan_in = parameter.fans.fan_in
        assert row["fan_in"] == fan_in, row["path"]
        assert row["std"] == pytest.approx(fan_in**-0.5), row["path"]
    return plan


NAMES = [
    "gpt2", "llama", "llama, fused, (out, in)", "llama, scanned", "bert",
    "t5, layers along axis 0", "t5, layers along axis 1", "resnet v1 in NNX",
    "experts, mixed in one einsum", "experts, ragged", "mamba", "lstm in Flax",
    "ensemble", "convolutions", "windows in Linen", "decoder in NNX", "nested scans",
    "orders of letters", "kept kernels", "general layers", "transposed decoder",
    "lora, merged", "weight norm", "modulated convolution",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_fans_are_those_of_the_equations(name):
    check_fans(network(ZOO[name]()))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_of_other_libraries(library, key):
    if not adapted.installed(library):
        pytest.skip(f"{library} is not installed: pip install {LIBRARIES[library]}")
    models = importlib.import_module(f"tests.support.zoo.in_{library}").models()
    for entry in models.values():
        net = network(entry)
        plan = check_fans(net)
        values = plan.init(key)
        assert jax.tree.structure(values) == jax.tree.structure(net.params)
        net.replace(values).model()
        # The key of a parameter is folded with its path in the network.
        again = jinit.Plan.from_config(json.loads(json.dumps(plan.to_config())), values)
        chex.assert_trees_all_equal(again.init(key), values)


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(16, name="stem")(x)
        x = x + nn.MultiHeadDotProductAttention(4, name="attention")(x)
        x = nn.Conv(8, (3,), feature_group_count=4, name="groups")(x)
        x = nn.ConvTranspose(6, (4,), strides=(2,), name="wider")(x)
        return nn.Dense(3, name="head")(x)


@pytest.fixture(scope="module")
def linen():
    model, x = Model(), floats(2, 8, 5)
    variables = model.init(jax.random.key(0), jnp.ones(x.shape))
    return model, variables, jinit.network(model, variables, x)


LAYOUTS = {
    "stem/kernel": ("io", 5, 16),
    "attention/query/kernel": ("ioo", 16, 16),
    "attention/out/kernel": ("iio", 16, 16),
    # (3, 16 / 4, 8) in four groups, and a stride of 2 that meets 2 of 4 taps.
    "groups/kernel": ("kio", 12, 6),
    "wider/kernel": ("kio", 16, 24),
    "head/kernel": ("io", 6, 3),
}


@pytest.mark.parametrize(
    "init",
    [
        jinit.xavier(),
        2.0 * jinit.xavier(),
        jinit.glorot_normal(),
        jinit.variance_scaling(1.0, "fan_avg", "uniform"),
        jinit.with_dtype(jinit.xavier(), "float32"),
    ],
)
def test_layouts_groups_and_strides(linen, init, key):
    *_, net = linen
    plan = jinit.plan(net, [(is_kernel, init), ("**", jinit.zeros)])
    rows = {row["path"]: row for row in plan.rows}
    values = plan.init(key)
    for path, (layout, fan_in, fan_out) in LAYOUTS.items():
        std = (2 / (fan_in + fan_out)) ** 0.5 * getattr(init, "factor", 1.0)
        assert rows[path]["std"] == pytest.approx(std), path
        if rows[path]["fan_in"] is not None:
            fans = rows[path]["fan_in"], rows[path]["fan_out"]
            assert (rows[path]["layout"], *fans) == (layout, fan_in, fan_out), path
        module, name = path.rsplit("/", 1)
        kernel = (
            values[module]
            if "/" not in module
            else values["attention"][module.split("/")[1]]
        )
        laws.assert_moments(kernel[name], 0.0, std, 3.0)


def test_the_values_make_a_model(linen, key):
    model, variables, net = linen
    plan = jinit.plan(net, [("@bias", jinit.zeros), ("**", jinit.he())])
    new = net.replace(plan.init(key)).model()
    assert jax.tree.structure(new) == jax.tree.structure(variables)
    assert model.apply(new, jnp.ones((2, 8, 5))).shape == (2, 16, 3)
    # In Flax's order the values are those of the plan of the shapes.
    rules = [("**/bias", jinit.zeros), ("**", jinit.he())]
    stem = jinit.plan(variables["params"], rules).init(key)["stem"]
    chex.assert_trees_all_equal(new["params"]["stem"], stem)


def test_what_the_user_says_wins(linen):
    *_, net = linen
    rules = [
        ("**/query/kernel", jinit.he(layout="oii")),
        ("**/key/kernel", jinit.he(in_axis=(1, 2), out_axis=0)),
        ("**/value/kernel", jinit.he(fan_in=7)),
        ("**/out/kernel", jinit.he(mode="fan_out", fan_out=9)),
        ("groups/kernel", jinit.xavier(groups=2)),
        (is_kernel, lambda path, leaf: jinit.he(gain=len(leaf.roles))),
        ("**", jinit.zeros),
    ]
    rows = {row["path"]: row for row in jinit.plan(net, rules).rows}
    fans = [rows[f"attention/{x}/kernel"]["fan_in"] for x in ("query", "key", "value")]
    assert fans == [16, 16, 7]
    assert rows["attention/query/kernel"]["layout"] == "oii"
    assert rows["attention/out/kernel"]["fan_out"] == 9
    assert rows["groups/kernel"]["fan_out"] == 12
    assert rows["wider/kernel"]["fan_in"] == 16


def test_a_predicate_sees_the_parameter(linen):
    *_, net = linen
    leaves = {}

    def see(path, leaf):
        return bool(leaves.setdefault(path, leaf)) and leaf.ndim > 1

    jinit.plan(net, [(see, jinit.normal()), ("**", jinit.zeros)])
    assert leaves == dict(net.parameters)
    assert leaves["stem/kernel"].size == 80


def test_roles_are_patterns(linen, key):
    *_, net = linen
    rules = [
        ("@query", jinit.normal(0.1)),
        (["@readout", "@bias"], jinit.zeros),
        jinit.Rule("@router", jinit.ones, optional=True),
        ("**", jinit.he()),
    ]
    plan = jinit.plan(net, rules)
    stds = {row["path"]: row["std"] for row in plan.rows}
    assert stds["attention/query/kernel"] == 0.1
    assert stds["head/kernel"] == stds["stem/bias"] == 0.0
    assert "attention_output, residual_output" in str(plan)
    params = plan.init(key)
    other = jax.random.key(7)
    new = plan.reinit(other, params, only=["@query", "stem/kernel"])
    changed = [
        path
        for path, (a, b) in {
            "query": (params["attention"]["query"], new["attention"]["query"]),
            "key": (params["attention"]["key"], new["attention"]["key"]),
            "stem": (params["stem"], new["stem"]),
        }.items()
        if not jnp.array_equal(a["kernel"], b["kernel"])
    ]
    assert changed == ["query", "stem"]


ERRORS = [
    ([("@qeury", jinit.he()), ("**", jinit.zeros)], "no such role.*'@query'"),
    (
        [("@router", jinit.he()), ("**", jinit.zeros)],
        "'@router' matches no leaf.*roles",
    ),
    ([("@query", jinit.he())], "match no rule"),
]


@pytest.mark.parametrize(("rules", "message"), ERRORS)
def test_roles_that_are_not_there(linen, rules, message):
    *_, net = linen
    with pytest.raises(ValueError, match=f"(?s){message}"):
        jinit.plan(net, rules)


def test_roles_need_a_network(linen):
    _, variables, _ = linen
    with pytest.raises(ValueError, match="'@query' is a role.*Pass a Network"):
        jinit.plan(variables, [("@query", jinit.he()), ("**", jinit.zeros)])
    plan = jinit.plan(variables, [("**", jinit.normal())])
    with pytest.raises(ValueError, match="Pass a Network"):
        plan.reinit(jax.random.key(0), variables, only="@query")


def test_a_plan_of_a_network_is_a_value(linen, key):
    *_, net = linen
    plan = jinit.plan(net, [("@bias", jinit.zeros), ("**", jinit.he())])
    config = json.loads(json.dumps(plan.to_config()))
    for other in (
        jinit.Plan.from_config(config),
        jinit.Plan.from_config(config, net.params),
        pickle.loads(pickle.dumps(plan)),
    ):
        assert other == plan and other.rows == plan.rows
        chex.assert_trees_all_equal(other.init(key), plan.init(key))


def test_rules_with_roles_are_plain_data(linen):
    """A rule's pattern is text, so that a configuration of rules round-trips."""
    *_, net = linen
    rules = [("@query", jinit.normal(0.1)), ("@bias", jinit.zeros), ("**", jinit.he())]
    text = json.dumps([(p, jinit.to_config(init)) for p, init in rules])
    again = [(p, jinit.from_config(config)) for p, config in json.loads(text)]
    assert jinit.plan(net, again) == jinit.plan(net, rules)


def unread(params, x):
    # The axes of a factor are not those of the matrix.
    return x @ jnp.linalg.qr(params["a"])[0] @ params["b"]


def test_a_layout_that_is_not_read_is_an_error():
    params = {"a": jnp.ones((5, 4)), "b": jnp.ones((4, 3)), "c": jnp.ones((2, 2))}
    net = jinit.network(unread, params, jnp.ones((7, 5)), allow_unused=True)
    assert "other" in net.parameters["a"].roles and net.parameters["a"].layout is None
    for path, reason in (("a", "qr"), ("c", "never used")):
        rules = [(path, jinit.he()), ("**", jinit.zeros)]
        with pytest.raises(ValueError, match=rf"'{path}' \(.*{reason}.*layout='io'"):
            jinit.plan(net, rules)
        for init in (jinit.he(layout="io"), jinit.he(fan_in=5), jinit.normal()):
            jinit.plan(net, [(path, init), ("**", jinit.zeros)])


def test_initializers_of_jax_are_refused_where_they_would_be_wrong(linen):
    *_, net = linen
    init = jax.nn.initializers.lecun_normal()
    with pytest.raises(ValueError, match="attention/query.*jinit's initializer"):
        jinit.plan(net, [("@query", init), ("**", jinit.zeros)])
    jinit.plan(net, [("stem/kernel", init), ("**", jinit.zeros)])


def test_a_model_of_nnx(key):
    model = nnx.Sequential(
        nnx.Linear(5, 16, rngs=nnx.Rngs(0)), nnx.BatchNorm(16, rngs=nnx.Rngs(0)),
        nnx.relu, nnx.Linear(16, 3, rngs=nnx.Rngs(0)),
    )  # fmt: skip
    net = jinit.network(model, floats(7, 5))
    rules = [("@scale", jinit.ones), ("@bias", jinit.zeros), ("@matrix", jinit.he())]
    new = net.replace(jinit.plan(net, rules).init(key)).model()
    laws.assert_moments(new.layers[0].kernel[...], 0.0, (2 / 5) ** 0.5, 3.0)
    assert new(jnp.ones((7, 5))).shape == (7, 3)


def test_abstract_networks_are_planned(key):
    model, x = Model(), floats(2, 8, 5)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    plan = jinit.plan(jinit.network(model, shapes, x), [("**", jinit.normal())])
    assert plan.init(key)["stem"]["kernel"].shape == (5, 16)
