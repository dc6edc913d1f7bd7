"""`recipes.which` names the recipe that drew a model, and none for other weights."""

import importlib
import inspect
import json
import math

import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit import recipes
from jinit._probe.audit.audited import audited
from jinit.recipes._agreement import Arrays
from jinit.recipes._candidates import _IF_REFUSED, _TRIED, applied
from jinit.recipes._recipe import RECIPES
from tests.support.models import MLP
from tests.support.trees import struct
from tests.support.which_models import (
    KEY,
    TOWERS,
    changed,
    drawn,
    first_suitable,
    network,
    of_linen,
)
from tests.support.zoo import adapted

# A model shows no configuration.
UNKNOWN = {
    name
    for name, entry in RECIPES.items()
    for one in inspect.signature(entry.make).parameters.values()
    if one.default is one.empty and one.kind is not one.VAR_KEYWORD
}


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", sorted(set(recipes.names()) - UNKNOWN))
def test_every_recipe_comes_first_on_what_it_drew(name):
    recipe = recipes.get(name, **RECIPES[name].example)
    matches = recipes.which(first_suitable(recipe))
    assert matches.matches[0].agrees
    first = matches.agreeing if name in TOWERS else (matches.best, *matches.ties)
    assert name in first, str(matches)
    match = next(match for match in matches.matches if match.name == name)
    assert match.agrees and all(one.agrees for one in match.evidence)
    assert math.isfinite(match.score)


SETTINGS = (
    ("gpt2", {"std": 0.01}), ("vit", {"std": 0.05}), ("t5", {"embedding_std": 1.0}),
    *((name, dict(one)) for name in ("olmo", "qwen3") for one in _TRIED.get(name, ())),
)  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_settings_are_recovered(name, settings):
    if name not in recipes.names():
        pytest.skip(f"there is no recipe {name}")
    recipe = recipes.get(name, **settings)
    model = {"olmo": "llama", "qwen3": "llama", "vit": "vit"}.get(name, "transformer")
    matches = recipes.which(drawn(network(model), recipe))
    assert name in (matches.best, *matches.ties), str(matches)
    match = next(match for match in matches.matches if match.name == name)
    assert match.recipe.settings == settings


def test_the_size_of_a_head_is_tried_where_the_model_does_not_show_it():
    def layer(p, x):
        q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
        x = x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
        return x + jax.nn.relu(x @ p["up"]) @ p["down"]

    params = dict.fromkeys(("q", "k", "v", "o"), struct(64, 64))
    params |= {"up": struct(64, 256), "down": struct(256, 64)}
    net = jinit.network(layer, params, struct(2, 5, 64))
    net = drawn(net, recipes.t5(head_dim=64))
    with pytest.raises(ValueError, match="head_dim"):
        jinit.plan(net, recipes.t5())
    matches = recipes.which(net)
    assert matches.best == "t5"
    assert matches.matches[0].recipe == recipes.t5(head_dim=64)


@pytest.mark.parametrize("name", sorted({*_TRIED, *_IF_REFUSED} & set(RECIPES)))
def test_the_settings_that_are_tried_exist(name):
    for settings in (*_TRIED.get(name, ()), *_IF_REFUSED.get(name, ())):
        assert recipes.get(name, **settings).settings == {
            key: value for key, value in settings.items() if value is not None
        }


@pytest.mark.parametrize("name", sorted(set(RECIPES) - UNKNOWN))
def test_every_choice_of_a_setting_is_tried(name):
    """A setting of text lists its choices in its error, and each is a candidate."""
    for key, parameter in inspect.signature(RECIPES[name].make).parameters.items():
        if not isinstance(parameter.default, str) or key == "base":
            continue
        with pytest.raises(ValueError, match="must be") as error:
            recipes.get(name, **{key: "no such choice"})
        listed = set(str(error.value).split("'")[3::2]) - {parameter.default}
        hint = str(parameter.annotation)
        tried = {one[key] for one in _TRIED.get(name, ()) if key in one}
        assert listed <= tried or all(choice in hint for choice in listed), error.value


