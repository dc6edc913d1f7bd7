"""Recipes read roles, layouts and depth in the plan of a network, without names."""

import importlib
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit import recipes
from tests.support.models import Transformer
from tests.support.trees import struct
from tests.support.zoo import adapted, every, truth

ZOO = every.models()
TRANSFORMERS = ("gpt2", "small_init", "deepnorm", "t_fixup", "t5", "vit")


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def network(entry):
    return jinit.network(
        entry.model, *entry.arguments, rngs=entry.rngs, **entry.options
    )


def stds(model, rules):
    return {row["path"]: row["std"] for row in jinit.plan(model, rules).rows}


@pytest.fixture(scope="module")
def linen():
    x = struct(1, 8, dtype="int32")
    variables = jax.eval_shape(Transformer().init, jax.random.key(0), x)
    return variables["params"], jinit.network(Transformer(), variables, x)


@pytest.mark.parametrize("name", [*TRANSFORMERS, "torch_defaults"])
def test_the_network_and_the_names_of_flax_agree(name, linen):
    shapes, net = linen
    recipe = getattr(recipes, name)
    by_names, by_roles = stds(shapes, recipe(2)), stds(net, recipe())
    assert by_names == pytest.approx(by_roles)
    # Without names the laws are the same.
    function, renamed, paths = truth.scrambled(net.apply, net.params)
    again = stds(jinit.network(function, renamed, *net.inputs), recipe())
    assert {paths[path]: std for path, std in again.items()} == by_roles


LAYERS = {"llama": 4, "llama, scanned": 6, "bert": 4, "parallel blocks": 4}


@pytest.mark.parametrize("name", LAYERS)
def test_the_depth_is_read(name):
    net, branches = network(ZOO[name]()), LAYERS[name]
    plan = jinit.plan(net, recipes.gpt2())
    half = branches // 2
    assert plan.notes == (
        f"residual outputs: {branches} of {2 * half} ({half} layers x 2)",
    )
    for row in plan.rows:
        is_end = "residual_output" in row["roles"]
        if "matrix" in row["roles"]:
            expected = 0.02 / branches**0.5 if is_end else 0.02
            assert row["std"] == pytest.approx(expected), row["path"]
    for recipe in ("gpt2", "small_init", "deepnorm", "t_fixup"):
        make = getattr(recipes, recipe)
        assert stds(net, make()) == pytest.approx(stds(net, make(half)))


def test_what_a_recipe_finds_is_said(linen):
    _, net = linen
    with pytest.warns(UserWarning, match="is 5, and the network shows 2 layers"):
        plan = jinit.plan(net, recipes.gpt2(5))
    assert str(plan).splitlines()[-1] == "residual outputs: 4 of 10 (5 layers x 2)"
    assert plan.to_dict()["notes"] == list(plan.notes)
    assert jinit.Plan.from_config(plan.to_config()).notes == plan.notes
    notes = jinit.plan(net, recipes.deepnorm()).notes
    assert notes == ("queries: 2", "keys: 2", "kernels with the gain: 8")


@pytest.mark.parametrize("axis", [0, 1])
def test_scanned_encoders_and_decoders(axis):
    """T5's model has two layers in each stack, of two and of three branches."""
    net = network(ZOO[f"t5, layers along axis {axis}"]())
    own = [("**/rel_embedding", jinit.zeros)]
    for name in ("deepnorm", "t_fixup"):
        make = getattr(recipes, name)
        read = [
            *own,
            *recipes.inside("encoder/**", make(part="encoder")),
            *make(part="decoder"),
        ]
        passed = [
            *own,
            *recipes.inside("encoder/**", make(2, part="encoder", other_layers=2)),
            *make(2, part="decoder", other_layers=2),
        ]
        assert stds(net, read) == pytest.approx(stds(net, passed))
        with pytest.raises(ValueError, match="cross-attention, and `part`"):
            jinit.plan(net, [*own, *make()])
    rows = {row["path"]: row for row in jinit.plan(net, recipes.t5(head_dim=4)).rows}
    assert rows["encoder/attention/query/kernel"]["fan_in"] == 16
    assert rows["encoder/attention/query/kernel"]["std"] == 16**-0.5 / 2
    assert rows["encoder/mlp/wo/kernel"]["std"] == 24**-0.5
    relative = rows["encoder_relpos/rel_embedding"]["std"]
    assert relative == pytest.approx((2 / (2 + 8)) ** 0.5)


