"""Mixtures of experts, nanochat's extras, and models that a recipe is not for."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jinit
from jinit import recipes
from tests.support import laws
from tests.support.language_models import (
    chat,
    chat_params,
    mixture_of_experts,
    normalized_network,
)
from tests.support.networks import floats, network, tokens

# A draw of a few thousand numbers takes less time than its compilation.
pytestmark = pytest.mark.usefixtures("quick_compilation")


def stds(plan):
    return {row["path"]: row["std"] for row in plan.rows}


def test_deepseek_scales_experts_and_routers_by_depth():
    # pytorch/torchtitan, torchtitan/models/deepseek_v3/__init__.py, b5bcd76
    rows = stds(jinit.plan(mixture_of_experts(), recipes.deepseek_v3()))
    for layer in range(2):
        end = 0.02 / (2 * (layer + 1)) ** 0.5
        for name in ("wo", "w2", "w3", "s2", "s3", "router"):
            assert rows[f"layers/{layer}/{name}"] == pytest.approx(end), name
        for name in ("wq", "wk", "wv", "w1", "s1"):
            assert rows[f"layers/{layer}/{name}"] == pytest.approx(0.02), name


@pytest.mark.parametrize("method", ["llama", "llama_depth", "fan_in"])
def test_olmo_scales_a_whole_mixture(method):
    # allenai/OLMo-core, src/olmo_core/nn/transformer/init.py, fa6c501
    rows = stds(jinit.plan(mixture_of_experts(), recipes.olmo(method=method)))
    one = stats.truncnorm(-3, 3).std()
    for layer in range(2):
        number = 2 if method == "llama" else layer + 1
        for name in ("router", "w1", "w2", "w3"):
            std = 0.02 / (2 * number) ** 0.5
            if method == "fan_in":
                std = (48 if name == "w2" else 32) ** -0.5
            assert rows[f"layers/{layer}/{name}"] == pytest.approx(one * std), name


def test_qwen_as_megatron_scales_the_experts_ends():
    rows = stds(jinit.plan(mixture_of_experts(), recipes.qwen3(flavour="megatron")))
    for layer in range(2):
        for name in ("wo", "w2", "s2"):
            assert rows[f"layers/{layer}/{name}"] == pytest.approx(0.01)
        for name in ("wq", "w1", "w3", "router"):
            assert rows[f"layers/{layer}/{name}"] == pytest.approx(0.02)


def test_nanochat_s_extras_have_the_official_laws(key):
    # karpathy/nanochat, nanochat/gpt.py, 92d63d4
    net = jinit.network(chat, chat_params(), tokens(2, 5))
    params = jinit.plan(net, recipes.nanochat()).init(key)
    s = 3**0.5 * 32**-0.5
    laws.assert_law(params["value_embed"], laws.uniform(-s, s))
    for value in (params["smear_gate"], params["h"][1]["ve_gate"]):
        assert (value >= 0).all() and (value < 0.02).all() and (value > 0).any()
    resid = [1.15 - 0.10 * i / 2 for i in range(3)]
    first = [0.20 - 0.15 * i / 2 for i in range(3)]
    np.testing.assert_allclose(params["resid_lambdas"], resid, rtol=1e-6)
    np.testing.assert_allclose(params["x0_lambdas"], first, rtol=1e-6)
    assert params["smear_lambda"] == 0
    assert params["backout_lambda"] == pytest.approx(0.2)


def test_nanochat_s_first_loss_is_that_of_guessing(key):
    shapes = chat_params()
    net = jinit.network(chat, shapes, tokens(2, 5))
    params = jinit.plan(net, recipes.nanochat()).init(key)
    ids = jax.random.randint(key, (2, 5), 0, 50)
    logits = chat(params, ids)
    loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), ids[..., None], -1).mean()
    # Logits of std 0.001 sqrt(d) times the stream's size: far below 1.
    assert float(loss) == pytest.approx(math.log(50), abs=0.02)
    # The same model with torch's laws does not guess.
    other = jinit.plan(net, [("**/*lambda*", jinit.ones), *recipes.torch_defaults()])
    assert abs(float(chat(other.init(key), ids).std())) > 0.1


def test_factors_of_separate_layers_are_no_backout(key):
    def model(params, x):
        for p in params["h"]:
            q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
            x = p["lambda"] * x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
        return x

    layer = {name: floats(8, 8) for name in "qkvo"} | {"lambda": floats()}
    net = jinit.network(model, {"h": [layer, layer]}, floats(2, 3, 8))
    with pytest.raises(ValueError, match="(?s)leaves match no rule.*lambda"):
        jinit.plan(net, recipes.nanochat())


def test_ngpt_starts_every_vector_on_the_sphere(key):
    size = 32
    net = normalized_network(size)
    params = jinit.plan(net, recipes.ngpt()).init(key)
    # The axis of the model's width, as `normalize_matrices` of train.py has it.
    widths = {"query": 0, "key": 0, "value": 0, "c_fc": 0, "att_proj": 1, "mlp_proj": 1}
    for one in params["h"]:
        for name, axis in widths.items():
            norms = np.linalg.norm(one[name], axis=axis)
            np.testing.assert_allclose(norms, 1, atol=1e-5)
        for name in ("sqk", "attn_alpha", "mlp_alpha"):
            np.testing.assert_allclose(one[name], size**-0.5, rtol=1e-6)
        assert (one["suv"] == 1).all()
    np.testing.assert_allclose(np.linalg.norm(params["wte"], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(params["lm_head"], axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(params["sz"], size**-0.5, rtol=1e-6)


def test_ngpt_refuses_the_norms_of_an_ordinary_transformer():
    """Their scales would start at 1 / sqrt(d), as if they were steps."""

    def model(p, x):
        h = p["norm"] * x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True))
        return x + jax.nn.softmax(h @ p["q"] @ (h @ p["k"]).mT) @ (h @ p["v"]) @ p["o"]

    net = network(model, dict.fromkeys("qkvo", (8, 8)) | {"norm": (8,)}, floats(2, 8))
    with pytest.raises(ValueError, match=r"normalized models.*'norm' \(8,\)"):
        jinit.plan(net, recipes.ngpt())


def plain_perceptron():
    def model(p, x):
        return x + jax.nn.relu(x @ p["up"]) @ p["down"]

    return network(model, {"up": (8, 32), "down": (32, 8)}, floats(2, 8))


@pytest.mark.parametrize(
    "recipe", [recipes.llama3(), recipes.olmo(method="llama"), recipes.deepseek_v3()]
)
def test_a_model_without_gated_units_is_an_error_that_names_the_role(recipe):
    with pytest.raises(ValueError, match="for the role 'up'.*no parameter has it"):
        jinit.plan(plain_perceptron(), recipe)


def test_nanochat_needs_an_attention():
    with pytest.raises(ValueError, match=r"nanochat has a separate law.*'query'"):
        jinit.plan(plain_perceptron(), recipes.nanochat())


@pytest.mark.parametrize("recipe", [recipes.nanochat(2), recipes.deepseek_v3(2)])
def test_what_names_do_not_show_needs_a_network(recipe):
    shapes = {"h_0": {"wq": {"kernel": floats(8, 8)}}}
    with pytest.raises(ValueError, match="Make the plan from a Network"):
        jinit.plan(shapes, recipe)


@pytest.mark.parametrize("make, text", [
    (lambda: recipes.olmo(method="llamas"), "`method` is 'llamas'.*mean 'llama'"),
    (lambda: recipes.qwen3(flavour="torchtitan"), "`flavour`.*'hf', 'megatron'"),
    (lambda: recipes.deepseek_v3(flavour="hf"), "`flavour`.*'torchtitan', 'report'"),
    (lambda: recipes.olmo(method="fan_in", std=0.02), 'the method "fan_in" has none'),
])  # fmt: skip
def test_settings_of_another_flavour(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_both_halves_of_a_unit_in_one_kernel_are_refused():
    def model(p, x):
        gate, up = jnp.split(x @ p["gate_up"], 2, -1)
        return x + (jax.nn.silu(gate) * up) @ p["down"]

    net = network(model, {"gate_up": (8, 64), "down": (32, 8)}, floats(2, 8))
    with pytest.raises(ValueError, match="'gate_up' holds both halves of a gated unit"):
        jinit.plan(net, recipes.llama3())
    halves = jinit.blocks([jinit.normal(0.02), jinit.normal(0.01)])
    rows = stds(jinit.plan(net, [("gate_up", halves), *recipes.llama3()]))
    assert rows["down"] == pytest.approx(0.02 / 2**0.5)