# Weights of nobody: their rules, and what becomes of a parameter afterwards.
NOBODY = {
    "He": [("@bias", jinit.zeros), ("@scale", jinit.ones), ("**", jinit.he())],
    "LeCun": [("@bias", jinit.zeros), ("@scale", jinit.ones), ("**", jinit.lecun())],
    "a small readout": [
        ("@bias", jinit.zeros), ("@scale", jinit.ones),
        ("@readout", jinit.normal(1e-3)), ("**", jinit.normal(0.05)),
    ],
    "uniform": [
        ("@bias", jinit.zeros), ("@scale", jinit.ones),
        ("**", jinit.uniform(0.0346)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", NOBODY)
def test_weights_of_no_recipe_are_none_of_them(name):
    matches = recipes.which(drawn(network("transformer"), NOBODY[name]))
    assert matches.best is None and matches.agreeing == () and matches.ties == ()
    assert str(matches).startswith("No recipe agrees.")


SPOILED = {
    "a kernel x 1.3": ("Block_0/Dense_0/kernel", lambda x: 1.3 * x),
    "a branch end as large as others": ("Block_1/Dense_1/kernel", lambda x: 2 * x),
    "a bias": ("Block_0/Dense_0/bias", lambda x: x.at[3].set(1e-3)),
    "a scale": ("Block_0/LayerNorm_0/scale", lambda x: 1.01 * x),
    "a shifted kernel": ("head/kernel", lambda x: x + 0.005),
    "one outlier": ("head/kernel", lambda x: x.at[0, 0].set(1.0)),
    "not a number": ("head/kernel", lambda x: x.at[0, 0].set(jnp.nan)),
    "a uniform kernel": (
        "head/kernel",
        lambda x: jax.random.uniform(KEY, x.shape, x.dtype, -1, 1) * 0.02 * 3**0.5,
    ),
    "an orthogonal kernel": (
        "Block_0/MultiHeadDotProductAttention_0/key/kernel",
        lambda x: jinit.orthogonal(0.02 * 32**0.5, layout="ioo")(KEY, x.shape),
    ),
    "zeros": ("head/kernel", jnp.zeros_like),
}


@pytest.mark.parametrize("name", SPOILED)
def test_one_spoiled_parameter_is_noticed_and_named(name):
    path, function = SPOILED[name]
    net = drawn(network("transformer"), recipes.gpt2())
    matches = recipes.which(changed(net, path, function))
    assert matches.best is None
    # GPT-2 is the nearest one all the same, and one parameter in 38 differs.
    match = next(match for match in matches.matches if match.name == "gpt2")
    assert match.share == pytest.approx(37 / 38)
    (wrong,) = (one for one in match.evidence if not one.agrees)
    assert wrong.path == path
    assert wrong.role in str(matches)


def test_trained_weights_are_none_of_them():
    net = drawn(network("transformer"), recipes.gpt2())
    tokens = jax.random.randint(KEY, (4, 8), 0, 48)

    @jax.jit
    def step(params):
        def loss(params):
            logits = net.apply(params, tokens)
            return -jax.nn.log_softmax(logits)[..., 0].mean()

        gradient = jax.grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * jnp.sign(g) * 0.02, params, gradient)

    assert recipes.which(net).best == "gpt2"
    params = net.params
    for _ in range(3):
        params = step(params)
    assert recipes.which(net.replace(params)).best is None


def test_torch_defaults_with_another_layer_are_none_of_them():
    net = of_linen(MLP((64, 64, 5)), struct(2, 32))
    start = drawn(net, recipes.torch_defaults())
    matches = recipes.which(start)
    assert matches.best == "torch_defaults"
    assert {one.role for one in matches.matches[0].evidence} == {
        "other kernels", "readouts", "biases",
    }  # fmt: skip
    he = jinit.he(distribution="uniform")
    other = changed(start, "Dense_1/kernel", lambda x: he(KEY, x.shape))
    assert recipes.which(other).best is None


def test_recipes_that_do_not_fit_have_their_reasons():
    net = of_linen(MLP((64, 64, 5)), struct(2, 32))
    matches = recipes.which(drawn(net, recipes.torch_defaults()))
    for name in ("gpt2", "small_init", "deepnorm", "t_fixup", "fixup"):
        assert "no residual branch" in matches.not_applicable[name]
        assert name not in matches
    (line,) = (x for x in str(matches).split("\n\n") if x.startswith("Not applic"))
    assert " ".join(line.split()).endswith(", vit and xlstm.")
    assert not any(why in str(matches) for why in matches.not_applicable.values())
    row = next(row for row in matches.rows if row["recipe"] == "gpt2")
    assert row["reason"] == matches.not_applicable["gpt2"]


def test_equal_laws_are_a_tie(monkeypatch):
    entry = RECIPES["gpt2"]
    other = recipes.gpt2()
    object.__setattr__(other, "name", "gpt2_again")
    monkeypatch.setitem(RECIPES, "gpt2_again", entry._replace(make=lambda: other))
    net = network("transformer")
    matches = recipes.which(drawn(net, recipes.gpt2()))
    assert matches.best == "gpt2" and matches.ties == ("gpt2_again",)
    assert "On this model gpt2_again has equal laws." in str(matches)
    # A std of 0.01 is no setting of the other one.
    matches = recipes.which(drawn(net, recipes.gpt2(std=0.01)))
    assert matches.best == "gpt2" and matches.ties == ()


def test_a_law_by_the_index_of_a_layer_is_not_one_by_the_depth():
    net = network("transformer")
    by_depth = drawn(net, recipes.gpt2())
    ends = [p for p, x in net.parameters.items() if "residual_output" in x.roles]
    by_index = by_depth
    for path in ends:
        layer = int(path.split("_")[1][0])
        factor = (2 / (layer + 1)) ** 0.5  # sqrt(2 L) for L = 2 is undone
        by_index = changed(by_index, path, lambda x, by=factor: by * x)
    matches = recipes.which(by_index)
    assert matches.best is None
    gpt2 = next(match for match in matches.matches if match.name == "gpt2")
    assert [one.role for one in gpt2.evidence if not one.agrees] == ["residual outputs"]


def test_no_key_of_many_rejects_the_right_recipe():
    net, recipe = network("residual"), recipes.torch_defaults()
    plan = jinit.plan(net, recipe)
    for seed in range(40):
        start = net.replace(plan.init(jax.random.key(seed)))
        match = applied(recipe, start, Arrays(audited(start))).match
        assert match.agrees, (seed, match.evidence)


def test_parameters_in_16_bits():
    net = network("transformer")
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, "bfloat16"), net.params
    )
    narrow = jinit.network(net.apply, shapes, *net.inputs)
    assert recipes.which(drawn(narrow, recipes.gpt2())).best == "gpt2"
    assert recipes.which(drawn(narrow, NOBODY["He"])).best is None