@pytest.mark.parametrize("library", ["equinox", "keras"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_block_of_other_libraries(library):
    if not adapted.installed(library):
        pytest.skip(f"{library} is not installed: pip install {library}")
    models = importlib.import_module(f"tests.support.zoo.in_{library}").models()
    net = network(models["a block"])
    for name in (*TRANSFORMERS, "torch_defaults"):
        options = {"head_dim": 8} if name == "t5" else {}
        plan = jinit.plan(net, getattr(recipes, name)(**options))
        for row in plan.rows:
            if "query" in row["roles"] and name == "t5":
                assert row["std"] == pytest.approx(16**-0.5 / 8**0.5)
            if "residual_output" in row["roles"] and name == "gpt2":
                assert row["std"] == pytest.approx(0.02 / 2**0.5)


def test_positions_and_class_tokens():
    net = network(ZOO["vit"]())
    rows = {row["path"]: row for row in jinit.plan(net, recipes.vit()).rows}
    assert rows["pos_embedding"]["initializer"].startswith("jinit.truncated_normal")
    assert rows["cls"]["std"] == 1e-6
    assert rows["embedding/kernel"]["std"] == pytest.approx((3 * 48) ** -0.5)
    assert rows["embedding/bias"]["std"] == pytest.approx((3 * 48) ** -0.5)
    for name, ratio in (("gpt2", 0.5), ("bert", 0.5)):
        net = network(ZOO[name]())
        actual = stds(net, recipes.gpt2())
        table = "transformer/wpe" if name == "gpt2" else "embeddings/position"
        assert actual[table] == 0.02 * ratio


def test_kernels_with_values_beside_queries_are_refused():
    net = network(ZOO["llama, fused, (out, in)"]())
    for name in ("deepnorm", "t_fixup", "t5"):
        with pytest.raises(ValueError, match="qkv_proj.*jinit.blocks"):
            jinit.plan(net, getattr(recipes, name)())
    own = ("**/qkv_proj", jinit.blocks([jinit.xavier()] * 3, 0, sizes=(32, 16, 16)))
    stds(net, [own, *recipes.deepnorm()])


class Linear(nn.Module):
    """Attention without a softmax, which shows no queries, in a residual block."""

    @nn.compact
    def __call__(self, x):
        q, k, v = (nn.Dense(8)(x) for _ in range(3))
        return x + nn.Dense(8)((q @ k.swapaxes(-1, -2)) @ v)


def test_a_missing_role_is_an_error_or_a_warning(linen):
    x = struct(1, 5, 8)
    net = jinit.network(Linear(), jax.eval_shape(Linear().init, KEY, x), x)
    for name in ("deepnorm", "t_fixup", "t5"):
        make = getattr(recipes, name)
        rules = make(1) if name == "t5" else make(2)
        with pytest.warns(UserWarning, match=f"recipes.{name} draws queries"):
            jinit.plan(net, rules)
    plain = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)])
    net = jinit.network(plain, jax.eval_shape(plain.init, KEY, x), x)
    for name in ("gpt2", "small_init", "deepnorm", "t_fixup", "fixup"):
        for arguments in ((), (2,)):
            with pytest.raises(ValueError, match=f"{name}.*no residual branch"):
                jinit.plan(net, getattr(recipes, name)(*arguments))
    # Shapes alone do not show the depth.
    shapes, _ = linen
    for name in ("gpt2", "small_init", "deepnorm", "t_fixup"):
        with pytest.raises(ValueError, match=f"`num_layers` of recipes.{name} is None"):
            jinit.plan(shapes, getattr(recipes, name)())


KEY = jax.random.key(0)


def test_patterns_of_the_user_are_added(linen):
    shapes, net = linen
    last = 0.02 / 4**0.5
    for model, depth in ((shapes, 2), (net, None)):
        before = stds(model, recipes.gpt2(depth))
        after = stds(model, recipes.gpt2(depth, residual_outputs=["head/kernel"]))
        assert after == before | {"head/kernel": last}
        roles = {"residual_outputs": "@readout"} if model is net else {}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            jinit.plan(model, recipes.gpt2(depth, **roles))


class Branch(nn.Module):
    layers: int

    @nn.compact
    def __call__(self, x):
        y = x + self.param("bias", nn.initializers.zeros, (1,))
        for _ in range(self.layers - 1):
            y = nn.relu(nn.Dense(8, use_bias=False)(y))
        y = nn.Dense(8, use_bias=False)(y)
        return x + y * self.param("multiplier", nn.initializers.ones, (1,))


class Residual(nn.Module):
    layers: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="first")(x)
        for _ in range(4):
            x = Branch(self.layers)(x)
        return nn.Dense(3, name="last")(x)


@pytest.mark.parametrize("layers", [2, 3])
def test_fixup_in_a_network(layers):
    x = struct(1, 5)
    model = Residual(layers)
    net = jinit.network(model, jax.eval_shape(model.init, KEY, x), x)
    plan = jinit.plan(net, recipes.fixup(branch_layers=layers))
    rows = {row["path"]: row for row in plan.rows}
    scale = 4 ** (-1 / (2 * layers - 2))
    assert rows["Branch_2/Dense_0/kernel"]["std"] == pytest.approx(scale / 2)
    assert rows[f"Branch_2/Dense_{layers - 1}/kernel"]["std"] == 0
    assert rows["last/kernel"]["std"] == 0
    assert rows["first/kernel"]["std"] == pytest.approx((2 / 5) ** 0.5)
    assert rows["Branch_2/multiplier"]["initializer"] == "jinit.ones"
    assert plan.notes == ("residual outputs: 4 of 4", "readouts: 1")
    with pytest.warns(UserWarning, match=f"branches of {layers} layers"):
        jinit.plan(net, recipes.fixup(branch_layers=5 - layers))


def test_torch_in_a_network():
    net = network(ZOO["lstm in Flax"]())
    actual = stds(net, recipes.torch_defaults())
    # All arrays of a cell of 8 units, those of the inputs too.
    for path in ("cell/ii/kernel", "cell/hf/kernel", "cell/hf/bias"):
        assert actual[path] == pytest.approx((3 * 8) ** -0.5)
    assert actual["head/bias"] == pytest.approx((3 * 8) ** -0.5)


def test_a_leaf_without_a_rule_has_its_reason():
    net = network(ZOO["perceiver"]())
    with pytest.raises(ValueError, match=r"'latents' \(3, 16\): it is a value that"):
        jinit.plan(net, recipes.gpt2())
    assert stds(net, recipes.gpt2(embeddings="latents"))["latents"] == 0.02


def test_depth_that_does_not_fit():
    net = network(ZOO["unet"]())
    assert jinit.plan(net, recipes.gpt2()).notes == ("residual outputs: 5 of 5",)
    with pytest.raises(ValueError, match="has 5 residual branches.*num_layers"):
        jinit.plan(net, recipes.small_init())
    assert jnp.isfinite(stds(net, recipes.small_init(2))["conv_in/kernel"])
