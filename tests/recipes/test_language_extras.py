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
from tests.support.networks import floats, network, tokens

# A draw of a few thousand numbers takes less time than its compilation.
pytestmark = pytest.mark.usefixtures("quick_compilation")


def mixture(params, x):
    """Two layers of attention and a mixture of gated experts, with a shared expert."""
    for p in params["layers"]:
        q, k, v = x @ p["wq"], x @ p["wk"], x @ p["wv"]
        x = x + jax.nn.softmax(q @ k.mT) @ v @ p["wo"]
        scores = jax.nn.softmax(x @ p["router"])
        h = jax.nn.silu(jnp.einsum("btd,edm->btem", x, p["w1"]))
        h = h * jnp.einsum("btd,edm->btem", x, p["w3"])
        routed = jnp.einsum("btem,emd,bte->btd", h, p["w2"], scores)
        shared = (jax.nn.silu(x @ p["s1"]) * (x @ p["s3"])) @ p["s2"]
        x = x + routed + shared
    return x @ params["head"]


def mixture_of_experts():
    size, experts, inner = 32, 4, 48
    shapes = dict.fromkeys(("wq", "wk", "wv", "wo"), (size, size))
    shapes |= {"router": (size, experts), "w1": (experts, size, inner)}
    shapes |= {"w3": (experts, size, inner), "w2": (experts, inner, size)}
    shapes |= {"s1": (size, inner), "s3": (size, inner), "s2": (inner, size)}
    layer = {name: floats(*shape) for name, shape in shapes.items()}
    params = {"layers": [layer, layer], "head": floats(size, 24)}
    return jinit.network(mixture, params, floats(2, 5, size))


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


def chat(params, ids):
    """The extras of nanochat: smear, value tables, gates, factors, backout."""
    x = params["wte"][ids]
    smear = jax.nn.sigmoid(x[:, 1:, :6] @ params["smear_gate"])
    smear = params["smear_lambda"][None, None] * smear
    x = jnp.concatenate([x[:, :1], x[:, 1:] + smear * x[:, :-1]], 1)
    first, middle = x, x
    for number, p in enumerate(params["h"]):
        x = params["resid_lambdas"][number] * x + params["x0_lambdas"][number] * first
        q, k, v = x @ p["c_q"], x @ p["c_k"], x @ p["c_v"]
        if "ve_gate" in p:
            gate = 3 * jax.nn.sigmoid(x[..., :4] @ p["ve_gate"])
            v = v + gate * params["value_embed"][ids]
        x = x + jax.nn.softmax(q @ k.mT) @ v @ p["a_proj"]
        x = x + jax.nn.relu(x @ p["c_fc"]) ** 2 @ p["m_proj"]
        middle = x if number == 1 else middle
    x = x - params["backout_lambda"][None, None] * middle
    return x @ params["lm_head"]


def chat_params(size=32, vocabulary=50, layers=3):
    square = {name: floats(size, size) for name in ("c_q", "c_k", "c_v", "a_proj")}
    layer = square | {"c_fc": floats(size, 4 * size), "m_proj": floats(4 * size, size)}
    return {
        "wte": floats(vocabulary, size),
        "smear_gate": floats(6, 1),
        "smear_lambda": floats(1),
        "h": [layer, layer | {"ve_gate": floats(4, 1)}, layer][:layers],
        "resid_lambdas": floats(layers),
        "x0_lambdas": floats(layers),
        "value_embed": floats(vocabulary, size),
        "backout_lambda": floats(1),
        "lm_head": floats(size, vocabulary),
    }


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


def unit(x):
    return x / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))


def normalized(params, ids):
    """The equations of NVIDIA/ngpt, model.py, ed19eb2, with one head."""
    x = params["wte"][ids]
    size = x.shape[-1]
    scale = size**-0.5
    for p in params["h"]:
        sqk = (p["sqk"] / scale)[None, None]
        q, k = (sqk * unit(x @ p[name]) for name in ("query", "key"))
        y = jax.nn.softmax(size**0.5 * q @ k.mT) @ (x @ p["value"]) @ p["att_proj"]
        step = jnp.abs(p["attn_alpha"] * (0.05 / scale))[None, None]
        x = unit(unit(x) + step * (unit(y) - unit(x)))
        uv = (p["suv"] * size**0.5)[None, None] * (x @ p["c_fc"])
        u, v = jnp.split(uv, 2, -1)
        y = (u * jax.nn.silu(v)) @ p["mlp_proj"]
        step = jnp.abs(p["mlp_alpha"] * (0.05 / scale))[None, None]
        x = unit(unit(x) + step * (unit(y) - unit(x)))
    return (params["sz"] / scale)[None, None] * (x @ params["lm_head"])


def test_ngpt_starts_every_vector_on_the_sphere(key):
    size, vocabulary = 32, 50
    layer = dict.fromkeys(("query", "key", "value", "att_proj"), floats(size, size))
    layer |= {"c_fc": floats(size, 8 * size), "mlp_proj": floats(4 * size, size)}
    layer |= dict.fromkeys(("sqk", "attn_alpha", "mlp_alpha"), floats(size))
    layer |= {"suv": floats(8 * size)}
    shapes = {"wte": floats(vocabulary, size), "h": [layer, layer]}
    shapes |= {"sz": floats(vocabulary), "lm_head": floats(size, vocabulary)}
    net = jinit.network(normalized, shapes, tokens(2, 5))
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