@pytest.mark.parametrize("name", ["gpt2", "deepnorm", "torch_defaults"])
def test_models_in_nnx(name):
    net = drawn(network("decoder in NNX"), recipes.get(name))
    matches = recipes.which(net)
    assert name in (matches.best, *matches.ties)
    # The model itself is looked at, too.
    tokens = jnp.zeros(net.inputs[0].shape, "int32")
    assert recipes.which(net.model(), tokens).best == matches.best


@pytest.mark.parametrize("library", ["equinox", "keras"])
@pytest.mark.parametrize("name", ["gpt2", "small_init", "torch_defaults"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_of_other_libraries(name, library):
    if not adapted.installed(library):
        pytest.skip(f"{library} is not installed: pip install {library}")
    models = importlib.import_module(f"tests.support.zoo.in_{library}").models()
    entry = models["a block"]
    net = jinit.network(entry.model, *entry.arguments, **entry.options)
    matches = recipes.which(drawn(net, recipes.get(name)))
    assert name in (matches.best, *matches.ties)
    he = drawn(
        net, [("@bias", jinit.zeros), ("@scale", jinit.ones), ("**", jinit.he())]
    )
    assert recipes.which(he).best is None


def test_the_result_is_a_sequence_a_table_and_plain_data():
    matches = recipes.which(drawn(network("transformer"), recipes.gpt2()))
    assert list(matches) == [match.name for match in matches.matches]
    assert matches[0] == matches.best == "gpt2" and len(matches) == len(list(matches))
    shares = [match.share for match in matches.matches]
    assert shares == sorted(shares, reverse=True)
    ends = next(x for x in matches.matches[0].evidence if x.role == "residual outputs")
    assert ends.parameters == 4 and ends.law_rms == pytest.approx(0.01)
    # 4 branch ends of 2 x 1024 and 2 x 4096 entries.
    assert ends.rms == pytest.approx(0.01, rel=5 / math.sqrt(2 * 10240))
    assert f"residual outputs: {ends.rms:.3g}, law 0.01" in str(matches)
    assert str(matches).startswith("recipes.gpt2(num_layers=None): all parameters")
    assert repr(matches) == str(matches) and "<table>" in matches._repr_html_()
    data = json.loads(json.dumps(matches.to_dict(), allow_nan=False))
    assert data["best"] == "gpt2"
    assert len(data["rows"]) == len(matches) + len(matches.not_applicable)
    assert data["rows"][0]["evidence"][0]["role"] == "residual outputs"


def test_shapes_are_refused():
    net = network("transformer")
    with pytest.raises(TypeError, match=r"recipes\.which"):
        recipes.which(net)
